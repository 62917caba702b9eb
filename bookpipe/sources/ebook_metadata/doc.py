"""Word's binary documents: the SummaryInformation property set ([MS-OLEPS]) of the OLE file."""

import struct

from bookpipe.sources.ebook_metadata.fields import (
    EbookMetadata,
    UnreadableError,
    found,
    people_in_list,
    split_tags,
)
from bookpipe.sources.ebook_metadata.ole_streams import OleStreams
from bookpipe.sources.ebook_metadata.text_encodings import codec_of_code_page, decode_field
from bookpipe.sources.zip_directory import ReadAt

_MAX_SUMMARY = 1 << 20  # bytes
_MAX_PROPERTIES = 1_000
_CODE_PAGE, _TITLE, _AUTHOR, _KEYWORDS = 1, 2, 4, 5
_I2, _LPSTR, _LPWSTR = 2, 30, 31
_IS_ENCRYPTED = 0x0100  # of the flags at 10 of the document's header


def read_doc(size: int, read_at: ReadAt) -> EbookMetadata:
    """Title, authors and keywords. A document with a password may still show them, and is `encrypted`."""
    streams = OleStreams(size, read_at)
    document = streams.read("WordDocument", 12)
    if document is None:
        raise UnreadableError("no WordDocument stream")
    encrypted = len(document) == 12 and int.from_bytes(document[10:12], "little") & _IS_ENCRYPTED
    properties = _properties(streams.read("\x05SummaryInformation", _MAX_SUMMARY) or b"")
    return found(
        title=properties.get(_TITLE),
        authors=people_in_list(properties.get(_AUTHOR)),
        tags=split_tags(properties.get(_KEYWORDS)),
        encrypted="the document has a password" if encrypted else "",
    )


def _properties(data: bytes) -> dict[int, str]:
    """The texts of the first property set, by number. What points outside the data is left out."""
    if len(data) < 48:
        return {}
    (section,) = struct.unpack_from("<I", data, 44)
    if section + 8 > len(data):
        return {}
    (count,) = struct.unpack_from("<I", data, section + 4)
    offsets: dict[int, int] = {}
    for n in range(min(count, _MAX_PROPERTIES, (len(data) - section - 8) // 8)):
        number, offset = struct.unpack_from("<II", data, section + 8 + 8 * n)
        offsets[number] = section + offset
    codec = codec_of_code_page(_code_page(data, offsets.get(_CODE_PAGE)))
    return {number: _text(data, offsets[number], codec) for number in (_TITLE, _AUTHOR, _KEYWORDS) if number in offsets}


def _code_page(data: bytes, at: int | None) -> int:
    """A signed 16-bit number, so that 65001 (UTF-8) reads as -535; 0 when there is none."""
    if at is None or at + 6 > len(data):
        return 0
    kind, number = struct.unpack_from("<IH", data, at)
    return int(number) if kind == _I2 else 0


def _text(data: bytes, at: int, codec: str) -> str:
    if at + 8 > len(data):
        return ""
    kind, length = struct.unpack_from("<II", data, at)
    if kind == _LPWSTR:  # its length counts characters
        length, codec = 2 * length, "utf-16-le"
    elif kind != _LPSTR:
        return ""
    return decode_field(data[at + 8 : at + 8 + length], codec).partition("\0")[0]
