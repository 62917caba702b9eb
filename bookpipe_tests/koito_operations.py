"""What people do in Koito: the SQL of its merges, deletes and renames, for both flavours of its database.

Written from the observed behaviour of the application. Of a merged track, release or artist neither names nor MBIDs are
carried over; every merge and every deleted track ends with a sweep over the whole database.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Run = Callable[..., list[tuple[Any, ...]]]  # a statement with ? for values, and the values


@dataclass(frozen=True)
class KoitoUser:
    """Somebody in front of Koito. Each operation is one transaction of the connection behind `run`."""

    run: Run
    sqlite: bool

    def merge_tracks(self, from_id: int, to_id: int) -> None:
        """Listens of the same second as one of the other track stay where they are (SQLite), or stop it all."""
        verb = "UPDATE OR IGNORE" if self.sqlite else "UPDATE"
        self.run("BEGIN")
        self.run(f"{verb} listens SET track_id = ? WHERE track_id = ?", to_id, from_id)
        self.run(
            "INSERT INTO artist_releases (artist_id, release_id) SELECT l.artist_id, n.release_id FROM artist_tracks l "
            "JOIN tracks o ON o.id = l.track_id JOIN tracks n ON n.id = ? WHERE o.id = ? "
            "AND n.release_id <> o.release_id ON CONFLICT DO NOTHING",
            to_id,
            from_id,
        )
        self._sweep()
        self.run("COMMIT")

    def merge_releases(self, from_id: int, to_id: int) -> None:
        self.run("BEGIN")
        self.run("UPDATE tracks SET release_id = ? WHERE release_id = ?", to_id, from_id)
        self.run(
            "INSERT INTO artist_releases (artist_id, release_id) SELECT artist_id, ? FROM artist_releases "
            "WHERE release_id = ? ON CONFLICT DO NOTHING",
            to_id,
            from_id,
        )
        self._sweep()
        self.run("COMMIT")

    def merge_artists(self, from_id: int, to_id: int) -> None:
        self.run("BEGIN")
        for table, owner in (("artist_tracks", "track_id"), ("artist_releases", "release_id")):
            self.run(
                f"DELETE FROM {table} WHERE artist_id = ? AND {owner} IN (SELECT {owner} FROM {table} "
                "WHERE artist_id = ?)",
                from_id,
                to_id,
            )
            self.run(f"UPDATE {table} SET artist_id = ? WHERE artist_id = ?", to_id, from_id)
        self.run("DELETE FROM artists WHERE id = ?", from_id)
        self._sweep()
        self.run("COMMIT")

    def delete_track(self, track: int) -> None:
        self.run("BEGIN")
        self.run("DELETE FROM tracks WHERE id = ?", track)
        self._sweep()
        self.run("COMMIT")

    def delete_release(self, release: int) -> None:
        self.run("DELETE FROM releases WHERE id = ?", release)

    def delete_artist(self, artist: int) -> None:
        self.run("DELETE FROM artists WHERE id = ?", artist)

    def delete_listens(self, track: int) -> None:
        self.run("DELETE FROM listens WHERE track_id = ?", track)

    def rename(self, kind: str, entity: int, name: str) -> None:
        """`kind` is artist, release or track. The new name becomes an alias first, the old one stays one."""
        self.run("BEGIN")
        self.run(
            f"INSERT INTO {kind}_aliases ({kind}_id, alias, source, is_primary) VALUES (?, ?, 'Manual', false) "
            "ON CONFLICT DO NOTHING",
            entity,
            name,
        )
        self.run(f"UPDATE {kind}_aliases SET is_primary = (alias = ?) WHERE {kind}_id = ?", name, entity)
        self.run("COMMIT")

    def add_track_artist(self, track: int, artist: int) -> None:
        self.run("INSERT INTO artist_tracks (artist_id, track_id) VALUES (?, ?)", artist, track)

    def scrobble(self, track: int, second: int) -> None:
        """A listen of a track that is there, as a player sends it."""
        time = "?" if self.sqlite else "to_timestamp(?)"
        self.run(
            f"INSERT INTO listens (track_id, listened_at, user_id, client) VALUES (?, {time}, 1, 'player') "
            "ON CONFLICT DO NOTHING",
            track,
            second,
        )

    def _sweep(self) -> None:
        tracks = "DELETE FROM tracks WHERE id NOT IN (SELECT track_id FROM listens)"
        links = (
            "DELETE FROM artist_releases WHERE NOT EXISTS (SELECT 1 FROM artist_tracks l JOIN tracks t "
            "ON t.id = l.track_id WHERE l.artist_id = artist_releases.artist_id "
            "AND t.release_id = artist_releases.release_id)"
        )
        artists = "DELETE FROM artists WHERE id NOT IN (SELECT artist_id FROM artist_tracks)"
        releases = "DELETE FROM releases WHERE id NOT IN (SELECT release_id FROM tracks)"
        for statement in (tracks, links, artists) if self.sqlite else (tracks, releases, artists, links):
            self.run(statement)
