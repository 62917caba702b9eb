"""Undo: what one partition's chunks put into Koito goes away again, and nothing else.

The journal says what they made. Listens that the partition inserted go, unless the user has moved or deleted them. Then
tracks, releases and artists that it made go where nothing uses them any more: a track without listens, a release
without tracks, an artist without tracks and releases. What stays for the sake of another partition is entered as that
partition's, so that undoing all partitions leaves nothing. MBIDs and durations that were filled in on rows of others
stay: they are true whoever found them.

Rows, journal and lookup cache change in one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bookpipe.targets.koito import tables
from bookpipe.targets.koito.database import Database
from bookpipe.targets.koito.journal import Journal, LoadEntry
from bookpipe.targets.koito.lookup_cache import LookupCache
from bookpipe.targets.koito.server import Koito

# (journal's table, Koito's table, its key in the journal, what says that nothing uses the row x)
_UNUSED = (
    ("load_track", "tracks", "track_id", "NOT EXISTS (SELECT 1 FROM listens u WHERE u.track_id = x.id)"),
    ("load_release", "releases", "release_id", "NOT EXISTS (SELECT 1 FROM tracks u WHERE u.release_id = x.id)"),
    (
        "load_artist", "artists", "artist_id",
        "NOT EXISTS (SELECT 1 FROM artist_tracks u WHERE u.artist_id = x.id) "
        "AND NOT EXISTS (SELECT 1 FROM artist_releases u WHERE u.artist_id = x.id)",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Undone:
    """What was removed (or, in a dry run, would be), and what was kept."""

    listens: int = 0
    tracks: int = 0
    releases: int = 0
    artists: int = 0
    missing_listens: int = 0  # that the partition had inserted: moved or deleted by the user since then
    kept_tracks: int = 0  # that the partition had made, and that have listens of others
    kept_releases: int = 0
    kept_artists: int = 0


class _DryRunError(Exception):
    """Ends a transaction that is not to be kept."""


def undo_partition(koito: Koito, pipeline: str, partition: str, *, dry_run: bool = False) -> Undone:
    """Remove what the partition's chunks inserted and made. Safe to repeat.

    A partition that was never loaded has nothing to remove. A dry run does everything and takes it back.
    """
    done = Undone()
    with koito.open(write=True) as database:
        tables.check_schema(database)
        journal, cache = Journal(database), LookupCache(database, koito.user_id)
        if not journal.entries(pipeline, partition):
            return done
        try:
            with database.writing():
                entries = journal.entries(pipeline, partition)
                if cache.exists():  # also where it is off by now; and before its rows go with their tracks
                    chunks = {(e.chunk.origin, e.chunk.first_row, e.chunk.last_row) for e in entries}
                    cache.forget_chunks(chunks, journal.own_tracks(entries))
                done = _Undo(database, entries, koito.user_id).run()
                if dry_run:
                    raise _DryRunError
        except _DryRunError:
            pass
    return done


class _Undo:
    """The undoing of some entries of the journal, inside a transaction."""

    def __init__(self, database: Database, entries: Sequence[LoadEntry], user_id: int) -> None:
        self._database = database
        self._entries = entries
        self._user_id = user_id
        self._loads = [entry.id for entry in entries]

    def run(self) -> Undone:
        listens, missing = self._delete_listens()
        tracks, kept_tracks = self._delete_unused(*_UNUSED[0], "AND j.created")
        self._delete_links()
        releases, kept_releases = self._delete_unused(*_UNUSED[1])
        artists, kept_artists = self._delete_unused(*_UNUSED[2])
        self._hand_over()
        for table in ("load_track", "load_link", "load_release", "load_artist", "load"):
            key = "id" if table == "load" else "load_id"
            self._change(f"DELETE FROM {self._own(table)} WHERE {key} IN ({{loads}})")
        return Undone(listens, tracks, releases, artists, missing, kept_tracks, kept_releases, kept_artists)

    def _own(self, table: str) -> str:
        return self._database.own(table)

    def _change(self, statement: str) -> int:
        """Run a statement in which {loads} stands for the ids of our entries."""
        loads = ", ".join(map(str, self._loads))
        return self._database.change(statement.format(loads=loads))

    def _count(self, query: str) -> int:
        ((count,),) = self._database.run(query.format(loads=", ".join(map(str, self._loads))))
        return int(count)

    def _delete_listens(self) -> tuple[int, int]:
        """Those whose track is still the one of then: its row in the journal would be gone with it."""
        database = self._database
        deleted = recorded = 0
        for entry in self._entries:
            given = database.given(
                "listen",
                {
                    "track": ("bigint", [track for track, _ in entry.listens]),
                    "at": ("bigint", [at for _, at in entry.listens]),
                },
            )
            recorded += len(entry.listens)
            deleted += database.change(
                "DELETE FROM listens WHERE (track_id, listened_at) IN ("
                f"SELECT k.track, {database.instant('k.at')} FROM {given.sql} k "
                f"JOIN {self._own('load_track')} j ON j.track_id = k.track AND j.load_id = ?) AND +user_id = ?",
                *given.values,
                entry.id,
                self._user_id,
            )
        return deleted, recorded - deleted

    def _delete_unused(self, made: str, table: str, key: str, unused: str, more: str = "") -> tuple[int, int]:
        """How many of the rows that we made are gone, and how many are still in use."""
        ours = f"SELECT j.{key} FROM {self._own(made)} j WHERE j.load_id IN ({{loads}}) {more}"
        deleted = self._change(
            f"DELETE FROM {table} WHERE id IN (SELECT x.id FROM {table} x WHERE x.id IN ({ours}) AND {unused})"
        )
        return deleted, self._count(f"SELECT count(*) FROM {table} x WHERE x.id IN ({ours})")

    def _delete_links(self) -> None:
        """Artists that we added to releases of others, and that have no track there, are taken off again.

        A release is not left without any artist: Koito would delete it.
        """
        link = self._own("load_link")
        self._change(
            "DELETE FROM artist_releases WHERE NOT is_primary AND (artist_id, release_id) IN ("
            f"SELECT j.artist_id, j.release_id FROM {link} j WHERE j.load_id IN ({{loads}}) "
            "AND NOT EXISTS (SELECT 1 FROM tracks t JOIN artist_tracks u ON u.track_id = t.id "
            "WHERE t.release_id = j.release_id AND u.artist_id = j.artist_id) "
            "AND EXISTS (SELECT 1 FROM artist_releases o WHERE o.release_id = j.release_id AND o.artist_id NOT IN ("
            f"SELECT i.artist_id FROM {link} i WHERE i.load_id IN ({{loads}}) AND i.release_id = j.release_id)))"
        )

    def _hand_over(self) -> None:
        """What we made and another partition uses is the first such one's from now on."""
        track, release, artist, link = map(self._own, ("load_track", "load_release", "load_artist", "load_link"))
        self._change(
            f"UPDATE {track} SET created = true WHERE load_id = (SELECT min(o.load_id) FROM {track} o "
            f"WHERE o.load_id NOT IN ({{loads}}) AND o.track_id = {track}.track_id) "
            f"AND track_id IN (SELECT j.track_id FROM {track} j WHERE j.load_id IN ({{loads}}) AND j.created)"
        )
        on_release = "JOIN tracks t ON t.release_id = j.release_id"
        by_artist = "JOIN artist_tracks u ON u.artist_id = j.artist_id"
        with_artist = "JOIN artist_releases r ON r.artist_id = j.artist_id"
        for mine, names, path in (
            (release, "release_id", f"{on_release} JOIN {track} o ON o.track_id = t.id"),
            (artist, "artist_id", f"{by_artist} JOIN {track} o ON o.track_id = u.track_id"),
            (artist, "artist_id", f"{with_artist} JOIN {release} o ON o.release_id = r.release_id"),
            (artist, "artist_id", f"JOIN {link} o ON o.artist_id = j.artist_id"),
            (
                link,
                "artist_id, release_id",
                f"{on_release} {by_artist} AND u.track_id = t.id JOIN {track} o ON o.track_id = t.id",
            ),
        ):
            columns = ", ".join(f"j.{name}" for name in names.split(", "))
            self._change(
                f"INSERT INTO {mine} ({names}, load_id) SELECT {columns}, min(o.load_id) FROM {mine} j {path} "
                "WHERE j.load_id IN ({loads}) AND o.load_id NOT IN ({loads}) "
                f"GROUP BY {columns} ON CONFLICT DO NOTHING"
            )
