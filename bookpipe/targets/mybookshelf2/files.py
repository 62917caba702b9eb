"""Single files of the book folder: written, compared, synced."""

import ctypes
import filecmp
import hashlib
import os

from bookpipe.model.book_plans import Content


def write_new(content: Content, path: str) -> None:
    """Write a file that is not there yet."""
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    try:
        content.write(file)
    finally:
        os.close(file)


def sha1_of(path: str) -> str:
    """The digest of a file, in hexadecimal."""
    digest = hashlib.sha1(usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def have_same_bytes(one: str, other: bytes) -> bool:
    """Whether two files are there and equal."""
    try:
        return filecmp.cmp(os.fsencode(one), other, shallow=False)
    except OSError:
        return False


def sync_file_system(folder: str) -> None:
    """Have everything written to a folder's file system: one call instead of one for each file. Raises OSError."""
    sync = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)  # Linux only
    if sync is None:
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if sync(opened) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(opened)
