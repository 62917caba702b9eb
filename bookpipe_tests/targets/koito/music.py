"""A Koito installation under test, loaded as a run would load it and looked at with plain SQL."""

import json
import os
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa

from bookpipe.model.listen_plans import KoitoImage, ListenPlan, Wanted
from bookpipe.model.listens import LISTENS
from bookpipe.resolve.listens import ListenOptions, prepare_listens, resolve_listens, wanted
from bookpipe.targets.koito.journal import Chunk
from bookpipe.targets.koito.server import Koito, Session, open_koito
from bookpipe.targets.koito.undo import Undone, undo_partition
from bookpipe.targets.koito.writer import WriteResult
from bookpipe_tests.koito_operations import KoitoUser

START = 1_600_000_000
KOITO_TABLES = (
    "artists", "artist_aliases", "releases", "release_aliases", "artist_releases", "tracks", "track_aliases",
    "artist_tracks", "listens",
)  # fmt: skip
OWN_TABLES = (
    "load", "load_artist", "load_release", "load_link", "load_track", "track_lookup", "lookup_witness", "lookup_chunk",
    "lookup_export",
)  # fmt: skip


def listen(artist: str, title: str, album: str = "", at: int = START, **more: Any) -> dict[str, Any]:
    """A row of LISTENS, as of a Maloja export."""
    return {
        "origin": "export", "row": 1, "kind": "maloja", "listened_at": at, "listened_us": 0, "title": title,
        "artist": artist, "artist_names": [artist], "album": album, "duration": 0, "client": "maloja", **more,
    }  # fmt: skip


def listens(rows: Iterable[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([row | {"row": n} for n, row in enumerate(rows, start=1)], schema=LISTENS)


def chunk(origin: str = "export", first: int = 1, last: int = 1, partition: str = "one") -> Chunk:
    return Chunk("scrobbles", partition, "run", origin, first, last)


@dataclass
class Music:
    """`url` is Koito's, `admin_url` a superuser's on PostgreSQL."""

    url: str
    admin_url: str = ""
    cache: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return Path(self.url.removeprefix("sqlite:///"))

    @property
    def sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    @property
    def koito(self) -> Koito:
        return open_koito(self.url, lookup_cache=self.cache, **self.options)

    @cached_property
    def user(self) -> KoitoUser:
        """Somebody who uses Koito while we load."""
        return KoitoUser(self.sql, self.sqlite)

    @cached_property
    def _connection(self) -> Any:
        if self.sqlite:
            connection = sqlite3.connect(self.path, isolation_level=None, timeout=5)
            connection.execute("PRAGMA foreign_keys = on")
            return connection
        return psycopg.connect(self.admin_url, autocommit=True)

    def close(self) -> None:
        if "_connection" in self.__dict__:
            self.__dict__.pop("_connection").close()

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        if self.sqlite:
            return list(self._connection.execute(query, values).fetchall())
        cursor = self._connection.execute(query.replace("?", "%s"), values or None)
        return list(cursor.fetchall()) if cursor.description else []

    def one(self, query: str, *values: Any) -> Any:
        return self.sql(query, *values)[0][0]

    def own(self, table: str) -> str:
        return f"bookpipe_{table}" if self.sqlite else f"bookpipe.{table}"

    # Loading

    def load(
        self, rows: Iterable[dict[str, Any]], origin: str = "export", first: int = 1, partition: str = "one"
    ) -> WriteResult:
        """Load rows as one chunk that begins with the row `first` of the export."""
        with self.koito.connect() as session:
            return self.load_chunk(session, rows, origin, first, partition)

    def load_chunk(
        self, session: Session, rows: Iterable[dict[str, Any]], origin: str = "export", first: int = 1,
        partition: str = "one",
    ) -> WriteResult:  # fmt: skip
        table, options = listens(rows), ListenOptions(lookup_cache=self.cache)
        last = first + table.num_rows - 1
        with session.writing() as writer:
            image = writer.image(wanted(prepare_listens(table, options)), origin, first, last)
            return writer.write(
                resolve_listens(prepare_listens(table, options), image), chunk(origin, first, last, partition)
            )

    def write(self, plan: ListenPlan, **where: Any) -> WriteResult:
        plan.outcomes = plan.outcomes or ["inserted"] * plan.listens.num_rows
        with self.koito.connect() as session, session.writing() as writer:
            return writer.write(plan, chunk(**where))

    def image(self, **texts: Iterable[str]) -> KoitoImage:
        found: dict[str, Any] = {name: frozenset(values) for name, values in texts.items()}
        with self.koito.reading() as reader:
            return reader.image(Wanted(**found), "export", 1, 1)

    def look_up(self, rows: Iterable[dict[str, Any]], origin: str = "export", first: int = 1) -> KoitoImage:
        table, options = listens(rows), ListenOptions(lookup_cache=True)
        with self.koito.reading() as reader:
            return reader.image(wanted(prepare_listens(table, options)), origin, first, first + table.num_rows - 1)

    def undo(self, partition: str = "one", **options: Any) -> Undone:
        return undo_partition(self.koito, "scrobbles", partition, **options)

    # Looking

    def id_of(self, kind: str, name: str) -> int:
        """The id of the only artist, release or track of this primary name."""
        rows = self.sql(f"SELECT {kind}_id FROM {kind}_aliases WHERE alias = ? AND is_primary", name)
        assert len(rows) == 1, rows
        return int(rows[0][0])

    def titles(self) -> list[str]:
        return [name for (name,) in self.sql("SELECT title FROM tracks_with_title ORDER BY id")]

    def listens_of(self, track: int) -> list[int]:
        at = "listened_at" if self.sqlite else "extract(epoch FROM listened_at)::bigint"
        return [second for (second,) in self.sql(f"SELECT {at} FROM listens WHERE track_id = ? ORDER BY 1", track)]

    def everything(self) -> dict[str, list[str]]:
        """All rows of Koito's tables with their ids, but for the random ids of pictures."""
        found = {}
        for table in KOITO_TABLES:
            shown = "id, musicbrainz_id, image_source" if table in ("artists", "releases") else "*"
            found[table] = sorted(map(repr, self.sql(f"SELECT {shown} FROM {table}")))
        return found

    def journal(self) -> dict[str, int]:
        """How many rows bookpipe's own tables have."""
        return {table: self.one(f"SELECT count(*) FROM {self.own(table)}") for table in OWN_TABLES}

    def meaning(self) -> Counter[str]:
        """The database without its ids: a line for each artist, release, track and listen, the same in both flavours.

        Entities are told by their MBID and aliases, and by what hangs on them.
        """
        aliases: dict[tuple[str, int], list[Any]] = defaultdict(list)
        for kind in ("artist", "release", "track"):
            for owner, alias, source, primary in self.sql(
                f"SELECT {kind}_id, alias, source, is_primary FROM {kind}_aliases"
            ):
                aliases[kind, owner].append([alias, source, int(primary)])
        for found in aliases.values():
            found.sort()
        artists = {
            artist: [mbid or "", aliases["artist", artist]]
            for artist, mbid in self.sql("SELECT id, CAST(musicbrainz_id AS text) FROM artists")
        }
        credited: dict[tuple[str, int], list[Any]] = defaultdict(list)
        for kind in ("release", "track"):
            for owner, artist, primary in self.sql(f"SELECT {kind}_id, artist_id, is_primary FROM artist_{kind}s"):
                credited[kind, owner].append([artists[artist], int(primary)])
        for credits in credited.values():
            credits.sort(key=json.dumps)
        releases = {
            release: [mbid or "", int(various), aliases["release", release], credited["release", release]]
            for release, mbid, various in self.sql(
                "SELECT id, CAST(musicbrainz_id AS text), various_artists FROM releases"
            )
        }
        tracks = {
            track: [mbid or "", length, releases[release], aliases["track", track], credited["track", track]]
            for track, mbid, length, release in self.sql(
                "SELECT id, CAST(musicbrainz_id AS text), duration, release_id FROM tracks"
            )
        }
        plays = [
            [tracks[track], at.timestamp() if isinstance(at, datetime) else float(at), client or "", name]
            for track, at, client, name in self.sql(
                "SELECT l.track_id, l.listened_at, l.client, u.username FROM listens l JOIN users u ON u.id = l.user_id"
            )
        ]
        lines: list[Any] = [*artists.values(), *releases.values(), *tracks.values(), *plays]
        return Counter(json.dumps(line) for line in lines)

    def is_sound(self) -> bool:
        """One primary name each, artists everywhere, no reference to nothing, nothing corrupt."""
        for kind in ("artist", "release", "track"):
            if self.one(
                f"SELECT count(*) FROM (SELECT x.id FROM {kind}s x LEFT JOIN {kind}_aliases n ON n.{kind}_id = x.id "
                "AND n.is_primary GROUP BY x.id HAVING count(n.alias) <> 1) w"
            ):
                return False
        for kind in ("release", "track"):
            if self.one(f"SELECT count(*) FROM {kind}s WHERE id NOT IN (SELECT {kind}_id FROM artist_{kind}s)"):
                return False
        if self.sqlite:
            return not self.sql("PRAGMA foreign_key_check") and self.one("PRAGMA integrity_check") == "ok"
        return True

    def files(self) -> list[str]:
        return sorted(os.listdir(self.path.parent))


def moment(second: int, microseconds: int = 0) -> datetime:
    return datetime.fromtimestamp(second, timezone.utc).replace(microsecond=microseconds)
