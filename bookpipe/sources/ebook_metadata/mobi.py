"""Palm databases: Mobipocket and KF8 (EXTH records) and the name of every other one.

Layout as MobileRead's wiki describes it: a header of 78 bytes, the list of records, and in record 0 a PalmDoc
header, a MOBI header, EXTH records and the full name. All numbers are big-endian.
"""

import html
import locale
import re
import struct
from collections import defaultdict
from functools import cache

from bookpipe.sources.ebook_metadata.fields import EbookMetadata, UnreadableError, found, people, split_tags
from bookpipe.sources.ebook_metadata.text_encodings import codec_of_code_page, decode_field, decode_mislabelled
from bookpipe.sources.zip_directory import ReadAt

_MAX_RECORD = 1 << 20  # bytes of record 0 that are read
_MAX_EXTH_RECORDS = 2_000
_MAX_EXTH_VALUE = 64 << 10  # bytes
_NONE = 0xFFFFFFFF
_ENTITY = re.compile(r"&(?:#[0-9A-Fa-fxX]{1,8}|[A-Za-z][A-Za-z0-9]{1,31});")
_AUTHOR, _SUBJECT, _COVER, _TITLE, _LANGUAGE = 100, 105, 201, 503, 524


def read_mobi(size: int, read_at: ReadAt) -> EbookMetadata:
    """Title (EXTH 503, else the full name, else the database's), authors, subjects, languages, cover record.

    A book under DRM is `encrypted` and has its fields all the same: its metadata never is.
    """
    head = read_at(0, 78)
    count = int.from_bytes(head[76:78], "big")
    record = _record(0, count, size, read_at, _MAX_RECORD)
    if len(record) < 132 or record[16:20] != b"MOBI":
        raise UnreadableError("record 0 has no MOBI header")
    (encryption,) = struct.unpack_from(">H", record, 12)
    length, _, code_page = struct.unpack_from(">III", record, 20)
    name_at, name_length, language = struct.unpack_from(">III", record, 84)
    (first_image,) = struct.unpack_from(">I", record, 108)
    codec = codec_of_code_page(code_page)

    exth = _exth(record, 16 + length)  # whatever the flag at 128 says

    def values(number: int) -> list[str]:
        return [_without_entities(decode_field(value, codec)) for value in exth.get(number, ())]

    full_name = record[name_at : name_at + min(name_length, _MAX_EXTH_VALUE)]
    titles = [*values(_TITLE), _without_entities(decode_field(full_name, codec).rstrip("\0")), _database_name(head)]
    languages = [code for code in values(_LANGUAGE) if code.strip(" \0")]
    encrypted = f"Mobipocket DRM (encryption type {encryption})" if encryption else ""
    return found(
        title=next((title for title in titles if title.strip(" \0")), None),
        authors=people(*values(_AUTHOR)),
        languages=languages[-1:] or [_language_of_locale(language)],  # of several the last one counts
        tags=split_tags(*values(_SUBJECT)),
        cover=_cover_record(exth.get(_COVER), first_image, count),
        encrypted=encrypted,
    )


def read_pdb(size: int, read_at: ReadAt) -> EbookMetadata:
    """The database's name, at most 31 bytes: all that PalmDoc and its relatives say of a book."""
    head = read_at(0, 78)
    if len(head) < 78 or size < 78:
        raise UnreadableError("shorter than a database's header")
    return found(title=_database_name(head))


def read_palm_cover(record: int, size: int, read_at: ReadAt, limit: int) -> bytes | None:
    """That record, when it is an image of at most `limit` bytes."""
    count = int.from_bytes(read_at(76, 2), "big")
    data = _record(record, count, size, read_at, limit + 1)
    is_image = data.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM"))
    return data if is_image and len(data) <= limit else None


def _record(number: int, count: int, size: int, read_at: ReadAt, limit: int) -> bytes:
    """The first `limit` bytes of a record; empty when the database has no such record."""
    if not 0 <= number < count:
        return b""
    listed = read_at(78 + 8 * number, 16)
    if len(listed) < 8:
        return b""
    start = int.from_bytes(listed[:4], "big")
    # The last record goes to the end of the file.
    end = int.from_bytes(listed[8:12], "big") if number + 1 < count else size
    end = min(end, size)
    return read_at(start, min(end - start, limit)) if start < end else b""


def _exth(record: bytes, at: int) -> dict[int, list[bytes]]:
    """EXTH values by number, in order. Lying lengths and counts end the list early."""
    values: dict[int, list[bytes]] = defaultdict(list)
    if record[at : at + 4] != b"EXTH" or len(record) < at + 12:
        return values
    (count,) = struct.unpack_from(">I", record, at + 8)
    at += 12
    for _ in range(min(count, _MAX_EXTH_RECORDS)):
        if at + 8 > len(record):
            break
        number, length = struct.unpack_from(">II", record, at)
        if length < 8:
            break
        values[number].append(record[at + 8 : at + min(length, _MAX_EXTH_VALUE)])
        at += length
    return values


def _without_entities(text: str) -> str:
    """Makers copied texts out of HTML as they stood. What does not end with ';' is none: 'Rock&parade'."""
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)


def _database_name(head: bytes) -> str:
    name = head[:32].partition(b"\0")[0]
    # Makers put a _ for a blank or for what cp1252 lacks.
    return (decode_mislabelled(name) or decode_field(name, "cp1252")).replace("_", " ")


def _cover_record(offsets: list[bytes] | None, first_image: int, count: int) -> int | None:
    if not offsets or len(offsets[0]) != 4 or first_image == _NONE:
        return None
    offset = int.from_bytes(offsets[0], "big")
    return first_image + offset if offset != _NONE and first_image + offset < count else None


def _language_of_locale(number: int) -> str | None:
    """The code of a Windows language id, whose low ten bits are the language, the rest the country."""
    return _windows_languages().get(number & 0x3FF)


@cache
def _windows_languages() -> dict[int, str]:
    languages: dict[int, str] = {}
    for number, name in sorted(locale.windows_locale.items()):
        languages.setdefault(number & 0x3FF, name.partition("_")[0])
    return languages
