"""One book to make files of, and its fields as markup."""

import html
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class BookText:
    """One book to make files of."""

    title: str
    authors: tuple[str, ...]  # "First Last"
    language: str  # two letters, ISO 639-1
    series: str | None
    series_index: float | None
    tags: tuple[str, ...]
    year: int | None
    body: str  # paragraphs are separated by empty lines
    cover: bytes = b""  # a JPEG; only in EPUB, FB2, Mobipocket and KF8
    pad_to: int = 0  # bytes a file has at least; filled up without compression where no reader looks


Build = Callable[[BookText, int], bytes]


def padded(build: Build, book: BookText) -> bytes:
    """What `build(book, padding)` makes, where `padding` adds at least that many bytes."""
    data = build(book, 0)
    return data if len(data) >= book.pad_to else build(book, book.pad_to - len(data))


# What XML 1.0 cannot hold, not even as a reference.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
XML_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


def clean(text: str) -> str:
    """Without NUL, other control characters and lone surrogates, in which no format's readers agree."""
    return _UNWRITABLE.sub("", text)


def escaped(text: str) -> str:
    return html.escape(clean(text))


def body_paragraphs(book: BookText) -> list[str]:
    return [part for part in clean(book.body).split("\n\n") if part.strip()]


def joined(values: tuple[str, ...], separator: str = "; ") -> str:
    return separator.join(map(clean, values))


def element(name: str, text: str | None, attributes: str = "") -> str:
    return f"<{name}{attributes}>{escaped(text)}</{name}>" if text else ""


def elements(name: str, texts: tuple[str, ...]) -> str:
    return "".join(element(name, text) for text in texts)


def year_text(book: BookText) -> str:
    return "" if book.year is None else f"{book.year:04d}"


def series_number(book: BookText) -> str:
    return f"{1.0 if book.series_index is None else book.series_index:g}"


def identifier(book: BookText) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "\n".join([clean(book.title), *map(clean, book.authors)])))


def html_paragraphs(book: BookText) -> str:
    return f"<h1>{escaped(book.title)}</h1>\n" + "\n".join(f"<p>{escaped(part)}</p>" for part in body_paragraphs(book))
