"""Chunks of listens into Koito: what the rules need to know of the database, and what they make of it.

Everything of a chunk is one transaction: looking, writing, the journal's entry and the lookup cache. The rows are those
that Koito itself would have written, in its order, so that an empty database ends with the same ids.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bookpipe.model.counts import LoadCounts
from bookpipe.model.listen_plans import KoitoImage, ListenPlan, NewAlias, Resolution, TrackFacts, Wanted
from bookpipe.targets.koito.database import Database
from bookpipe.targets.koito.image import load_image
from bookpipe.targets.koito.journal import Chunk, Journal, Made
from bookpipe.targets.koito.lookup_cache import LookupCache


@dataclass(frozen=True)
class WriteResult:
    """How the rows of a chunk ended. `existing_rows` were to be inserted, but their track and time were taken."""

    counts: LoadCounts
    existing_rows: frozenset[int] = frozenset()


class Reader:
    """Looks at one database inside a transaction."""

    def __init__(self, database: Database, user_id: int, cache: LookupCache | None) -> None:
        """`cache` is None when it is off or not there yet."""
        self._database = database
        self._user_id = user_id
        self._cache = cache
        self._followed: Mapping[bytes, int] = {}

    def image(self, wanted: Wanted, origin: str, first_row: int, last_row: int) -> KoitoImage:
        """What the rules need to know for the rows first_row to last_row of the export `origin`.

        Where all of them were loaded before, that is all that is said.
        """
        if self._cache is None or not wanted.keys:
            return load_image(self._database, wanted)
        loaded, self._followed = self._cache.look_up(wanted.keys, origin, first_row, last_row)
        if len(loaded) == len(wanted.keys):
            return KoitoImage(alias_joint=self._database.alias_joint, loaded=loaded)
        image = load_image(self._database, wanted, set(self._followed.values()))
        image.loaded, image.followed = loaded, self._followed
        return image

    def existing_rows(self, plan: ListenPlan) -> frozenset[int]:
        """Rows of the plan whose track and time are taken at this moment. For those who want to know beforehand."""
        listens = plan.listens
        tracks = listens["track"].to_pylist()
        at = _microseconds(listens)
        given = self._database.given(
            "listen", {"row": ("bigint", listens["row"].to_pylist()), "track": ("bigint", tracks), "at": ("bigint", at)}
        )
        rows = self._database.run(
            f"SELECT k.row FROM {given.sql} k CROSS JOIN listens l "
            f"WHERE l.track_id = k.track AND l.listened_at = {self._database.instant('k.at')}",
            *given.values,
        )
        return frozenset(row for (row,) in rows)


class Writer(Reader):
    """Writes chunks; made by `writing()`, whose transaction each chunk is."""

    def __init__(self, database: Database, user_id: int, cache: LookupCache | None, journal: Journal) -> None:
        super().__init__(database, user_id, cache)
        self._journal = journal

    def write(self, plan: ListenPlan, chunk: Chunk) -> WriteResult:
        """Write everything of a plan that was made from this transaction's image."""
        entities = _Entities(self._database, plan)
        entities.write()
        listens = entities.listens()
        taken = self._database.insert_listens(listens, self._user_id)
        result = _result(plan, listens, taken)
        new = listens.filter(_kept(listens.num_rows, taken)) if taken else listens
        made = Made(
            artists=entities.artists,
            releases=entities.releases,
            tracks=entities.tracks,
            links=entities.links_of_old_releases(),
            listens=list(zip(new["track"].to_pylist(), _microseconds(new), strict=True)),
        )
        self._journal.add(chunk, result.counts, made)
        if self._cache is not None:
            self._cache.remember(
                entities.resolutions(), entities.resolved_tracks(), self._followed,
                chunk.origin, chunk.first_row, chunk.last_row,
            )  # fmt: skip
        return result


class _Entities:
    """The artists, releases and tracks of a plan, with the ids that they get."""

    def __init__(self, database: Database, plan: ListenPlan) -> None:
        self._database = database
        self._plan = plan
        self.artists = database.new_ids("artists", len(plan.artists))
        self.releases = database.new_ids("releases", len(plan.releases))
        self.tracks = database.new_ids("tracks", len(plan.tracks))

    def write(self) -> None:
        database, plan = self._database, self._plan
        # An MBID may go from one artist to another, and no two have the same at any time.
        self._update("artists", "musicbrainz_id", "uuid", dict.fromkeys(plan.artist_mbids), "true")
        database.put(
            "artists",
            {
                "id": ("bigint", self.artists),
                "musicbrainz_id": ("uuid", [a.mbid for a in plan.artists]),
                **_images([a.image_source for a in plan.artists]),
            },
        )
        self._put_aliases("artist", plan.artist_aliases, self.artists)
        self._update("artists", "musicbrainz_id", "uuid", plan.artist_mbids, "true")
        database.put(
            "releases",
            {
                "id": ("bigint", self.releases),
                "musicbrainz_id": ("uuid", [r.mbid for r in plan.releases]),
                **_images([r.image_source for r in plan.releases]),
                "various_artists": ("boolean", [r.various_artists for r in plan.releases]),
            },
        )
        self._put_aliases("release", plan.release_aliases, self.releases)
        self._update("releases", "musicbrainz_id", "uuid", plan.release_mbids, "musicbrainz_id IS NULL")
        self._put_links("release", self.releases)
        database.put(
            "tracks",
            {
                "id": ("bigint", self.tracks),
                "musicbrainz_id": ("uuid", [t.mbid for t in plan.tracks]),
                "release_id": ("bigint", _real([t.release for t in plan.tracks], self.releases)),
                "duration": ("bigint", [t.duration for t in plan.tracks]),
            },
        )
        self._put_aliases("track", plan.track_aliases, self.tracks)
        self._update("tracks", "musicbrainz_id", "uuid", plan.track_mbids, "musicbrainz_id IS NULL")
        self._update("tracks", "duration", "bigint", plan.track_durations, "duration = 0")
        self._put_links("track", self.tracks)

    def _put_aliases(self, kind: str, aliases: Sequence[NewAlias], new: Sequence[int]) -> None:
        self._database.put(
            f"{kind}_aliases",
            {
                f"{kind}_id": ("bigint", _real([a.owner for a in aliases], new)),
                "alias": ("text", [a.alias for a in aliases]),
                "source": ("text", [a.source for a in aliases]),
                "is_primary": ("boolean", [a.primary for a in aliases]),
            },
        )

    def _put_links(self, kind: str, new: Sequence[int]) -> None:
        links = self._plan.release_links if kind == "release" else self._plan.track_links
        self._database.put(
            f"artist_{kind}s",
            {
                "artist_id": ("bigint", _real([link.artist for link in links], self.artists)),
                f"{kind}_id": ("bigint", _real([link.owner for link in links], new)),
                "is_primary": ("boolean", [link.primary for link in links]),
            },
            ignore=True,
        )

    def _update(self, table: str, column: str, kind: str, values: Mapping[int, object], condition: str) -> None:
        if values:
            given = self._database.given(
                column, {"id": ("bigint", list(values)), "value": (kind, list(values.values()))}
            )
            self._database.change(
                f"UPDATE {table} SET {column} = k.value FROM {given.sql} AS k WHERE {table}.id = k.id AND {condition}",
                *given.values,
            )

    def listens(self) -> pa.Table:
        """The plan's listens with ids for references."""
        table = self._plan.listens
        tracks = _real(table["track"].to_pylist(), self.tracks)
        place = table.schema.get_field_index("track")
        return table.set_column(place, table.schema.field(place), pa.array(tracks, pa.int64()))

    def links_of_old_releases(self) -> list[tuple[int, int]]:
        links = [link for link in self._plan.release_links if link.owner > 0]
        return list(
            zip(_real([link.artist for link in links], self.artists), [link.owner for link in links], strict=True)
        )

    def resolutions(self) -> list[Resolution]:
        digests, artists, releases, tracks, seconds = _columns(self._plan.resolutions, len(Resolution._fields))
        ids = (_real(artists, self.artists), _real(releases, self.releases), _real(tracks, self.tracks))
        return list(map(Resolution, digests, *ids, seconds))

    def resolved_tracks(self) -> dict[int, TrackFacts]:
        found = self._plan.resolved_tracks
        releases, titles, release_titles, artists = _columns(list(found.values()), len(TrackFacts._fields))
        new = self.artists[::-1]  # once for all of them
        real = ([artist if artist > 0 else new[artist] for artist in some] for some in artists)
        facts = map(TrackFacts, _real(releases, self.releases), titles, release_titles, real)
        return dict(zip(_real(list(found), self.tracks), facts, strict=True))


def _real(references: Sequence[int], new: Sequence[int]) -> list[int]:
    """The ids: those of new rows stand for -1, -2 ..."""
    backwards = new[::-1]
    return [reference if reference > 0 else backwards[reference] for reference in references]


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


def _images(sources: Sequence[str | None]) -> dict[str, tuple[str, list[str | None]]]:
    """As Koito keeps them: a source that can be fetched gets the id under which Koito will cache the picture."""
    return {
        "image": ("uuid", [str(uuid.uuid4()) if s and s.startswith("http") else None for s in sources]),
        "image_source": ("text", [s or None for s in sources]),
    }


def _microseconds(listens: pa.Table) -> list[int]:
    return [
        seconds * 1_000_000 + rest
        for seconds, rest in zip(listens["listened_at"].to_pylist(), listens["listened_us"].to_pylist(), strict=True)
    ]


def _kept(rows: int, taken: Collection[int]) -> pa.Array:
    left_out = set(taken)
    return pa.array([n not in left_out for n in range(rows)], pa.bool_())


def _result(plan: ListenPlan, listens: pa.Table, taken: Sequence[int]) -> WriteResult:
    rows = listens["row"].to_pylist()
    existing = frozenset(rows[n] for n in taken)
    outcomes = ["existing" if row in existing else outcome for row, outcome in enumerate(plan.outcomes)]
    return WriteResult(LoadCounts.of(outcomes, plan.reasons), existing)
