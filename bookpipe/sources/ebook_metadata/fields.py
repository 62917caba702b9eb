"""What a file says about its book, cleaned and capped the same way for every format."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from bookpipe.sources.plain_text import clean_text

MAX_TITLE = 2_000  # characters; also of a series
MAX_AUTHORS = 100
MAX_AUTHOR = 500
MAX_TAGS = 500
MAX_TAG = 500
MAX_LANGUAGES = 100
MAX_LANGUAGE = 64
MAX_DETAIL = 300

Status = Literal["ok", "none", "encrypted", "unreadable"]


@dataclass(frozen=True, slots=True)
class EbookMetadata:
    """What one file says about its book. Texts hold no control characters, lone surrogates or outer blanks.

    `status`: ok = the file says something; none = it is sound and silent, or its format is not read; encrypted =
    its text needs a key (what could be read without is here); unreadable = damaged, hostile or too slow, `detail`
    says how. `languages` are codes as written, in lower case. `cover` is what `read_cover` finds the image by: a
    member of a zip, the id of an FB2 binary, or the number of a Palm record.
    """

    title: str | None = None
    authors: tuple[str, ...] = ()  # "First Last", or "Last, First" when the last name has several words
    languages: tuple[str, ...] = ()
    series: str | None = None
    series_index: float | None = None  # finite, 1.0 when the file has none; None without a series
    tags: tuple[str, ...] = ()
    cover: str | int | None = None
    status: Status = "none"
    detail: str = ""


class UnreadableError(Exception):
    """The file is not what its kind promises; the message becomes the detail."""


class EncryptedError(Exception):
    """Not even the metadata can be read without a key; the message becomes the detail."""


def found(
    *,
    title: str | None = None,
    authors: Iterable[str] = (),
    languages: Iterable[str | None] = (),
    series: str | None = None,
    series_index: float | None = None,
    tags: Iterable[str] = (),
    cover: str | int | None = None,
    encrypted: str = "",
) -> EbookMetadata:
    """Metadata from raw texts. `authors` come from `people` or `people_in_list`, `tags` from `split_tags`.

    `encrypted` says what is, when the book's text is although these fields are not.
    """
    title = clean_text(title, MAX_TITLE) or None
    series = clean_text(series, MAX_TITLE) or None
    names = _distinct(authors, MAX_AUTHORS, MAX_AUTHOR)
    codes = _distinct((code.lower() for code in languages if code), MAX_LANGUAGES, MAX_LANGUAGE)
    words = _distinct(tags, MAX_TAGS, MAX_TAG)
    says_something = title or series or names or codes or words
    return EbookMetadata(
        title=title,
        authors=names,
        languages=codes,
        series=series,
        series_index=(1.0 if series_index is None else series_index) if series else None,  # Calibre's own default
        tags=words,
        cover=cover,
        status="encrypted" if encrypted else "ok" if says_something else "none",
        detail=clean_text(encrypted, MAX_DETAIL),
    )


def refused(status: Literal["encrypted", "unreadable"], detail: str) -> EbookMetadata:
    return EbookMetadata(status=status, detail=clean_text(detail, MAX_DETAIL))


# -- texts --------------------------------------------------------------------------------------------------------


def _distinct(texts: Iterable[str], count: int, limit: int) -> tuple[str, ...]:
    """The first `count` different texts that are not empty, in order."""
    seen: dict[str, None] = {}
    # The second bound is for a file that repeats one text a million times.
    for text in islice(texts, 20 * count):
        cleaned = clean_text(text, limit)
        if cleaned:
            seen[cleaned] = None
            if len(seen) == count:
                break
    return tuple(seen)


def parse_number(text: str | None) -> float | None:
    """A position in a series: '2.5', '2,5', '3 of 7'; None when it is no finite number."""
    match = re.match(r"\s*([+-]?\d{1,15}(?:[.,]\d{1,15})?)", text or "")
    value = float(match[1].replace(",", ".")) if match else None
    return value if value is not None and math.isfinite(value) else None


def split_tags(*texts: str | None) -> Iterable[str]:
    """Tags of lists separated by commas or semicolons. A tag holds no comma: Calibre's own rule."""
    for text in texts:
        if text:
            yield from re.split(r"[,;\n]", text)


# -- people -------------------------------------------------------------------------------------------------------

_WORDS = re.compile(",? (?:and|with) ", re.IGNORECASE)
_SUFFIXES = frozenset(("jr", "sr", "ii", "iii", "iv", "md", "phd", "esq", "inc", "ltd", "llc", "gmbh", "co"))
# What programs write when they know nobody; Calibre writes the first one.
_NOBODY = frozenset(("unknown", "unknown author", "[unknown]", "none", "n/a"))


def people(*texts: str | None, joined_by_words: bool = False) -> Iterable[str]:
    """Authors of fields that hold one each, and yet at times several with ';' or a single '&' between them.

    '&&' is a literal '&'. With `joined_by_words` 'and' and 'with' join authors too. Calibre's own rules: at '&'
    MyBookshelf2 splits what every format says, at the words Calibre does in some formats only.
    """
    for text in texts:
        # A cleaned text holds no NUL: it stands for the literal '&'.
        names = clean_text(text, MAX_AUTHORS * MAX_AUTHOR).replace("&&", "\0")
        if joined_by_words:
            names = _WORDS.sub(";", names)
        for part in names.replace("&", ";").split(";"):
            name = part.replace("\0", "&").strip()
            if name.lower() not in _NOBODY and any(map(str.isalnum, name)):
                yield _first_name_first(name)


def people_in_list(text: str | None, *, joined_by_words: bool = False) -> Iterable[str]:
    """Authors of a field that holds all of them, however they are separated: as `people`, by lines or by commas.

    Two parts with a comma between them are one person, 'Last, First', unless both are several words long.
    """
    for name in people((text or "").replace("\n", ";"), joined_by_words=joined_by_words):
        parts = _with_suffixes([part.strip() for part in name.split(",") if part.strip()])
        if len(parts) == 2 and (" " not in parts[0] or " " not in parts[1]):
            yield _first_name_first(name)
        else:
            yield from parts


def _first_name_first(name: str) -> str:
    """'Müller, Jürgen' as 'Jürgen Müller', as Calibre reads it.

    A last name of several words ('García Márquez, Gabriel') stays in front: turned round, nobody could tell
    how much of it is the last name. So does what is no name ('King, Jr.').
    """
    last, comma, first = name.partition(",")
    last, first = last.strip(), first.strip()
    if not comma or not last or not first or "," in first or len(last.split()) > 1 or _is_suffix(first):
        return name
    return f"{first} {last}"


def _is_suffix(text: str) -> bool:
    return text.replace(".", "").lower() in _SUFFIXES


def _with_suffixes(parts: list[str]) -> list[str]:
    """'Jr.', 'PhD' and the like belong to the part before them."""
    whole: list[str] = []
    for part in parts:
        if whole and _is_suffix(part):
            whole[-1] = f"{whole[-1]}, {part}"
        else:
            whole.append(part)
    return whole
