"""What a shard is read as: rows with their bytes, in chunks that bound memory."""

import os
import re
from dataclasses import dataclass

from bookpipe.model.rejections import Reason
from bookpipe.sources.tar_headers import Kind, Member, Problem
from bookpipe.sources.tar_streams import OpenFile, Range

MAX_SIZE = 2**31 - 1  # bytes of a member: MyBookshelf2 stores the size in an int4


@dataclass(frozen=True, slots=True)
class Resume:
    """Where reading goes on: offset of a header in the (unpacked) tar, or number of a file in the folder."""

    position: int
    records: tuple[tuple[bytes, bytes], ...] = ()  # pax records that hold for all members from there on


@dataclass(slots=True)
class ShardRow:
    """One member that is no folder: with its bytes, or with the reason why it has none.

    `item` is the offset of its data in the (unpacked) tar, or the number of the file in the folder. The bytes are in
    `data`, or on disk and in `held`: those of a plain tar, and those that are too many for memory. A hard link has
    the bytes of the member `same_as` (an item); in a packed shard these have gone by, and both are None. `data` is
    valid as long as somebody holds it.
    """

    item: int
    name: bytes
    size: int  # bytes; 0 for a hard link of a packed shard
    mtime: int  # seconds
    data: memoryview | None = None
    held: Range | None = None
    same_as: int | None = None
    reason: str | None = None
    detail: str | None = None

    @property
    def file_name(self) -> str:
        """The base name for people, undecodable bytes replaced."""
        return re.split(rb"[/\\]", self.name)[-1].decode("utf-8", "replace")

    @property
    def given_format(self) -> str | None:
        """The extension its name claims, lower case without the dot."""
        found = re.search(r"[^.]\.([a-z0-9]{0,9}[a-z][a-z0-9]{0,9})\Z", self.file_name.lower())
        return found[1] if found else None

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` of its bytes from `offset`, short or empty at the end."""
        if self.held is not None:
            return self.held.read_at(offset, length)
        return b"" if self.data is None else bytes(self.data[offset : offset + length])

    def refuse(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows in the order of the shard, problems met on the way, and where the next chunk begins.

    `done` of `total` bytes of the shard on disk are behind it (None: not known, for a folder). `file` is the tar
    itself when it is not packed: then its rows hold ranges of it.
    """

    rows: list[ShardRow]
    problems: list[Problem]
    resume: Resume
    done: int
    total: int | None
    last: bool
    file: OpenFile | None = None


_TRAVERSING = re.compile(rb"\A[/\\]|(?:\A|[/\\])\.\.(?:[/\\]|\Z)")


def refuse_member(member: Member) -> tuple[str, str] | None:
    """Reason and detail for a member that is not read, by its header alone."""
    if member.kind is Kind.SYMLINK:
        return Reason.SYMLINK.value, f"to {os.fsdecode(member.link)!r}" if member.link else ""
    if member.kind in (Kind.DEVICE, Kind.FIFO, Kind.OTHER):
        return Reason.NOT_A_FILE.value, member.kind.value
    if _TRAVERSING.search(member.name):
        return Reason.TRAVERSING_NAME.value, repr(os.fsdecode(member.name))
    if member.kind is Kind.HARD_LINK:
        return None
    if member.size == 0:
        return Reason.EMPTY_FILE.value, ""
    if member.size > MAX_SIZE:
        return Reason.TOO_LARGE.value, f"{member.size} bytes"
    return None


class Buffers:
    """Memory for the data of one chunk after the other, used again when no view of it is left.

    Memory that is touched for the first time costs several times as much as reading into it.
    """

    def __init__(self, size: int) -> None:
        self._size = max(1, size)
        self._all: list[bytearray] = []

    def take(self) -> bytearray:
        for buffer in self._all:
            try:
                buffer.append(buffer.pop())  # refused as long as there are views
            except BufferError:
                continue
            return buffer
        self._all.append(bytearray(self._size))
        return self._all[-1]


class Filling:
    """A chunk under construction."""

    def __init__(self, buffers: Buffers) -> None:
        self.rows: list[ShardRow] = []
        self.problems: list[Problem] = []
        self.bytes = 0
        self._buffers = buffers
        self._buffer: memoryview | None = None
        self._used = 0

    def allocate(self, size: int) -> memoryview:
        """Memory for `size` bytes; its own when it does not fit."""
        if self._buffer is None:
            self._buffer = memoryview(self._buffers.take())
        if size > len(self._buffer) - self._used:
            return memoryview(bytearray(size))
        self._used += size
        return self._buffer[self._used - size : self._used]
