"""What a shard is read as: rows with their bytes, in chunks that bound memory."""

import os
import re
from dataclasses import dataclass

from bookpipe.model.rejections import Reason
from bookpipe.sources.tar_headers import Kind, Member, Problem
from bookpipe.sources.tar_streams import OpenFile, Range, ScratchFile, scratch_in_memory

MAX_SIZE = 2**31 - 1  # bytes of a member: MyBookshelf2 stores the size in an int4


@dataclass(frozen=True, slots=True)
class Resume:
    """Where reading goes on: offset of a header in the (unpacked) tar, or number of a file in the folder."""

    position: int
    records: tuple[tuple[bytes, bytes], ...] = ()  # pax records that hold for all members from there on


@dataclass(slots=True)
class ShardRow:
    """One member that is no folder: with its bytes, or with the reason why it has none.

    `item` is the offset of its data in the (unpacked) tar, or the number of the file in the folder. The bytes are
    `held` by a file: the tar itself, one in memory, or one on disk for those that are too many for memory. A hard
    link has the bytes of the member `same_as` (an item); in a packed shard these have gone by, and it holds none.
    """

    item: int
    name: bytes
    size: int  # bytes; 0 for a hard link of a packed shard
    mtime: int  # seconds
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
        return b"" if self.held is None else self.held.read_at(offset, length)

    def refuse(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows in the order of the shard, problems met on the way, and where the next chunk begins.

    `done` of `total` bytes of the shard on disk are behind it (None: not known, for a folder).
    """

    rows: list[ShardRow]
    problems: list[Problem]
    resume: Resume
    done: int
    total: int | None
    last: bool


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


class _LentFile(ScratchFile):
    """A file that goes back to where it was taken from when nobody holds it any more."""

    def __init__(self, file: OpenFile, idle: list[OpenFile]) -> None:
        self.fd = file.fd
        self._file, self._idle = file, idle

    def __del__(self) -> None:
        self._idle.append(self._file)


class Buffers:
    """Files in memory for the data of one chunk after the other, used again when nobody holds a range of them.

    Memory that is touched for the first time costs several times as much as writing to it. At most `size` bytes of
    a file are kept for that.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: list[OpenFile] = []

    def take(self) -> OpenFile:
        file = self._idle.pop() if self._idle else scratch_in_memory()
        os.ftruncate(file.fd, self._size)
        return _LentFile(file, self._idle)


class Filling:
    """A chunk under construction."""

    def __init__(self, buffers: Buffers) -> None:
        self.rows: list[ShardRow] = []
        self.problems: list[Problem] = []
        self.bytes = 0
        self._buffers = buffers
        self._file: OpenFile | None = None
        self._used = 0

    def allocate(self, size: int) -> Range:
        """Memory for `size` bytes."""
        self._file = self._file or self._buffers.take()
        self._used += size
        return Range(self._file, self._used - size, size)
