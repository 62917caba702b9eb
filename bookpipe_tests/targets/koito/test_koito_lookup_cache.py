"""The lookup cache respects what the user did in Koito, sees what was loaded before, and never replaces the rules."""

from uuid import UUID

import pytest

from bookpipe.targets.koito.lookup_cache import fingerprints
from bookpipe_tests.targets.koito.music import START, Music, listen

# What was loaded before


def test_what_was_loaded_before_is_loaded(music: Music) -> None:
    rows = [listen("A", "s", at=START), listen("A", "t", at=START + 1), listen("A", "s", at=START + 2)]
    assert music.look_up(rows).loaded == frozenset()
    music.load(rows)
    assert music.look_up(rows).loaded == {0, 1, 2}
    assert music.look_up(rows, "another").loaded == {0, 1, 2}
    assert music.look_up([*rows[:1], listen("A", "s", at=START + 9)]).loaded == {0}


def test_of_a_chunk_that_is_all_loaded_nothing_else_is_asked(music: Music) -> None:
    rows = [listen("A", "s"), listen("A", "t", at=START + 1)]
    music.load(rows)
    image = music.look_up(rows)
    assert image.loaded == {0, 1}
    assert (image.artists, image.releases, image.tracks) == ({}, [], [])
    before, entries = music.everything(), music.journal()
    result = music.load(rows)
    assert (result.counts.inserted, result.counts.existing) == (0, 2)
    assert (music.everything(), music.journal()) == (before, entries)


def test_a_second_import_inserts_nothing_where_the_rules_would(music: Music) -> None:
    """The third listen links A to B's album, so that Koito finds t2 there from then on, and does not find it."""
    rows = [
        listen("B", "t1", "Hits", START), listen("A", "t2", "Hits", START + 1),
        listen("B", "t3", "Hits", START + 2, artist_names=["B", "A"]),
    ]  # fmt: skip
    music.load(rows)
    before = music.meaning()
    assert music.load(rows).counts.inserted == 0
    assert music.load(rows, "another", partition="two").counts.inserted == 0
    assert music.meaning() == before
    music.cache = False
    assert music.load(rows).counts.inserted == 1


def test_times_differ_by_microseconds_on_postgres_only(music: Music) -> None:
    rows = [listen("A", "s", kind="koito", listened_us=5, track_aliases=["s"], artist_aliases=[["A"]])]
    music.load(rows)
    rows[0]["listened_us"] = 7
    assert len(music.look_up(rows).loaded) == music.sqlite


def test_what_a_track_was_made_as_is_what_the_database_says(music: Music) -> None:
    """Otherwise every track would look like one that the user has changed."""
    music.load([listen("A", "s", "R", START), listen("B", "s", "R", START + 1)])
    rows = [
        listen("A", "s", "R", START + 5), listen("A", "t", at=START + 6, artist_names=["A", "C"]),
        listen("B", "u", "R", START + 7, artist_names=["B", "A"], recording_mbid=str(UUID(int=9))),
        listen("C", "w", at=START + 8),
    ]  # fmt: skip
    music.load(rows, "another", partition="two")
    stored = music.sql(f"SELECT track_id, fingerprint FROM {music.own('track_lookup')}")
    with music.koito.connect() as session, session.database.writing():
        now = fingerprints(session.database, {track for track, _ in stored})
    assert len(stored) == 6
    assert {(track, bytes(fingerprint)) for track, fingerprint in stored} == set(now.items())


def test_an_export_that_knows_durations_fills_them_in(music: Music) -> None:
    rows = [listen("A", "s", at=START), listen("A", "s", at=START + 1)]
    music.load(rows)
    known = [rows[0] | {"duration": 180}, rows[1] | {"duration": 200}]
    assert music.look_up(known, "another").loaded == frozenset()
    assert music.load(known, "another", partition="two").counts.inserted == 0
    assert music.one("SELECT duration FROM tracks") == 180
    assert music.look_up(known, "another").loaded == {0, 1}


# Chunks of one export


def test_other_chunks_of_the_same_export_are_not_seen(music: Music) -> None:
    """The same listen again, further down in the export: the rules decide about it."""
    rows = [listen("A", "s", at=START)]
    music.load(rows)
    assert music.look_up(rows, first=2).loaded == frozenset()
    assert music.look_up(rows, first=1).loaded == {0}


def test_an_export_notes_a_digest_once_for_all_of_its_chunks(music: Music) -> None:
    for n in range(1, 4):
        music.load([listen("A", "s", at=START + n)], first=n)
    music.load([listen("A", "s", at=START + 9)], "another")
    assert music.journal()["track_lookup"] == 2
    assert music.sql(f"SELECT count(*) FROM {music.own('lookup_chunk')}") == [(4,)]


def test_what_an_export_has_followed_it_follows_always(music: Music) -> None:
    """Although another of its chunks has noted the track in the ordinary way."""
    song, _ = two_tracks(music)
    music.user.rename("track", song, "New name")
    music.load([NEW, NEW | {"listened_at": START + 200}], first=4)  # overlaps
    assert music.titles() == ["New name", "Song!"]
    music.user.rename("track", song, "Song")
    assert music.look_up([NEW | {"listened_at": START + 300}], "another").followed != {}


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_first_import_ends_the_same_whatever_the_chunks_and_with_the_cache(music: Music, size: int) -> None:
    rows = [
        listen(f"A{(n * 7) % 3}", f"s{(n * 5) % 4}", f"R{(n * n) % 2}", START + n,
               artist_names=[f"A{(n * 7) % 3}", f"A{(n // 3) % 3}"][: 1 + n % 2], duration=n % 3)
        for n in range(21)
    ]  # fmt: skip
    with music.koito.connect() as session:
        for first in range(0, len(rows), size):
            music.load_chunk(session, rows[first : first + size], first=first + 1)
    found = music.meaning()
    music.user.run("DELETE FROM artists")
    music.user.run("DELETE FROM releases")
    assert not music.meaning()
    music.cache = False
    music.load(rows, "another", partition="two")
    assert found == music.meaning()


def test_a_chunk_that_overlaps_sees_what_it_overlaps(music: Music) -> None:
    music.load([listen("A", "s", at=START)], first=10)
    assert music.look_up([listen("A", "s", at=START)] * 3, first=8).loaded == {0, 1, 2}
    assert music.look_up([listen("A", "s", at=START)] * 2, first=8).loaded == frozenset()


# What the user did


def two_tracks(music: Music) -> tuple[int, int]:
    """Song with three listens, and the same song in another spelling with one; their ids."""
    music.load([listen("A", "Song", "R", START + n) for n in range(3)] + [listen("A", "Song!", "R", START + 9)])
    return music.id_of("track", "Song"), music.id_of("track", "Song!")


NEW = listen("A", "Song", "R", START + 100)


def test_a_merge_of_tracks_is_followed(music: Music) -> None:
    song, other = two_tracks(music)
    music.user.merge_tracks(song, other)
    result = music.load([*(listen("A", "Song", "R", START + n) for n in range(3)), NEW])
    assert (result.counts.inserted, result.counts.existing) == (1, 3)
    assert music.titles() == ["Song!"]
    assert music.listens_of(other) == [START, START + 1, START + 2, START + 9, START + 100]


def test_a_merge_is_still_followed_after_it_was_followed(music: Music) -> None:
    song, other = two_tracks(music)
    music.user.merge_tracks(song, other)
    for n in range(3):
        music.load([listen("A", "Song", "R", START + 100 + n)], f"export {n}")
    assert music.titles() == ["Song!"]
    assert len(music.listens_of(other)) == 7


def test_a_merge_into_another_album_is_followed(music: Music) -> None:
    music.load([listen("A", "Song", "R", START), listen("B", "Song", "Best of B", START + 1)])
    music.user.merge_tracks(1, 2)
    music.load([NEW])
    assert music.listens_of(2) == [START, START + 1, START + 100]
    assert music.titles() == ["Song"]


def test_a_merge_with_a_listen_of_the_same_second_is_followed_where_it_stuck(sqlite_music: Music) -> None:
    """SQLite's Koito leaves such a listen where it is, and its track with it: nothing has changed for the rules."""
    music = sqlite_music
    music.load([listen("A", "Song", "R", START + n) for n in range(3)] + [listen("A", "Song!", "R", START + 1)])
    music.user.merge_tracks(1, 2)
    assert music.titles() == ["Song", "Song!"]
    music.load([NEW])
    assert music.listens_of(1) == [START + 1, START + 100]


def test_a_merge_of_albums_is_followed(music: Music) -> None:
    music.load([listen("A", "Song", "R", START), listen("A", "Song", "R (Deluxe)", START + 1)])
    music.user.merge_releases(1, 2)
    music.load([NEW])
    assert music.listens_of(1) == [START, START + 100]
    assert [title for (title,) in music.sql("SELECT title FROM releases_with_title")] == ["R (Deluxe)"]


def test_a_merge_of_artists_is_followed(music: Music) -> None:
    music.load([listen("A", "Song", "R", START), listen("The A", "Other", "R", START + 1)])
    music.user.merge_artists(1, 2)
    music.load([NEW])
    assert music.listens_of(1) == [START, START + 100]
    assert [name for (name,) in music.sql("SELECT name FROM artists_with_name")] == ["The A"]


@pytest.mark.parametrize("kind", ["track", "release"])
def test_a_rename_is_followed(music: Music, kind: str) -> None:
    two_tracks(music)
    music.user.rename(kind, 1, "New name")
    music.load([NEW])
    assert music.listens_of(1) == [START, START + 1, START + 2, START + 100]
    music.load([listen("A", "Song", "R", START + 200)], "export 2")
    assert len(music.sql("SELECT id FROM tracks")) == 2


def test_a_rename_is_not_followed_from_one_chunk_of_an_export_to_another(music: Music) -> None:
    """An import is as if it were one run, and rules have no memory."""
    two_tracks(music)
    music.user.rename("track", 1, "New name")
    assert music.look_up([NEW], first=5).followed == {}
    assert list(music.look_up([NEW], first=4).followed.values()) == [1]


def test_a_renamed_artist_is_found_by_the_rules_already(music: Music) -> None:
    two_tracks(music)
    music.user.rename("artist", 1, "New name")
    assert music.look_up([NEW], "another").followed == {}
    music.load([NEW])
    assert len(music.listens_of(1)) == 4


def test_a_track_whose_artists_were_changed_is_followed(music: Music) -> None:
    music.load([listen("A", "Song", "R", START, artist_names=["A", "B"]), listen("C", "t", "Q", START + 1)])
    music.user.run("DELETE FROM artist_tracks WHERE track_id = 1 AND artist_id = 2")
    music.user.add_track_artist(1, 3)
    music.load([listen("A", "Song", "R", START + 100, artist_names=["A", "B"])])
    assert music.listens_of(1) == [START, START + 100]


def test_what_the_rules_change_themselves_is_not_followed(music: Music) -> None:
    """B is linked to the album, the MBID and the duration are filled in: all of it by listens."""
    music.load([listen("A", "Song", "R", START)])
    mbid = "11111111-2222-4333-8444-555555555555"
    rows = [
        listen("A", "Duet", "R", START + 1, artist_names=["A", "B"]),
        listen("A", "Song", "R", START + 2, recording_mbid=mbid, duration=99, release_mbid=mbid),
    ]
    music.load(rows, first=2)
    assert music.look_up([NEW], "another").followed == {}


def test_a_deleted_track_comes_back_as_in_koito(music: Music) -> None:
    song, _ = two_tracks(music)
    music.user.delete_track(song)
    rows = [listen("A", "Song", "R", START + n) for n in range(3)]
    image = music.look_up(rows)
    assert (image.loaded, image.followed) == (frozenset(), {})
    assert music.load(rows).counts.inserted == 3
    assert music.titles().count("Song") == 1


def test_deleted_listens_come_back_as_in_koito(music: Music) -> None:
    song, _ = two_tracks(music)
    music.user.delete_listens(song)
    rows = [listen("A", "Song", "R", START + n) for n in range(3)]
    image = music.look_up(rows)
    assert (image.loaded, image.followed) == (frozenset(), {})
    assert music.load(rows).counts.inserted == 3


def test_an_id_that_sqlite_gives_again_is_never_taken_for_the_old_track(sqlite_music: Music) -> None:
    music = sqlite_music
    music.load([listen("A", "Song", "R", START), listen("B", "Last", "Q", START + 1)])
    music.user.delete_track(2)
    music.load([listen("C", "Stranger", "P", START + 7)], "live", partition="live")
    assert music.id_of("track", "Stranger") == 2
    music.load([listen("B", "Last", "Q", START + 50)], "another", partition="two")
    assert music.titles() == ["Song", "Stranger", "Last"]
    assert music.listens_of(2) == [START + 7]


def test_a_time_that_another_track_shares_is_no_witness(music: Music) -> None:
    """Two devices scrobbled at once: where Other is, is not where Song went."""
    music.load([listen("A", "Song", "R", START), listen("A", "Other", "R", START)])
    music.user.delete_track(music.id_of("track", "Song"))
    assert music.look_up([NEW], "another").followed == {}
    music.load([NEW])
    assert music.listens_of(music.id_of("track", "Song")) == [START + 100]


def test_witnesses_that_disagree_lead_nowhere(music: Music) -> None:
    """After Song was deleted, other tracks were heard at its times."""
    song, other = two_tracks(music)
    music.load([listen("A", "Third", "R", START + 50)], first=10)
    music.user.delete_track(song)
    music.user.scrobble(other, START)
    music.user.scrobble(music.id_of("track", "Third"), START + 1)
    music.user.scrobble(other, START + 2)
    assert music.look_up([NEW], "another").followed == {}


def test_witnesses_are_those_of_the_chunk_that_has_most(music: Music) -> None:
    def witnesses() -> list[tuple[int | None, ...]]:
        return music.sql(f"SELECT second_1, second_2, second_3 FROM {music.own('lookup_witness')}")

    music.load([listen("A", "s", at=START)], first=1)
    music.load([listen("A", "s", at=START + 1)], first=2)
    assert witnesses() == [(START, None, None)]
    music.load([listen("A", "s", at=START + n) for n in (2, 3)], first=3)
    assert witnesses() == [(START + 2, START + 3, None)]
    music.load([listen("A", "s", at=START + n) for n in (4, 5, 6, 7)], "another")
    music.load([listen("A", "s", at=START + n) for n in (8, 9, 10)], "a third")
    assert witnesses() == [(START + 4, START + 5, START + 6)]


def test_a_witness_without_any_listen_leads_nowhere(music: Music) -> None:
    song, other = two_tracks(music)
    music.user.delete_track(song)
    music.user.scrobble(other, START)
    music.user.scrobble(other, START + 1)
    assert music.look_up([NEW], "another").followed == {}


def test_candidates_that_disagree_lead_nowhere(music: Music) -> None:
    """One input was resolved to two tracks, as the rules can, and one of them was renamed."""
    rows = [
        listen("B", "t1", "Hits", START), listen("A", "t2", "Hits", START + 1),
        listen("B", "t3", "Hits", START + 2, artist_names=["B", "A"]), listen("A", "t2", "Hits", START + 3),
    ]  # fmt: skip
    music.load(rows)
    tracks = [t for (t,) in music.sql("SELECT track_id FROM track_aliases WHERE alias = 't2' ORDER BY 1")]
    assert len(tracks) == 2
    music.user.rename("track", tracks[0], "New name")
    assert music.look_up([listen("A", "t2", "Hits", START + 9)], "another").followed == {}


def test_plays_of_other_lengths_follow_a_merge(music: Music) -> None:
    """Spotify tells how long each play was, not how long the track is."""
    music.load([
        listen("A", "Live", "R", START, duration=200), listen("A", "Song", "R", START + 10, duration=180),
    ])  # fmt: skip
    live, song = (music.one("SELECT track_id FROM track_aliases WHERE alias = ?", title) for title in ("Live", "Song"))
    music.user.merge_tracks(live, song)
    music.load([listen("A", "Live", "R", START + 50, duration=7)], first=10)
    assert len(music.listens_of(song)) == 3


DOUBLED = [
    listen("B", "t1", "Hits", START), listen("A", "t2", "Hits", START + 1),
    listen("B", "t3", "Hits", START + 2, artist_names=["B", "A"]), listen("A", "t2", "Hits", START + 3),
]  # fmt: skip


@pytest.mark.parametrize("backwards", [False, True])
def test_a_merge_of_tracks_that_the_rules_have_doubled_is_followed(music: Music, backwards: bool) -> None:
    """The third listen links A to B's album, so that the fourth finds no t2 there and makes another."""
    music.load(DOUBLED)
    doubles = [t for (t,) in music.sql("SELECT track_id FROM track_aliases WHERE alias = 't2' ORDER BY track_id")]
    assert len(doubles) == 2
    gone, kept = reversed(doubles) if backwards else doubles
    music.user.merge_tracks(gone, kept)
    for n in range(2):
        result = music.load([*DOUBLED, listen("A", "t2", "Hits", START + 9 + n)], f"grown {n}", partition="two")
        assert result.counts.inserted == 1
    assert len(music.listens_of(kept)) == 4
    assert music.one("SELECT count(*) FROM tracks") == 3


def test_of_doubled_tracks_one_that_is_left_alone_is_not_followed_elsewhere(music: Music) -> None:
    music.load(DOUBLED)
    first, second = (t for (t,) in music.sql("SELECT track_id FROM track_aliases WHERE alias = 't2' ORDER BY track_id"))
    music.user.merge_tracks(first, music.one("SELECT track_id FROM track_aliases WHERE alias = 't1'"))
    music.load([listen("A", "t2", "Hits", START + 9)], "grown", partition="two")
    assert len(music.listens_of(second)) == 2


def test_a_track_without_artists_is_not_followed(music: Music) -> None:
    """It is left over from an artist whom the user has deleted, and Koito does not show it."""
    rows = [
        listen("A", "both", "R", START, artist_names=["A", "B"]), listen("B", "own", "R", START + 1, release_mbid=None),
    ]  # fmt: skip
    music.load(rows)
    own = music.one("SELECT track_id FROM track_aliases WHERE alias = 'own'")
    music.sql("DELETE FROM artist_tracks WHERE track_id = ?", own)
    music.sql(f"DELETE FROM {music.own('track_lookup')} WHERE track_id = ?", own)
    new = listen("B", "own", "R", START + 60)
    assert music.look_up([new], "another").followed == {}


def test_a_row_of_a_track_that_is_gone_is_passed_over(music: Music) -> None:
    """Somebody has deleted the track where foreign keys were off."""
    if not music.sqlite:
        pytest.skip("PostgreSQL has no such switch")
    music.load([listen("A", "s", "R", START)])
    music.sql("PRAGMA foreign_keys = off")
    music.sql("DELETE FROM tracks")
    music.sql("PRAGMA foreign_keys = on")
    assert music.look_up([listen("A", "s", "R", START + 5)], "another").followed == {}


# Off


def test_with_the_cache_off_nothing_of_it_is_there(music: Music) -> None:
    music.cache = False
    music.load([listen("A", "Song", "R", START)])
    tables = "SELECT name FROM sqlite_master" if music.sqlite else "SELECT tablename FROM pg_tables"
    assert not [name for (name,) in music.sql(tables) if "lookup" in name]


def test_with_the_cache_off_nothing_of_it_is_read_or_written(music: Music) -> None:
    song, _ = two_tracks(music)
    entries = music.journal()
    music.user.rename("track", song, "New name")
    music.cache = False
    music.load([listen("A", "Song!", "R", START + 200), NEW], first=10)
    assert len(music.listens_of(song)) == 3  # the rules have made another Song
    for table in ("track_lookup", "lookup_witness"):
        assert music.journal()[table] == entries[table]


def test_the_cache_goes_with_the_entities_it_names(music: Music) -> None:
    two_tracks(music)
    assert music.journal()["track_lookup"] == 2
    music.user.delete_track(1)
    assert music.journal()["track_lookup"] == 1
    music.user.delete_artist(1)
    assert music.journal()["track_lookup"] == 0


# Odd databases


@pytest.mark.parametrize("cache", [True, False])
def test_entities_with_two_primary_names_are_found_by_both(music: Music, cache: bool) -> None:
    """Koito does not make them, and where they are it sees them twice."""
    music.cache = cache
    music.load([listen("A", "X", "Al", START)])
    for kind, alias in (("release", "Zl"), ("track", "Zx"), ("track", "Aa")):
        music.sql(f"INSERT INTO {kind}_aliases VALUES (1, ?, 'Manual', ?)", alias, True)
    titles = [("X", "Zl"), ("X", "Al"), ("Zx", "Al"), ("Aa", "Zl")]
    music.load(
        [listen("A", track, album, START + 9 + n) for n, (track, album) in enumerate(titles)], "b", partition="b"
    )
    assert (music.one("SELECT count(*) FROM releases"), music.one("SELECT count(*) FROM tracks")) == (1, 1)
    assert len(music.listens_of(1)) == 5
