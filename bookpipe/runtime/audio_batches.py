"""Which audio files there are: batches that are fixed when their files are found, and the MD5 of every file.

Both are kept in the state file.
"""

from collections.abc import Iterable
from itertools import islice

from bookpipe.runtime.state import State

CHUNK = 10_000  # paths held in memory at a time

Md5Row = tuple[int, int, str]  # size, mtime_ns, MD5 in lower-case hex

_BATCHES = """
CREATE TABLE IF NOT EXISTS audio_batch (
    first INTEGER NOT NULL, last INTEGER NOT NULL, key TEXT NOT NULL UNIQUE, PRIMARY KEY (first));
CREATE TABLE IF NOT EXISTS audio_file (n INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE);
"""
_DIGESTS = """
CREATE TABLE IF NOT EXISTS audio_digest (
    scope TEXT NOT NULL, path BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, md5 TEXT NOT NULL,
    PRIMARY KEY (scope, path)) WITHOUT ROWID;
"""


def batch_key(first: int, last: int) -> str:
    return f"songs-{first:07d}-{last:07d}"


class AudioBatches:
    """Batches of paths under the music folder. A path is in one batch for ever; new paths make new batches."""

    def __init__(self, state: State) -> None:
        state.need(_BATCHES)
        self._state = state

    def plan_batches(self, paths: Iterable[bytes], size: int) -> list[str]:
        """Put the paths that are in no batch yet into new ones of at most `size`, in the order of their bytes.

        A batch that is not full when it is made stays as it is. All new batches come to be at once or, when the
        iterator raises, none. The paths are held on disk meanwhile, not in memory, and others may write to the state
        file as long as paths are coming. Returns the keys of the new batches.
        """
        remaining = iter(paths)
        with self._state.reading() as connection:
            connection.execute("CREATE TEMP TABLE IF NOT EXISTS found (path BLOB PRIMARY KEY) WITHOUT ROWID")
            connection.execute("DELETE FROM found")
            while chunk := list(islice(remaining, CHUNK)):
                connection.execute("BEGIN")
                connection.executemany("INSERT OR IGNORE INTO found VALUES (?)", ((path,) for path in chunk))
                connection.execute("COMMIT")
        with self._state.writing() as connection:
            (before,) = connection.execute("SELECT coalesce(max(n), 0) FROM audio_file").fetchone()
            connection.execute(
                "INSERT INTO audio_file (path) SELECT path FROM found "
                "WHERE NOT EXISTS (SELECT 1 FROM audio_file f WHERE f.path = found.path) ORDER BY path"
            )
            (after,) = connection.execute("SELECT coalesce(max(n), 0) FROM audio_file").fetchone()
            batches = [(first, min(first + size - 1, after)) for first in range(before + 1, after + 1, size)]
            connection.executemany(
                "INSERT INTO audio_batch (first, last, key) VALUES (?, ?, ?)",
                [(first, last, batch_key(first, last)) for first, last in batches],
            )
            connection.execute("DELETE FROM found")
        return [batch_key(first, last) for first, last in batches]

    def keys(self) -> list[str]:
        """The keys of all batches, oldest first."""
        with self._state.reading() as connection:
            return [key for (key,) in connection.execute("SELECT key FROM audio_batch ORDER BY first")]

    def paths(self, key: str) -> list[bytes]:
        """The paths of a batch, in order; none for a key that does not exist."""
        with self._state.reading() as connection:
            return [
                path
                for (path,) in connection.execute(
                    "SELECT path FROM audio_batch CROSS JOIN audio_file ON n BETWEEN first AND last WHERE key = ? "
                    "ORDER BY n",
                    (key,),
                )
            ]


class Md5Cache:
    """MD5 by path, size and modification time. A scope is a batch, so that loading one is a short range scan."""

    def __init__(self, state: State) -> None:
        state.need(_DIGESTS)
        self._state = state

    def load(self, scope: str) -> dict[bytes, Md5Row]:
        """What is known of a batch, by path."""
        with self._state.reading() as connection:
            rows = connection.execute("SELECT path, size, mtime_ns, md5 FROM audio_digest WHERE scope = ?", (scope,))
            return {path: (size, mtime_ns, md5) for path, size, mtime_ns, md5 in rows}

    def save(self, scope: str, rows: Iterable[tuple[bytes, Md5Row]]) -> None:
        """path, and what `load` gives for it; a later one for the same path replaces the earlier."""
        if self._state.read_only:  # a dry run: what it reads is not remembered
            return
        with self._state.writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO audio_digest (scope, path, size, mtime_ns, md5) VALUES (?, ?, ?, ?, ?)",
                # SQLite cannot hold a time after the year 2262.
                [(scope, path, *row) for path, row in rows if abs(row[1]) < 2**63],
            )
