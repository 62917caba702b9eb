"""Reading files whose names and contents come from outside."""

import errno
import hashlib
import os
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from bookpipe.model.errors import TransientError
from bookpipe.model.rejections import Reason
from bookpipe.runtime.state import Digest

WHOLE_READ = 1 << 20  # files up to 1 MiB are read in one call
HEAD = 4096  # bytes that type detection wants first

# (head, size, read_at(offset, length), given extension) -> extension by content, or None
Identify = Callable[[bytes, int, Callable[[int, int], bytes], str | None], str | None]

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a pipe must not hang the reader
_GONE_STORAGE = {errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE}
_buffers = threading.local()


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that was not digested, and why."""

    reason: Reason
    detail: str


def refuse(error: OSError, path: bytes) -> Refused:
    """The rejection an OSError on one file stands for. Trouble of the storage as a whole is raised instead."""
    if error.errno in _GONE_STORAGE:
        raise TransientError(
            f"The storage answered '{error.strerror}' for {os.fsdecode(path)!r}: is the disk or network share still "
            "there? The partition is tried again."
        ) from error
    if error.errno == errno.ENOENT:
        return Refused(Reason.MISSING_FILE, "")
    if error.errno == errno.ENOTDIR:
        return Refused(Reason.MISSING_DIR, "")
    if error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
        return Refused(Reason.BAD_PATH, error.strerror or "")
    if error.errno in (errno.ENXIO, errno.EISDIR):
        return Refused(Reason.NOT_A_FILE, "")
    return Refused(Reason.UNREADABLE_FILE, error.strerror or "")


def real_path(fd: int, path: bytes) -> bytes:
    """Where an open file really is, links resolved."""
    if sys.platform == "linux":
        return os.readlink(b"/proc/self/fd/%d" % fd)
    return os.path.realpath(path)


def read_file(path: bytes, *, inside: bytes | None, max_size: int) -> bytes | Refused:
    """A whole file of at most `max_size` bytes. As with `digest_file`, it must be in the folder `inside`, if that is
    said, and only trouble of the whole storage is raised."""
    found = open_file(path, inside=inside)
    if isinstance(found, Refused):
        return found
    try:
        size = os.fstat(found).st_size
        if size > max_size:
            return Refused(Reason.TOO_LARGE, f"{size} bytes")
        with open(found, "rb", closefd=False) as file:
            return file.read(max_size)
    except OSError as error:
        return refuse(error, path)
    finally:
        os.close(found)


def open_file(path: bytes, *, inside: bytes | None) -> int | Refused:
    """A descriptor of a regular file that really is in the folder `inside` (None: wherever it is)."""
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        return refuse(error, path)
    except ValueError as error:  # NUL in the path
        return Refused(Reason.BAD_PATH, str(error))
    try:
        refused = _refuse_open(fd, path, inside)
    except BaseException:
        os.close(fd)
        raise
    if refused is not None:
        os.close(fd)
        return refused
    return fd


def _refuse_open(fd: int, path: bytes, inside: bytes | None) -> Refused | None:
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return Refused(Reason.NOT_A_FILE, "")
        if inside is not None and not (where := real_path(fd, path)).startswith(inside + b"/"):
            return Refused(Reason.OUTSIDE_LIBRARY, f"the file is really {os.fsdecode(where)!r}")
        return None
    except OSError as error:
        return refuse(error, path)


def digest_file(
    path: bytes, given: str | None, *, inside: bytes, identify: Identify, max_size: int, known: Digest | None = None
) -> Digest | Refused:
    """SHA-1, size and format of one file, in one read of its bytes.

    `inside` is the real path of the folder the file must be in, links resolved. `known` is returned without
    reading when size and modification time still match; where the file is and that it may be read is always
    found out by opening it. OSErrors of the one file become Refused, trouble of the whole storage TransientError.
    """
    fd = open_file(path, inside=inside)
    if isinstance(fd, Refused):
        return fd
    try:
        status = os.fstat(fd)
        size = status.st_size
        if known is not None and (known.size, known.mtime_ns) == (size, status.st_mtime_ns):
            return known
        if size == 0:
            return Refused(Reason.EMPTY_FILE, "")
        if size > max_size:
            return Refused(Reason.TOO_LARGE, f"{size} bytes")
        if size <= WHOLE_READ:
            data = os.read(fd, size + 1)
            if len(data) != size:
                return Refused(Reason.CHANGED_WHILE_READING, "")
            sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
            kind = identify(data[:HEAD], size, lambda offset, length: data[offset : offset + length], given)
        else:
            sha1 = _hash_large(fd, size)
            kind = identify(os.pread(fd, HEAD, 0), size, lambda o, n: os.pread(fd, n, o), given)
        after = os.fstat(fd)
        if (after.st_size, after.st_mtime_ns) != (size, status.st_mtime_ns):
            return Refused(Reason.CHANGED_WHILE_READING, "")
        return Digest(size, status.st_mtime_ns, sha1, kind)
    except OSError as error:
        return refuse(error, path)
    finally:
        os.close(fd)


def _hash_large(fd: int, size: int) -> str:
    # One buffer per thread: a fresh one for each file would cost its page faults again and again.
    buffer = getattr(_buffers, "buffer", None)
    if buffer is None:
        buffer = _buffers.buffer = memoryview(bytearray(WHOLE_READ))
    digest = hashlib.sha1(usedforsecurity=False)
    done = 0
    while done < size:
        n = os.readv(fd, [buffer])
        if n == 0:
            break
        digest.update(buffer[:n])
        done += n
    return digest.hexdigest()
