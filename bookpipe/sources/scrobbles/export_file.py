"""An export on disk: its members, its key, and streams of its bytes.

A plain file is its own only member. Members of a zip are read where they are: nothing is extracted, and their names
lead nowhere.
"""

import errno
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
from typing import BinaryIO

from bookpipe.model.errors import ConfigError, TerminalError, TransientError
from bookpipe.sources.scrobbles.json_stream import ByteStream, StreamDamageError
from bookpipe.sources.zip_directory import read_entries

# Real exports shrink 10 to 40 times; a member of zeros shrinks 1,000 times.
MAX_RATIO = 200
MAX_SMALL_ZIP = 256 << 20  # unpacked bytes that are no bomb whatever the ratio

_SAMPLE = 64 << 10  # bytes
_SAMPLES = 16
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_GONE_STORAGE = {errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE}
# What the standard library raises for damaged zips, members and names.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Member:
    """A part of an export that holds records. `size` is in bytes, unpacked; `entry` the place in a zip's directory."""

    name: str
    size: int
    entry: int | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """A recognised export. `key` names its content for ever: an export that changed has another one."""

    path: Path
    kind: str
    key: str
    members: tuple[Member, ...]
    size: int  # bytes on disk
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An open file, and the zip in it if it is one."""

    path: Path
    file: BinaryIO
    size: int
    mtime_ns: int
    archive: zipfile.ZipFile | None

    def stream(self, member: Member, offset: int = 0) -> ByteStream:
        """The member's bytes from an offset. What is wrong with them is raised as StreamDamageError by reading."""
        return _Stream(self, member, offset)

    def entries(self) -> list[Member]:
        """All files in the zip. TerminalError when they would unpack to far more than their packed size allows."""
        assert self.archive is not None
        infos = self.archive.infolist()
        unpacked = sum(info.file_size for info in infos)
        if unpacked > max(MAX_SMALL_ZIP, MAX_RATIO * self.size):
            raise TerminalError(
                f"it would unpack to {unpacked >> 20} MiB, {unpacked // max(1, self.size)} times its size: no export "
                "of listens does that. It is not read."
            )
        return [Member(info.filename, info.file_size, n) for n, info in enumerate(infos) if not info.is_dir()]

    def read_at(self, offset: int, length: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(length)

    def key(self, kind: str) -> str:
        """A readable name with a digest of the content: its size and samples that cover small files whole."""
        digest = hashlib.sha256(f"{self.size}".encode())
        step = max(_SAMPLE, (self.size - _SAMPLE) // (_SAMPLES - 1))
        for n in range(_SAMPLES - 1):
            digest.update(self.read_at(n * step, _SAMPLE))
        digest.update(self.read_at(max(0, self.size - _SAMPLE), _SAMPLE))
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", self.path.stem)[:60].strip("_-")
        if kind not in name.lower():
            name = f"{kind}-{name}" if name else kind
        return f"{name}-{digest.hexdigest()[:8]}"


class _Stream:
    """Reads a member; opens it at the first read, so that a broken one is a matter of reading."""

    def __init__(self, opened: OpenFile, member: Member, offset: int) -> None:
        self._opened, self._member, self._offset = opened, member, offset
        self._source: BinaryIO | None = None

    def read(self, size: int, /) -> bytes:
        with translating(self._opened.path):
            try:
                if self._source is None:
                    self._source = self._open()
                return self._source.read(size)
            except _DAMAGE as error:
                raise StreamDamageError(
                    f"{self._member.name} cannot be unpacked: {error or 'it ends early'}"
                ) from error
            except OSError as error:  # a damaged directory makes zipfile seek to places that are none
                if self._opened.archive is not None and error.errno == errno.EINVAL:
                    raise StreamDamageError(f"{self._member.name} is not where the zip says") from error
                raise

    def _open(self) -> BinaryIO:
        archive, entry = self._opened.archive, self._member.entry
        if archive is None or entry is None:
            self._opened.file.seek(self._offset)
            return self._opened.file
        info = archive.infolist()[entry]
        if info.flag_bits & _ENCRYPTED:
            raise StreamDamageError(f"{self._member.name} is encrypted")
        if info.compress_type not in _READABLE:
            raise StreamDamageError(f"{self._member.name} is packed in a way that is not read here")
        source = archive.open(info)
        source.seek(self._offset)
        return source  # type: ignore[return-value]


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Raise bookpipe's errors for those of the file system."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in _GONE_STORAGE:
            raise TransientError(
                f"The storage answered '{why}' for {path}: is the disk or share still there?"
            ) from error
        raise ConfigError(f"{path} cannot be read: {why}. Check that the file exists and its rights.") from error


@contextmanager
def open_file(path: Path) -> Iterator[OpenFile]:
    """The file at `path`. ConfigError when it is none or cannot be read, TerminalError when it is a broken zip."""
    with translating(path):
        # A pipe in the folder must not hang the reader.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        with translating(path):
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path} is no file.")
            opened = OpenFile(path, file, status.st_size, status.st_mtime_ns, None)
            zipped = opened.read_at(0, 4) in (b"PK\x03\x04", b"PK\x05\x06")
            if zipped and read_entries(status.st_size, opened.read_at) is None:
                raise TerminalError("it is a zip that breaks off, is damaged or has too many files. Download it again.")
        if not zipped:
            yield opened
            return
        try:
            with translating(path):
                archive = zipfile.ZipFile(file)
        except _DAMAGE as error:
            raise TerminalError(f"it is a damaged zip ({error}). Download it again.") from error
        with archive:
            yield OpenFile(path, file, status.st_size, status.st_mtime_ns, archive)


@contextmanager
def reopen(export: Export) -> Iterator[OpenFile]:
    """The file of an export again. TransientError when it is not the same any more."""
    with open_file(export.path) as opened:
        if (opened.size, opened.mtime_ns) != (export.size, export.mtime_ns):
            raise TransientError(f"{export.path} changed since it was found. Its partitions are found again.")
        yield opened
