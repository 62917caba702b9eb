"""Undoing a partition takes away what its loads made, and nothing that was there before or somebody uses now."""

import pytest

from bookpipe_tests.targets.koito.music import START, Music, listen

ENTRIES = ("load", "load_artist", "load_release", "load_link", "load_track", "track_lookup", "lookup_witness")


def mixed(first: int, count: int) -> list[dict[str, object]]:
    return [
        listen(f"A{(n * 7) % 5}", f"s{(n * 5) % 17}", f"R{(n * n) % 4}", START + n,
               artist_names=[f"A{(n * 7) % 5}", f"A{(n // 3) % 5}"][: 1 + n % 2])
        for n in range(first, first + count)
    ]  # fmt: skip


@pytest.fixture
def used_music(music: Music) -> Music:
    """Somebody has listened already."""
    music.cache = False
    music.load([listen("A1", "s1", "R1", START - 100), listen("Own", "own", "Own", START - 99)], "own", partition="own")
    music.cache = True
    with music.koito.connect():
        pass
    for table in ENTRIES:
        music.sql(f"DELETE FROM {music.own(table)}")
    return music


def test_an_undone_partition_was_never_there(used_music: Music) -> None:
    before = used_music.everything()
    result = used_music.load(mixed(0, 100))
    done = used_music.undo()
    assert done.listens == result.counts.inserted == 100
    assert done.tracks > 0 and done.releases > 0 and done.artists > 0
    assert (done.missing_listens, done.kept_tracks, done.kept_releases, done.kept_artists) == (0, 0, 0, 0)
    assert used_music.everything() == before
    assert set(used_music.journal().values()) == {0}


def test_what_is_undone_can_be_loaded_again(used_music: Music) -> None:
    used_music.load(mixed(0, 60))
    found = used_music.meaning()
    used_music.undo()
    used_music.load(mixed(0, 60))
    assert used_music.meaning() == found


def test_a_partition_loaded_in_several_chunks_and_runs_is_undone_whole(used_music: Music) -> None:
    before = used_music.everything()
    for first in (0, 20, 40, 30, 20):
        used_music.load(mixed(first, 30), first=first + 1)
    assert used_music.journal()["load"] == 4
    assert used_music.undo().listens == 70
    assert used_music.everything() == before


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_undoing_all_of_some_overlapping_partitions_leaves_nothing(used_music: Music, order: tuple[str, str]) -> None:
    before = used_music.everything()
    used_music.load(mixed(0, 60), "e1", partition="one")
    used_music.load(mixed(30, 60), "e2", partition="two")
    for partition in order:
        used_music.undo(partition)
        assert used_music.is_sound()
    assert used_music.everything() == before
    assert set(used_music.journal().values()) == {0}


def test_undoing_one_of_two_partitions_leaves_the_others_listens(used_music: Music) -> None:
    used_music.load(mixed(0, 40), "e1", partition="one")
    used_music.load(mixed(40, 40), "e2", partition="two")
    used_music.undo("one")
    listens = used_music.one("SELECT count(*) FROM listens")
    assert listens == 2 + 40
    assert used_music.load(mixed(40, 40), "e2", partition="two").counts.inserted == 0


def test_undoing_one_of_two_partitions_of_an_export_leaves_what_is_known_of_the_other(used_music: Music) -> None:
    before = used_music.everything()
    rows = mixed(0, 80)
    used_music.load(rows[:40], partition="one")
    used_music.load(rows[40:], first=41, partition="two")
    used_music.undo("one")
    assert len(used_music.look_up(rows[40:], first=41).loaded) == 40
    assert used_music.look_up(rows[:40], first=1).loaded == frozenset()
    assert 0 < used_music.journal()["track_lookup"] == used_music.journal()["lookup_witness"]
    noted = f"SELECT DISTINCT track_id FROM {used_music.own('track_lookup')} ORDER BY 1"
    assert used_music.sql(noted) == used_music.sql(noted.replace("track_lookup", "load_track"))
    used_music.undo("two")
    assert used_music.everything() == before
    assert set(used_music.journal().values()) == {0}


def test_a_track_that_somebody_listened_to_since_stays(music: Music) -> None:
    music.load([listen("A", "s", "R", START), listen("B", "t", "Q", START + 1)])
    music.user.scrobble(1, START + 50)
    done = music.undo()
    assert (done.listens, done.tracks, done.kept_tracks, done.kept_releases, done.kept_artists) == (2, 1, 1, 1, 1)
    assert music.titles() == ["s"]
    assert music.listens_of(1) == [START + 50]


def test_listens_that_were_there_before_stay(music: Music) -> None:
    music.load([listen("A", "s", "R", START)], "e1", partition="one")
    music.load([listen("A", "s", "R", START), listen("A", "s", "R", START + 1)], "e2", partition="two")
    assert music.undo("two").listens == 1
    assert music.listens_of(1) == [START]


def test_links_to_albums_of_others_are_taken_off(music: Music) -> None:
    music.load([listen("B", "t1", "Hits", START)], "e1", partition="one")
    before = music.everything()
    music.load([listen("B", "t2", "Hits", START + 1, artist_names=["B", "New"])], "e2", partition="two")
    assert music.one("SELECT count(*) FROM artist_releases") == 2
    assert music.undo("two").artists == 1
    assert music.everything() == before


def test_an_artist_whom_we_added_to_an_album_of_others_can_be_merged(music: Music) -> None:
    music.load([listen("B", "t1", "Hits", START), listen("C", "u", "R", START)], "e1", partition="one")
    music.load([listen("B", "t2", "Hits", START + 1, artist_names=["B", "New"])], "e2", partition="two")
    music.user.merge_artists(music.id_of("artist", "New"), music.id_of("artist", "C"))
    assert music.one("SELECT count(*) FROM artist_releases") == 3
    assert music.undo("two").listens == 1
    assert music.one("SELECT count(*) FROM artist_releases") == 2


def test_listens_that_the_user_moved_stay_where_they_are(music: Music) -> None:
    music.load([listen("A", "Song!", "R", START)], "e1", partition="one")
    music.load([listen("A", "Song", "R", START + n) for n in (1, 2)], "e2", partition="two")
    music.user.merge_tracks(music.id_of("track", "Song"), music.id_of("track", "Song!"))
    done = music.undo("two")
    assert (done.listens, done.missing_listens) == (0, 2)
    assert music.listens_of(1) == [START, START + 1, START + 2]


def test_an_id_that_sqlite_gives_again_is_never_taken_for_what_was_made(sqlite_music: Music) -> None:
    """The same listens came back with another partition, and with the same ids."""
    music = sqlite_music
    rows = [listen("A", "s", "R", START), listen("A", "s", "R", START + 1)]
    music.load(rows, "e1", partition="one")
    music.user.delete_track(1)
    assert not music.everything()["artists"]
    music.load(rows, "e2", partition="two")
    assert music.id_of("track", "s") == 1
    before = music.everything()
    assert music.undo("one").missing_listens == 2
    assert music.everything() == before


def test_what_was_filled_in_on_others_stays(music: Music) -> None:
    music.load([listen("A", "s", "R", START)], "e1", partition="one")
    music.load([listen("A", "s", "R", START + 1, duration=200)], "e2", partition="two")
    music.undo("two")
    assert music.one("SELECT duration FROM tracks") == 200


def test_undoing_twice_and_undoing_nothing_is_safe(used_music: Music) -> None:
    used_music.load(mixed(0, 20))
    done = used_music.undo()
    before, entries = used_music.everything(), used_music.journal()
    assert done.listens == 20
    for partition in ("one", "never loaded"):
        assert used_music.undo(partition) == type(done)()
    assert (used_music.everything(), used_music.journal()) == (before, entries)


def test_a_dry_run_says_what_an_undo_then_does_and_changes_nothing(used_music: Music) -> None:
    used_music.load(mixed(0, 50))
    used_music.user.scrobble(used_music.one("SELECT max(id) FROM tracks"), START - 50)
    before, entries = used_music.everything(), used_music.journal()
    said = used_music.undo(dry_run=True)
    assert (used_music.everything(), used_music.journal()) == (before, entries)
    assert said == used_music.undo()
    assert said.listens == 50


def test_an_installation_that_was_never_loaded_has_nothing_to_undo(music: Music) -> None:
    assert music.undo().listens == 0
    tables = "SELECT name FROM sqlite_master" if music.sqlite else "SELECT tablename FROM pg_tables"
    assert not [name for (name,) in music.sql(tables) if "load" in name]


def test_a_partition_is_undone_with_the_cache_off_as_well(music: Music) -> None:
    music.load([listen("A", "s", "R", START)])
    music.cache = False
    music.undo()
    assert set(music.journal().values()) == {0}
