"""What was sent to a music archive, kept in the state file so that no content is ever sent twice.

A content is its MD5 and its size; an archive is its base URL. Paths are only aliases: a file that was moved, or a
second copy of it, is the same content.

`reserved`, `stored` and `sending` are written before the step that they stand for is left or begun, so that kill -9
leaves at most one step of each content open, and the next run knows which. That is good for the end of a process. When
the whole machine loses power the last writes may be lost: look the songs up at the archive once after that.
"""

import contextlib
import fcntl
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from bookpipe.model.errors import BookpipeError, ConfigError
from bookpipe.runtime.state import State

CHUNK = 1_000  # rows of one question or statement

_SCHEMA = """
CREATE TABLE IF NOT EXISTS song_upload (
    archive TEXT NOT NULL, md5 TEXT NOT NULL, size INTEGER NOT NULL,
    state TEXT NOT NULL, signed_id TEXT, song_id TEXT,
    attempts INTEGER NOT NULL, last_error TEXT, processing_error TEXT,
    owner TEXT, created_at REAL NOT NULL, updated_at REAL NOT NULL,
    PRIMARY KEY (archive, md5, size)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS song_alias (
    archive TEXT NOT NULL, md5 TEXT NOT NULL, size INTEGER NOT NULL, path BLOB NOT NULL,
    PRIMARY KEY (archive, md5, size, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS upload_window (archive TEXT PRIMARY KEY, size INTEGER NOT NULL);
"""


class Content(NamedTuple):
    """What a file's bytes are: MD5 in lower-case hex, size in bytes."""

    md5: str
    size: int


class UploadState(str, Enum):
    """How far a content is. The value is stable: it is stored and shown."""

    HASHED = "hashed"  # nothing of it is at the archive that matters
    RESERVED = "reserved"  # it has a place; the bytes may be there or not
    STORED = "stored"  # the bytes are there, the song is not
    SENDING = "sending"  # the request that makes the song is under way
    UNSURE = "unsure"  # such a request ended without an answer: ask the archive
    CREATED = "created"  # the archive has the song
    REFUSED = "refused"  # the archive does not want it

    def __str__(self) -> str:
        return self.value


FINAL = frozenset({UploadState.CREATED, UploadState.REFUSED})


@dataclass(frozen=True, slots=True)
class Upload:
    """A row of the ledger. Times are seconds since 1970."""

    content: Content
    state: UploadState
    signed_id: str | None = field(default=None, repr=False)  # who has it may use the stored bytes: never shown
    song_id: str | None = None
    attempts: int = 0
    last_error: str = ""
    processing_error: str = ""  # the archive has the song and could not process it: its own words
    updated_at: float = 0.0


_COLUMNS = "md5, size, state, signed_id, song_id, attempts, last_error, processing_error, updated_at"


def _upload(row: tuple[Any, ...]) -> Upload:
    md5, size, state, signed_id, song_id, attempts, error, processing_error, updated_at = row
    return Upload(
        Content(md5, size), UploadState(state), signed_id, song_id, attempts, error or "", processing_error or "",
        updated_at,
    )  # fmt: skip


class UploadLedger:
    """The uploads to one archive. Every method may be called from any thread and any number of processes."""

    def __init__(self, state: State, archive: str) -> None:
        """`archive` is the base URL, without a slash at its end."""
        state.need(_SCHEMA)
        self.state = state
        self.archive = archive

    def load(self, contents: Iterable[Content]) -> dict[Content, Upload]:
        """What is known of some contents. Those that are not known are left out."""
        known = {}
        remaining = iter(contents)
        with self.state.reading() as connection:
            while chunk := list(islice(remaining, CHUNK)):
                rows = connection.execute(
                    f"SELECT {_COLUMNS} FROM (SELECT json_extract(value, '$[0]') m, json_extract(value, '$[1]') s "
                    "FROM json_each(?)) CROSS JOIN song_upload ON archive = ? AND md5 = m AND size = s",
                    (json.dumps(chunk), self.archive),
                )
                known.update({upload.content: upload for upload in map(_upload, rows)})
        return known

    def count(self) -> dict[str, int]:
        """How many contents are in which state."""
        with self.state.reading() as connection:
            return dict(
                connection.execute(
                    "SELECT state, count(*) FROM song_upload WHERE archive = ? GROUP BY 1", (self.archive,)
                )
            )

    def add_aliases(self, aliases: Iterable[tuple[bytes, Content]]) -> None:
        """Remember which paths had which content."""
        with self.state.writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO song_alias (archive, md5, size, path) VALUES (?, ?, ?, ?)",
                ((self.archive, content.md5, content.size, path) for path, content in aliases),
            )

    def aliases(self, content: Content) -> list[bytes]:
        """The paths that had this content, in the order of their bytes."""
        with self.state.reading() as connection:
            rows = connection.execute(
                "SELECT path FROM song_alias WHERE archive = ? AND md5 = ? AND size = ? ORDER BY path",
                (self.archive, *content),
            )
            return [path for (path,) in rows]

    def window(self) -> int | None:
        """How many uploads at a time were best for this archive when somebody last uploaded to it."""
        with self.state.reading() as connection:
            row = connection.execute("SELECT size FROM upload_window WHERE archive = ?", (self.archive,)).fetchone()
            return None if row is None else int(row[0])

    def keep_window(self, size: int) -> None:
        with self.state.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO upload_window VALUES (?, ?)", (self.archive, size))

    def forget_refusals(self) -> int:
        """Let refused contents be sent again, for when the archive has learnt something; how many there were."""
        with self.state.writing() as connection:
            return connection.execute(
                "DELETE FROM song_upload WHERE archive = ? AND state = 'refused' AND owner IS NULL", (self.archive,)
            ).rowcount

    @contextmanager
    def uploading(self) -> Iterator["Uploader"]:
        """One who may claim contents. What it still has at the end is given back, and what it had begun is unsure."""
        uploader = Uploader(self)
        try:
            yield uploader
        finally:
            uploader.close()


class Uploader:
    """Claims contents, one uploader each, and writes down every step.

    A claim lives as long as its uploader: a locked file beside the state file says so, and the system takes the lock
    away when the process ends, however it ends. No clock and no process number is trusted.
    """

    def __init__(self, ledger: UploadLedger) -> None:
        self._state, self._archive = ledger.state, ledger.archive
        self.owner = secrets.token_hex(8)
        self._path = _lock_path(self._state.path, self.owner)
        # In a transaction, as every look at a lock is: nobody sees a file that is not locked yet.
        with self._state.writing() as connection:
            _sweep(connection, self._state.path)
            try:
                self._lock = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            except OSError as error:
                raise _cannot_lock(self._path, error) from error

    def close(self) -> None:
        try:
            with self._state.writing() as connection:
                _give_back(connection, self.owner)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            os.close(self._lock)

    def claim(self, content: Content) -> Upload | None:
        """The row of a content, now held by this uploader if there is anything left to do. None: another uploader that
        is alive has it. One that died in the middle of a request leaves it unsure."""
        now = time.time()
        with self._state.writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO song_upload (archive, md5, size, state, attempts, created_at, updated_at) "
                "VALUES (?, ?, ?, 'hashed', 0, ?, ?)",
                (self._archive, *content, now, now),
            )
            upload, owner = self._read(connection, content)
            if upload.state in FINAL:
                return upload
            if owner is not None and owner != self.owner:
                if _is_alive(self._state.path, owner):
                    return None
                _bury(connection, self._state.path, owner)
            connection.execute(
                "UPDATE song_upload SET owner = ? WHERE archive = ? AND md5 = ? AND size = ?",
                (self.owner, self._archive, *content),
            )
            return self._read(connection, content)[0]

    def _read(self, connection: sqlite3.Connection, content: Content) -> tuple[Upload, str | None]:
        *row, owner = connection.execute(
            f"SELECT {_COLUMNS}, owner FROM song_upload WHERE archive = ? AND md5 = ? AND size = ?",
            (self._archive, *content),
        ).fetchone()
        return _upload(tuple(row)), owner

    def reserved(self, content: Content, signed_id: str) -> None:
        """The archive gave a place for the bytes; nothing was sent there yet."""
        self._write(content, "state = 'reserved', signed_id = ?, attempts = attempts + 1", (signed_id,))

    def stored(self, content: Content) -> None:
        """The bytes are at the reserved place."""
        self._write(content, "state = 'stored'")

    def sending(self, content: Content) -> None:
        """The request that makes the song begins now. Keeps the place, if there is one."""
        self._write(content, "state = 'sending', attempts = attempts + (signed_id IS NULL)")

    def unsure(self, content: Content, why: str) -> None:
        """That request ended, and nobody knows how."""
        self._write(content, "state = 'unsure', last_error = ?", (why,))

    def created(self, content: Content, song_id: str, processing_error: str = "") -> None:
        """The archive has the song. Final: the claim ends."""
        self._write(
            content,
            "state = 'created', song_id = ?, processing_error = ?, owner = NULL, signed_id = NULL",
            (song_id, processing_error),
        )

    def refused(self, content: Content, why: str) -> None:
        """The archive will never take it. Final: the claim ends."""
        self._write(
            content,
            "state = 'refused', last_error = ?, owner = NULL, signed_id = NULL",
            (why,),
        )

    def again(self, content: Content, why: str, *, stored: bool = False) -> None:
        """The last attempt surely made no song. `stored`: its bytes are still at their place."""
        change = "state = 'stored'" if stored else "state = 'hashed', signed_id = NULL"
        self._write(content, f"{change}, last_error = ?", (why,))

    def release(self, content: Content) -> None:
        """Give a claim back, whatever its state is."""
        with self._state.writing() as connection:
            connection.execute(
                "UPDATE song_upload SET owner = NULL WHERE archive = ? AND md5 = ? AND size = ? AND owner = ?",
                (self._archive, *content, self.owner),
            )

    def _write(self, content: Content, change: str, values: tuple[object, ...] = ()) -> None:
        with self._state.writing() as connection:
            changed = connection.execute(
                f"UPDATE song_upload SET {change}, updated_at = ? "
                "WHERE archive = ? AND md5 = ? AND size = ? AND owner = ?",
                (*values, time.time(), self._archive, *content, self.owner),
            ).rowcount
            # A state file that was deleted under a running upload starts anew.
            if not changed:
                raise ConfigError(
                    f"The ledger in {self._state.path} has lost a song that is being uploaded: was the file replaced? "
                    "Run the partition again."
                )


def _give_back(connection: sqlite3.Connection, owner: str) -> None:
    connection.execute(
        "UPDATE song_upload SET state = CASE state WHEN 'sending' THEN 'unsure' ELSE state END, owner = NULL "
        "WHERE owner = ?",
        (owner,),
    )


def _bury(connection: sqlite3.Connection, state: Path, owner: str) -> None:
    _give_back(connection, owner)
    with contextlib.suppress(OSError):
        os.unlink(_lock_path(state, owner))


def _sweep(connection: sqlite3.Connection, state: Path) -> None:
    """Bury all uploaders that ended without a word."""
    prefix = os.path.basename(_lock_path(state, ""))
    for name in os.listdir(state.parent):
        if name.startswith(prefix) and not _is_alive(state, owner := name.removeprefix(prefix)):
            _bury(connection, state, owner)


def _lock_path(state: Path, owner: str) -> str:
    return f"{os.fspath(state)}.uploader-{owner}"


def _is_alive(state: Path, owner: str) -> bool:
    """Whether somebody holds the lock of `owner`."""
    try:
        lock = os.open(_lock_path(state, owner), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _cannot_lock(_lock_path(state, owner), error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _cannot_lock(path: str, error: OSError) -> BookpipeError:
    return ConfigError(
        f"{path} cannot be made or locked: {error.strerror}. Is the folder of the state file local and writable? "
        "Set BOOKPIPE_STATE_URL."
    )
