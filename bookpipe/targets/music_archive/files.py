"""Opening what is about to be sent: it has to be the file that was hashed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bookpipe.model.rejections import Reason
from bookpipe.runtime.files import Refused, hash_open_file, open_inside
from bookpipe.runtime.upload_ledger import Content


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
    with open_inside(file.path, inside) as opened:
        if isinstance(opened, Refused):
            yield opened
            return
        fd, status = opened
        if status.st_size == 0:
            yield Refused(Reason.EMPTY_FILE, "")
        elif status.st_size != file.content.size or file.mtime_ns not in (None, status.st_mtime_ns):
            yield Refused(Reason.CHANGED_WHILE_READING, "it changed after it was hashed")
        else:
            yield fd


def is_still(fd: int, content: Content) -> bool:
    """Whether an open file has this content. Raises OSError."""
    os.lseek(fd, 0, os.SEEK_SET)
    return hash_open_file(fd, content.size, "md5") == content.md5
