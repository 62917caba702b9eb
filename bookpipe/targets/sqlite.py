"""SQLite for targets: opening somebody else's database file with care, and sqlite3's errors as bookpipe's.

The file belongs to an application that may be running. It is never created here, and in WAL mode, which needs shared
memory, never opened over a network.
"""

import fcntl
import os
import re
import sqlite3
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from bookpipe.model.errors import BookpipeError, ConfigError, TerminalError, TransientError
from bookpipe.runtime.file_systems import mount_of

OLDEST_SQLITE = (3, 33)  # UPDATE ... FROM
BUSY_TIMEOUT_S = 60.0  # the application's own writers come first and may be slow

_TRANSIENT = re.compile(r"locked|busy|disk is full|disk I/O error|interrupted|out of memory", re.IGNORECASE)
_CONFIG = re.compile(
    r"readonly|read-only|unable to open|not a database|authoriz|no such (table|column)|has no column", re.IGNORECASE
)

# Where SQLite's processes say in the -shm file that they are there: all of them share a lock of this byte.
_PRESENCE_BYTE = 128
_FLOCK = "hhqqi"  # Linux: type, whence, start, length, pid
_shm_files: dict[tuple[int, int], int] = {}


def translate(error: sqlite3.Error, doing: str) -> BookpipeError:
    """The bookpipe error for what sqlite3 raised while `doing` something."""
    text = str(error)
    if re.search(r"locked|busy", text, re.IGNORECASE):
        return TransientError(
            f"The database stayed locked for {BUSY_TIMEOUT_S:.0f} s while {doing}. The work is tried again; if this "
            "goes on, another program holds a transaction open."
        )
    if _TRANSIENT.search(text):
        return TransientError(f"SQLite was interrupted while {doing}: {text}. The work is tried again.")
    if "malformed" in text:
        return TerminalError(f"The database file is damaged ({text}, while {doing}). Restore it from a backup.")
    if _CONFIG.search(text):
        return ConfigError(f"SQLite refused {doing}: {text}. {_remedy(text)}")
    return TerminalError(f"SQLite could not do {doing}: {text}.")


def _remedy(text: str) -> str:
    if "not a database" in text:
        return "It is a file of another kind: check the path that bookpipe was given."
    if "readonly" in text or "unable to open" in text:
        return (
            "SQLite must be able to write the file, its -wal and -shm beside it, and the folder: run bookpipe as the "
            "file's owner."
        )
    return "The database is not the application's, or of another version; `bookpipe doctor` checks."


@contextmanager
def translating(doing: str) -> Iterator[None]:
    """sqlite3's errors leave the block as bookpipe errors."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, doing) from error


def open_file(path: Path, setting: str, *, write: bool, busy_timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """An autocommit connection to an existing file, with foreign keys on. `setting` names the setting in messages.

    With write=False nothing is left behind: not even the files -wal and -shm, if they were not there before.
    Raises ConfigError when the file is not there, empty, no database, on a network file system or closed to us.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise ConfigError(
            f"This Python has SQLite {sqlite3.sqlite_version}, bookpipe needs {'.'.join(map(str, OLDEST_SQLITE))} or "
            "newer. Use a newer Python or system."
        )
    path = Path(os.path.realpath(path))  # SQLite keeps the log beside the file that a link leads to
    check_file(path, setting, write=write)
    with translating("opening the database"):
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?{_mode(path, write)}", uri=True, isolation_level=None, timeout=busy_timeout_s
        )
        try:
            connection.execute("PRAGMA foreign_keys = on")
            connection.execute("PRAGMA temp_store = memory")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
    return connection


def check_file(path: Path, setting: str, *, write: bool) -> None:
    """ConfigError, with what to do, unless the file can be opened. `setting` names the setting in messages."""
    path = Path(os.path.realpath(path))
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise ConfigError(f"{path} cannot be looked at: {error.strerror}. Check {setting}.") from error
    if size is None:
        what = "is a folder" if path.is_dir() else "is not there"
        raise ConfigError(f"{path} {what}. Check {setting}; bookpipe does not make the application's database.")
    if size == 0:
        raise ConfigError(f"{path} is empty. Start the application once, so that it makes its tables.")
    mount = mount_of(path)
    # Whatever the root is on, all programs of this system are on it together.
    if mount is not None and mount.is_network and mount.point != "/":
        raise ConfigError(
            f"{path} is on a network file system ({mount.kind}). SQLite's write-ahead log needs memory that all "
            "programs share. Run bookpipe on the machine that has the disk, as the application itself must."
        )
    if not _allowed(path, os.R_OK):
        raise ConfigError(f"{path} cannot be read by this user. Run bookpipe as the file's owner.")
    if write and not _allowed(path, os.W_OK):
        raise ConfigError(f"{path} cannot be written by this user. Run bookpipe as the file's owner.")
    if write and not _allowed(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{path.parent} cannot be written by this user, and SQLite keeps its log beside the file. Run bookpipe as "
            "the file's owner."
        )


def _allowed(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _mode(path: Path, write: bool) -> str:
    """How to open a file so that reading leaves nothing behind.

    The last connection to close removes -wal and -shm, but not one that may only read. So where there is no -wal
    (nobody has the file open) even a reader opens it for writing; where there is one it is somebody else's to remove.
    """
    if write:
        return "mode=rw"
    if Path(f"{path}-wal").exists():
        return "mode=ro"
    if _allowed(path, os.W_OK) and _allowed(path.parent, os.W_OK | os.X_OK):
        return "mode=rw"
    return "mode=ro&immutable=1"


def in_use_elsewhere(path: Path) -> bool | None:
    """Whether another process has the WAL-mode database open. None where that cannot be seen."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        file = _shm_file(path)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _PRESENCE_BYTE, 1, 0)
    kind, *_ = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    return bool(kind != fcntl.F_UNLCK)


def _shm_file(path: Path) -> int:
    """A descriptor of the -shm file that stays open: closing any of a file's descriptors would take away the locks
    that SQLite holds on it in this process. Those of removed files hold nothing any more."""
    log = f"{os.path.realpath(path)}-shm"
    found = os.stat(log)
    key = (found.st_dev, found.st_ino)
    for old, file in list(_shm_files.items()):
        if os.fstat(file).st_nlink == 0:
            os.close(_shm_files.pop(old))
    if key not in _shm_files:
        _shm_files[key] = os.open(log, os.O_RDWR | os.O_CLOEXEC)
    return _shm_files[key]
