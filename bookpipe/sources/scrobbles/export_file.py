"""An export on disk: its members, its key, and streams of its bytes.

A plain file is its own only member. Members of a zip are read where they are: nothing is extracted, and their names
lead nowhere.
"""

import hashlib
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from bookpipe.model.errors import ConfigError, TerminalError, TransientError
from bookpipe.runtime.files import GONE_STORAGE, OPEN_FLAGS
from bookpipe.sources.scrobbles.json_stream import ByteStream
from bookpipe.sources.scrobbles.zip_stream import ZipStream
from bookpipe.sources.zip_directory import read_entries

# Real exports shrink 10 to 40 times; a member of zeros shrinks 1,000 times.
MAX_RATIO = 200
MAX_SMALL_ZIP = 256 << 20  # unpacked bytes that are no bomb whatever the ratio

_SAMPLE = 64 << 10  # bytes
_SAMPLES = 16
_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")  # the second is of an empty zip
# What the standard library raises for a damaged directory of a zip.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Member:
    """A part of an export that holds records. `size` is in bytes, unpacked; `entry` the place in a zip's directory."""

    name: str
    size: int
    entry: int | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """A recognised export. `key` ([A-Za-z0-9_-]+) names its content for ever: one that changed has another key, as far
    as samples of a big file tell."""

    path: Path
    kind: str
    key: str
    members: tuple[Member, ...]
    size: int  # bytes on disk
    mtime_ns: int

    @property
    def content(self) -> str:
        """The part of the key that copies share, whatever they are called."""
        return self.key.rpartition("-")[2]


class MemberStream(ByteStream, Protocol):
    """The bytes of a member."""

    def finish(self) -> None:
        """To be called when nothing more is wanted. StreamDamageError when the member turns out to be damaged."""


class _FileStream:
    """The bytes of a plain file, which has no checksum."""

    def __init__(self, opened: "OpenFile", offset: int) -> None:
        self._opened = opened
        self._at = offset

    def read(self, size: int, /) -> bytes:
        data = self._opened.read_at(self._at, size)
        self._at += len(data)
        return data

    def finish(self) -> None:
        """Nothing can be wrong."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An open file, and the directory of the zip if it is one."""

    path: Path
    file: BinaryIO
    size: int
    mtime_ns: int
    infos: tuple[zipfile.ZipInfo, ...] | None

    def read_at(self, offset: int, length: int) -> bytes:
        """That range of the file, short or empty where there is no such."""
        if not 0 <= offset < self.size:  # a zip may name any place
            return b""
        with translating(self.path):
            self.file.seek(offset)
            return self.file.read(length)

    def stream(self, member: Member, offset: int = 0) -> MemberStream:
        """The member's bytes from an offset."""
        if self.infos is None or member.entry is None:
            return _FileStream(self, offset)
        return ZipStream(self.infos[member.entry], self.read_at, offset)

    def entries(self) -> list[Member]:
        """All files in the zip. TerminalError when they would unpack to far more than an export of this size."""
        infos = self.infos or ()
        unpacked = sum(info.file_size for info in infos)
        if unpacked > max(MAX_SMALL_ZIP, MAX_RATIO * self.size):
            raise TerminalError(
                f"it would unpack to {unpacked >> 20} MiB, {unpacked // max(1, self.size)} times its size: no export "
                "of listens does that. It is not read."
            )
        return [
            Member(info.filename, info.file_size, n) for n, info in enumerate(infos) if not info.filename.endswith("/")
        ]

    def key(self, kind: str) -> str:
        """A readable name with a digest of the content: of its size, and of samples that cover small files whole."""
        digest = hashlib.sha256(f"{self.size}".encode())
        step = max(_SAMPLE, (self.size - _SAMPLE) // (_SAMPLES - 1))
        for n in range(_SAMPLES - 1):
            digest.update(self.read_at(n * step, _SAMPLE))
        digest.update(self.read_at(max(0, self.size - _SAMPLE), _SAMPLE))
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", self.path.stem)[:60].strip("_-")
        if kind not in name.lower():
            name = f"{kind}-{name}" if name else kind
        return f"{name}-{digest.hexdigest()[:8]}"


def readable(path: Path) -> str:
    """A path for people: undecodable bytes of names, which logs and databases refuse, are replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Raise bookpipe's errors for those of the file system."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        why = getattr(error, "strerror", None) or str(error)
        if isinstance(error, OSError) and error.errno in GONE_STORAGE:
            raise TransientError(
                f"The storage answered '{why}' for {readable(path)}: is the disk or network share still there?"
            ) from error
        raise ConfigError(f"{readable(path)} cannot be read: {why}. Check that it exists and its rights.") from error


@contextmanager
def open_file(path: Path) -> Iterator[OpenFile]:
    """The file at `path`. ConfigError when it is none or cannot be read, TerminalError when it is a broken zip."""
    with translating(path):
        fd = os.open(path, OPEN_FLAGS)
    try:
        with translating(path):
            status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{readable(path)} is no file.")
        with os.fdopen(fd, "rb", closefd=False) as file:
            plain = OpenFile(path, file, status.st_size, status.st_mtime_ns, None)
            yield OpenFile(path, file, status.st_size, status.st_mtime_ns, _read_directory(plain))
    finally:
        os.close(fd)


def _read_directory(opened: OpenFile) -> tuple[zipfile.ZipInfo, ...] | None:
    if opened.read_at(0, 4) not in _MAGIC:
        return None
    # This reader has limits; the standard library's reads a directory of any size.
    if read_entries(opened.size, opened.read_at) is None:
        raise TerminalError("it is a zip that breaks off, is damaged or has too many files. Download it again.")
    try:
        with translating(opened.path), zipfile.ZipFile(opened.file) as archive:
            return tuple(archive.infolist())
    except (ConfigError, *_DAMAGE) as error:
        raise TerminalError(f"it is a damaged zip ({error}). Download it again.") from error


@contextmanager
def reopen(export: Export) -> Iterator[OpenFile]:
    """The file of an export again. TransientError when it is not the same any more."""
    with open_file(export.path) as opened:
        if (opened.size, opened.mtime_ns) != (export.size, export.mtime_ns):
            raise TransientError(f"{readable(export.path)} changed since it was found. Find its partitions again.")
        yield opened
