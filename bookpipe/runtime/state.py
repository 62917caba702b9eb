"""bookpipe's own local state: the digest cache and the rejections, in one SQLite file.

Losing this file loses no data: digests are computed again, rejections are found again. What must be
atomic with a target's rows lives in the target's database instead.
"""

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bookpipe.model.errors import BookpipeError, ConfigError, TransientError
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


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file's bytes are: SHA-1 in lower-case hex, size in bytes, format by content or None."""

    size: int
    mtime_ns: int
    sha1: str
    format: str | None


class State:
    """The state file at `path`, opened on first use; one connection per thread, safe across processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                connection = sqlite3.connect(self.path, timeout=60, isolation_level=None)
                connection.execute("PRAGMA journal_mode=WAL")
                # A crash of the machine may lose the last digests, never corrupt the file: they are only a cache.
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.executescript(_SCHEMA)
            except (sqlite3.Error, OSError) as error:
                if connection is not None:
                    connection.close()
                raise self._translate(error) from error
            self._local.connection = connection
        return connection

    def _translate(self, error: Exception) -> BookpipeError:
        text = str(error)
        if "locked" in text or "full" in text or "disk I/O" in text:
            return TransientError(f"bookpipe's state file {self.path} cannot be written now: {text}.")
        return ConfigError(
            f"bookpipe's state file {self.path} cannot be used: {text}. Check that its folder is writable and local, "
            "or set BOOKPIPE_STATE_URL; the file may be deleted, it only saves work."
        )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def load_digests(self, scope: str) -> dict[bytes, Digest]:
        """All digests of one scope. A scope is a partition, so this is one short range scan."""
        try:
            rows = self._connection().execute(
                "SELECT path, size, mtime_ns, sha1, format FROM digest WHERE scope = ?", (scope,)
            )
            return {path: Digest(size, mtime_ns, sha1, kind) for path, size, mtime_ns, sha1, kind in rows}
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def save_digests(self, scope: str, digests: Iterable[tuple[bytes, Digest]]) -> None:
        with self._writing() as connection:
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
        with self._writing() as connection:
            connection.execute("DELETE FROM rejection WHERE pipeline = ? AND partition = ?", (pipeline, partition))
            connection.executemany(
                "INSERT INTO rejection VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(pipeline, partition, n, r.key, r.reason.value, r.detail, now) for n, r in enumerate(rejections)],
            )

    def list_rejections(
        self, pipeline: str | None = None, partition: str | None = None, reason: str | None = None
    ) -> Iterator[tuple[str, str, str, str, str]]:
        """(pipeline, partition, key, reason, detail) in order, streamed."""
        try:
            yield from self._connection().execute(
                "SELECT pipeline, partition, key, reason, detail FROM rejection "
                "WHERE (:pipeline IS NULL OR pipeline = :pipeline) AND (:partition IS NULL OR partition = :partition) "
                "AND (:reason IS NULL OR reason = :reason) ORDER BY pipeline, partition, n",
                {"pipeline": pipeline, "partition": partition, "reason": reason},
            )
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def close(self) -> None:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None


class NoState(State):
    """Remembers nothing and writes nothing, for a dry run."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"))

    def load_digests(self, scope: str) -> dict[bytes, Digest]:  # noqa: ARG002
        return {}

    def save_digests(self, scope: str, digests: Iterable[tuple[bytes, Digest]]) -> None:
        """Save nothing."""
