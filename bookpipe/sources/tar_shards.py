"""Shards of ebooks, read in place: tar archives, packed or not, and folders of what was extracted from one.

Nothing is written to a shard, extracted beside it or followed out of it: names in it are labels, never paths to
open. Members come in chunks, so that memory is bounded and work starts with the first of them.
"""

import hashlib
import lzma
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import zstandard
from isal import igzip_lib

from bookpipe.model.errors import ConfigError, TransientError
from bookpipe.model.rejections import Reason
from bookpipe.runtime.files import refuse
from bookpipe.sources import tar_headers
from bookpipe.sources.tar_headers import BLOCK, Kind, Member, Problem, ProblemKind

MAX_SIZE = 2**31 - 1  # bytes of a member: MyBookshelf2 stores the size in an int4
MAX_IN_MEMORY = 64 << 20  # bytes of a member
MAX_LINK_TARGETS = 1_000_000  # members a hard link may name; each costs about 100 bytes of memory

# Reasons of this source; the others are those of every source.
SYMLINK = "symlink"
TRAVERSING_NAME = "traversing_name"
BROKEN_LINK = "broken_link"
BROKEN_SPARSE = "broken_sparse"

ShardKind = Literal["tar", "tar.gz", "tar.xz", "tar.zst", "folder"]
Look = tuple[int, int]  # size in bytes, modification time in ns


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard. `others` are other forms of it (the folder it was extracted to), which are not read."""

    key: str
    path: Path
    kind: ShardKind
    others: tuple[Path, ...] = ()

    @property
    def origin(self) -> str:
        """Where its rows come from. Items of a tar, packed or not, are offsets and those of a folder are numbers:
        they must not be taken for each other when a shard changes its form."""
        return f"folder:{self.key}" if self.kind == "folder" else f"tar:{self.key}"


# -- finding shards -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settled:
    """When a tar counts as completely written: older than `min_age_s`, and as it was when looked at `earlier`.

    A modification time in the future says nothing: then it has to be as it was at an earlier look.
    """

    earlier: Mapping[str, Look] = field(default_factory=dict)  # what `look` gave then
    min_age_s: float = 60.0
    now: float | None = None  # seconds since the epoch

    def holds(self, key: str, seen: Look) -> bool:
        age = (time.time() if self.now is None else self.now) - seen[1] / 1e9
        known = self.earlier.get(key)
        return known == seen if age < 0 else age >= self.min_age_s and known in (None, seen)


class _Form(NamedTuple):
    rank: int  # which of several forms of a shard is read: the lowest that can be
    path: Path
    kind: ShardKind
    seen: Look


_NAME = re.compile(r"(.+?)\.(tar|tar\.gz|tgz|tar\.xz|tar\.zst)", re.IGNORECASE | re.DOTALL)
_KINDS: dict[str, ShardKind] = {"tar": "tar", "tar.zst": "tar.zst", "tar.gz": "tar.gz", "tgz": "tar.gz",
                                "tar.xz": "tar.xz"}  # fmt: skip
_RANKS = ["tar", "tar.zst", "tar.gz", "tar.xz", "folder"]
_MAGIC: dict[ShardKind, bytes] = {"tar.gz": b"\x1f\x8b", "tar.xz": b"\xfd7zXZ\0", "tar.zst": b"\x28\xb5\x2f\xfd"}
_SYSTEM_FOLDERS = {"lost+found", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"}


def shard_key(name: str) -> str:
    """The key of the shard `name` (without extension): itself where Dagster can take it as a partition key."""
    key = re.sub(r"[^A-Za-z0-9_.-]|\.{3,}", "_", name)  # Dagster refuses three dots in a row
    return key if key == name else f"{key}-{hashlib.sha1(os.fsencode(name), usedforsecurity=False).hexdigest()[:8]}"


def look(directory: Path) -> dict[str, Look]:
    """Size and modification time of every tar by key, for `Settled.earlier` of the next look."""
    return {key: seen for key, forms in _find_forms(directory).items() if (seen := _seen(forms)) is not None}


def find_shards(directory: Path, *, settled: Settled) -> list[Shard]:
    """The shards in `directory`, by key. A tar that is still written is left out, and so is what is no shard.

    `name/`, `name.tar` and its packed forms are one shard: the first tar that can be read, else the folder.
    ConfigError when the directory cannot be listed.
    """
    shards = []
    for key, forms in sorted(_find_forms(directory).items()):
        seen = _seen(forms)
        if seen is not None and not settled.holds(key, seen):
            continue
        for form in forms:
            kind = form.kind if form.kind == "folder" else _detect(form.path)
            if kind is not None:
                break
        else:  # reading it will say what is wrong
            form, kind = forms[0], forms[0].kind
        shards.append(Shard(key, form.path, kind, tuple(other.path for other in forms if other is not form)))
    return shards


def _seen(forms: list[_Form]) -> Look | None:
    tars = [form.seen for form in forms if form.kind != "folder"]
    return (sum(size for size, _ in tars), max(mtime for _, mtime in tars)) if tars else None


def _find_forms(directory: Path) -> dict[str, list[_Form]]:
    forms: dict[str, list[_Form]] = {}
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigError(
            f"The folder of tar shards {directory} cannot be listed: {error.strerror}. Check BOOKPIPE_TAR_DIR."
        ) from error
    for entry in entries:
        with suppress(OSError):  # gone meanwhile
            found = _form(entry)
            if found is not None:
                forms.setdefault(shard_key(found[0]), []).append(found[1])
    for same in forms.values():
        same.sort(key=lambda form: form.rank)
    return forms


def _form(entry: "os.DirEntry[str]") -> tuple[str, _Form] | None:
    """Name and form of the shard that an entry of the directory is, if it is one."""
    name, path = entry.name, Path(entry.path)
    if name.startswith("."):
        return None
    status = entry.stat()  # the directory is the user's own: a link to a shard elsewhere is as good
    kind: ShardKind | None = None
    if stat.S_ISDIR(status.st_mode):
        kind = "folder" if name not in _SYSTEM_FOLDERS and not _is_empty(path) else None
    elif stat.S_ISREG(status.st_mode):
        suffix = _NAME.fullmatch(name)
        if suffix:
            name, kind = suffix[1], _KINDS[suffix[2].lower()]
        elif "." not in name:
            kind = _detect(path)
    return (name, _Form(_RANKS.index(kind), path, kind, (status.st_size, status.st_mtime_ns))) if kind else None


def _is_empty(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except PermissionError:  # reading it will say so
        return False


def _detect(path: Path) -> ShardKind | None:
    """What kind of tar a file is by its first block; None when it is none or cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(BLOCK)
    except OSError:
        return None
    for kind, magic in _MAGIC.items():
        if head.startswith(magic):
            return kind
    return "tar" if tar_headers.parse_header(head) or head == bytes(BLOCK) else None


# -- the bytes of a shard -----------------------------------------------------------------------------------------

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a pipe must not hang the reader
_PIECE = 256 << 10  # bytes unpacked at once, whatever the packed bytes claim to become
_XZ_MEMORY = 256 << 20  # bytes; xz -9 needs 65 MB


class OpenFile:
    """A file descriptor that is open as long as somebody holds it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes that were too many to be held in memory. Can be read again, from any thread, as long as it exists."""

    file: OpenFile
    offset: int
    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` in the range, short or empty at its end."""
        return os.pread(self.file.fd, max(0, min(length, self.size - offset)), self.offset + offset)


def _read_into(fd: int, offset: int, view: memoryview) -> bool:
    """Fill `view` from `offset` of a file; False when the file is shorter."""
    done = os.preadv(fd, [view], offset)
    while 0 < done < len(view):
        n = os.preadv(fd, [view[done:]], offset + done)
        if n == 0:
            return False
        done += n
    return done == len(view)


class _Plain:
    """A tar as it is on disk."""

    stopped = None

    def __init__(self, file: OpenFile, _kind: ShardKind) -> None:
        self.file = file
        self.end = os.fstat(file.fd).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        return os.pread(self.file.fd, length, offset)

    def read_into(self, offset: int, view: memoryview) -> bool:
        """Fill `view`; False when the archive ends before."""
        if not self.reaches(offset + len(view)):
            return False
        if not _read_into(self.file.fd, offset, view):
            raise TransientError("A tar shard became shorter while it was read. The partition is tried again.")
        return True

    def reaches(self, offset: int) -> bool:
        """Whether the archive has that many bytes."""
        return offset <= self.end

    def hold(self, offset: int, size: int, _spool: Path | None) -> Range | None:
        """The range of a member, still on disk; None when the archive ends before."""
        return Range(self.file, offset, size) if self.reaches(offset + size) else None


# igzip_lib's stub calls its exception class an instance.
_UNPACKING_ERRORS: tuple[Any, ...] = (EOFError, lzma.LZMAError, igzip_lib.error, zstandard.ZstdError)


class _Unpacked:
    """A packed tar, as one stream of bytes that are unpacked once: offsets only go forward."""

    def __init__(self, file: OpenFile, kind: ShardKind) -> None:
        self.file = file
        self.end: int | None = None
        self.stopped: tuple[ProblemKind, str] | None = None
        self._window, self._start = b"", 0  # bytes at hand, and the offset of the first
        raw = os.fdopen(file.fd, "rb", buffering=0, closefd=False)
        self._pieces = _unpack_zstd(raw) if kind == "tar.zst" else _unpack(raw, kind)

    def _more(self, offset: int) -> bool:
        """Unpack one more piece and forget what is before `offset`; False at the end."""
        if self.end is not None:
            return False
        piece = b""
        try:
            piece = next(self._pieces, b"")
        except _Garbage as error:
            self.stopped = ProblemKind.GARBAGE_AFTER_END, str(error)
        except _UNPACKING_ERRORS as error:
            self.stopped = ProblemKind.DAMAGED_STREAM, str(error)
        passed = min(offset - self._start, len(self._window))
        self._window = self._window[passed:] + piece
        self._start += passed
        if not piece:
            self.end = self._start + len(self._window)
        return bool(piece)

    def reaches(self, offset: int) -> bool:
        """Go forward until the byte before `offset` is at hand; False when the archive ends before."""
        while self._start + len(self._window) < offset:
            if not self._more(offset):
                return False
        return True

    def read_at(self, offset: int, length: int) -> bytes:
        while self._start + len(self._window) < offset + length and self._more(offset):
            pass
        at = offset - self._start
        return self._window[at : at + length]

    def read_into(self, offset: int, view: memoryview) -> bool:
        """Fill `view`; False when the archive ends before."""
        done = 0
        while done < len(view):
            at = offset + done - self._start
            if at >= len(self._window):
                if not self._more(offset + done):
                    return False
                continue
            piece = memoryview(self._window)[at : at + len(view) - done]
            view[done : done + len(piece)] = piece
            done += len(piece)
        return True

    def hold(self, offset: int, size: int, spool: Path | None) -> Range | None:
        """The range of a member, written to a file without a name; None when the archive ends before."""
        with tempfile.TemporaryFile(dir=spool, buffering=0) as file:
            buffer = memoryview(bytearray(_PIECE))
            for at in range(0, size, _PIECE):
                view = buffer[: size - at]
                if not self.read_into(offset + at, view):
                    return None
                file.write(view)
            return Range(OpenFile(os.dup(file.fileno())), 0, size)


class _Garbage(Exception):  # noqa: N818  it ends the bytes, it is no error
    """What follows the packed data is no packed data."""


def _unpack(raw: BinaryIO, kind: ShardKind) -> Iterator[bytes]:
    """The unpacked pieces of a gzip or xz file, all of its members or streams one after the other."""

    def start() -> Any:
        if kind == "tar.gz":
            return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    unpacker, data = start(), b""
    while True:
        if unpacker.eof:
            data = unpacker.unused_data.lstrip(b"\0")
            while not data:
                data = raw.read(_PIECE)
                if not data:
                    return
                data = data.lstrip(b"\0")
            if not _MAGIC[kind].startswith(data[:2]):
                raise _Garbage("bytes behind the packed data")
            unpacker = start()
        elif unpacker.needs_input:
            data = raw.read(_PIECE)
            if not data:
                raise EOFError("the packed data ends early")
        piece = unpacker.decompress(data, _PIECE)
        data = b""
        if piece:
            yield piece


def _unpack_zstd(raw: BinaryIO) -> Iterator[bytes]:
    """The unpacked pieces of all frames of a zstd file. A frame that is cut off ends without an error."""
    some = False
    with zstandard.ZstdDecompressor().stream_reader(raw, read_size=_PIECE, read_across_frames=True) as reader:
        while True:
            try:
                piece = reader.read1(_PIECE)
            except zstandard.ZstdError as error:
                if some and "Unknown frame descriptor" in str(error):
                    raise _Garbage("bytes behind the packed data") from error
                raise
            if not piece:
                return
            some = True
            yield piece


# -- members of a folder ------------------------------------------------------------------------------------------


def _walk_folder(root: bytes, start: int) -> Iterator[Member | Problem]:
    """The files below `root` from the `start`th on, sorted folder by folder. Nothing is opened, no link followed."""
    number = 0
    rest = [(b"", True)]
    while rest:
        name, is_folder = rest.pop()
        path = os.path.join(root, name)
        if is_folder:
            try:
                with os.scandir(path) as entries:
                    found = sorted(((e.name, e.is_dir(follow_symlinks=False)) for e in entries), reverse=True)
            except OSError as error:
                refuse(error, path)
                detail = f"{os.fsdecode(name)!r} cannot be listed: {error.strerror}"
                yield Problem(ProblemKind.UNREADABLE_FOLDER, number, number, detail)
                continue
            rest += ((os.path.join(name, entry), folder) for entry, folder in found)
            continue
        if number >= start:
            yield _describe_file(path, name, number)
        number += 1


def _describe_file(path: bytes, name: bytes, number: int) -> Member:
    try:
        status = os.lstat(path)
    except OSError as error:
        refuse(error, path)
        return Member(number, number, name, 1, 0, Kind.FILE)  # reading it will say what is wrong
    kind = {stat.S_IFREG: Kind.FILE, stat.S_IFLNK: Kind.SYMLINK, stat.S_IFIFO: Kind.FIFO}.get(
        stat.S_IFMT(status.st_mode), Kind.DEVICE
    )
    size = status.st_size if kind is Kind.FILE else 0
    return Member(number, number, name, size, int(status.st_mtime), kind, size)


# -- rows and chunks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resume:
    """Where reading goes on: offset of a header in the (unpacked) tar, or number of a file in the folder."""

    position: int
    records: tuple[tuple[bytes, bytes], ...] = ()  # pax records that hold for all members from there on


@dataclass(slots=True)
class ShardRow:
    """One member that is no folder: with its bytes, or with the reason why it has none.

    `item` is the offset of its data in the (unpacked) tar, or the number of the file in the folder. The bytes are in
    `data`, or too many for that and in `held`. A hard link has the bytes of the member `same_as` (an item); in a
    packed shard these have gone by, and both are None. `data` is valid as long as somebody holds it.
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

    `done` of `total` bytes of the shard on disk have been read (None: not known, for a folder).
    """

    rows: list[ShardRow]
    problems: list[Problem]
    resume: Resume
    done: int
    total: int | None
    last: bool


_TRAVERSING = re.compile(rb"\A[/\\]|(?:\A|[/\\])\.\.(?:[/\\]|\Z)")


def _refuse(member: Member) -> tuple[str, str] | None:
    """Reason and detail for a member that is not read, by its header alone."""
    if member.kind is Kind.SYMLINK:
        return SYMLINK, f"to {os.fsdecode(member.link)!r}" if member.link else ""
    if member.kind in (Kind.DEVICE, Kind.FIFO, Kind.OTHER):
        return Reason.NOT_A_FILE.value, member.kind.value
    if _TRAVERSING.search(member.name):
        return TRAVERSING_NAME, repr(os.fsdecode(member.name))
    if member.kind is Kind.HARD_LINK:
        return None
    if member.size == 0:
        return Reason.EMPTY_FILE.value, ""
    if member.size > MAX_SIZE:
        return Reason.TOO_LARGE.value, f"{member.size} bytes"
    return None


class _Buffer:
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


class _Filling:
    """A chunk under construction."""

    def __init__(self, buffers: _Buffer) -> None:
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


# -- reading ------------------------------------------------------------------------------------------------------


class _TarReader:
    """The members of a tar, packed or not."""

    def __init__(self, shard: Shard, max_member: int, spool: Path | None) -> None:
        self.path, self.max_member, self.spool = shard.path, max_member, spool
        self.file = OpenFile(_open(shard.path))
        self.status = os.fstat(self.file.fd)
        self.total: int | None = self.status.st_size
        self.plain = shard.kind == "tar"
        self.source: _Plain | _Unpacked = (_Plain if self.plain else _Unpacked)(self.file, shard.kind)
        self.records: tar_headers.Records = {}
        self.targets: dict[int, int] = {}  # hash of a name -> header offset of its member; its item when packed
        self.not_indexed = 0  # bytes at the start whose members are not in `targets`
        self.dropped = 0
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.file.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def events(self, start: Resume) -> Iterator[Member | Problem]:
        if self.plain:
            self.records.update(start.records)
            self.not_indexed = self.dropped = start.position
            yield from tar_headers.walk(self.source, start.position, self.records)
            return
        for event in tar_headers.walk(self.source, 0, self.records):  # a stream has no middle to begin in
            if (event.header_offset if isinstance(event, Member) else event.offset) >= start.position:
                yield event
            elif isinstance(event, Member):
                self.admit(event)

    def after(self, member: Member) -> int:
        return member.end

    def reaches(self, member: Member) -> bool:
        """Whether the archive has all of the member's data."""
        return self.source.reaches(member.offset + member.stored)

    def admit(self, member: Member) -> tuple[ShardRow, Member | None]:
        """The row of a member, and the member that has its bytes; None when there are none to be read."""
        row = ShardRow(member.offset, member.name, member.size, member.mtime)
        refusal = _refuse(member)
        target = member.header_offset if self.plain else member.offset
        content: Member | None = member
        if refusal is None and member.kind is Kind.HARD_LINK:
            target = self._find_target(member.link)
            if target < 0:
                refusal = BROKEN_LINK, f"to {os.fsdecode(member.link)!r}, which is no earlier file of the shard"
            elif self.plain:
                content = _first_member(self.source, target)
                row.same_as, row.size = content.offset, content.size
            else:
                content, row.same_as = None, target
        if refusal is not None:
            row.refuse(*refusal)
            return row, None
        if len(self.targets) < MAX_LINK_TARGETS:
            self.targets[hash(os.path.normpath(member.name))] = target
        return row, content

    def _find_target(self, link: bytes) -> int:
        name = hash(os.path.normpath(link))
        if name not in self.targets and self.not_indexed:
            later, self.targets = self.targets, {}
            end, self.not_indexed = self.not_indexed, 0
            for event in tar_headers.walk(self.source, 0):
                if isinstance(event, Member):
                    if event.header_offset >= end:
                        break
                    self.admit(event)
            self.targets |= later
        return self.targets.get(name, -1)

    def load(self, row: ShardRow, member: Member, filling: _Filling) -> bool:
        """Get the row's bytes, or its reason; False when the archive ends before their end."""
        if member.kind is Kind.SPARSE:
            return self._load_sparse(row, member, filling)
        if member.size > self.max_member:
            row.held = self.source.hold(member.offset, member.size, self.spool)
            return row.held is not None
        view = filling.allocate(member.size)
        if not self.source.read_into(member.offset, view):
            return False
        row.data = view.toreadonly()
        return True

    def _load_sparse(self, row: ShardRow, member: Member, filling: _Filling) -> bool:
        if max(member.size, member.stored) > self.max_member:
            row.refuse(BROKEN_SPARSE, f"{member.size} bytes, {member.stored} of them stored: too many to fill in holes")
            return True
        stored = bytearray(member.stored)
        if not self.source.read_into(member.offset, memoryview(stored)):
            return False
        view = filling.allocate(member.size)
        if tar_headers.expand_sparse(member, stored, view):
            row.data = view.toreadonly()
        else:
            row.refuse(BROKEN_SPARSE, "the map of its holes contradicts itself")
        return True

    def close_chunk(self, filling: _Filling, position: int, last: bool) -> Chunk:
        now = os.fstat(self.file.fd)
        if (now.st_size, now.st_mtime_ns) != (self.status.st_size, self.status.st_mtime_ns):
            raise TransientError(f"The shard {self.path} changed while it was read. The partition is tried again.")
        done = position if self.plain else os.lseek(self.file.fd, 0, os.SEEK_CUR)
        if last:
            done = now.st_size
        # What was read is not read again: its pages are better used for what comes next, and for the database.
        if hasattr(os, "posix_fadvise") and done > self.dropped:
            os.posix_fadvise(self.file.fd, self.dropped, done - self.dropped, os.POSIX_FADV_DONTNEED)
            self.dropped = done
        resume = Resume(position, tuple(self.records.items()) if self.plain else ())
        return Chunk(filling.rows, filling.problems, resume, done, self.total, last)


class _FolderReader:
    """The files of a folder."""

    def __init__(self, shard: Shard, max_member: int) -> None:
        self.root, self.max_member = os.fsencode(shard.path), max_member
        self.total: int | None = None
        self.done = 0

    def events(self, start: Resume) -> Iterator[Member | Problem]:
        return _walk_folder(self.root, start.position)

    def after(self, member: Member) -> int:
        return member.offset + 1

    def reaches(self, _member: Member) -> bool:
        return True

    def admit(self, member: Member) -> tuple[ShardRow, Member | None]:
        row = ShardRow(member.offset, member.name, member.size, member.mtime)
        refusal = _refuse(member)
        if refusal is not None:
            row.refuse(*refusal)
        return row, None if refusal else member

    def load(self, row: ShardRow, member: Member, filling: _Filling) -> bool:
        """Get the row's bytes, or its reason."""
        try:
            file = OpenFile(os.open(os.path.join(self.root, member.name), _FLAGS | os.O_NOFOLLOW))
            before = os.fstat(file.fd)
            if not stat.S_ISREG(before.st_mode):
                row.refuse(Reason.NOT_A_FILE.value, "")
            elif before.st_size != member.size:
                row.refuse(Reason.CHANGED_WHILE_READING.value, "")
            elif member.size > self.max_member:
                row.held = Range(file, 0, member.size)
            else:
                view = filling.allocate(member.size)
                whole = _read_into(file.fd, 0, view)
                after = os.fstat(file.fd)
                if not whole or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                    row.refuse(Reason.CHANGED_WHILE_READING.value, "")
                else:
                    row.data = view.toreadonly()
        except OSError as error:
            refused = refuse(error, os.path.join(self.root, member.name))
            row.refuse(refused.reason.value, refused.detail)
        self.done += member.size
        return True

    def close_chunk(self, filling: _Filling, position: int, last: bool) -> Chunk:
        return Chunk(filling.rows, filling.problems, Resume(position), self.done, None, last)


def _open(path: Path) -> int:
    try:
        fd = os.open(path, _FLAGS)
    except OSError as error:
        refuse(error, os.fsencode(path))
        raise ConfigError(
            f"The shard {path} cannot be opened: {error.strerror}. Check the file and its rights."
        ) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ConfigError(f"The shard {path} is not a regular file.")
    return fd


def _first_member(source: "_Plain | _Unpacked", offset: int) -> Member:
    return next(event for event in tar_headers.walk(source, offset) if isinstance(event, Member))


def walk(shard: Shard, start: int = 0) -> Iterator[Member | Problem]:
    """The members of a shard, folders included, without their data, and its problems.

    `start` is the header offset of a member (in a folder its number). A packed shard is unpacked from its beginning.
    """
    reader = _FolderReader(shard, 0) if shard.kind == "folder" else _TarReader(shard, 0, None)
    for event in reader.events(Resume(start)):
        if isinstance(event, Problem) or reader.reaches(event):
            yield event


def read_chunks(
    shard: Shard,
    start: Resume | None = None,
    *,
    max_members: int,
    max_bytes: int,
    max_member: int = MAX_IN_MEMORY,
    spool: Path | None = None,
) -> Iterator[Chunk]:
    """The shard from `start` on, in chunks of at most `max_members` rows and `max_bytes` bytes; at least one chunk.

    A single member may have more bytes than a chunk. Those with more than `max_member` are not read into memory: in
    a packed shard they go to a nameless file in `spool` (by default where temporary files are). Memory is at most
    max(max_bytes, max_member) for each chunk that somebody still holds. ConfigError when the shard cannot be
    opened, TransientError when it changes or can no longer be read.
    """
    start = start or Resume(0)
    reader = _FolderReader(shard, max_member) if shard.kind == "folder" else _TarReader(shard, max_member, spool)
    buffers = _Buffer(max_bytes if reader.total is None or shard.kind != "tar" else min(max_bytes, reader.total))
    filling, after = _Filling(buffers), start.position
    try:
        for event in reader.events(start):
            if isinstance(event, Problem):
                filling.problems.append(event)
                continue
            if event.kind is Kind.FOLDER:
                after = reader.after(event)
                continue
            row, content = reader.admit(event)
            size = row.size if content is not None else 0
            if filling.rows and (len(filling.rows) >= max_members or filling.bytes + size > max_bytes):
                yield reader.close_chunk(filling, event.header_offset, last=False)
                filling = _Filling(buffers)
            if content is None or reader.load(row, content, filling):
                filling.rows.append(row)
                filling.bytes += size
                after = reader.after(event)
        yield reader.close_chunk(filling, after, last=True)
    except OSError as error:
        raise TransientError(
            f"The shard {shard.path} cannot be read on: {error.strerror}. The partition is tried again."
        ) from error
