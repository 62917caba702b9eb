"""Palm databases: Mobipocket, KF8 and PalmDoc."""

import re
import struct
import zlib

from bookpipe.demo.ebook_files.book_text import BookText, clean, escaped, html_paragraphs, joined, padded, year_text
from bookpipe.demo.ebook_files.containers import palm_database

_TEXT_RECORD = 4096  # bytes
_NONE = 0xFFFFFFFF
_LANGUAGE_IDS = {"cs": 5, "de": 7, "en": 9, "es": 10, "fr": 12, "it": 16, "pl": 21, "ru": 25, "sk": 27}


def _records(text: bytes) -> list[bytes]:
    return [text[at : at + _TEXT_RECORD] for at in range(0, len(text), _TEXT_RECORD)] or [b""]


def _mobi_of_version(book: BookText, version: int, padding: int) -> bytes:
    text = (
        f"<html><head><title>{escaped(book.title)}</title></head><body>{html_paragraphs(book)}</body></html>"
    ).encode()
    records = _records(text)
    after_text = len(records) + 1  # number of the first record that is no text
    extras = [record for record in (book.cover, b" " * padding) if record]  # pictures come first
    flis, fcis = after_text + len(extras), after_text + len(extras) + 1

    title = clean(book.title).encode()
    fields = [(100, author) for author in book.authors] + [(105, tag) for tag in book.tags]
    fields += [(106, year_text(book)), (501, "EBOK"), (503, book.title), (524, book.language)]
    values = [(number, clean(value).encode()) for number, value in fields if value]
    if book.cover:
        values.append((201, struct.pack(">I", 0)))  # counted from the first image
    exth = b"".join(struct.pack(">II", number, 8 + len(value)) + value for number, value in values)
    exth = struct.pack(">4sII", b"EXTH", 12 + len(exth), len(values)) + exth
    exth += b"\0" * (-len(exth) % 4)

    length = 264 if version >= 8 else 232  # of the header from "MOBI" on
    header = bytearray(b"\xff" * (16 + length))
    struct.pack_into(">HHIHHI", header, 0, 1, 0, len(text), len(records), _TEXT_RECORD, 0)  # 1: not compressed
    struct.pack_into(">4sIIIII", header, 16, b"MOBI", length, 2, 65001, zlib.crc32(text), version)
    struct.pack_into(
        ">IIIIIIII",
        header,
        80,
        after_text,
        len(header) + len(exth),  # where the full name is
        len(title),
        _LANGUAGE_IDS.get(book.language, 0),
        0,
        0,
        version,  # that a reader must know
        after_text,  # first image, if there were one
    )
    struct.pack_into(">IIIII32x", header, 112, 0, 0, 0, 0, 0x40)  # no Huffman tables; 0x40: EXTH follows
    struct.pack_into(">IIII8xHH", header, 168, _NONE, 0, 0, 0, 1, after_text - 1)  # no DRM; text records
    struct.pack_into(">IIIIIQIIIIII", header, 196, 1, fcis, 1, flis, 1, 0, _NONE, 0, _NONE, _NONE, 0, _NONE)
    record0 = bytes(header) + exth + title
    record0 += b"\0" * (4 - len(record0) % 4)

    extras.append(struct.pack(">4sIHHIIHHIII", b"FLIS", 8, 65, 0, 0, _NONE, 1, 3, 3, 1, _NONE))
    extras.append(struct.pack(">4sIIIIIIIIHHI", b"FCIS", 20, 16, 1, 0, len(text), 0, 32, 8, 1, 1, 0))
    extras.append(bytes.fromhex("E98E0D0A"))  # the end
    name = re.sub("[^A-Za-z0-9]+", "_", book.title).encode()
    return palm_database(name, b"BOOKMOBI", [record0, *records, *extras])


def make_mobi(book: BookText) -> bytes:
    """Mobipocket 6 with EXTH metadata, text not compressed."""
    return padded(lambda book, padding: _mobi_of_version(book, 6, padding), book)


def make_prc(book: BookText) -> bytes:
    """The same bytes as a mobi: only the name differs."""
    return make_mobi(book)


def make_azw3(book: BookText) -> bytes:
    """The header and metadata of a KF8 book; its text is not split into KF8's skeletons and fragments."""
    return padded(lambda book, padding: _mobi_of_version(book, 8, padding), book)


def _pdb(book: BookText, padding: int) -> bytes:
    lines = [clean(book.title), f"by {joined(book.authors, ', ')}", "", clean(book.body)]
    text = "\n".join(lines).encode("cp1252", "replace") + b" " * padding
    records = _records(text)
    header = struct.pack(">HHIHHI", 1, 0, len(text), len(records), _TEXT_RECORD, 0)
    return palm_database(clean(book.title).encode("cp1252", "replace"), b"TEXtREAd", [header, *records])


def make_pdb(book: BookText) -> bytes:
    """PalmDoc, text not compressed and windows-1252; the title is the database's name, cut to 31 bytes."""
    return padded(_pdb, book)
