"""FictionBook 2, plain or zipped: the title-info of the description at the start of the file."""

import base64
import binascii
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from bookpipe.sources.ebook_metadata.fields import (
    EbookMetadata,
    UnreadableError,
    found,
    parse_number,
    people,
    split_tags,
)
from bookpipe.sources.ebook_metadata.hardened_xml import (
    MAX_ELEMENTS,
    Element,
    attribute,
    child,
    children,
    descendants,
    local_name,
    parse_broken_xml,
    text_of,
)
from bookpipe.sources.ebook_metadata.text_encodings import decode_markup
from bookpipe.sources.ebook_metadata.zip_members import ZipMembers
from bookpipe.sources.zip_directory import ReadAt

MAX_HEAD = 1 << 20  # bytes
_HEADS = (16 << 10, 128 << 10, MAX_HEAD)  # bytes that are tried: most descriptions end within the first
_END = re.compile(r"</(?:[\w.-]{1,40}:)?description\s{0,10}>")

# The first of them that names anybody. Calibre's own order: who made the file is better than nobody.
_AUTHOR_SECTIONS = ("title-info", "src-title-info", "document-info")
_SECTIONS = frozenset((*_AUTHOR_SECTIONS, "publish-info", "custom-info"))

ReadHead = Callable[[int], bytes]  # how many bytes -> the first ones, fewer when the file is shorter


def read_fb2(size: int, read_at: ReadAt) -> EbookMetadata:
    """Title, authors, language, genres (FB2's own codes), series and the id of the cover."""
    read_head = _head_reader(size, read_at)
    sections = _by_name(descendants(parse_broken_xml(_description(read_head))))
    if not sections["title-info"]:
        raise UnreadableError("no title-info")
    # Anywhere below title-info: a tag that is not closed in the annotation swallows what follows it.
    parts = _by_name(_parts(sections["title-info"][0]))
    sequence = next((part for part in parts["sequence"] if (attribute(part, "name") or "").strip()), None)
    return found(
        title=text_of(next(iter(parts["book-title"]), None)),
        authors=next(filter(None, (_authors(sections[name]) for name in _AUTHOR_SECTIONS)), ()),
        languages=map(text_of, parts["lang"]),
        series=None if sequence is None else attribute(sequence, "name"),
        series_index=None if sequence is None else parse_number(attribute(sequence, "number")),
        tags=split_tags(*map(text_of, parts["genre"])),
        cover=next(map(_cover_id, parts["coverpage"]), None),
    )


def _head_reader(size: int, read_at: ReadAt) -> ReadHead:
    if read_at(0, 2) != b"PK":
        return lambda limit: read_at(0, min(limit, size))
    members = ZipMembers(size, read_at)
    entry = members.first_ending(b".fb2")
    if entry is None:
        raise UnreadableError("the zip holds no .fb2")
    book = entry
    return lambda limit: members.read_head(book, limit)


def _description(read_head: ReadHead) -> str:
    """The text up to the end of the description; all of the head when that end is missing."""
    text = ""
    for limit in _HEADS:
        head = read_head(limit)
        text = decode_markup(head)
        end = _END.search(text)
        if end:
            return text[: end.end()]
        if len(head) < limit:
            break
    return text


def _by_name(elements: Iterable[Element]) -> dict[str, list[Element]]:
    named: dict[str, list[Element]] = defaultdict(list)
    for element in islice(elements, MAX_ELEMENTS):
        named[local_name(element)].append(element)
    return named


def _parts(section: Element) -> Iterator[Element]:
    """What is in a section, in order, but not in a section that a tag without its end has put into this one."""
    waiting = [section]
    while waiting:
        element = waiting.pop()
        yield element
        waiting += (part for part in reversed(element[:MAX_ELEMENTS]) if local_name(part) not in _SECTIONS)


def _authors(sections: list[Element]) -> tuple[str, ...]:
    authors = _by_name(_parts(sections[0]))["author"] if sections else []
    return tuple(people(*map(_name, authors)))


def _name(author: Element) -> str:
    parts = (text_of(child(author, part)).strip() for part in ("first-name", "middle-name", "last-name"))
    return " ".join(part for part in parts if part) or text_of(child(author, "nickname"))


def _cover_id(page: Element) -> str | None:
    references = (attribute(image, "href") or "" for image in children(page, "image"))
    return next((reference[1:] for reference in references if reference.startswith("#")), None)


# -- the cover ----------------------------------------------------------------------------------------------------

_MAX_FILE = 64 << 20  # bytes a cover is looked for in: it lies behind the text
_BINARY = re.compile(r"<(?:[\w.-]{1,40}:)?binary\b([^<>]{0,500})>([^<]*)")


def read_fb2_cover(cover: str, size: int, read_at: ReadAt, limit: int) -> bytes | None:
    """The image of that id; None when it is missing, larger than `limit` bytes or not base64."""
    text = decode_markup(_head_reader(size, read_at)(_MAX_FILE))
    wanted = re.compile(rf"""\bid\s*=\s*["']{re.escape(cover)}["']""")
    for binary in _BINARY.finditer(text):
        if wanted.search(binary[1]):
            if len(binary[2]) > 2 * limit:
                return None
            try:
                return base64.b64decode("".join(binary[2].split()).encode("ascii"))[:limit] or None
            except (binascii.Error, UnicodeEncodeError):
                return None
    return None
