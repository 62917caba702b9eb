"""The lookup cache: what the digest of a listen was resolved to, in Koito's own database.

It is there so that what the user did in Koito since then is respected, and to see quickly what was loaded before. It is
not there to replace the rules: these depend on the order of listens, and a first import must end as in Koito itself.
A row says that a digest of an export was resolved to a track, an album and a first artist; it goes with any of the
three. When a chunk (first row to last row of an export) is loaded, it trusts the rows of other exports, and those of
its own only where one of its rows was loaded before (*visible* rows). So the chunks of an export do not see each other
when they come the first time, and are resolved as if it were one.

- A listen is *loaded* when a visible row of its digest names a track that has a listen at exactly that time, and it
  has no duration that the track lacks. It ends as existing.
- A digest is *followed* when the user has changed what it stood for, so that the rules would miss it:
  (a) the visible rows of the digest agree on one track, and one of them was made when that track had another title,
      another album, an album of another title or other artists. Nothing in the rules changes these by itself;
  (b) a track of the digest is gone, and at all the times noted as witnesses (up to three listens at whose time no
      other track had one) there is a listen of one and the same track, which has artists, and of no other: that is
      where the user has moved the listens, by merging tracks, albums or artists. No row of the digest names another.
  From then on its rows are marked so that it is followed always, and not only until the next look.
- In all other cases the rules decide. A track or listens that were simply deleted leave no such times, so they come
  back with an import, as they do in Koito.

Foreign keys delete a row with its track, album or artist, so that an id that SQLite gives to another entity later is
never taken for the old one; every connection of Koito's has them on. With the cache off nothing here is read or
written.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

from bookpipe.model.listen_plans import ListenKey, Resolution, TrackFacts
from bookpipe.targets.koito.database import Columns, Database, Given
from bookpipe.targets.koito.image import track_artists
from bookpipe.targets.koito.journal import create_tables

_TABLES = """
CREATE TABLE IF NOT EXISTS {p}lookup_export (id {key} PRIMARY KEY, origin text NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS {p}lookup_chunk (
    export_id integer NOT NULL, first_row bigint NOT NULL, last_row bigint NOT NULL,
    PRIMARY KEY (export_id, first_row, last_row)) {without_rowid};
CREATE TABLE IF NOT EXISTS {p}lookup_witness (
    digest {bytes} NOT NULL, track_id integer NOT NULL, second_1 bigint NOT NULL, second_2 bigint, second_3 bigint,
    PRIMARY KEY (digest, track_id)) {without_rowid};
CREATE TABLE IF NOT EXISTS {p}track_lookup (
    digest {bytes} NOT NULL, export_id integer NOT NULL,
    artist_id integer NOT NULL REFERENCES artists (id) ON DELETE CASCADE,
    release_id integer NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
    track_id integer NOT NULL REFERENCES tracks (id) ON DELETE CASCADE,
    fingerprint {bytes} NOT NULL,
    PRIMARY KEY (digest, track_id, export_id));
CREATE INDEX IF NOT EXISTS {i}track_lookup_artist ON {p}track_lookup (artist_id);
CREATE INDEX IF NOT EXISTS {i}track_lookup_release ON {p}track_lookup (release_id);
CREATE INDEX IF NOT EXISTS {i}track_lookup_track ON {p}track_lookup (track_id);
"""

WITNESSES = 3
_NOBODY = (None,) * WITNESSES
FOLLOW_ALWAYS = b""  # the fingerprint of a row whose track the rules would not find
_NO_EXPORT = 0


class LookupCache:
    """The cache of one user's listens in one database. Everything happens inside the caller's transaction."""

    def __init__(self, database: Database, user_id: int) -> None:
        self._database = database
        self._user_id = user_id
        self._lookup, self._witness = map(database.own, ("track_lookup", "lookup_witness"))
        self._export, self._chunk = map(database.own, ("lookup_export", "lookup_chunk"))

    def exists(self) -> bool:
        """Whether the tables are there: the last of them is made last."""
        return self._database.has_table(self._lookup)

    def create(self) -> None:
        """Create the tables that are missing."""
        create_tables(self._database, _TABLES)

    def forget_chunks(self, chunks: Iterable[tuple[str, int, int]], tracks: Sequence[int]) -> None:
        """Remove what the chunks (origin, first row, last row) have put in. `tracks`: those that, of their exports,
        only these chunks had listens of."""
        database = self._database
        for origin, first, last in chunks:
            export = self._export_id(origin)
            database.change(
                f"DELETE FROM {self._chunk} WHERE export_id = ? AND first_row = ? AND last_row = ?", export, first, last
            )
            whole = not database.run(f"SELECT 1 FROM {self._chunk} WHERE export_id = ? LIMIT 1", export)
            if whole:
                database.change(f"DELETE FROM {self._export} WHERE id = ?", export)
            given = database.integers("track", tracks)
            these = f"c.export_id = ? AND ({int(whole)} = 1 OR c.track_id IN (SELECT value FROM {given.sql} k))"
            pairs = database.run(
                f"SELECT c.digest, c.track_id FROM {self._lookup} c WHERE {these}", export, *given.values
            )
            self._forget(export, pairs)

    def _forget(self, export: int, pairs: Sequence[tuple[bytes, int]]) -> None:
        """Remove (digest, track) of an export, and witnesses of what is nobody's then."""
        given = self._given_pairs(pairs)
        these = f"(digest, track_id) IN (SELECT digest, track FROM {given.sql} k)"
        self._database.change(f"DELETE FROM {self._lookup} WHERE export_id = ? AND {these}", export, *given.values)
        self._database.change(
            f"DELETE FROM {self._witness} WHERE {these} "
            f"AND (digest, track_id) NOT IN (SELECT digest, track_id FROM {self._lookup})",
            *given.values,
        )

    def _given_pairs(self, pairs: Sequence[tuple[bytes, int]]) -> Given:
        columns: Columns = {"digest": ("bytea", [d for d, _ in pairs]), "track": ("bigint", [t for _, t in pairs])}
        return self._database.given("pair", columns)

    def look_up(
        self, keys: Sequence[ListenKey], origin: str, first_row: int, last_row: int
    ) -> tuple[frozenset[int], dict[bytes, int]]:
        """The rows of the chunk that are loaded, and the tracks to follow, by digest."""
        hidden = self._export_id(origin)
        overlapping = f"SELECT 1 FROM {self._chunk} WHERE export_id = ? AND first_row <= ? AND last_row >= ? LIMIT 1"
        if self._database.run(overlapping, hidden, last_row, first_row):
            hidden = _NO_EXPORT
        any_visible = self._database.run(f"SELECT 1 FROM {self._export} WHERE id != ? LIMIT 1", hidden)
        loaded = self._loaded(keys, hidden) if any_visible else frozenset[int]()
        rest = {key.digest for key in keys if key.row not in loaded}
        changed = self._changed(sorted(rest), hidden) if any_visible else {}
        return loaded, {**changed, **self._moved(sorted(rest.difference(changed)))}

    def _loaded(self, keys: Sequence[ListenKey], hidden: int) -> frozenset[int]:
        """The rows of the chunk whose listen is there, and that have no duration that its track lacks. `hidden`: the
        export whose rows are not trusted."""
        given = self._database.given(
            "key",
            {
                "digest": ("bytea", [key.digest for key in keys]),
                "n": ("bigint", [key.row for key in keys]),
                "at": ("bigint", [key.seconds * 1_000_000 + key.microseconds for key in keys]),
                "duration": ("bigint", [key.duration for key in keys]),
            },
        )
        rows = self._database.run(
            f"SELECT k.n FROM {given.sql} k CROSS JOIN {self._lookup} c CROSS JOIN listens l "
            "WHERE c.digest = k.digest AND c.export_id != ? "
            f"AND l.track_id = c.track_id AND l.listened_at = {self._database.instant('k.at')} "
            "AND (k.duration = 0 OR (SELECT t.duration FROM tracks t WHERE t.id = c.track_id) != 0)",
            *given.values,
            hidden,
        )
        return frozenset(row for (row,) in rows)

    def _changed(self, digests: Sequence[bytes], hidden: int) -> dict[bytes, int]:
        """(a): digests whose track is not any more what it was."""
        if not digests:
            return {}
        given = self._database.given("digest", {"digest": ("bytea", digests)})
        rows = self._database.run(
            "SELECT c.digest, c.track_id, c.fingerprint "
            f"FROM {given.sql} k CROSS JOIN {self._lookup} c WHERE c.digest = k.digest AND c.export_id != ?",
            *given.values,
            hidden,
        )
        now = fingerprints(self._database, {track for _, track, _ in rows})
        tracks: dict[bytes, set[int]] = defaultdict(set)
        for digest, track, _ in rows:
            tracks[digest].add(track)
        return {
            digest: track
            for digest, track, fingerprint in rows
            if len(tracks[digest]) == 1 and track in now and fingerprint != now[track]
        }

    def _moved(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """(b): those of the digests of which a track is gone, by its witnesses."""
        if not digests:
            return {}
        given = self._database.given("digest", {"digest": ("bytea", digests)})
        gone = [
            (digest, [second for second in seconds if second is not None])
            for digest, *seconds in self._database.run(
                f"SELECT w.digest, w.second_1, w.second_2, w.second_3 FROM {given.sql} k CROSS JOIN {self._witness} w "
                f"WHERE w.digest = k.digest AND NOT EXISTS "
                f"(SELECT 1 FROM {self._lookup} c WHERE c.digest = w.digest AND c.track_id = w.track_id)",
                *given.values,
            )
        ]
        if not gone:
            return {}
        tracks = self._tracks_at(sorted({second for _, seconds in gone for second in seconds}))
        leads: dict[bytes, set[int | None]] = defaultdict(set)
        for digest, seconds in gone:
            there = set.union(*(tracks[second] for second in seconds))
            found = len(there) == 1 and all(tracks[second] for second in seconds)
            leads[digest].add(there.pop() if found else None)
        given = self._database.given("digest", {"digest": ("bytea", sorted(leads))})
        for digest, track in self._database.run(
            f"SELECT c.digest, c.track_id FROM {given.sql} k CROSS JOIN {self._lookup} c WHERE c.digest = k.digest",
            *given.values,
        ):
            leads[digest].add(track)
        return {digest: lead for digest, (lead, *others) in leads.items() if lead is not None and not others}

    def _tracks_at(self, seconds: Sequence[int]) -> defaultdict[int, set[int]]:
        """The tracks that have artists and a listen at these seconds, by second."""
        at = self._database.integers("second", seconds)
        with self._database.probing():
            listens = self._database.run(
                f"SELECT k.value, l.track_id FROM {at.sql} k CROSS JOIN listens l "
                f"WHERE {self._database.within_second('l.listened_at', 'k.value')} AND +l.user_id = ? "
                "AND EXISTS (SELECT 1 FROM artist_tracks a WHERE a.track_id = l.track_id)",
                *at.values,
                self._user_id,
            )
        tracks: defaultdict[int, set[int]] = defaultdict(set)
        for second, track in listens:
            tracks[second].add(track)
        return tracks

    def remember(
        self,
        resolutions: Sequence[Resolution],
        tracks: Mapping[int, TrackFacts],
        followed: Mapping[bytes, int],
        origin: str,
        first_row: int,
        last_row: int,
    ) -> None:
        """Note what a chunk's digests were resolved to. References are ids by now, and the listens are there.

        `tracks`: what the resolutions' tracks are now.
        """
        if not resolutions:
            return
        database = self._database
        if not self._export_id(origin):
            database.change(f"INSERT INTO {self._export} (origin) VALUES (?)", origin)
        export = self._export_id(origin)
        noted = {"export_id": [export], "first_row": [first_row], "last_row": [last_row]}
        database.put(self._chunk, {name: ("bigint", values) for name, values in noted.items()}, ignore=True)
        prints = {track: fingerprint(facts) for track, facts in tracks.items()}
        database.put(
            self._lookup,
            {
                "digest": ("bytea", [r.digest for r in resolutions]),
                "export_id": ("bigint", [export] * len(resolutions)),
                "artist_id": ("bigint", [r.artist for r in resolutions]),
                "release_id": ("bigint", [r.release for r in resolutions]),
                "track_id": ("bigint", [r.track for r in resolutions]),
                "fingerprint": ("bytea", [prints[r.track] for r in resolutions]),
            },
            ignore=True,
        )
        if pairs := [(r.digest, r.track) for r in resolutions if r.digest in followed]:
            given = self._given_pairs(pairs)
            database.change(
                f"UPDATE {self._lookup} SET fingerprint = ? WHERE export_id = ? "
                f"AND (digest, track_id) IN (SELECT digest, track FROM {given.sql} k)",
                FOLLOW_ALWAYS,
                export,
                *given.values,
            )
        self._note_witnesses(resolutions)

    def _note_witnesses(self, resolutions: Sequence[Resolution]) -> None:
        """The first listens are witnesses, until a chunk has more of them: most digests come again and again."""
        shared = self._shared([(r.track, second) for r in resolutions for second in r.seconds])
        rows = []
        for r in resolutions:
            seconds = [second for second in r.seconds if (r.track, second) not in shared] if shared else r.seconds
            if seconds:
                rows.append((r.digest, r.track, *seconds, *_NOBODY[len(seconds) :]))
        if rows:
            digests, tracks, *seconds_of = zip(*rows, strict=True)
            self._database.replace(
                self._witness,
                {
                    "digest": ("bytea", digests),
                    "track_id": ("bigint", tracks),
                    **{f"second_{n}": ("bigint", column) for n, column in enumerate(seconds_of, start=1)},
                },
                key=("digest", "track_id"),
                where=" OR ".join(
                    f"(excluded.second_{n} IS NOT NULL AND {self._witness}.second_{n} IS NULL)" for n in (2, 3)
                ),
            )

    def _shared(self, listens: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        """Those of the listens (track, second) at whose second another track has one too."""
        given = self._database.given(
            "witness",
            {"track": ("bigint", [track for track, _ in listens]), "at": ("bigint", [second for _, second in listens])},
        )
        with self._database.probing():
            rows = self._database.run(
                f"SELECT k.track, k.at FROM {given.sql} k CROSS JOIN listens l WHERE "
                f"{self._database.within_second('l.listened_at', 'k.at')} AND +l.user_id = ? AND l.track_id != k.track",
                *given.values,
                self._user_id,
            )
        return {(track, second) for track, second in rows}

    def _export_id(self, origin: str) -> int:
        """The number of an export."""
        rows = self._database.run(f"SELECT id FROM {self._export} WHERE origin = ?", origin)
        return int(rows[0][0]) if rows else _NO_EXPORT


def fingerprint(track: TrackFacts) -> bytes:
    """A digest of what only the user changes about a track."""
    facts = (track.release, track.title, track.release_title, sorted(track.artists))
    return blake2b(repr(facts).encode(), digest_size=8).digest()


def fingerprints(database: Database, tracks: Iterable[int]) -> dict[int, bytes]:
    """The fingerprints of these tracks as they are in the database."""
    wanted = sorted(tracks)
    if not wanted:
        return {}
    given = database.integers("track", wanted)
    rows = database.run(
        "SELECT t.id, t.release_id, "
        "(SELECT min(n.alias) FROM track_aliases n WHERE n.track_id = t.id AND n.is_primary), "
        "(SELECT min(n.alias) FROM release_aliases n WHERE n.release_id = t.release_id AND n.is_primary) "
        f"FROM {given.sql} k CROSS JOIN tracks t WHERE t.id = k.value",
        *given.values,
    )
    artists: dict[int, list[int]] = defaultdict(list)
    for track, artist in track_artists(database, wanted):
        artists[track].append(artist)
    return {
        track: fingerprint(TrackFacts(release, title, release_title, artists[track]))
        for track, release, title, release_title in rows
    }
