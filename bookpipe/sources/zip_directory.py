"""What a zip holds, from its central directory alone: some kilobytes at the end instead of the whole archive.

The layout is PKWARE's APPNOTE 6.3 (sections 4.3.7, 4.3.12, 4.3.14-4.3.16). Sizes and counts inside a zip
are claims of whoever made it: every read is clipped to the file and to the limits below, and an archive
that contradicts itself reads as "no directory", never as an exception.
"""

import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

# (offset, length) -> that range of the file, short or empty at its end. An OSError of the reader passes through.
ReadAt = Callable[[int, int], bytes]

MAX_DIRECTORY_BYTES = 16 << 20
MAX_ENTRIES = 50_000

_END = struct.Struct("<4x6xHII2x")  # total entries, directory size, directory offset
_END_SIGNATURE = b"PK\x05\x06"
_ZIP64_LOCATOR = struct.Struct("<4x4xQ4x")  # offset of the zip64 end record
_ZIP64_END = struct.Struct("<40xQQ")  # directory size, directory offset
_ENTRY = struct.Struct("<8xHH8xI4xHHH8xI")  # flags, method, packed size, name/extra/comment lengths, local offset
_ENTRY_SIGNATURE = b"PK\x01\x02"
_LOCAL = struct.Struct("<26xHH")  # name and extra lengths

_TAILS = (4096, 22 + 0xFFFF)  # nearly every zip has no comment; the second holds the longest possible one
_ENCRYPTED = 1  # flag bit 0
_STORED, _DEFLATED = 0, 8


class ZipEntry(NamedTuple):
    """One member as the central directory describes it. `name` is raw bytes, in whatever code page."""

    name: bytes
    flags: int
    method: int
    packed_size: int  # bytes
    offset: int  # of the local header


def read_entries(size: int, read_at: ReadAt) -> list[ZipEntry] | None:
    """The members of a zip of `size` bytes; None without a usable directory or beyond the limits."""
    directory = _read_directory(size, read_at)
    if directory is None:
        return None
    entries: list[ZipEntry] = []
    at = 0
    last = len(directory) - _ENTRY.size
    while at <= last and directory.startswith(_ENTRY_SIGNATURE, at):
        if len(entries) == MAX_ENTRIES:
            return None
        flags, method, packed_size, name_length, extra, comment, offset = _ENTRY.unpack_from(directory, at)
        at += _ENTRY.size
        entries.append(ZipEntry(directory[at : at + name_length], flags, method, packed_size, offset))
        at += name_length + extra + comment
    return entries


def read_member(entry: ZipEntry, size: int, read_at: ReadAt, limit: int) -> bytes | None:
    """At most the first `limit` bytes of a member, inflated; None when it is encrypted, damaged or packed otherwise."""
    if entry.flags & _ENCRYPTED or entry.method not in (_STORED, _DEFLATED) or entry.offset >= size:
        return None
    header = read_at(entry.offset, _LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        return None
    name_length, extra_length = _LOCAL.unpack(header)
    start = entry.offset + _LOCAL.size + name_length + extra_length
    if start >= size:
        return None
    # Deflate may grow what it cannot pack by a few bytes: a little more than the limit is always enough.
    packed = read_at(start, min(entry.packed_size, limit + 64, size - start))
    if entry.method == _STORED:
        return packed[:limit]
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit)
    except zlib.error:
        return None


def _read_directory(size: int, read_at: ReadAt) -> bytes | None:
    tail, at = b"", -1
    for length in _TAILS:
        tail = read_at(max(0, size - length), min(size, length))
        at = tail.rfind(_END_SIGNATURE, 0, max(0, len(tail) - _END.size + len(_END_SIGNATURE)))
        if at >= 0 or length >= size:
            break
    if at < 0:
        return None
    tail_start = max(0, size - len(tail))

    def read(offset: int, length: int) -> bytes:
        length = min(length, size - offset)
        if offset >= tail_start:
            return tail[offset - tail_start : offset - tail_start + length]
        return read_at(offset, length) if length > 0 else b""

    end = tail_start + at
    total, length, offset = _END.unpack_from(tail, at)
    if total == 0xFFFF or 0xFFFFFFFF in (length, offset):
        zip64 = _read_zip64_end(end, read)
        if zip64 is not None:
            end, length, offset = zip64
    if length > MAX_DIRECTORY_BYTES:
        return None
    # The directory ends where its end record begins. That holds even when something was put before the
    # zip and the declared offset is wrong; the declared offset helps when something lies between the two.
    for start in (end - length, offset):
        if 0 <= start < size and read(start, len(_ENTRY_SIGNATURE)) == _ENTRY_SIGNATURE:
            return read(start, length)
    return b"" if length == 0 else None


def _read_zip64_end(end: int, read: ReadAt) -> tuple[int, int, int] | None:
    """(where the zip64 end record is, directory size, directory offset)"""
    at = end - _ZIP64_LOCATOR.size
    locator = read(at, _ZIP64_LOCATOR.size) if at >= 0 else b""
    if len(locator) < _ZIP64_LOCATOR.size or not locator.startswith(b"PK\x06\x07"):
        return None
    (record_at,) = _ZIP64_LOCATOR.unpack(locator)
    record = read(record_at, _ZIP64_END.size) if record_at < end else b""
    if len(record) < _ZIP64_END.size or not record.startswith(b"PK\x06\x06"):
        return None
    length, offset = _ZIP64_END.unpack(record)
    return record_at, length, offset
