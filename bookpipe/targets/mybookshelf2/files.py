"""Single files of the book folder: written, compared, synced; what their errors mean, and how links are told."""

import ctypes
import errno
import filecmp
import hashlib
import os

from bookpipe.model.book_plans import Content
from bookpipe.model.errors import BookpipeError, ConfigError, TransientError


class NameTakenError(TransientError):
    """Another program took a name between our look and our write: look again."""


def translate(error: OSError, what: str) -> BookpipeError:
    """The bookpipe error for an OSError of the book folder."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ConfigError(
            f"{what} cannot be written: {error.strerror}. Give this user the right to write under "
            "BOOKPIPE_MYBOOKSHELF2_DATA_DIR (and check that it is not mounted read-only)."
        )
    if error.errno == errno.EXDEV:
        return ConfigError(
            f"{what} cannot be a hard link: the library is on another file system. Set BOOKPIPE_FILE_MODE to symlink "
            "or copy."
        )
    if error.errno == errno.ENOSPC:
        return TransientError(f"{what} cannot be written: the disk is full (space or inodes). Free some and try again.")
    return TransientError(f"{what} cannot be written: {error.strerror}.")


def parse_link_prefix(text: str) -> tuple[str, str] | None:
    """'host path=path in the container' as a pair; None when empty."""
    if not text:
        return None
    host, _, inside = text.partition("=")
    if not host.startswith("/") or not inside.startswith("/"):
        raise ConfigError(
            f"BOOKPIPE_LINK_PREFIX is {text!r}; it must be two absolute paths, <host path>=<path in the container>."
        )
    return host.rstrip("/"), inside.rstrip("/")


def write_new(content: Content, path: str, owner: tuple[int, int] | None = None) -> None:
    """Write a file that is not there yet. `owner`: user and group to give it to."""
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    try:
        content.write(file)
        if owner:
            os.fchown(file, *owner)
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
