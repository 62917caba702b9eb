"""The bytes of a tar shard by their offsets in the tar, whether it is packed or not."""

import bz2
import lzma
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard
from isal import igzip_lib

from bookpipe.model.errors import ConfigError, TransientError
from bookpipe.runtime.files import refuse
from bookpipe.sources.tar_headers import ProblemKind
from bookpipe.sources.tar_shards import MAGIC, ShardKind

OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a pipe must not hang the reader
_PIECE = 256 << 10  # bytes unpacked at once, whatever the packed bytes claim to become
_FEW = 64  # bytes unpacked at once where damage is near
_AGAIN = 1 << 30  # bytes that are unpacked a second time at most, for less than a piece
_XZ_MEMORY = 256 << 20  # bytes; xz -9 needs 65 MB; zstd's own limit is a window of 128 MB
_TOO_LARGE = ("requires too much memory", "Memory usage limit")  # what zstd and xz say of that


class OpenFile:
    """A file descriptor that is open as long as somebody holds it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._seen = self._look()

    def _look(self) -> tuple[int, int]:
        status = os.fstat(self.fd)
        return status.st_size, status.st_mtime_ns

    def is_changed(self) -> bool:
        """Whether somebody has written to it since it was opened."""
        return self._look() != self._seen

    def __del__(self) -> None:
        os.close(self.fd)


class ScratchFile(OpenFile):
    """A file of ours that has no name: nobody else can write to it."""

    def is_changed(self) -> bool:
        return False


def scratch_on_disk(folder: Path | None) -> ScratchFile:
    """A new one in a folder, by default where temporary files are."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        return ScratchFile(os.dup(file.fileno()))


def scratch_in_memory() -> ScratchFile:
    """A new one in memory; on disk where the system has no such thing."""
    try:
        return ScratchFile(os.memfd_create("bookpipe"))
    except (AttributeError, OSError):
        return scratch_on_disk(None)


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes in a file. Can be read again, from any thread or process, as long as it exists."""

    file: OpenFile
    offset: int
    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` in the range, short or empty at its end."""
        return os.pread(self.file.fd, max(0, min(length, self.size - offset)), self.offset + offset)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        _write_at(self.file.fd, self.offset + offset, data)

    def copy_to(self, fd: int, start: int = 0) -> bool:
        """Write it to byte `start` of another file, in the kernel where that can be. False when the file became
        shorter."""
        done = 0
        # The second copies between file systems, too. Either may be missing, or not want these files.
        for copy in (_copy_range, _send):
            with suppress(AttributeError, OSError):
                while done < self.size and (copied := copy(self, done, fd, start + done)):
                    done += copied
        while done < self.size and (piece := self.read_at(done, _PIECE)):
            _write_at(fd, start + done, piece)
            done += len(piece)
        return done == self.size


def _write_at(fd: int, offset: int, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _copy_range(held: Range, at: int, fd: int, to: int) -> int:
    return os.copy_file_range(held.file.fd, fd, held.size - at, held.offset + at, to)


def _send(held: Range, at: int, fd: int, to: int) -> int:
    os.lseek(fd, to, os.SEEK_SET)
    return os.sendfile(fd, held.file.fd, held.offset + at, held.size - at)


Allocate = Callable[[int], Range]  # as many bytes to write to


def read_into(fd: int, offset: int, view: memoryview) -> bool:
    """Fill `view` from `offset` of a file; False when the file is shorter."""
    done = os.preadv(fd, [view], offset)
    while 0 < done < len(view):
        n = os.preadv(fd, [view[done:]], offset + done)
        if n == 0:
            return False
        done += n
    return done == len(view)


class Plain:
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
        if not read_into(self.file.fd, offset, view):
            raise TransientError("A tar shard became shorter while it was read. The partition is tried again.")
        return True

    def reaches(self, offset: int) -> bool:
        """Whether the archive has that many bytes."""
        return offset <= self.end

    def hold(self, offset: int, size: int, _allocate: Allocate) -> Range | None:
        """The range of a member, where it is; None when the archive ends before."""
        return Range(self.file, offset, size) if self.reaches(offset + size) else None


class _Bzip2Error(Exception):
    """Damage, for which bz2 raises OSError: that would be the disk's."""


class _Bzip2Decompressor:
    """bz2's, with an error of its own."""

    def __init__(self) -> None:
        self._wrapped = bz2.BZ2Decompressor()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def decompress(self, data: bytes, most: int) -> bytes:
        try:
            return self._wrapped.decompress(data, most)
        except OSError as error:
            raise _Bzip2Error(str(error)) from error


# igzip_lib's stub calls its exception class an instance.
_DAMAGE: tuple[Any, ...] = (_Bzip2Error, lzma.LZMAError, igzip_lib.error, zstandard.ZstdError)


class Unpacked:
    """A packed tar, as one stream of bytes that are unpacked once: offsets only go forward."""

    def __init__(self, file: OpenFile, kind: ShardKind) -> None:
        self.file = file
        self.end: int | None = None
        self.stopped: tuple[ProblemKind, str] | None = None
        self._window, self._start = b"", 0  # bytes at hand, and the offset of the first
        raw = os.fdopen(file.fd, "rb", buffering=0, closefd=False)
        self._pieces = _unpack_to_damage(raw, kind)

    def _more(self, offset: int) -> bool:
        """Unpack one more piece and forget what is before `offset`; False at the end."""
        if self.end is not None:
            return False
        piece = b""
        try:
            piece = next(self._pieces, b"")
        except _Garbage as error:
            self.stopped = ProblemKind.GARBAGE_AFTER_END, str(error)
        except (EOFError, *_DAMAGE) as error:
            if any(words in str(error) for words in _TOO_LARGE):
                detail = "unpacking it takes more memory than is allowed: pack it with a smaller window or dictionary"
                self.stopped = ProblemKind.NEEDS_MEMORY, detail
            else:
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
        for piece in self._read_on(offset, len(view)):
            view[done : done + len(piece)] = piece
            done += len(piece)
        return done == len(view)

    def hold(self, offset: int, size: int, allocate: Allocate) -> Range | None:
        """A range that the member is written to; None when the archive ends before."""
        held, done = allocate(size), 0
        for piece in self._read_on(offset, size):
            held.write_at(done, piece)
            done += len(piece)
        return held if done == size else None

    def _read_on(self, offset: int, size: int) -> Iterator[memoryview]:
        """The bytes from `offset` on, piece by piece; fewer than `size` when the archive ends before."""
        end = offset + size
        while offset < end:
            at = offset - self._start
            if at < len(self._window):
                piece = memoryview(self._window)[at : at + end - offset]
                offset += len(piece)
                yield piece
            elif not self._more(offset):
                return


_CUT = "the packed data ends early"


class _Garbage(Exception):  # noqa: N818  it ends the bytes, it is no error
    """What follows the packed data is no packed data."""


def _unpack_to_damage(raw: BinaryIO, kind: ShardKind) -> Iterator[bytes]:
    """The unpacked pieces of a file, up to the byte where it is damaged or a checksum is found wrong.

    The libraries drop what they have unpacked of a piece when they find damage in it, which may be a whole shard. To
    have that too the file is unpacked once more, and from there on in small steps; not a large one, for which that
    takes long.
    """
    unpack = _unpack_zstd if kind == "tar.zst" else _unpack
    done = 0
    try:
        for piece in unpack(raw, kind, lambda: _PIECE):
            done += len(piece)
            yield piece
    except _DAMAGE as error:
        if done > _AGAIN:
            raise
        damage = error
    else:
        return
    raw.seek(0)
    at, rest = 0, bytearray()

    def most() -> int:
        return _PIECE if at < done else _FEW

    with suppress(EOFError, *_DAMAGE):
        for piece in unpack(raw, kind, most):
            at += len(piece)
            rest += piece[max(0, len(piece) - max(0, at - done)) :]
            if len(rest) >= _PIECE:
                break
    if rest:
        yield bytes(rest)
    raise damage


def _unpack(raw: BinaryIO, kind: ShardKind, most: Callable[[], int]) -> Iterator[bytes]:
    """The unpacked pieces of a gzip, xz or bzip2 file, all of its members or streams one after the other."""

    def start() -> Any:
        if kind == "tar.gz":
            return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        if kind == "tar.bz2":
            return _Bzip2Decompressor()
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
            if not MAGIC[kind].startswith(data[:2]):
                raise _Garbage("bytes behind the packed data")
            unpacker = start()
        elif unpacker.needs_input:
            data = raw.read(_PIECE)
            if not data and not raw.tell():
                return  # an empty file
            if not data:
                raise EOFError(_CUT)
        piece = unpacker.decompress(data, most())
        data = b""
        if piece:
            yield piece


def _unpack_zstd(raw: BinaryIO, _kind: ShardKind, most: Callable[[], int]) -> Iterator[bytes]:
    """The unpacked pieces of all frames of a zstd file. One that is cut off behind its first block ends so silently
    that only the tar can tell."""
    some = False
    with zstandard.ZstdDecompressor().stream_reader(
        raw, read_size=_PIECE, read_across_frames=True, closefd=False
    ) as reader:
        while True:
            try:
                piece = reader.read1(most())
            except zstandard.ZstdError as error:
                if some and "Unknown frame descriptor" in str(error):
                    raise _Garbage("bytes behind the packed data") from error
                raise
            if not piece:
                break
            some = True
            yield piece
    if not some and raw.seek(0, os.SEEK_END):
        raw.seek(0)
        frame = zstandard.ZstdDecompressor().decompressobj()
        frame.decompress(raw.read(_PIECE))  # to nothing, as was seen
        raw.seek(0, os.SEEK_END)
        if not frame.eof:
            raise EOFError(_CUT)


def open_shard(path: Path) -> int:
    try:
        fd = os.open(path, OPEN_FLAGS)
    except OSError as error:
        refuse(error, os.fsencode(path))
        raise ConfigError(
            f"The shard {path} cannot be opened: {error.strerror}. Check the file and its rights."
        ) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ConfigError(f"The shard {path} is not a regular file.")
    return fd
