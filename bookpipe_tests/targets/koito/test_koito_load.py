"""A chunk of listens becomes the rows that Koito itself would have written, all of them or none."""

from typing import Any

import pyarrow as pa
import pytest

from bookpipe.model.counts import LoadCounts
from bookpipe.model.errors import BookpipeError
from bookpipe.model.listen_plans import (
    NEW_LISTENS,
    ArtistLink,
    ListenPlan,
    NewAlias,
    NewArtist,
    NewRelease,
    NewTrack,
)
from bookpipe_tests.targets.koito.music import START, Music, chunk, listen, moment

MBID = "11111111-2222-4333-8444-55555555{:04x}"


def plan_of(rows: list[tuple[int, int, int, int, str]], **more: Any) -> ListenPlan:
    """A plan of listens (row, track, seconds, microseconds, client) and whatever else."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(NEW_LISTENS)
    arrays = [pa.array(values, f.type) for values, f in zip(columns, NEW_LISTENS, strict=True)]
    return ListenPlan(listens=pa.table(arrays, schema=NEW_LISTENS), **more)


def new_track(title: str = "Song", **track: Any) -> dict[str, Any]:
    """The entities of a plan that makes one track of one artist."""
    return {
        "artists": [NewArtist(None)],
        "artist_aliases": [NewAlias(-1, "Artist", "Canonical", True)],
        "releases": [NewRelease(None)],
        "release_aliases": [NewAlias(-1, "Album", "Canonical", True)],
        "release_links": [ArtistLink(-1, -1, True)],
        "tracks": [NewTrack(track.get("mbid"), -1, track.get("duration", 0))],
        "track_aliases": [NewAlias(-1, title, "Canonical", True)],
        "track_links": [ArtistLink(-1, -1, True)],
    }


def test_an_empty_database_gets_the_ids_that_koito_would_give(music: Music) -> None:
    music.load(
        [listen("B", "t1", "Hits"), listen("A", "t2", "Hits", START + 1), listen("B", "t1", "Hits", START + 2),
         listen("C", "t3", "Other", START + 3, artist_names=["C", "A"])]
    )  # fmt: skip
    assert music.sql("SELECT id, name FROM artists_with_name ORDER BY id") == [(1, "B"), (2, "A"), (3, "C")]
    assert music.sql("SELECT id, title FROM releases_with_title ORDER BY id") == [
        (1, "Hits"),
        (2, "Hits"),
        (3, "Other"),
    ]
    assert music.sql("SELECT id, title, release_id FROM tracks_with_title ORDER BY id") == [
        (1, "t1", 1), (2, "t2", 2), (3, "t3", 3),
    ]  # fmt: skip
    links = "SELECT artist_id, track_id, is_primary FROM artist_tracks ORDER BY 2, 3 DESC"
    assert [(a, t, bool(p)) for a, t, p in music.sql(links)] == [
        (1, 1, True),
        (2, 2, True),
        (3, 3, True),
        (2, 3, False),
    ]
    assert music.listens_of(1) == [START, START + 2]
    assert music.is_sound()


def test_later_chunks_go_on_counting(music: Music) -> None:
    with music.koito.connect() as session:
        for n in range(3):
            music.load_chunk(session, [listen(f"Artist {n}", f"Song {n}", at=START + n)], first=n + 1)
    assert [i for (i,) in music.sql("SELECT id FROM tracks ORDER BY id")] == [1, 2, 3]


def test_koito_can_add_its_own_rows_afterwards(music: Music) -> None:
    """On PostgreSQL the sequences have moved on with the ids that were drawn from them."""
    music.load([listen("A", "s"), listen("B", "t", at=START + 1)])
    music.user.run("INSERT INTO artists (musicbrainz_id) VALUES (NULL)")
    assert music.one("SELECT max(id) FROM artists") == 3


def test_values_are_kept_as_koito_keeps_them(music: Music) -> None:
    result = music.write(
        plan_of(
            [(0, -1, START, 250_000, "player"), (1, -1, START + 1, 0, "")],
            artists=[NewArtist(MBID.format(1), "https://example.org/a.jpg")],
            artist_aliases=[NewAlias(-1, "Björk", "Canonical", True), NewAlias(-1, 'B,"j"\nörk', "MusicBrainz", False)],
            releases=[NewRelease(MBID.format(2), True, "User Upload")],
            release_aliases=[NewAlias(-1, " Début ", "Canonical", True)],
            release_links=[ArtistLink(-1, -1, True)],
            tracks=[NewTrack(MBID.format(3), -1, 215)],
            track_aliases=[NewAlias(-1, "\x1f\x1eodd\\", "Canonical", True)],
            track_links=[ArtistLink(-1, -1, True)],
        )
    )
    assert result.counts == LoadCounts(inserted=2)
    rows = music.sql("SELECT CAST(musicbrainz_id AS text), image IS NULL, image_source FROM artists")
    assert rows == [(MBID.format(1), False, "https://example.org/a.jpg")]
    assert music.sql("SELECT image, image_source, various_artists FROM releases") == [(None, "User Upload", True)]
    assert music.sql("SELECT alias FROM artist_aliases ORDER BY is_primary DESC") == [("Björk",), ('B,"j"\nörk',)]
    assert music.sql("SELECT title FROM releases_with_title") == [(" Début ",)]
    assert music.sql("SELECT title, duration FROM tracks_with_title") == [("\x1f\x1eodd\\", 215)]
    times = [START, START + 1] if music.sqlite else [moment(START, 250_000), moment(START + 1)]
    assert music.sql("SELECT listened_at, client, user_id FROM listens ORDER BY 1") == [
        (times[0], "player", 1), (times[1], "" if music.sqlite else None, 1),
    ]  # fmt: skip


def test_an_empty_picture_source_is_none(music: Music) -> None:
    music.write(plan_of([], **new_track() | {"artists": [NewArtist(None, "")]}))
    assert music.sql("SELECT image, image_source FROM artists") == [(None, None)]


def test_what_another_row_lacks_is_filled_in_and_what_it_has_stays(music: Music) -> None:
    music.load([listen("A", "s", "R"), listen("A", "t", "R", START + 1)])
    music.user.run("UPDATE tracks SET duration = 7, musicbrainz_id = ? WHERE id = 2", MBID.format(9))
    music.write(
        plan_of(
            [],
            artist_mbids={1: MBID.format(1)},
            release_mbids={1: MBID.format(2)},
            track_mbids={1: MBID.format(3), 2: MBID.format(4)},
            track_durations={1: 100, 2: 200},
        )
    )
    assert music.one("SELECT CAST(musicbrainz_id AS text) FROM artists") == MBID.format(1)
    assert music.one("SELECT CAST(musicbrainz_id AS text) FROM releases") == MBID.format(2)
    rows = music.sql("SELECT CAST(musicbrainz_id AS text), duration FROM tracks ORDER BY id")
    assert rows == [(MBID.format(3), 100), (MBID.format(9), 7)]


def test_an_mbid_can_go_from_one_artist_to_another(music: Music) -> None:
    music.load([listen("A", "s"), listen("B", "t", at=START + 1)])
    music.write(plan_of([], artist_mbids={1: MBID.format(1), 2: MBID.format(2)}))
    music.write(plan_of([], artist_mbids={1: MBID.format(2), 2: MBID.format(1)}))
    rows = music.sql("SELECT CAST(musicbrainz_id AS text) FROM artists ORDER BY id")
    assert rows == [(MBID.format(2),), (MBID.format(1),)]
    artist = {"artists": [NewArtist(MBID.format(1))], "artist_aliases": [NewAlias(-1, "C", "Canonical", True)]}
    music.write(plan_of([], **artist, artist_mbids={2: MBID.format(3)}))
    assert music.one("SELECT CAST(musicbrainz_id AS text) FROM artists WHERE id = 3") == MBID.format(1)


def test_a_listen_that_is_there_is_existing_and_keeps_its_client(music: Music) -> None:
    music.load([listen("A", "s", at=START)])
    outcomes = ["existing", "existing", "existing", "inserted", "existing", "inserted", "existing"]
    result = music.write(plan_of([(3, 1, START, 0, "other"), (5, 1, START + 9, 0, "other")], outcomes=outcomes))
    assert (result.counts.inserted, result.counts.existing, result.existing_rows) == (1, 6, frozenset({3}))
    assert [client for (client,) in music.sql("SELECT client FROM listens ORDER BY listened_at")] == ["maloja", "other"]


def test_what_is_taken_can_be_known_beforehand(music: Music) -> None:
    music.load([listen("A", "s", at=START)])
    plan = plan_of([(3, 1, START, 0, ""), (4, -1, START, 0, ""), (5, 1, START + 9, 0, "")])
    with music.koito.reading() as reader:
        assert reader.existing_rows(plan) == {3}


def test_sqlite_drops_fractions_of_seconds(sqlite_music: Music) -> None:
    rows = [(0, -1, START, 100, "first"), (1, -1, START, 200, "second"), (2, -1, START + 1, 0, "")]
    result = sqlite_music.write(plan_of(rows, **new_track()))
    assert (result.counts.inserted, result.existing_rows) == (2, frozenset({1}))
    assert sqlite_music.sql("SELECT listened_at, client FROM listens ORDER BY 1") == [(START, "first"), (START + 1, "")]


def test_postgres_keeps_fractions_of_seconds(postgres_music: Music) -> None:
    rows = [(0, -1, START, 100, ""), (1, -1, START, 999_999, "")]
    assert postgres_music.write(plan_of(rows, **new_track())).counts.inserted == 2
    assert postgres_music.sql("SELECT listened_at FROM listens ORDER BY 1") == [
        (moment(START, 100),), (moment(START, 999_999),),
    ]  # fmt: skip


def test_a_listen_that_koito_adds_in_the_meantime_is_existing(postgres_music: Music) -> None:
    """PostgreSQL's Koito goes on adding listens to tracks that are there."""
    postgres_music.load([listen("A", "s", at=START)])
    with postgres_music.koito.connect() as session, session.writing() as writer:
        postgres_music.user.scrobble(1, START + 5)
        rows = [(0, 1, START + 5, 0, "ours"), (1, 1, START + 6, 0, "ours")]
        result = writer.write(plan_of(rows, outcomes=["inserted"] * 2), chunk(first=2, last=3))
    assert (result.counts.inserted, result.existing_rows) == (1, frozenset({0}))
    assert postgres_music.sql("SELECT client FROM listens ORDER BY listened_at") == [
        ("maloja",),
        ("player",),
        ("ours",),
    ]


def test_counts_add_up(music: Music) -> None:
    rows = [
        listen("A", "s", at=START), listen("A", "s", at=START), listen("A", "", at=START), listen("", "s", at=START),
        listen("A", "t", at=START), listen("A", "u") | {"listened_at": None, "reason": "bad_time"},
    ]  # fmt: skip
    counts = music.load(rows).counts
    assert counts == LoadCounts(2, 1, {"empty_title": 1, "empty_artist": 1, "bad_time": 1})
    assert counts.read == len(rows)


def test_a_chunk_that_fails_leaves_nothing(music: Music) -> None:
    music.load([listen("A", "s")])
    before, entries = music.everything(), music.journal()
    with music.koito.connect() as session:
        with pytest.raises(ZeroDivisionError), session.writing() as writer:
            writer.write(plan_of([(0, -1, START, 0, "")], **new_track("Lost")), chunk(first=2, last=2))
            1 / 0  # noqa: B018
        assert (music.everything(), music.journal()) == (before, entries)
        # The connection can go on.
        music.load_chunk(session, [listen("A", "t", at=START + 1)], first=2)
    assert music.titles() == ["s", "t"]


def test_a_plan_that_names_nothing_is_refused_whole(music: Music) -> None:
    before = music.everything()
    with pytest.raises(BookpipeError):
        music.write(plan_of([(0, 77, START, 0, "")], **new_track()))
    assert music.everything() == before


def test_listens_of_another_user_are_theirs(music: Music) -> None:
    password = "x'00'" if music.sqlite else "''"
    music.user.run(f"INSERT INTO users (username, role, password) VALUES ('ann', 'user', {password})")
    music.options["user_id"] = 2
    music.load([listen("A", "s")])
    assert music.one("SELECT user_id FROM listens") == 2


def test_nothing_of_koitos_changes_when_our_tables_are_made(music: Music) -> None:
    def definitions() -> list[Any]:
        if music.sqlite:
            return music.sql("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '%bookpipe%' ORDER BY name")
        return music.sql(
            "SELECT table_name, column_name, data_type, column_default FROM information_schema.columns "
            "WHERE table_schema = 'public' ORDER BY 1, ordinal_position"
        )

    before, rows = definitions(), music.everything()
    with music.koito.connect():
        pass
    assert (definitions(), music.everything()) == (before, rows)
    assert set(music.journal().values()) == {0}


def test_both_flavours_end_alike(sqlite_music: Music, postgres_music: Music) -> None:
    rows = [
        listen("B", "t1", "Hits"), listen("A", "t2", "Hits", START + 1),
        listen("B", "t3", "Hits", START + 2, artist_names=["B", "A"]), listen("A", "t2", "Hits", START + 3),
        listen("Daft · Punk", "Instant (feat. Some One)", "R", START + 4, kind="spotify", artist_names=None,
               duration=200),
    ]  # fmt: skip
    for music in (sqlite_music, postgres_music):
        music.load(rows[:2])
        music.load(rows[2:], first=3)
    assert sqlite_music.meaning() == postgres_music.meaning()
    assert sum(sqlite_music.meaning().values()) == 5 + 3 + 5 + 5
