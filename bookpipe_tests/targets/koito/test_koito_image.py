"""The image of a database holds everything that the rules can find by a chunk's texts, in the order of the look-ups."""

from dataclasses import replace

import pytest

from bookpipe.model.listen_plans import KnownRelease, KnownTrack, KoitoImage, Wanted
from bookpipe.resolve.listens import ListenOptions, prepare_listens, resolve_listens, wanted
from bookpipe_tests.targets.koito.music import START, Music, listen, listens

MBID = "11111111-2222-4333-8444-{:012x}"


def add_artist(music: Music, artist: int, *aliases: str, mbid: str | None = None) -> None:
    """Ids are ours, so that their order and that of the rows can differ."""
    overriding = "" if music.sqlite else "OVERRIDING SYSTEM VALUE"
    music.sql(f"INSERT INTO artists (id, musicbrainz_id) {overriding} VALUES (?, ?)", artist, mbid)
    for n, alias in enumerate(aliases):
        add_alias(music, "artist", artist, alias, primary=n == 0)


def add_alias(music: Music, kind: str, owner: int, alias: str, primary: bool = True) -> None:
    music.sql(
        f"INSERT INTO {kind}_aliases ({kind}_id, alias, source, is_primary) VALUES (?, ?, 'Canonical', ?)",
        owner, alias, primary,
    )  # fmt: skip


def add_release(music: Music, release: int, title: str | None, *artists: int, mbid: str | None = None) -> None:
    overriding = "" if music.sqlite else "OVERRIDING SYSTEM VALUE"
    music.sql(f"INSERT INTO releases (id, musicbrainz_id) {overriding} VALUES (?, ?)", release, mbid)
    if title is not None:
        add_alias(music, "release", release, title)
    for n, artist in enumerate(artists):
        music.sql("INSERT INTO artist_releases VALUES (?, ?, ?)", artist, release, n == 0)


def add_track(
    music: Music, track: int, title: str | None, release: int, *artists: int, mbid: str | None = None, duration: int = 0
) -> None:
    overriding = "" if music.sqlite else "OVERRIDING SYSTEM VALUE"
    music.sql(
        f"INSERT INTO tracks (id, musicbrainz_id, release_id, duration) {overriding} VALUES (?, ?, ?, ?)",
        track, mbid, release, duration,
    )  # fmt: skip
    if title is not None:
        add_alias(music, "track", track, title)
    for n, artist in enumerate(artists):
        music.sql("INSERT INTO artist_tracks VALUES (?, ?, ?)", artist, track, n == 0)


def test_an_empty_database_has_an_empty_image(music: Music) -> None:
    image = music.image(artist_names=["A"], release_titles=["R"], track_titles=["T"], recording_mbids=[MBID.format(1)])
    assert image == KoitoImage(alias_joint="||" if music.sqlite else None)
    assert image.whole_seconds == music.sqlite


def test_artists_are_found_by_any_alias_or_mbid_with_all_of_their_aliases(music: Music) -> None:
    add_artist(music, 4, "One", "Uno", mbid=MBID.format(1))
    add_artist(music, 5, "Two", "Duo", "Dos")
    add_artist(music, 6, "Three")
    image = music.image(artist_names=["Duo", "one"], artist_mbids=[MBID.format(1), MBID.format(2)])
    assert image.artists == {4: MBID.format(1), 5: None}
    assert set(image.artist_aliases) == {(4, "One"), (4, "Uno"), (5, "Two"), (5, "Duo"), (5, "Dos")}


def test_names_are_compared_exactly(music: Music) -> None:
    names = [
        "fripSide",
        "FripSide",
        "fripSide ",
        "Björk",
        "Bjo\u0308rk",
        "ß",
        "ss",
        "\x1e",
        "a\x1eb",
        "%",
        "?",
        "\\",
        "'",
    ]
    for n, name in enumerate(names, start=1):
        add_artist(music, n, name)
    for n, name in enumerate(names, start=1):
        assert music.image(artist_names=[name]).artists == {n: None}, name
    assert len(music.image(artist_names=names).artists) == len(names)


def test_of_several_artists_of_a_name_the_oldest_alias_or_the_lowest_id_comes_first(music: Music) -> None:
    for artist in (9, 3, 5):
        add_artist(music, artist, f"Real {artist}")
    for artist in (9, 5, 3):
        add_alias(music, "artist", artist, "Same", primary=False)
    image = music.image(artist_names=["Same"])
    order = [artist for artist, alias in image.artist_aliases if alias == "Same"]
    assert order == ([9, 5, 3] if music.sqlite else [3, 5, 9])


def test_of_several_releases_of_a_title_the_oldest_alias_or_the_lowest_id_comes_first(music: Music) -> None:
    add_artist(music, 1, "A")
    for release in (8, 2, 5):
        add_release(music, release, None, 1)
    for release in (8, 5, 2):
        add_alias(music, "release", release, "Hits")
    image = music.image(artist_names=["A"], release_titles=["Hits"])
    assert [release.id for release in image.releases] == ([8, 5, 2] if music.sqlite else [2, 5, 8])


def test_releases_come_by_primary_title_through_a_wanted_artist(music: Music) -> None:
    add_artist(music, 1, "A")
    add_artist(music, 2, "B")
    add_release(music, 1, "Hits", 2, 1)  # A is not its primary artist
    add_release(music, 2, "Hits", 2)  # of somebody who is not asked for
    add_release(music, 3, "Best", 1)
    add_alias(music, "release", 3, "Hits", primary=False)
    add_release(music, 4, None, 1)
    image = music.image(artist_names=["A"], release_titles=["Hits"])
    assert image.releases == [KnownRelease(1, "Hits", None)]
    assert sorted(image.release_artists) == [(1, 1), (1, 2)]


def test_releases_come_by_mbid_whoever_made_them(music: Music) -> None:
    add_artist(music, 2, "B")
    add_release(music, 7, "Hits", 2, mbid=MBID.format(7))
    add_release(music, 8, None, 2, mbid=MBID.format(8))
    image = music.image(release_mbids=[MBID.format(7), MBID.format(8), MBID.format(9)])
    assert {r.id: (r.title, r.mbid) for r in image.releases} == {7: ("Hits", MBID.format(7)), 8: (None, MBID.format(8))}
    assert sorted(image.release_artists) == [(7, 2), (8, 2)]
    assert image.artists == {}


def test_tracks_come_by_primary_title_on_a_wanted_release(music: Music) -> None:
    add_artist(music, 1, "A")
    add_artist(music, 2, "B")
    add_release(music, 1, "Hits", 1)
    add_release(music, 2, "Other", 1)
    add_release(music, 3, "By MBID", 2, mbid=MBID.format(3))
    add_track(music, 6, "Intro", 1, 2, 1, duration=61)
    add_track(music, 4, "Intro", 1, 1)
    add_track(music, 5, "Intro", 2, 1)
    add_track(music, 7, "Outro", 1, 1)
    add_alias(music, "track", 7, "Intro", primary=False)
    add_track(music, 8, "Intro", 3, 2)
    image = music.image(
        artist_names=["A"], release_titles=["Hits"], release_mbids=[MBID.format(3)], track_titles=["Intro"]
    )
    assert image.tracks == [
        KnownTrack(4, "Intro", 1, None, 0), KnownTrack(6, "Intro", 1, None, 61), KnownTrack(8, "Intro", 3, None, 0),
    ]  # fmt: skip
    assert image.track_artists == [(4, 1), (6, 2), (6, 1), (8, 2)]  # the primary artist first


def test_tracks_come_by_mbid_with_their_release(music: Music) -> None:
    add_artist(music, 1, "A")
    add_release(music, 1, "Hits", 1)
    add_track(music, 3, "Song", 1, 1, mbid=MBID.format(3), duration=5)
    add_track(music, 4, None, 1, 1, mbid=MBID.format(4))
    image = music.image(recording_mbids=[MBID.format(3), MBID.format(4)])
    assert image.tracks == [KnownTrack(3, "Song", 1, MBID.format(3), 5), KnownTrack(4, None, 1, MBID.format(4), 0)]
    assert image.releases == [KnownRelease(1, "Hits", None)]
    assert image.release_artists == [(1, 1)]


def test_an_old_sqlite_file_without_koitos_later_indexes_gives_the_same(sqlite_music: Music) -> None:
    sqlite_music.load([listen(f"A{n % 7}", f"s{n}", f"R{n % 9}", START + n) for n in range(50)])
    texts = {"artist_names": ["A1", "A2"], "release_titles": ["R1", "R2"], "track_titles": [f"s{n}" for n in range(50)]}
    image = sqlite_music.image(**texts)
    for (name,) in sqlite_music.sql("SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'idx%'"):
        sqlite_music.sql(f"DROP INDEX {name}")
    found = sqlite_music.image(**texts)
    assert sorted(found.release_artists) == sorted(image.release_artists)
    assert replace(found, release_artists=[]) == replace(image, release_artists=[])
    assert len(image.tracks) > 3


@pytest.mark.parametrize("seed", range(4))
def test_chunks_are_resolved_by_their_images_as_by_an_image_of_everything(music: Music, seed: int) -> None:
    """Names, albums and titles are few, so that everything meets everything."""
    rows = [
        listen(
            f"A{(n * 7 + seed) % 5}", f"s{(n * 5 + seed) % 11}", f"R{(n * n + seed) % 4}", START + n,
            artist_names=[f"A{(n * 7 + seed) % 5}", f"A{(n // 3) % 5}"][: 1 + n % 2],
            recording_mbid=MBID.format(n % 6) if n % 4 == 0 else None,
            release_mbid=MBID.format(100 + n % 3) if n % 5 == 0 else None,
        )
        for n in range(120)
    ]  # fmt: skip
    music.cache = False
    with music.koito.connect() as session:
        for first in range(0, 120, 15):
            table = listens(rows[first : first + 15])
            with session.writing() as writer:
                texts = wanted(prepare_listens(table, ListenOptions()))
                all_of_it = Wanted(
                    artist_names=frozenset(f"A{n}" for n in range(5)),
                    release_titles=frozenset(f"R{n}" for n in range(4)),
                    release_mbids=frozenset(MBID.format(100 + n) for n in range(3)),
                    track_titles=frozenset(f"s{n}" for n in range(11)),
                    recording_mbids=frozenset(MBID.format(n) for n in range(6)),
                )
                plans = [
                    resolve_listens(
                        prepare_listens(table, ListenOptions()), writer.image(asked, "e", first, first + 14)
                    )
                    for asked in (texts, all_of_it)
                ]
                assert plans[0] == plans[1]
            music.load_chunk(session, rows[first : first + 15], first=first)
    assert music.is_sound()


ODD_NAMES = ("NULL", "null", "{a,b}", '"', "\\", '\\"', "a'b", "%s", "?", "a,b", "line\nbreak", "ünïcödé 🎵")


def test_names_that_mean_something_to_a_database_are_names(music: Music) -> None:
    music.load(listen(name, name, name, START + n) for n, name in enumerate(ODD_NAMES))
    image = music.image(artist_names=ODD_NAMES, release_titles=ODD_NAMES, track_titles=ODD_NAMES)
    assert sorted(alias for _, alias in image.artist_aliases) == sorted(ODD_NAMES)
    assert sorted(str(release.title) for release in image.releases) == sorted(ODD_NAMES)
    assert sorted(str(track.title) for track in image.tracks) == sorted(ODD_NAMES)
