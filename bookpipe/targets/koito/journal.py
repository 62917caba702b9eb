"""The journal: what each chunk of listens put into Koito, in Koito's own database.

Its rows commit together with the rows they name. What a chunk made is named with foreign keys that delete along with
Koito's own rows: SQLite gives the id of a deleted row to the next new one, and an undo must never take a stranger for
what it once made. (When Koito merges artists it gives the links of one to the other, so these keys follow.) For the
same reason a listen counts as a chunk's own only while its track is the one of then.

The tables are bookpipe_load ... in SQLite, and bookpipe.load ... in PostgreSQL.
"""

import json
import time
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bookpipe.model.counts import LoadCounts
from bookpipe.targets.koito.database import Database

_TABLES = """
CREATE TABLE IF NOT EXISTS {p}load (
    id {key} PRIMARY KEY, pipeline text NOT NULL, partition text NOT NULL, run_id text NOT NULL,
    origin text NOT NULL, first_row bigint NOT NULL, last_row bigint NOT NULL,
    committed_at bigint NOT NULL, counts text NOT NULL, listens {bytes} NOT NULL);
CREATE INDEX IF NOT EXISTS {i}load_partition ON {p}load (pipeline, partition);
CREATE TABLE IF NOT EXISTS {p}load_artist (
    artist_id integer NOT NULL REFERENCES artists (id) ON DELETE CASCADE, load_id bigint NOT NULL,
    PRIMARY KEY (artist_id, load_id)) {without_rowid};
CREATE INDEX IF NOT EXISTS {i}load_artist_load ON {p}load_artist (load_id);
CREATE TABLE IF NOT EXISTS {p}load_release (
    release_id integer NOT NULL REFERENCES releases (id) ON DELETE CASCADE, load_id bigint NOT NULL,
    PRIMARY KEY (release_id, load_id)) {without_rowid};
CREATE INDEX IF NOT EXISTS {i}load_release_load ON {p}load_release (load_id);
CREATE TABLE IF NOT EXISTS {p}load_link (
    artist_id integer NOT NULL, release_id integer NOT NULL, load_id bigint NOT NULL,
    PRIMARY KEY (artist_id, release_id, load_id),
    FOREIGN KEY (artist_id, release_id) REFERENCES artist_releases (artist_id, release_id)
        ON DELETE CASCADE ON UPDATE CASCADE) {without_rowid};
CREATE INDEX IF NOT EXISTS {i}load_link_load ON {p}load_link (load_id);
CREATE TABLE IF NOT EXISTS {p}load_track (
    track_id integer NOT NULL REFERENCES tracks (id) ON DELETE CASCADE, load_id bigint NOT NULL,
    created boolean NOT NULL,
    PRIMARY KEY (track_id, load_id)) {without_rowid};
CREATE INDEX IF NOT EXISTS {i}load_track_load ON {p}load_track (load_id);
"""
_LAST_TABLE = "load_track"


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is loaded in one transaction: rows first_row to last_row of an export, for a run of a partition."""

    pipeline: str
    partition: str
    run_id: str
    origin: str  # key of the export
    first_row: int
    last_row: int


@dataclass
class Made:
    """What a chunk made. Listens are (track, microseconds since 1970)."""

    artists: Sequence[int] = ()
    releases: Sequence[int] = ()
    tracks: Sequence[int] = ()
    links: Sequence[tuple[int, int]] = ()  # (artist, release), of releases that were there before
    listens: Sequence[tuple[int, int]] = ()

    def __bool__(self) -> bool:
        return any((self.artists, self.releases, self.tracks, self.links, self.listens))


@dataclass(frozen=True)
class LoadEntry:
    """A chunk that was loaded."""

    id: int
    chunk: Chunk
    listens: list[tuple[int, int]] = field(repr=False)  # (track, microseconds since 1970)


class Journal:
    """The journal's tables in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def exists(self) -> bool:
        """Whether the tables are there: the last of them is made last."""
        return self._database.has_table(self._database.own(_LAST_TABLE))

    def create(self) -> None:
        """Create the tables that are missing. Inside a transaction."""
        create_tables(self._database, _TABLES)

    def own_tracks(self, entries: Sequence[LoadEntry]) -> list[int]:
        """Tracks that of the exports of these entries no other chunk brought listens of."""
        load, track = self._database.own("load"), self._database.own("load_track")
        loads = ", ".join(str(entry.id) for entry in entries)
        rows = self._database.run(
            f"SELECT DISTINCT j.track_id FROM {track} j JOIN {load} l ON l.id = j.load_id WHERE l.id IN ({loads}) "
            f"AND NOT EXISTS (SELECT 1 FROM {track} o JOIN {load} m ON m.id = o.load_id "
            f"WHERE o.track_id = j.track_id AND m.origin = l.origin AND m.id NOT IN ({loads}))"
        )
        return [found for (found,) in rows]

    def add(self, chunk: Chunk, counts: LoadCounts, made: Made) -> None:
        """Enter a chunk. Inside its transaction.

        A chunk that was entered before and now made nothing is not entered again.
        """
        database = self._database
        if not made and self._has(chunk):
            return
        database.change(
            f"INSERT INTO {database.own('load')} (pipeline, partition, run_id, origin, first_row, last_row, "
            "committed_at, counts, listens) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            chunk.pipeline, chunk.partition, chunk.run_id, chunk.origin, chunk.first_row, chunk.last_row,
            int(time.time()), _dump_counts(counts), pack_pairs(made.listens),
        )  # fmt: skip
        ((load,),) = database.run(f"SELECT max(id) FROM {database.own('load')}")

        def put(table: str, **columns: Sequence[int]) -> None:
            ids: dict[str, tuple[str, Sequence[object]]] = {
                name: ("bigint", values) for name, values in columns.items()
            }
            count = len(next(iter(columns.values())))
            ids["load_id"] = ("bigint", [load] * count)
            database.put(database.own(table), ids)

        put("load_artist", artist_id=made.artists)
        put("load_release", release_id=made.releases)
        put("load_link", artist_id=[a for a, _ in made.links], release_id=[r for _, r in made.links])
        created = set(made.tracks)
        tracks = sorted(created.union(track for track, _ in made.listens))
        database.put(
            database.own("load_track"),
            {
                "track_id": ("bigint", tracks),
                "load_id": ("bigint", [load] * len(tracks)),
                "created": ("boolean", [track in created for track in tracks]),
            },
        )

    def _has(self, chunk: Chunk) -> bool:
        return bool(
            self._database.run(
                f"SELECT 1 FROM {self._database.own('load')} WHERE pipeline = ? AND partition = ? AND origin = ? "
                "AND first_row = ? AND last_row = ? LIMIT 1",
                chunk.pipeline, chunk.partition, chunk.origin, chunk.first_row, chunk.last_row,
            )
        )  # fmt: skip

    def entries(self, pipeline: str, partition: str) -> list[LoadEntry]:
        """The chunks of a partition in the order in which they were loaded; [] without tables."""
        if not self.exists():
            return []
        rows = self._database.run(
            "SELECT id, run_id, origin, first_row, last_row, listens "
            f"FROM {self._database.own('load')} WHERE pipeline = ? AND partition = ? ORDER BY id",
            pipeline,
            partition,
        )
        return [
            LoadEntry(load, Chunk(pipeline, partition, run, *chunk), unpack_pairs(listens))
            for load, run, *chunk, listens in rows
        ]


def create_tables(database: Database, statements: str) -> None:
    """Run definitions in which {p}, {i} and the types stand for what they are in this database."""
    database.prepare_own_tables()
    filled = statements.format(
        p=database.prefix,
        i=database.index_prefix,
        key=database.key_type,
        bytes=database.bytes_type,
        without_rowid=database.without_rowid,
    )
    for statement in filled.split(";"):
        if statement.strip():
            database.change(statement)


def pack_pairs(pairs: Iterable[tuple[int, int]]) -> bytes:
    """Pairs of integers, compressed: little-endian 64-bit numbers, all of the first ones and then all of the others."""
    columns = tuple(zip(*pairs, strict=True)) or ((), ())
    numbers = array("q", (number for column in columns for number in column))
    return zlib.compress(_little_endian(numbers).tobytes(), 1)


def unpack_pairs(packed: bytes) -> list[tuple[int, int]]:
    numbers = array("q")
    numbers.frombytes(zlib.decompress(packed))
    numbers = _little_endian(numbers)
    half = len(numbers) // 2
    return list(zip(numbers[:half], numbers[half:], strict=True))


def _little_endian(numbers: "array[int]") -> "array[int]":
    if array("H", [1]).tobytes() == b"\x00\x01":
        numbers.byteswap()
    return numbers


def _dump_counts(counts: LoadCounts) -> str:
    return json.dumps(
        {"inserted": counts.inserted, "existing": counts.existing, "rejections": dict(counts.rejections)},
        sort_keys=True,
    )
