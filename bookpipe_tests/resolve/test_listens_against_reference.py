"""Plans, once written, leave the very tables that Koito's own steps leave when they are taken one by one."""

import sqlite3
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bookpipe.model.listen_plans import KnownRelease, KnownTrack, KoitoImage, ListenPlan, Wanted
from bookpipe.resolve.listens import ListenOptions, prepare_listens, resolve_listens, wanted
from bookpipe_tests.koito_dump import find_faults
from bookpipe_tests.koito_reference import KoitoReference, connect, dump
from bookpipe_tests.listen_strategies import ALBUMS, NAMES, TITLES, Row, listen_lists, listens_table, mbid

OPTIONS = ListenOptions()
TABLES = {
    "artists": "id",
    "releases": "id",
    "tracks": "id",
    "artist_aliases": "rowid",
    "release_aliases": "rowid",
    "track_aliases": "rowid",
    "artist_releases": "rowid",
    "artist_tracks": "rowid",
    "listens": "rowid",
}


def raw_tables(connection: sqlite3.Connection) -> dict[str, list[Any]]:
    """Every row as it is stored, with ids and in the order in which look-ups meet it."""
    return {
        table: connection.execute(f"SELECT * FROM {table} ORDER BY {key}").fetchall() for table, key in TABLES.items()
    }


def read_image(connection: sqlite3.Connection) -> KoitoImage:
    """All that a database has."""
    run = connection.execute
    return KoitoImage(
        artists=dict(run("SELECT id, musicbrainz_id FROM artists")),
        artist_aliases=list(run("SELECT artist_id, alias FROM artist_aliases ORDER BY rowid")),
        releases=[
            KnownRelease(*row)
            for row in run(
                "SELECT r.id, a.alias, r.musicbrainz_id FROM releases r LEFT JOIN release_aliases a "
                "ON a.release_id = r.id AND a.is_primary = 1 ORDER BY a.rowid"
            )
        ],
        release_artists=list(run("SELECT release_id, artist_id FROM artist_releases")),
        tracks=[
            KnownTrack(*row)
            for row in run(
                "SELECT t.id, a.alias, t.release_id, t.musicbrainz_id, t.duration FROM tracks t "
                "LEFT JOIN track_aliases a ON a.track_id = t.id AND a.is_primary = 1 ORDER BY a.rowid"
            )
        ],
        track_artists=list(run("SELECT track_id, artist_id FROM artist_tracks")),
        alias_joint="||",
    )


def cut_image(image: KoitoImage, texts: Wanted) -> KoitoImage:
    """The part of an image that the texts lead to."""
    named = {artist for artist, alias in image.artist_aliases if alias in texts.artist_names}
    artists = {i: m for i, m in image.artists.items() if m in texts.artist_mbids or i in named}
    releases = [r for r in image.releases if r.title in texts.release_titles or r.mbid in texts.release_mbids]
    on = {release.id for release in releases}
    tracks = [
        t
        for t in image.tracks
        if t.mbid in texts.recording_mbids or (t.title in texts.track_titles and t.release in on)
    ]
    among = {track.id for track in tracks}
    return KoitoImage(
        artists,
        [(artist, alias) for artist, alias in image.artist_aliases if artist in artists],
        releases,
        [(release, artist) for release, artist in image.release_artists if release in on],
        tracks,
        [(track, artist) for track, artist in image.track_artists if track in among],
        image.alias_joint,
    )


def write_plan(connection: sqlite3.Connection, plan: ListenPlan) -> list[str]:
    """Write a plan in one transaction; the outcomes of its rows."""
    run = connection.execute
    run("BEGIN")
    last = {
        table: run(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
        for table in ("artists", "releases", "tracks")
    }

    def artist(ref: int) -> int:
        return ref if ref > 0 else int(last["artists"]) - ref

    def release(ref: int) -> int:
        return ref if ref > 0 else int(last["releases"]) - ref

    def track(ref: int) -> int:
        return ref if ref > 0 else int(last["tracks"]) - ref

    def insert(table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        for row in rows:
            run(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    for i in plan.artist_mbids:
        run("UPDATE artists SET musicbrainz_id = NULL WHERE id = ?", (i,))
    insert("artists", ((artist(-n), a.mbid, None, a.image_source) for n, a in enumerate(plan.artists, start=1)))
    insert("artist_aliases", ((artist(a.owner), a.alias, a.source, a.primary) for a in plan.artist_aliases))
    insert(
        "releases",
        ((release(-n), r.mbid, None, r.image_source, r.various_artists) for n, r in enumerate(plan.releases, start=1)),
    )
    insert("release_aliases", ((release(a.owner), a.alias, a.source, a.primary) for a in plan.release_aliases))
    insert("artist_releases", ((artist(k.artist), release(k.owner), k.primary) for k in plan.release_links))
    insert(
        "tracks",
        ((track(-n), t.mbid, t.duration, release(t.release)) for n, t in enumerate(plan.tracks, start=1)),
    )
    insert("track_aliases", ((track(a.owner), a.alias, a.source, a.primary) for a in plan.track_aliases))
    insert("artist_tracks", ((artist(k.artist), track(k.owner), k.primary) for k in plan.track_links))
    for column, table, values in (
        ("musicbrainz_id", "artists", plan.artist_mbids),
        ("musicbrainz_id", "releases", plan.release_mbids),
        ("musicbrainz_id", "tracks", plan.track_mbids),
        ("duration", "tracks", plan.track_durations),
    ):
        for i, value in dict(values).items():
            run(f"UPDATE {table} SET {column} = ? WHERE id = ?", (value, i))
    outcomes = list(plan.outcomes)
    times = list(zip(*(plan.listens.column(name).to_pylist() for name in ("track", "listened_at")), strict=True))
    assert len(set(times)) == len(times)
    for listen in plan.listens.to_pylist():
        cursor = run(
            "INSERT OR IGNORE INTO listens (track_id, listened_at, user_id, client) VALUES (?, ?, 1, ?)",
            (track(listen["track"]), listen["listened_at"], listen["client"]),
        )
        assert outcomes[listen["row"]] == "inserted"
        if not cursor.rowcount:
            outcomes[listen["row"]] = "existing"
    run("COMMIT")
    return outcomes


def load(connection: sqlite3.Connection, rows: list[Row], sizes: list[int]) -> list[str]:
    """Load rows in chunks of these sizes, over and over; the outcomes."""
    outcomes: list[str] = []
    turn = 0
    while rows:
        size = sizes[turn % len(sizes)]
        turn += 1
        chunk, rows = listens_table(rows[:size]), rows[size:]
        full = read_image(connection)
        plan = resolve_listens(prepare_listens(chunk, OPTIONS), full)
        assert plan == resolve_listens(
            prepare_listens(chunk, OPTIONS), cut_image(full, wanted(prepare_listens(chunk, OPTIONS)))
        )
        outcomes += write_plan(connection, plan)
    return outcomes


@st.composite
def user_edits(draw: st.DrawFn) -> list[tuple[str, tuple[Any, ...]]]:
    """Statements as a user's work in Koito leaves them behind, and some more: aliases, renames, merges, deletions."""
    ids = st.integers(1, 6)
    texts = st.sampled_from(NAMES[:6] + TITLES + ALBUMS[1:])
    entities = st.sampled_from(["artist", "release", "track"])
    edits: list[tuple[str, tuple[Any, ...]]] = []
    for kind in draw(
        st.lists(st.sampled_from(["alias", "rename", "hide", "mbid", "link", "delete", "links"]), max_size=8)
    ):
        one, i = draw(entities), draw(ids)
        if kind == "alias":
            edits.append(
                (
                    f"INSERT OR IGNORE INTO {one}_aliases SELECT id, ?, 'Manual', 0 FROM {one}s WHERE id = ?",
                    (draw(texts), i),
                )
            )
        elif kind == "rename":
            alias = draw(texts)
            edits += [
                (f"INSERT OR IGNORE INTO {one}_aliases SELECT id, ?, 'Manual', 0 FROM {one}s WHERE id = ?", (alias, i)),
                (f"UPDATE {one}_aliases SET is_primary = (alias = ?) WHERE {one}_id = ?", (alias, i)),
            ]
        elif kind == "hide":
            edits.append((f"UPDATE {one}_aliases SET is_primary = 0 WHERE {one}_id = ?", (i,)))
        elif kind == "mbid":
            number = {"artist": 1, "release": 2, "track": 3}[one]
            edits.append(
                (
                    f"UPDATE OR IGNORE {one}s SET musicbrainz_id = ? WHERE id = ?",
                    (mbid(number, draw(st.integers(0, 3))), i),
                )
            )
        elif kind == "delete":
            edits.append((f"DELETE FROM {one}s WHERE id = ?", (i,)))
        elif one != "artist":
            pair = f"SELECT a.id, e.id, 0 FROM artists a, {one}s e WHERE a.id = ? AND e.id = ?"
            edits.append((f"INSERT OR IGNORE INTO artist_{one}s {pair}", (draw(ids), i)))
    return edits


@given(listen_lists(), st.lists(st.integers(1, 14), min_size=1, max_size=3))
def test_loading_into_an_empty_koito_leaves_what_koito_itself_leaves(rows: list[Row], sizes: list[int]) -> None:
    theirs, ours = connect(), connect()
    reference = KoitoReference(theirs)
    expected = [reference.submit(row) for row in rows]
    assert load(ours, rows, sizes) == expected
    assert raw_tables(ours) == raw_tables(theirs)
    assert dump(ours) == dump(theirs)
    assert find_faults(lambda sql: ours.execute(sql).fetchall(), postgres=False) == []


@given(
    listen_lists(max_size=10),
    user_edits(),
    listen_lists(max_size=10),
    st.lists(st.integers(1, 10), min_size=1, max_size=3),
)
def test_loading_into_a_koito_in_use_leaves_what_koito_itself_leaves(
    before: list[Row], edits: list[tuple[str, tuple[Any, ...]]], rows: list[Row], sizes: list[int]
) -> None:
    theirs, ours = connect(), connect()
    for connection in (theirs, ours):
        reference = KoitoReference(connection)
        for row in before:
            reference.submit(row)
        for edit in edits:
            connection.execute(*edit)
    reference = KoitoReference(theirs)
    expected = [reference.submit(row) for row in rows]
    assert load(ours, rows, sizes) == expected
    assert raw_tables(ours) == raw_tables(theirs)


@given(listen_lists(), st.integers(1, 14))
def test_loading_again_inserts_nothing(rows: list[Row], size: int) -> None:
    """But for what Koito itself would see in another light by then."""
    theirs, ours = connect(), connect()
    reference = KoitoReference(theirs)
    for row in rows:
        reference.submit(row)
    load(ours, rows, [size])
    assert load(ours, rows, [size]) == [reference.submit(row) for row in rows]
    assert raw_tables(ours) == raw_tables(theirs)
