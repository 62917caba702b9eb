"""How far each shard is loaded, in the journal: one row for a shard, one for each chunk of it.

A chunk's row commits together with the books of the chunk, so that a load that is killed goes on behind its last
chunk, and the counts of a shard are those of all its chunks whoever loaded them. Several loads of one shard at once
do no harm: the first to finish a chunk writes its row.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bookpipe.model.errors import TransientError
from bookpipe.targets.mybookshelf2.journal import Journal
from bookpipe.targets.mybookshelf2.storage import BookFolder
from bookpipe.targets.postgres import Connection, as_array, joined, translating

_TABLES = """
CREATE TABLE IF NOT EXISTS {p}shard (
    pipeline text NOT NULL, partition text NOT NULL, form text NOT NULL, size bigint NOT NULL,
    mtime_ns bigint NOT NULL, generation int NOT NULL, chunks int NOT NULL DEFAULT 0, resume text NOT NULL DEFAULT '',
    finished bool NOT NULL DEFAULT false, done bigint NOT NULL DEFAULT 0, total bigint,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (pipeline, partition));
CREATE TABLE IF NOT EXISTS {p}shard_chunk (
    pipeline text NOT NULL, partition text NOT NULL, n int NOT NULL, items bigint[] NOT NULL,
    sources bigint[] NOT NULL, outcomes text NOT NULL, rejections text NOT NULL, problems text NOT NULL,
    PRIMARY KEY (pipeline, partition, n));
"""

# Outcomes of a chunk are kept as one letter for each row.
_LETTERS = {"inserted": "i", "existing": "e", "rejected": "r"}


@dataclass(frozen=True)
class Identity:
    """What a shard is told by: when one of these changes, it is another shard of the same name."""

    form: str
    size: int  # bytes
    mtime_ns: int


@dataclass(frozen=True)
class ShardState:
    """How far a shard is. `resume` is what the last chunk left, '' at the beginning."""

    generation: int  # counts the shards of this name
    chunks: int
    resume: str
    finished: bool


@dataclass(frozen=True)
class ChunkEntry:
    """One chunk that is about to be committed. Lists are side by side; a source is None where a row was rejected."""

    start: str
    resume: str
    finished: bool
    items: Sequence[int]
    sources: Sequence[int | None]
    outcomes: Sequence[str]
    rejections: Sequence[tuple[str, str, str]]  # key, reason, detail
    problems: Sequence[dict[str, Any]]
    done: int  # bytes of the shard
    total: int | None


@dataclass(frozen=True)
class ShardTotals:
    """Everything the chunks of a shard say together."""

    inserted: int
    existing: int
    rejections: list[tuple[str, str, str]]  # key, reason, detail
    problems: list[dict[str, Any]]


class ShardJournal:
    """The entries of one partition."""

    def __init__(self, journal: Journal, pipeline: str, partition: str) -> None:
        self.connection: Connection = journal.connection
        self.shard, self.chunk, self.file = (journal.name(t) for t in ("shard", "shard_chunk", "file"))
        self._tables = _TABLES.format(p=journal.prefix)
        self._origin = journal.name("origin")
        self._key = (pipeline, partition)

    def _one(self, query: str, *values: object) -> Any:
        return self.connection.execute(query.encode(), values).fetchone()

    def exists(self) -> bool:
        """Whether the tables are there: the last of them is made last."""
        with translating("reading the journal"):
            return bool(self._one("SELECT to_regclass(%s)", self.chunk)[0])

    def begin(self, identity: Identity, folder: BookFolder, origin: str) -> ShardState:
        """Where to go on with a shard, tables made if missing. Only while the loader lock is held.

        It starts over when the shard is another one than last time, or when something it brought is there no more.
        `origin` is the name of its first generation's rows.
        """
        if not self.exists():
            with translating("creating the journal"):
                self.connection.execute(self._tables.encode())
        with translating("reading the journal"), self.connection.transaction():
            values = (*self._key, identity.form, identity.size, identity.mtime_ns)
            self.connection.execute(
                f"INSERT INTO {self.shard} (pipeline, partition, form, size, mtime_ns, generation) "
                "VALUES (%s, %s, %s, %s, %s, 1) ON CONFLICT DO NOTHING".encode(),
                values,
            )
            known, state = self._read(" FOR UPDATE")
            generation = state.generation + (known != identity)
            if known == identity and not self._lacks(folder, generation_name(origin, generation)):
                return state
            self.connection.execute(
                f"DELETE FROM {self.chunk} WHERE (pipeline, partition) = (%s, %s)".encode(), self._key
            )
            self.connection.execute(
                f"UPDATE {self.shard} SET (form, size, mtime_ns, generation, chunks, resume, finished, done, total, "
                "updated_at) = (%s, %s, %s, %s, 0, '', false, 0, NULL, clock_timestamp()) "
                "WHERE (pipeline, partition) = (%s, %s)".encode(),
                (*values[2:], generation, *self._key),
            )
            return ShardState(generation, 0, "", False)

    def _read(self, ending: str = "") -> tuple[Identity, ShardState]:
        row = self._one(
            "SELECT form, size, mtime_ns, generation, chunks, resume, finished FROM "
            f"{self.shard} WHERE (pipeline, partition) = (%s, %s){ending}",
            *self._key,
        )
        if row is None:
            raise TransientError("The journal forgot a shard while it was loaded. The partition is tried again.")
        return Identity(*row[:3]), ShardState(*row[3:])

    def state(self) -> ShardState:
        with translating("reading the journal"):
            return self._read()[1]

    def _lacks(self, folder: BookFolder, origin: str) -> bool:
        """Whether a source of the chunks so far is gone, or the file of one that came from this shard."""
        gone = self._one(
            f"SELECT EXISTS (SELECT 1 FROM {self.chunk} c CROSS JOIN unnest(c.sources) AS k(id) "
            "LEFT JOIN source s ON s.id = k.id WHERE (c.pipeline, c.partition) = (%s, %s) AND k.id IS NOT NULL "
            "AND s.id IS NULL)",
            *self._key,
        )[0]
        if gone:
            return True
        locations = self.connection.execute(
            f"SELECT s.location FROM {self._origin} o JOIN {self.file} f ON f.origin_id = o.id "
            "JOIN source s ON s.id = f.source_id WHERE o.name = %s".encode(),
            (origin,),
        )
        return not all(os.path.lexists(f"{folder.root}/{location}") for (location,) in locations)

    def commit(self, identity: Identity, generation: int, entry: ChunkEntry) -> bool:
        """Write a chunk's row, inside the transaction of its books. False when another load was here before.

        Raises TransientError when the shard has become another one.
        """
        known, state = self._read(" FOR UPDATE")
        if known != identity or state.generation != generation:
            raise TransientError("The shard was changed and is loaded by another run. The partition is tried again.")
        if state.finished or state.resume != entry.start:
            return False
        self.connection.execute(
            f"INSERT INTO {self.chunk} VALUES (%s, %s, %s, %s, %s, %s, %s, %s)".encode(),
            (
                *self._key, state.chunks, list(entry.items), list(entry.sources),
                "".join(_LETTERS[outcome] for outcome in entry.outcomes),
                json.dumps(entry.rejections), json.dumps(entry.problems),
            ),
        )  # fmt: skip
        self.connection.execute(
            f"UPDATE {self.shard} SET (chunks, resume, finished, done, total, updated_at) = "
            "(%s, %s, %s, %s, %s, clock_timestamp()) WHERE (pipeline, partition) = (%s, %s)".encode(),
            (state.chunks + 1, entry.resume, entry.finished, entry.done, entry.total, *self._key),
        )
        return True

    def totals(self) -> ShardTotals:
        """The sum of all chunks."""
        inserted = existing = 0
        rejections: list[tuple[str, str, str]] = []
        problems: list[dict[str, Any]] = []
        with translating("reading the journal"):
            rows = self.connection.execute(
                f"SELECT outcomes, rejections, problems FROM {self.chunk} "
                "WHERE (pipeline, partition) = (%s, %s) ORDER BY n".encode(),
                self._key,
            )
            for outcomes, refused, found in rows:
                inserted += outcomes.count("i")
                existing += outcomes.count("e")
                rejections += map(tuple, json.loads(refused))
                problems += json.loads(found)
        return ShardTotals(inserted, existing, rejections, problems)

    def find_members(self, items: Sequence[int]) -> dict[int, tuple[str, int]]:
        """Member of an earlier chunk -> (SHA-1, size) of its source, for those that were loaded and still are."""
        with translating("reading the journal"):
            rows = self.connection.execute(
                f"SELECT k.item, s.hash, s.size FROM {self.chunk} c, unnest(c.items, c.sources) AS k(item, source) "
                "JOIN source s ON s.id = k.source WHERE (c.pipeline, c.partition) = (%s, %s) "
                f"AND k.item = ANY({as_array('bigint')})".encode(),
                (*self._key, joined(items)),
            )
            return {item: (sha1, size) for item, sha1, size in rows}

    def sources(self) -> Iterator[list[int]]:
        """The ids of the sources that the rows of each chunk ended as, chunk by chunk."""
        with translating("reading the journal"):
            for n in range(self._read()[1].chunks):
                row = self._one(
                    f"SELECT array_remove(sources, NULL) FROM {self.chunk} "
                    "WHERE (pipeline, partition, n) = (%s, %s, %s)",
                    *self._key, n,
                )  # fmt: skip
                yield list(row[0]) if row else []


def generation_name(origin: str, generation: int) -> str:
    """The name under which the journal keeps a shard's rows: what an earlier shard of that name had at an offset
    has nothing to do with what is there now."""
    return origin if generation == 1 else f"{origin}~{generation}"
