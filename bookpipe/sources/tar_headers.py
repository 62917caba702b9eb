"""The headers of a tar archive, walked by ourselves: what is in it, where, and what is wrong with it.

Python's tarfile ends without a word at the first damaged header, at a cut between two members and at the end of
the first of several concatenated archives. This walk tests every checksum, goes on behind damage, and says as a
Problem with offsets whatever it could not read. The formats are POSIX.1-2017 pax and ustar, and GNU tar's own
(GNU tar manual, "Tar Internals": long names, sparse files, base-256 numbers).

Archives lie: a number in a header is a claim, every step goes forward by at least one block, and memory is bounded
by MAX_RECORD and the scan's pieces.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

BLOCK = 512  # bytes; headers are one block, contents are padded to whole ones
MAX_RECORD = 1 << 20  # bytes of one long name or set of pax records; real ones stay below 10 KB
MAX_SEGMENTS = 65_536  # of one sparse member
_MAX_SIZE, _MAX_TIME = 1 << 62, 1 << 40  # bytes, seconds; more is damage
_SCAN_FIRST, _SCAN_MOST = 16 << 10, 1 << 20  # bytes read at once when looking for a header

Segments = tuple[tuple[int, int], ...]  # (offset in the file, bytes) of the stored parts of a sparse file
Records = dict[bytes, bytes]


class ByteSource(Protocol):
    """The bytes of an archive. Offsets asked for never decrease by more than the last piece read."""

    @property
    def end(self) -> int | None:
        """Where the archive ends; None while that is not known yet."""

    @property
    def stopped(self) -> "tuple[ProblemKind, str] | None":
        """Why the bytes end where they end, when that is not simply the end of the file."""

    def read_at(self, offset: int, length: int) -> bytes:
        """That range, short or empty at the end."""


class Kind(str, Enum):
    """What a member is."""

    FILE = "file"
    SPARSE = "sparse"
    HARD_LINK = "hard_link"
    SYMLINK = "symlink"
    DEVICE = "device"
    FIFO = "fifo"
    FOLDER = "folder"  # and volume labels: names without content
    OTHER = "other"


class ProblemKind(str, Enum):
    """What can be wrong with an archive as a whole. The value is stable: it is stored and shown."""

    NOT_A_TAR = "not_a_tar"
    CORRUPT_HEADER = "corrupt_header"
    TRUNCATED_HEADER = "truncated_header"
    TRUNCATED_MEMBER = "truncated_member"
    MISSING_END = "missing_end"
    DAMAGED_STREAM = "damaged_stream"
    NEEDS_MEMORY = "needs_memory"
    UNREADABLE_FOLDER = "unreadable_folder"
    BAD_RECORD = "bad_record"
    GARBAGE_AFTER_END = "garbage_after_end"


@dataclass(frozen=True, slots=True)
class Problem:
    """Damage of the archive in the bytes [offset, end), and what it means."""

    kind: ProblemKind
    offset: int
    end: int
    detail: str

    @property
    def incomplete(self) -> bool:
        """Whether members may be missing because of it."""
        return self.kind not in (ProblemKind.BAD_RECORD, ProblemKind.GARBAGE_AFTER_END)

    def __str__(self) -> str:
        where = f"at byte {self.offset}" if self.end <= self.offset else f"in bytes {self.offset} to {self.end}"
        return f"{self.kind.value} {where}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Member:
    """One member as its headers describe it. Offsets and sizes in bytes, mtime in seconds.

    `offset` is where its data starts, `header_offset` the first of its headers (long name and pax records included):
    a walk may start there. `size` is the size of the file, `stored` what the archive holds of it.
    """

    offset: int
    header_offset: int
    name: bytes
    size: int
    mtime: int
    kind: Kind
    stored: int = 0
    link: bytes = b""  # the target of a link
    sparse: Segments | None = None  # None for a sparse member: the map is at the start of its data (pax 1.0)

    @property
    def end(self) -> int:
        """Where the next header is."""
        return self.offset + padded(self.stored)


class Header(NamedTuple):
    """One header block. `size` is what follows it for the types that have data."""

    name: bytes
    size: int
    mtime: int
    type: bytes
    link: bytes


_FIELDS = struct.Struct("100s24x12s12s8sc100s8s80x155s12x")
_KINDS = {b"\0": Kind.FILE, b"0": Kind.FILE, b"7": Kind.FILE, b"S": Kind.SPARSE, b"1": Kind.HARD_LINK,
          b"2": Kind.SYMLINK, b"3": Kind.DEVICE, b"4": Kind.DEVICE, b"5": Kind.FOLDER, b"6": Kind.FIFO,
          b"D": Kind.FOLDER, b"V": Kind.FOLDER}  # fmt: skip
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # whatever their size says, as tarfile reads them
_EXTENSIONS = (b"L", b"K", b"x", b"X", b"g")
_USED_RECORDS = frozenset((b"path", b"linkpath", b"size", b"mtime"))
_FIRST_TYPES = b"\x0001234567LKxXgSDVMNA"  # those a scan takes for a header
_SPARSE = b"GNU.sparse."
_MAX_GLOBAL = 4096  # bytes of a record that holds for all members


def parse_number(field: bytes) -> int | None:
    """A numeric field: octal digits, or GNU's base-256 (two's complement behind a marking top bit)."""
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") - (1 << bits)
        return value - (1 << bits) if value >> (bits - 1) else value
    digits = field.partition(b"\0")[0].strip() or b"0"
    return None if digits.strip(b"01234567") else int(digits, 8)


def parse_header(block: bytes) -> Header | None:
    """The fields of a 512-byte block; None when its checksum or its size is wrong, or it is no whole block."""
    if len(block) != BLOCK:
        return None
    name, size_field, mtime_field, checksum, kind, link, magic, prefix = _FIELDS.unpack(block)
    expected = parse_number(checksum)  # of all bytes, those of the checksum itself taken as eight spaces
    if expected is None or not _sum_is(block, expected - 256 + sum(checksum)):
        return None
    size = parse_number(size_field)
    if size is None or not 0 <= size < _MAX_SIZE:
        return None
    name = name.partition(b"\0")[0]
    # GNU's magic is "ustar  \0": there the prefix field holds other things.
    if magic[:6] == b"ustar\0" and prefix[0]:
        name = prefix.partition(b"\0")[0] + b"/" + name
    mtime = parse_number(mtime_field) or 0
    return Header(name, size, mtime if abs(mtime) < _MAX_TIME else 0, kind, link.partition(b"\0")[0])


def _sum_is(block: bytes, expected: int) -> bool:
    # The low half of Adler-32 is 1 + the sum of all bytes, modulo 65521: ten times faster than adding them up.
    if zlib.adler32(block) & 0xFFFF == (expected + 1) % 65521:
        return True
    # Old Sun tars added signed bytes; those of the checksum are digits, the same in both ways.
    return sum(block) - 256 * sum(byte > 127 for byte in block) == expected


@dataclass(slots=True)
class _Pending:
    """What the extension headers in front of a member say about it."""

    offset: int
    long_name: bytes | None = None
    long_link: bytes | None = None
    records: list[tuple[bytes, bytes]] = field(default_factory=list)


def walk(source: ByteSource, start: int = 0, global_records: Records | None = None) -> Iterator[Member | Problem]:
    """Every member from the header at `start` on, and every problem, in the order of the archive.

    A member is given as soon as its headers are read: when its data turns out to be cut off, a Problem follows.
    `global_records` are the pax records that hold for all members. They are kept up to date in place: whoever
    resumes hands them in again.
    """
    shared = {} if global_records is None else global_records
    at, last, data_end = start, start, start  # next header; headers and end of the data of the last member
    seen = start > 0
    pending: _Pending | None = None
    while True:
        block = source.read_at(at, BLOCK)
        header = parse_header(block)
        if header is None:
            found = None
            if source.end is not None and source.end < data_end:
                detail = f"the archive ends {data_end - source.end} bytes before the end of this member"
                yield Problem(ProblemKind.TRUNCATED_MEMBER, last, source.end, detail)
            else:
                if pending is not None:
                    yield Problem(ProblemKind.BAD_RECORD, pending.offset, at, "a name or record without its member")
                problem, found = _find_header(source, at, seen)
                if problem is not None:
                    yield problem
            if found is None:
                if source.stopped is not None:
                    yield Problem(source.stopped[0], source.end or 0, source.end or 0, source.stopped[1])
                return
            at, pending = found, None
            continue
        seen = True
        if header.type in _EXTENSIONS:
            pending = pending or _Pending(at)
            last, data_end = pending.offset, at + BLOCK + header.size
            if bad := _read_extension(header, source, at + BLOCK, pending, shared):
                yield Problem(ProblemKind.BAD_RECORD, at, data_end, bad)
            at += BLOCK + padded(header.size)
            continue
        member, bad = _build(header, block, source, at, pending, shared)
        if bad:
            yield Problem(ProblemKind.BAD_RECORD, member.header_offset, member.offset, bad)
        pending = None
        yield member
        at, last, data_end = member.end, member.header_offset, member.offset + member.stored


def padded(size: int) -> int:
    """`size` rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def _read_extension(header: Header, source: ByteSource, at: int, pending: _Pending, shared: Records) -> str:
    """Take in what an extension header says; what is wrong with it."""
    if header.size > MAX_RECORD:
        return f"{header.size} bytes of names or records, more than {MAX_RECORD}: ignored"
    data = source.read_at(at, header.size)
    if header.type == b"L":
        pending.long_name = _text(data)
    elif header.type == b"K":
        pending.long_link = _text(data)
    else:
        records, whole = parse_records(data)
        if header.type == b"g":
            for key, value in records:
                if key in _USED_RECORDS and len(value) <= _MAX_GLOBAL:
                    shared[key] = value
        else:
            pending.records = [r for r in records if r[0] in _USED_RECORDS or r[0].startswith(_SPARSE)]
        if not whole and len(data) == header.size:
            return "pax records that contradict their own lengths: the rest of them is ignored"
    return ""


def parse_records(data: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
    """The pax records `length key=value newline` in `data`, and whether all of it was understood."""
    records: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(data) and data[at]:  # some writers pad with NULs
        space = data.find(b" ", at, at + 20)
        if space < 0 or not data[at:space].isdigit():
            return records, False
        end = at + int(data[at:space])
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or data[end - 1 : end] != b"\n":
            return records, False
        records.append((key, value))
        at = end
    return records, True


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _build(
    header: Header, block: bytes, source: ByteSource, at: int, pending: _Pending | None, shared: Records
) -> tuple[Member, str]:
    """The member that a header and what came before it describe, and what is wrong with the description."""
    name, size, mtime, kind, link = header
    bad = ""
    records = shared
    if pending is not None:
        name, link = pending.long_name or name, pending.long_link or link
        records = {**shared, **dict(pending.records)}
    if records:
        name, link = _text(records.get(b"path") or name), _text(records.get(b"linkpath") or link)
        mtime = _seconds(records.get(b"mtime")) or mtime
        stored = records.get(b"size") or b"%d" % size
        if (number := _decimal(stored)) is None:
            bad = f"a size of {stored[:40]!r}: that of the header is taken"
        size = size if number is None else number
    offset, segments, real_size = at + BLOCK, None, None
    what = _KINDS.get(kind)
    if what is None:
        # POSIX: unknown types are read as files; capitals are the vendors', whose data is no file.
        what = Kind.OTHER if kind.isupper() else Kind.FILE
    if kind == b"\0" and name.endswith(b"/"):  # how archives older than POSIX mark folders
        what, size = Kind.FOLDER, 0
    elif kind in _WITHOUT_DATA:
        # POSIX allows a hard link to have the file's bytes once more; older formats only repeat its size.
        following = source.read_at(offset, BLOCK) if kind == b"1" and size and block[257:263] == b"ustar\0" else b""
        real_size, size = 0, size if any(following) and parse_header(following) is None else 0
    if what is Kind.FOLDER:
        name = name.rstrip(b"/") or name[:1]
    if kind == b"S":
        segments, real_size, offset = _old_sparse_map(block, source, offset)
    elif pending is not None and any(key.startswith(_SPARSE) for key in records):
        what = Kind.SPARSE
        segments, real_size = _pax_sparse_map(pending.records, records)
        name = _text(records.get(b"GNU.sparse.name") or name)
    first = at if pending is None else pending.offset
    real_size = size if real_size is None else real_size
    return Member(offset, first, name, real_size, mtime, what, size, link, segments), bad


def _seconds(value: bytes | None) -> int:
    try:
        seconds = float(value or 0)
    except ValueError:
        return 0
    return int(seconds // 1) if abs(seconds) < _MAX_TIME else 0  # neither NaN nor infinite


def _find_header(source: ByteSource, at: int, seen: bool) -> tuple[Problem | None, int | None]:
    """What is wrong from `at`, where no header is, up to the next header or the end; and where that header is.

    Nothing is wrong with zero blocks: two of them end an archive, and another archive may follow.
    """
    start, zeros, garbage, length = at, 0, None, _SCAN_FIRST
    while True:
        piece = source.read_at(at, length)
        first = 0
        if garbage is None:
            blank = len(piece) - len(piece.lstrip(b"\0"))
            first = blank // BLOCK * BLOCK
            zeros += blank // BLOCK
        for block in range(first, len(piece) - BLOCK + 1, BLOCK):
            if piece[block] and piece[block + 156] in _FIRST_TYPES and parse_header(piece[block : block + BLOCK]):
                if garbage is None:
                    return None, at + block
                detail = "no valid header: members may be lost here"
                return Problem(ProblemKind.CORRUPT_HEADER, garbage, at + block, detail), at + block
            if garbage is None:
                garbage = at + block
        if garbage is None and first < len(piece) and piece[first:].strip(b"\0"):
            garbage = at + first  # less than a block, at the end
        if len(piece) < length:  # then the end is known
            if not seen and source.stopped is not None and source.stopped[0] is not ProblemKind.GARBAGE_AFTER_END:
                return None, None  # nobody knows whether it is a tar
            return _describe_end(start, zeros, garbage, source.end or 0, seen), None
        at += length
        length = min(4 * length, _SCAN_MOST)


def _describe_end(start: int, zeros: int, garbage: int | None, end: int, seen: bool) -> Problem | None:
    """What is wrong with the end of an archive whose last bytes, from `start`, hold no header."""
    if not seen and (garbage is not None or zeros == 0):
        return Problem(ProblemKind.NOT_A_TAR, start, end, "no tar header in it" if end else "no bytes to read in it")
    if garbage is None and zeros >= 2:
        return None
    if garbage is None:
        return Problem(ProblemKind.MISSING_END, end, end, "two zero blocks should end it: it may be cut off")
    if zeros >= 2:
        return Problem(ProblemKind.GARBAGE_AFTER_END, garbage, end, "bytes that are no tar behind the end")
    if zeros == 0 and end - garbage < BLOCK:
        return Problem(ProblemKind.TRUNCATED_HEADER, garbage, end, "the archive ends inside a header")
    return Problem(ProblemKind.CORRUPT_HEADER, garbage, end, "no valid header up to the end: members may be lost here")


def expand_sparse(member: Member, stored: bytes | bytearray, into: memoryview) -> bool:
    """Write a sparse file's bytes into `into` (of `member.size` bytes); False when its map contradicts itself."""
    segments, at = member.sparse, 0
    if segments is None:
        segments, at = _map_in_data(stored)
    into[:] = bytes(len(into))
    for offset, length in segments:
        if offset + length > len(into) or at + length > len(stored):
            return False
        into[offset : offset + length] = stored[at : at + length]
        at += length
    return bool(segments)


def _pairs(numbers: list[int | None]) -> Segments:
    """Segments of alternating offsets and lengths; none at all when one of them is no number or they are too many."""
    valid = [n for n in numbers if n is not None and 0 <= n < _MAX_SIZE]
    if len(valid) < len(numbers) or len(valid) % 2 or len(valid) > 2 * MAX_SEGMENTS:
        return ()
    return tuple(zip(valid[::2], valid[1::2], strict=True))


def _old_sparse_map(block: bytes, source: ByteSource, at: int) -> tuple[Segments, int | None, int]:
    """Map and real size of a type S member, and where its data starts: behind the blocks its map goes on in."""
    size = parse_number(block[483:495])
    numbers = _map_entries(block[386:482])
    more = block[482]
    while more and len(numbers) < 2 * MAX_SEGMENTS:
        block = source.read_at(at, BLOCK)
        if len(block) < BLOCK:
            break
        numbers += _map_entries(block[:504])
        more = block[504]
        at += BLOCK
    valid = size is not None and 0 <= size < _MAX_SIZE
    return (_pairs(numbers), size, at) if valid else ((), None, at)


def _map_entries(entries: bytes) -> list[int | None]:
    used = (i for i in range(0, len(entries), 24) if entries[i] or entries[i + 12])
    return [parse_number(entries[j : j + 12]) for i in used for j in (i, i + 12)]


def _pax_sparse_map(own: list[tuple[bytes, bytes]], records: Records) -> tuple[Segments | None, int | None]:
    """Map and real size of a sparse member of GNU's pax formats 0.0, 0.1 and 1.0."""
    size = _decimal(records.get(b"GNU.sparse.realsize", records.get(b"GNU.sparse.size", b"")))
    if size is None:
        return (), None
    if records.get(b"GNU.sparse.major") == b"1":
        return None, size
    if b"GNU.sparse.map" in records:
        numbers = records[b"GNU.sparse.map"].split(b",")
    else:  # 0.0 repeats the two records for every segment
        numbers = [value for key, value in own if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes")]
    return _pairs([_decimal(n) for n in numbers]), size


def _map_in_data(stored: bytes | bytearray) -> tuple[Segments, int]:
    """The map at the start of the data (format 1.0): the number of segments, then their numbers, one to a line."""
    numbers: list[int | None] = []
    at, wanted = 0, 1
    while len(numbers) < wanted:
        end = stored.find(b"\n", at, at + 24)
        number = _decimal(stored[at:end]) if end >= 0 else None
        if number is None or (number > MAX_SEGMENTS and not numbers):
            return (), 0
        if not numbers:
            wanted += 2 * number
        numbers.append(number)
        at = end + 1
    return _pairs(numbers[1:]), padded(at)


def _decimal(digits: bytes | bytearray) -> int | None:
    return int(digits[-18:]) if digits.isdigit() and not digits[:-18].strip(b"0") else None
