"""bookpipe's own local state: digest cache, rejections and (in upload_ledger) what was uploaded, in one SQLite file.

Losing this file loses no data: digests are computed again, rejections are found again, the songs that an archive
has already can be looked up there. What must be atomic with a target's rows lives in the target's database instead.
"""

import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bookpipe.model.errors import BookpipeError, ConfigError, TerminalError, TransientError
from bookpipe.model.rejections import Rejection

_SCHEMA = """
CREATE TABLE IF NOT EXISTS digest (
    scope TEXT NOT NULL, path BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    sha1 TEXT NOT NULL, format TEXT,
    PRIMARY KEY (scope, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rejection (
    pipeline TEXT NOT NULL, partition TEXT NOT NULL, n INTEGER NOT NULL,
    key TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (pipeline, partition, n)) WITHOUT ROWID;
"""

_PATIENCE = 60  # seconds to wait for others who use the file
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)")


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file's bytes are: SHA-1 in lower-case hex, size in bytes, format by content or None."""

    size: int
    mtime_ns: int
    sha1: str
    format: str | None


class State:
    """The state file at `path`, opened on first use; one connection per thread, safe across processes.

    What is written survives the end of this process at any moment (kill -9), because it is in the system's hands
    when a write returns. A crash of the whole machine may take the last writes; it never corrupts the file.
    `read_only` writes nothing, and knows nothing where there is no file yet.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._schemas = [_SCHEMA]
        self._local = threading.local()

    def need(self, schema: str) -> None:
        """Have further tables (CREATE ... IF NOT EXISTS) in the file, in every thread. For those who keep more here."""
        if schema not in self._schemas:
            self._schemas.append(schema)
            self.close()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            try:
                connection = self._open_to_read() if self.read_only else self._open_to_write()
            except (sqlite3.Error, OSError) as error:
                raise self._translate(error) from error
            self._local.connection = connection
        return connection

    def _open_to_write(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
        try:
            _use_write_ahead_log(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            for schema in self._schemas:
                connection.executescript(schema)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _open_to_read(self) -> sqlite3.Connection:
        if self.path.exists():
            connection = sqlite3.connect(
                f"file:{quote(os.fspath(self.path))}?mode=ro", uri=True, timeout=_PATIENCE, isolation_level=None
            )
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            if {(name,) for schema in self._schemas for name in _TABLE.findall(schema)} <= set(tables):
                return connection
            connection.close()
        nothing = sqlite3.connect(":memory:", isolation_level=None)
        for schema in self._schemas:
            nothing.executescript(schema)
        return nothing

    def _translate(self, error: Exception) -> BookpipeError:
        text = str(error)
        if "locked" in text or "full" in text or "disk I/O" in text:
            return TransientError(f"bookpipe's state file {self.path} cannot be written now: {text}.")
        return ConfigError(
            f"bookpipe's state file {self.path} cannot be used: {text}. Check that its folder is writable and local, "
            "or set BOOKPIPE_STATE_URL; the file may be deleted, it only saves work (and knows which songs were "
            "uploaded)."
        )

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; SQLite's errors leave the block as bookpipe's."""
        connection = self._connection()
        try:
            yield connection
        except sqlite3.Error as error:
            raise self._translate(error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction on this thread's connection, which waits for other writers: all of the block or nothing."""
        if self.read_only:
            raise TerminalError(f"bookpipe's state file {self.path} is open for reading only.")
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite itself rolls back when the disk is full
                    connection.execute("ROLLBACK")
                raise

    def load_digests(self, scope: str) -> dict[bytes, Digest]:
        """All digests of one scope. A scope is a partition, so this is one short range scan."""
        with self.reading() as connection:
            rows = connection.execute("SELECT path, size, mtime_ns, sha1, format FROM digest WHERE scope = ?", (scope,))
            return {path: Digest(size, mtime_ns, sha1, kind) for path, size, mtime_ns, sha1, kind in rows}

    def save_digests(self, scope: str, digests: Iterable[tuple[bytes, Digest]]) -> None:
        """Remember these, in place of what was known of the same paths. Nothing is remembered when `read_only`."""
        if self.read_only:
            return
        with self.writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO digest (scope, path, size, mtime_ns, sha1, format) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (scope, path, d.size, d.mtime_ns, d.sha1, d.format)
                    for path, d in digests
                    if abs(d.mtime_ns) < 2**63  # SQLite cannot hold a time after the year 2262
                ],
            )

    def replace_rejections(self, pipeline: str, partition: str, rejections: Sequence[Rejection]) -> None:
        """The rejections of a partition's latest load; those of earlier loads are forgotten."""
        now = time.time()
        with self.writing() as connection:
            connection.execute("DELETE FROM rejection WHERE pipeline = ? AND partition = ?", (pipeline, partition))
            connection.executemany(
                "INSERT INTO rejection VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(pipeline, partition, n, r.key, r.reason.value, r.detail, now) for n, r in enumerate(rejections)],
            )

    def list_rejections(
        self, pipeline: str | None = None, partition: str | None = None, reason: str | None = None
    ) -> Iterator[tuple[str, str, str, str, str]]:
        """(pipeline, partition, key, reason, detail) in order, streamed."""
        with self.reading() as connection:
            yield from connection.execute(
                "SELECT pipeline, partition, key, reason, detail FROM rejection "
                "WHERE (:pipeline IS NULL OR pipeline = :pipeline) AND (:partition IS NULL OR partition = :partition) "
                "AND (:reason IS NULL OR reason = :reason) ORDER BY pipeline, partition, n",
                {"pipeline": pipeline, "partition": partition, "reason": reason},
            )

    def close(self) -> None:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Many may open a new file at once, and SQLite does not wait for a lock when it changes the journal's mode."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
