"""What a Koito database says, without ids: the same text for both flavours and for whatever order it came in.

Each level is a multiset of lines, so that entities that are there twice show.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

Query = Callable[[str], Iterable[tuple[Any, ...]]]
Dump = dict[str, list[str]]

_ENTITIES = (("artist", "artists"), ("release", "releases"), ("track", "tracks"))


def dump_koito(query: Query, *, postgres: bool, images: bool = False) -> Dump:
    """The artists, releases, tracks and listens of a database as sorted JSON lines.

    `query` runs a SELECT and gives its rows. With `images` the sources of images are compared as well, which only
    Koito's own exports bring.
    """
    mbid = "musicbrainz_id::text" if postgres else "musicbrainz_id"
    source = "image_source" if images else "NULL"
    aliases = {one: _aliases(query, one) for one, _ in _ENTITIES}
    artists = {
        i: [m or "", aliases["artist"][i], image or ""]
        for i, m, image in query(f"SELECT id, {mbid}, {source} FROM artists")
    }
    artists_of_release = _links(query, "artist_releases", "release_id", artists)
    releases = {
        i: [m or "", int(various), image or "", aliases["release"][i], artists_of_release[i]]
        for i, m, various, image in query(f"SELECT id, {mbid}, various_artists, {source} FROM releases")
    }
    artists_of_track = _links(query, "artist_tracks", "track_id", artists)
    tracks = {
        i: [m or "", duration, releases[release], aliases["track"][i], artists_of_track[i]]
        for i, m, duration, release in query(f"SELECT id, {mbid}, duration, release_id FROM tracks")
    }
    # A whole label would make a line of a kilobyte for each listen.
    labels = {i: [_titles(label[3]), _titles(label[2][3]), _digest(label)] for i, label in tracks.items()}
    time = "CAST(floor(extract(epoch FROM listened_at) * 1000000) AS bigint)" if postgres else "listened_at * 1000000"
    listens = [
        [labels[track], *divmod(microseconds, 1_000_000), client, user]
        for track, microseconds, client, user in query(
            f"SELECT l.track_id, {time}, coalesce(l.client, ''), u.username FROM listens l JOIN users u "
            "ON u.id = l.user_id"
        )
    ]
    return {
        "artists": _lines(artists.values()),
        "releases": _lines(releases.values()),
        "tracks": _lines(tracks.values()),
        "listens": _lines(listens),
    }


def find_faults(query: Query, *, postgres: bool) -> list[str]:
    """What Koito relies on and the schema does not enforce: one primary alias of each, artists of releases and tracks.

    On SQLite also what its own checks find.
    """
    true = "TRUE" if postgres else "1"
    faults = []
    for one, many in _ENTITIES:
        wrong = query(
            f"SELECT e.id, count(a.alias) FROM {many} e LEFT JOIN {one}_aliases a ON a.{one}_id = e.id "
            f"AND a.is_primary = {true} GROUP BY e.id HAVING count(a.alias) <> 1"
        )
        faults += [f"{one} {i} has {n} primary aliases" for i, n in wrong]
    for one, many in _ENTITIES[1:]:
        wrong = query(
            f"SELECT e.id, count(a.artist_id), count(CASE WHEN a.is_primary THEN 1 END) FROM {many} e "
            f"LEFT JOIN artist_{many} a ON a.{one}_id = e.id GROUP BY e.id "
            "HAVING count(a.artist_id) = 0 OR count(CASE WHEN a.is_primary THEN 1 END) > 1"
        )
        faults += [f"{one} {i} has {n} artists, {primary} of them primary" for i, n, primary in wrong]
    if not postgres:
        faults += [f"broken reference {row}" for row in query("PRAGMA foreign_key_check")]
        faults += [f"integrity: {row[0]}" for row in query("PRAGMA integrity_check") if row[0] != "ok"]
    return faults


def _aliases(query: Query, one: str) -> dict[int, list[list[Any]]]:
    found: dict[int, list[list[Any]]] = defaultdict(list)
    for owner, alias, source, primary in query(f"SELECT {one}_id, alias, source, is_primary FROM {one}_aliases"):
        found[owner].append([alias, source, int(primary)])
    for aliases in found.values():
        aliases.sort()
    return found


def _links(query: Query, table: str, column: str, artists: dict[int, list[Any]]) -> dict[int, list[list[Any]]]:
    found: dict[int, list[list[Any]]] = defaultdict(list)
    for owner, artist, primary in query(f"SELECT {column}, artist_id, is_primary FROM {table}"):
        found[owner].append([artists[artist], int(primary)])
    for links in found.values():
        links.sort()
    return found


def _titles(aliases: list[list[Any]]) -> list[str]:
    return [alias for alias, _, primary in aliases if primary]


def _digest(label: list[Any]) -> str:
    return hashlib.sha256(_line(label).encode()).hexdigest()[:16]


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lines(values: Iterable[Any]) -> list[str]:
    return sorted(map(_line, values), key=str.encode)
