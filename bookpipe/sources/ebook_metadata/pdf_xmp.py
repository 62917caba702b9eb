"""The XMP packet of a PDF's catalog, which PDFium does not give out.

Just enough of ISO 32000-1 to get from the end of the file to the catalog (7.5: cross-reference tables and streams,
object streams) and to its /Metadata stream (14.3.2). Nothing is repaired: a file whose table is damaged has no XMP.
"""

import re
import zlib
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from bookpipe.sources.ebook_metadata.fields import MAX_TAGS, UnreadableError
from bookpipe.sources.ebook_metadata.hardened_xml import Element, descendants, local_name, parse_xml, text_of
from bookpipe.sources.zip_directory import ReadAt

_HEADER_WITHIN = 1024  # bytes
_TAIL = 2048  # bytes that are searched for startxref
_PIECE = 64 << 10  # bytes that are read at once; also of an object: its dictionary
_MAX_STREAM = 2 << 20  # bytes of a stream, unpacked
_MAX_SECTIONS = 64  # of the cross-reference table: one for each time the file was saved
_MAX_SUBSECTIONS = 4096
_DC = "{http://purl.org/dc/elements/1.1/}"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_NAMES = frozenset(("title", "creator", "language", "subject"))

_SUBSECTION = re.compile(rb"\s*(\d{1,10})[ \t]+(\d{1,10})[ \t]*(?:\r\n|\r|\n)")
_ENTRY = re.compile(rb"(\d{10}) \d{5} n")
_OBJECT = re.compile(rb"\s*(\d{1,10})\s+\d{1,5}\s+obj\b")
_STREAM = re.compile(rb"\bstream(?:\r\n|\n|\r)")
_FILTER = re.compile(rb"/Filter\s*(\[[^\]]*\]|/\w+)")
_WIDTHS = re.compile(rb"/W\s*\[\s*([0-8])\s+([0-8])\s+([0-8])\s*\]")
_INDEX = re.compile(rb"/Index\s*\[([\s\d]{1,60000})\]")


class _NoXmpError(Exception):
    """The file has none that can be reached."""


def read_xmp(size: int, read_at: ReadAt) -> dict[str, str]:
    """dc:title, dc:creator, dc:language and dc:subject as far as they are filled, the items of each as lines.

    Empty when the catalog has no XMP or it cannot be read. At most some megabytes are read and unpacked.
    """
    try:
        return _fields(parse_xml(_Objects(size, read_at).xmp()))
    except (_NoXmpError, UnreadableError, zlib.error, ValueError, TypeError, LookupError):
        return {}


def _fields(root: Element) -> dict[str, str]:
    fields: dict[str, str] = {}
    for element in descendants(root):
        name = element.tag.removeprefix(_DC) if isinstance(element.tag, str) else ""
        if name not in _NAMES or f"dc:{name}" in fields:
            continue
        items = [item for item in descendants(element) if local_name(item) == "li"] or [element]
        if name == "title":
            items = ([item for item in items if item.get(_LANG) == "x-default"] or items)[:1]
        texts = (" ".join(text_of(item).split()) for item in items[:MAX_TAGS])
        if lines := "\n".join(text for text in texts if text):
            fields[f"dc:{name}"] = lines
    return fields


# -- objects ------------------------------------------------------------------------------------------------------


class _Section(NamedTuple):
    """A part of the cross-reference table: subsections of (first number, count, where its entries are)."""

    trailer: bytes
    subsections: list[tuple[int, int, int]]
    data: bytes  # of a cross-reference stream: what the places are in; empty: they are in the file
    widths: tuple[int, ...]


class _Objects:
    """The objects of a file. Offsets are bytes from its header, which may have others before it."""

    def __init__(self, size: int, read_at: ReadAt) -> None:
        self._read_at = read_at
        self._base = max(0, read_at(0, _HEADER_WITHIN).find(b"%PDF-"))
        self._size = size - self._base

    def _read(self, offset: int, length: int) -> bytes:
        return self._read_at(self._base + offset, length)

    def xmp(self) -> bytes:
        """The packet of the catalog, unpacked."""
        trailer = next((section.trailer for section in self._sections if b"/Root" in section.trailer), b"")
        catalog = self._object(_reference(b"/Root", trailer))
        return self._stream_of(_reference(b"/Metadata", catalog))

    def _object(self, number: int) -> bytes:
        """An object from behind `obj` on; it ends before the end of the bytes."""
        kind, place, index = self._find(number)
        if kind == 1:
            return self._head(place, number)[1].partition(b"endobj")[0]
        container, head = self._find(place), b""
        if container[0] == 1:  # or it were in another object stream
            _, head = self._head(container[1], place)
        data = self._stream_of(place)
        first = _number(b"/First", head)
        offsets = [int(digits) for digits in data[:first].split() if digits.isdigit() and len(digits) < 12]
        if 2 * index + 1 >= len(offsets) or offsets[2 * index] != number:
            raise _NoXmpError
        return data[first + offsets[2 * index + 1] :][:_PIECE]

    def _head(self, offset: int, number: int | None) -> tuple[int, bytes]:
        """The object at `offset`: where it goes on behind `obj`, and the first bytes from there."""
        head = self._read(offset, _PIECE)
        match = _OBJECT.match(head)
        if match is None or number not in (None, int(match[1])):
            raise _NoXmpError
        return offset + match.end(), head[match.end() :]

    def _stream_of(self, number: int) -> bytes:
        kind, place, _ = self._find(number)
        if kind != 1:  # streams are in no object stream
            raise _NoXmpError
        return self._stream(*self._head(place, number))[1]

    def _stream(self, offset: int, head: bytes) -> tuple[bytes, bytes]:
        """Dictionary and unpacked data, at most _MAX_STREAM, of the stream whose dictionary begins `head`."""
        start = _STREAM.search(head)
        if start is None:
            raise _NoXmpError
        dictionary = head[: start.start()]
        match = _FILTER.search(dictionary)
        filters = re.findall(rb"/(\w+)", match[1]) if match else []
        if filters not in ([], [b"FlateDecode"], [b"Fl"]):
            raise _NoXmpError
        data, unpacker = bytearray(), zlib.decompressobj() if filters else None
        # Its /Length may be anywhere and is often wrong: the data say themselves where they end.
        for at in range(offset + start.end(), offset + start.end() + _MAX_STREAM, _PIECE):
            piece = self._read(at, _PIECE)
            data += unpacker.decompress(piece, _MAX_STREAM - len(data)) if unpacker else piece
            end = -1 if unpacker else data.find(b"endstream")
            if end >= 0:
                del data[end:]
            if len(piece) < _PIECE or end >= 0 or len(data) >= _MAX_STREAM or (unpacker and unpacker.eof):
                break
        return dictionary, _without_predictor(bytes(data), dictionary)

    # -- cross-references -----------------------------------------------------------------------------------------

    def _find(self, number: int) -> tuple[int, int, int]:
        """(1, offset, _) of an object, (2, number, index) of one in an object stream."""
        for section in self._sections:
            for first, count, at in section.subsections:
                if first <= number < first + count:
                    found = self._entry(section, at, number - first)
                    if found[0] in (1, 2):
                        return found
        raise _NoXmpError

    def _entry(self, section: _Section, at: int, index: int) -> tuple[int, int, int]:
        if not section.widths:
            match = _ENTRY.match(self._read(at + 20 * index, 20))
            return (1, int(match[1]), 0) if match else (0, 0, 0)
        at += sum(section.widths) * index
        values = []
        for width in section.widths:
            values.append(int.from_bytes(section.data[at : at + width], "big"))
            at += width
        kind, place, last = values
        return (kind if section.widths[0] else 1), place, last

    @cached_property
    def _sections(self) -> list[_Section]:
        return list(islice(self._walk_sections(), _MAX_SECTIONS))

    def _walk_sections(self) -> Iterator[_Section]:
        """The newest first."""
        tail = self._read(max(0, self._size - _TAIL), _TAIL)
        waiting, seen = [_number(b"startxref", tail[max(0, tail.rfind(b"startxref")) :])], set()
        while waiting:
            at = waiting.pop(0)
            if at in seen:
                continue
            seen.add(at)
            head = self._read(at, _PIECE)
            table = head.lstrip()
            if table.startswith(b"xref"):
                section = self._table(at + len(head) - len(table) + 4)
            else:
                section = self._table_stream(*self._head(at, None))
            yield section
            waiting += [_number(key, section.trailer) for key in (b"/XRefStm", b"/Prev") if key in section.trailer]

    def _table(self, at: int) -> _Section:
        subsections: list[tuple[int, int, int]] = []
        while match := _SUBSECTION.match(self._read(at, 100)):
            first, count = int(match[1]), int(match[2])
            subsections.append((first, count, at + match.end()))
            at += match.end() + 20 * count
            if len(subsections) > _MAX_SUBSECTIONS:
                raise _NoXmpError
        trailer = self._read(at, _PIECE).lstrip()
        if not trailer.startswith(b"trailer"):
            raise _NoXmpError
        return _Section(trailer.partition(b"startxref")[0], subsections, b"", ())

    def _table_stream(self, at: int, head: bytes) -> _Section:
        dictionary, data = self._stream(at, head)
        match = _WIDTHS.search(dictionary)
        if match is None:
            raise _NoXmpError
        widths = tuple(map(int, match.groups()))
        index = _INDEX.search(dictionary)
        pairs = [int(n[:12]) for n in index[1].split()] if index else [0, _number(b"/Size", dictionary)]
        subsections, at = [], 0
        for first, count in zip(pairs[::2], pairs[1::2], strict=False):
            subsections.append((first, count, at))
            at += sum(widths) * count
        return _Section(dictionary, subsections, data, widths)


def _number(key: bytes, data: bytes) -> int:
    match = re.search(re.escape(key) + rb"\s+(\d{1,15})\b", data)
    if match is None:
        raise _NoXmpError
    return int(match[1])


def _reference(key: bytes, data: bytes) -> int:
    match = re.search(re.escape(key) + rb"\s+(\d{1,10})\s+\d{1,5}\s+R\b", data)
    if match is None:
        raise _NoXmpError
    return int(match[1])


def _without_predictor(data: bytes, dictionary: bytes) -> bytes:
    """PNG's filters of rows undone (7.4.4.4): each byte less the one above it, before it, or a mix of both."""
    if b"/Predictor" not in dictionary or (kind := _number(b"/Predictor", dictionary)) == 1:
        return data
    columns = _number(b"/Columns", dictionary) if b"/Columns" in dictionary else 1
    if kind < 10 or not 0 < columns <= 64 or b"/Colors" in dictionary or b"/BitsPerComponent" in dictionary:
        raise _NoXmpError
    rows = bytearray()
    above = bytes(columns)
    for at in range(0, len(data) - columns, columns + 1):
        row = bytearray(data[at + 1 : at + 1 + columns])
        if data[at] == 2:
            for i, byte in enumerate(above):
                row[i] = (row[i] + byte) & 0xFF
        elif data[at] == 1:
            for i in range(1, columns):
                row[i] = (row[i] + row[i - 1]) & 0xFF
        elif data[at]:  # nobody uses the others for numbers
            raise _NoXmpError
        rows += row
        above = bytes(row)
    return bytes(rows)
