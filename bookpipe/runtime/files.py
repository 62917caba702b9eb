"""Reading files whose names and contents come from outside."""

import errno
import hashlib
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from bookpipe.model.errors import TransientError
from bookpipe.model.rejections import Reason
from bookpipe.runtime.state import Digest

WHOLE_READ = 1 << 20  # files up to 1 MiB are read in one call
HEAD = 4096  # bytes that type detection wants first

# (head, size, read_at(offset, length), given extension) -> extension by content, or None
Identify = Callable[[bytes, int, Callable[[int, int], bytes], str | None], str | None]

OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a pipe must not hang the reader
GONE_STORAGE = {errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE}
_buffers = threading.local()


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that was not digested, and why."""

    reason: Reason
    detail: str


def refuse(error: OSError, path: bytes) -> Refused:
    """The rejection an OSError on one file stands for. Trouble of the storage as a whole is raised instead."""
    if error.errno in GONE_STORAGE:
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


@contextmanager
def open_inside(path: bytes, inside: bytes | None) -> Iterator[tuple[int, os.stat_result] | Refused]:
    """A descriptor of a regular file with what the system says of it, or why there is none. Nothing hangs, on a pipe
    neither.

    `inside` is the real path of the folder the file must be in, links resolved (None: it may be anywhere). Raises
    TransientError when the storage as a whole has gone away.
    """
    try:
        fd = os.open(path, OPEN_FLAGS)
    except OSError as error:
        yield refuse(error, path)
        return
    except ValueError as error:  # NUL in the path
        yield Refused(Reason.BAD_PATH, str(error))
        return
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            yield Refused(Reason.NOT_A_FILE, "")
        elif inside is not None and not (where := _real_path(fd, path)).startswith(inside.rstrip(b"/") + b"/"):
            yield Refused(Reason.OUTSIDE_LIBRARY, f"the file is really {os.fsdecode(where)!r}")
        else:
            yield fd, status
    finally:
        os.close(fd)


def _real_path(fd: int, path: bytes) -> bytes:
    if sys.platform == "linux":
        return os.readlink(b"/proc/self/fd/%d" % fd)
    return os.path.realpath(path)


def digest_file(
    path: bytes, given: str | None, *, inside: bytes, identify: Identify, max_size: int, known: Digest | None = None
) -> Digest | Refused:
    """SHA-1, size and format of one file, in one read of its bytes.

    `inside` is the real path of the folder the file must be in, links resolved. `known` is returned without
    reading when size and modification time still match; where the file is and that it may be read is always
    found out by opening it. OSErrors of the one file become Refused, trouble of the whole storage TransientError.
    """
    try:
        with open_inside(path, inside) as opened:
            return opened if isinstance(opened, Refused) else _digest(*opened, given, identify, max_size, known)
    except OSError as error:
        return refuse(error, path)


def _digest(
    fd: int, status: os.stat_result, given: str | None, identify: Identify, max_size: int, known: Digest | None
) -> Digest | Refused:
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
        sha1: str | None = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        kind = identify(data[:HEAD], size, lambda offset, length: data[offset : offset + length], given)
    else:
        sha1 = hash_open_file(fd, size, "sha1")
        kind = identify(os.pread(fd, HEAD, 0), size, lambda o, n: os.pread(fd, n, o), given)
    after = os.fstat(fd)
    if sha1 is None or (after.st_size, after.st_mtime_ns) != (size, status.st_mtime_ns):
        return Refused(Reason.CHANGED_WHILE_READING, "")
    return Digest(size, status.st_mtime_ns, sha1, kind)


def hash_open_file(fd: int, size: int, digest: Literal["md5", "sha1"]) -> str | None:
    """The digest, in lower-case hex, of an open file from where it is; None when there are not `size` bytes left."""
    # One buffer per thread: a fresh one for each file would cost its page faults again and again.
    buffer = getattr(_buffers, "buffer", None)
    if buffer is None:
        buffer = _buffers.buffer = memoryview(bytearray(WHOLE_READ))
    digested = hashlib.new(digest, usedforsecurity=False)
    done = 0
    while done <= size:  # a file that grows as fast as it is read would never end
        n = os.readv(fd, [buffer])
        if n == 0:
            break
        digested.update(buffer[:n])
        done += n
    return digested.hexdigest() if done == size else None
