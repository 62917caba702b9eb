"""The part of a Koito database that a chunk of listens can touch, asked for set by set.

A look-up by title goes through an artist that is itself looked up, so of all releases called "Greatest Hits" only those
of the chunk's artists are loaded, and of all tracks called "Intro" only those on these releases.
"""

from collections.abc import Iterable

from bookpipe.model.listen_plans import KnownRelease, KnownTrack, KoitoImage, Wanted
from bookpipe.targets.koito.database import Database


def load_image(database: Database, wanted: Wanted, tracks: Iterable[int] = ()) -> KoitoImage:
    """What the rules can find by the texts of `wanted`, and these tracks besides. Inside a transaction."""
    image = KoitoImage(alias_joint=database.alias_joint)
    _load_artists(database, wanted, image)
    releases = _find_releases(database, wanted, image)
    _load_tracks(database, wanted, releases, tracks, image)
    _load_releases(database, releases | {track.release for track in image.tracks}, image)
    return image


# CROSS JOIN keeps SQLite from turning a join around: our few rows look into the large table's index. A + keeps it from
# using another index than that.


def _load_artists(database: Database, wanted: Wanted, image: KoitoImage) -> None:
    names = database.texts("name", sorted(wanted.artist_names))
    mbids = database.texts("mbid", sorted(wanted.artist_mbids), "uuid")
    found = {
        artist
        for (artist,) in database.run(
            f"SELECT DISTINCT a.artist_id FROM {names.sql} k CROSS JOIN artist_aliases a WHERE a.alias = k.value",
            *names.values,
        )
    } | {
        artist
        for (artist,) in database.run(
            f"SELECT a.id FROM {mbids.sql} k CROSS JOIN artists a WHERE a.musicbrainz_id = k.value", *mbids.values
        )
    }
    if not found:
        return
    ids = database.integers("artist", sorted(found))
    image.artists = dict(
        database.run(
            f"SELECT a.id, CAST(a.musicbrainz_id AS text) FROM {ids.sql} k CROSS JOIN artists a WHERE a.id = k.value",
            *ids.values,
        )
    )
    image.artist_aliases = [
        (artist, alias)
        for artist, alias in database.run(
            f"SELECT a.artist_id, a.alias FROM {ids.sql} k CROSS JOIN artist_aliases a WHERE a.artist_id = k.value "
            f"ORDER BY {database.alias_order('a')}",
            *ids.values,
        )
    ]


def _find_releases(database: Database, wanted: Wanted, image: KoitoImage) -> set[int]:
    mbids = database.texts("mbid", sorted(wanted.release_mbids), "uuid")
    found = {
        release
        for (release,) in database.run(
            f"SELECT r.id FROM {mbids.sql} k CROSS JOIN releases r WHERE r.musicbrainz_id = k.value", *mbids.values
        )
    }
    if image.artists:
        titles = database.texts("title", sorted(wanted.release_titles))
        artists = database.integers("artist", sorted(image.artists))
        found |= {
            release
            for (release,) in database.run(
                f"SELECT DISTINCT n.release_id FROM {titles.sql} k CROSS JOIN release_aliases n "
                "CROSS JOIN artist_releases l WHERE n.alias = k.value AND n.is_primary AND l.release_id = n.release_id "
                f"AND +l.artist_id IN (SELECT value FROM {artists.sql} a)",
                *titles.values,
                *artists.values,
            )
        }
    return found


def _load_tracks(
    database: Database, wanted: Wanted, releases: set[int], others: Iterable[int], image: KoitoImage
) -> None:
    known: list[KnownTrack] = []
    if releases:
        titles = database.texts("title", sorted(wanted.track_titles))
        on = database.integers("release", sorted(releases))
        rows = database.run(
            "SELECT t.id, n.alias, t.release_id, CAST(t.musicbrainz_id AS text), t.duration "
            f"FROM {titles.sql} k CROSS JOIN track_aliases n CROSS JOIN tracks t WHERE n.alias = k.value "
            f"AND n.is_primary AND t.id = n.track_id AND t.release_id IN (SELECT value FROM {on.sql} r)",
            *titles.values,
            *on.values,
        )
        known = list(map(KnownTrack._make, rows))
    mbids = database.texts("mbid", sorted(wanted.recording_mbids), "uuid")
    more = set(others) | {
        track
        for (track,) in database.run(
            f"SELECT t.id FROM {mbids.sql} k CROSS JOIN tracks t WHERE t.musicbrainz_id = k.value", *mbids.values
        )
    }
    if more := more.difference(track.id for track in known):
        ids = database.integers("track", sorted(more))
        rows = database.run(
            "SELECT t.id, n.alias, t.release_id, CAST(t.musicbrainz_id AS text), t.duration "
            f"FROM {ids.sql} k CROSS JOIN tracks t LEFT JOIN track_aliases n ON n.track_id = t.id AND n.is_primary "
            "WHERE t.id = k.value",
            *ids.values,
        )
        known += map(KnownTrack._make, rows)
    image.tracks = sorted(known, key=lambda track: (track.id, track.title or ""))
    image.track_artists = track_artists(database, sorted({track.id for track in known}))


def track_artists(database: Database, tracks: list[int]) -> list[tuple[int, int]]:
    """(track, artist) of these tracks: the primary artist of each first, then by id."""
    if not tracks:
        return []
    ids = database.integers("track", tracks)
    rows = database.run(
        f"SELECT l.track_id, l.artist_id FROM {ids.sql} k CROSS JOIN artist_tracks l WHERE l.track_id = k.value "
        "ORDER BY l.track_id, l.is_primary DESC, l.artist_id",
        *ids.values,
    )
    return [(track, artist) for track, artist in rows]


def _load_releases(database: Database, releases: set[int], image: KoitoImage) -> None:
    if not releases:
        return
    ids = database.integers("release", sorted(releases))
    rows = database.run(
        f"SELECT r.id, n.alias, CAST(r.musicbrainz_id AS text) FROM {ids.sql} k CROSS JOIN releases r "
        "LEFT JOIN release_aliases n ON n.release_id = r.id AND n.is_primary WHERE r.id = k.value "
        f"ORDER BY {database.alias_order('n')}",
        *ids.values,
    )
    image.releases = list(map(KnownRelease._make, rows))
    links = database.run(
        f"SELECT l.release_id, l.artist_id FROM {ids.sql} k CROSS JOIN artist_releases l WHERE l.release_id = k.value",
        *ids.values,
    )
    image.release_artists = [(release, artist) for release, artist in links]
