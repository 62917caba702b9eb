"""Opening what is about to be sent: it has to be the file that was hashed."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bookpipe.model.rejections import Reason
from bookpipe.runtime.files import Refused, real_path, refuse
from bookpipe.runtime.upload_ledger import Content
from bookpipe.targets.music_archive.transport import BLOCK

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a pipe must not hang the reader


@dataclass(frozen=True, slots=True)
class AudioFile:
    """A file as it was when it was hashed. `mtime_ns` is None when nobody looked."""

    path: bytes  # absolute
    content: Content
    mtime_ns: int | None


@contextmanager
def opened(file: AudioFile, inside: bytes) -> Iterator[int | Refused]:
    """A file descriptor, or why there is none. `inside`: the real path of the folder that the file has to be in.

    Raises TransientError when the storage as a whole has gone away.
    """
    try:
        fd = os.open(file.path, _OPEN_FLAGS)
    except OSError as error:
        yield refuse(error, file.path)
        return
    except ValueError as error:  # NUL in the path
        yield Refused(Reason.BAD_PATH, str(error))
        return
    try:
        yield _refusal(fd, file, inside) or fd
    finally:
        os.close(fd)


def _refusal(fd: int, file: AudioFile, inside: bytes) -> Refused | None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return Refused(Reason.NOT_A_FILE, "")
    where = real_path(fd, file.path)
    if not where.startswith(inside.rstrip(b"/") + b"/"):
        return Refused(Reason.OUTSIDE_LIBRARY, f"the file is really {os.fsdecode(where)!r}")
    if status.st_size == 0:
        return Refused(Reason.EMPTY_FILE, "")
    if status.st_size != file.content.size or file.mtime_ns not in (None, status.st_mtime_ns):
        return Refused(Reason.CHANGED_WHILE_READING, "it changed after it was hashed")
    return None


def is_still(fd: int, content: Content) -> bool:
    """Whether an open file has this content. Raises OSError."""
    digest = hashlib.md5(usedforsecurity=False)
    done = 0
    while block := os.pread(fd, BLOCK, done):
        digest.update(block)
        done += len(block)
        if done > content.size:
            return False
    return Content(digest.hexdigest(), done) == content
