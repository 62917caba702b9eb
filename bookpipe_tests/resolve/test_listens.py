"""Koito's rules by name: what a few listens make of a few rows, and where we part from Koito on purpose."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from bookpipe.model.errors import ConfigError
from bookpipe.model.listen_plans import (
    ArtistLink,
    KnownRelease,
    KnownTrack,
    KoitoImage,
    ListenPlan,
    NewAlias,
    NewArtist,
    NewRelease,
    NewTrack,
    Resolution,
    Wanted,
)
from bookpipe.model.listens import LISTENS
from bookpipe.resolve.listens import ListenOptions, prepare_listens, resolve_listens, wanted
from bookpipe_tests.koito_reference import KoitoReference, connect, dump
from bookpipe_tests.listen_strategies import START, Row, exported_row, listen_row, listens_table, mbid

CACHED = ListenOptions(lookup_cache=True)
A1, A2, A3 = (mbid(1, n) for n in (1, 2, 3))
B1, B2 = (mbid(2, n) for n in (1, 2))
R1, R2 = (mbid(3, n) for n in (1, 2))


def resolve(rows: Sequence[Row], image: KoitoImage | None = None, options: ListenOptions | None = None) -> ListenPlan:
    return resolve_listens(prepare_listens(listens_table(rows), options or ListenOptions()), image or KoitoImage())


def listen(artist: str, title: str = "s", album: str = "R", **fields: Any) -> Row:
    """A listen of its own second, unless it is said otherwise."""
    return listen_row(artist=artist, title=title, album=album, **fields)


def at_own_seconds(rows: Sequence[Row]) -> list[Row]:
    return [row | {"listened_at": START + n} for n, row in enumerate(rows)]


def described(plan: ListenPlan) -> list[tuple[list[str], str, str]]:
    """(artists, the first one first; album; title) of the new track of each new listen, in the order of the listens."""
    names = {alias.owner: alias.alias for alias in plan.artist_aliases if alias.primary}
    albums = {alias.owner: alias.alias for alias in plan.release_aliases if alias.primary}
    titles = {alias.owner: alias.alias for alias in plan.track_aliases if alias.primary}
    found = []
    for track in plan.listens.column("track").to_pylist():
        links = [link for link in plan.track_links if link.owner == track]
        assert [link.primary for link in links] == [True] + [False] * (len(links) - 1)
        artists = [names.get(link.artist, str(link.artist)) for link in links]
        found.append((artists, albums.get(plan.tracks[-track - 1].release, "?"), titles[track]))
    return found


def artists_of(row: Row, image: KoitoImage | None = None) -> list[str]:
    """The artists of the only listen, in order; known ones by id."""
    return described(resolve([row], image))[0][0]


def known(*artists: tuple[int, str, str | None], joint: str | None = None) -> KoitoImage:
    """An image with artists only: id, name and MBID."""
    return KoitoImage({i: m for i, _, m in artists}, [(i, name) for i, name, _ in artists], alias_joint=joint)


def counts(plan: ListenPlan) -> tuple[int, int, int, int]:
    """New artists, albums, tracks and listens."""
    return len(plan.artists), len(plan.releases), len(plan.tracks), plan.listens.num_rows


def nothing_added(plan: ListenPlan) -> bool:
    return not any(
        getattr(plan, name)
        for name in ("artists", "artist_aliases", "releases", "release_aliases", "release_links", "tracks",
                     "track_aliases", "track_links", "artist_mbids", "release_mbids", "track_mbids",
                     "track_durations", "resolutions")
    )  # fmt: skip


# The small histories that tell Koito's rules from what one would expect


def test_an_artist_linked_to_anothers_album_goes_on_with_that_album() -> None:
    rows = at_own_seconds(
        [
            listen("B", "t1", "Hits"),
            listen("A", "t2", "Hits"),
            listen("B", "t3", "Hits", artist_names=["B", "A"]),
            listen("A", "t2", "Hits"),
        ]
    )
    plan = resolve(rows)
    assert counts(plan) == (2, 2, 4, 4)
    assert [track.release for track in plan.tracks] == [-1, -2, -1, -1]
    assert described(plan)[1][0] == described(plan)[3][0] == ["A"]


def test_an_unknown_mbid_puts_the_named_artists_before_those_found() -> None:
    rows = at_own_seconds(
        [
            listen("A", "t", credit_names=["A"], credit_mbids=[A1]),
            listen("A feat. B", "u", artist_names=["A", "B"], artist_mbids=[A1, A2]),
        ]
    )
    assert described(resolve(rows)) == [(["A"], "R", "t"), (["B", "A"], "R", "u")]


def test_a_recording_that_is_known_leaves_the_new_album_empty() -> None:
    plan = resolve(
        at_own_seconds([listen("A", "s", "Alb1", recording_mbid=R1), listen("A", "s", "Alb2", recording_mbid=R1)])
    )
    assert counts(plan) == (1, 2, 1, 2)
    assert plan.tracks == [NewTrack(R1, -1, 0)]
    assert [alias.alias for alias in plan.release_aliases] == ["Alb1", "Alb2"]


def test_untrimmed_names_are_one_artist() -> None:
    rows = at_own_seconds([listen("A ", artist_names=["A "]), listen("A ", artist_names=["A "])])
    assert counts(resolve(rows)) == (1, 1, 1, 2)


def test_case_tells_artists_albums_and_tracks_apart() -> None:
    rows = at_own_seconds([listen("fripSide", "s", "R"), listen("FripSide", "S", "r"), listen("fripSide", "S", "R")])
    assert counts(resolve(rows)) == (2, 2, 3, 3)


def test_a_track_with_more_artists_is_found() -> None:
    rows = at_own_seconds([listen("A", artist_names=["A", "B"]), listen("A", artist_names=["A"])])
    plan = resolve(rows)
    assert counts(plan) == (2, 1, 1, 2)
    assert plan.track_links == [ArtistLink(-1, -1, True), ArtistLink(-2, -1, False)]


def test_a_track_with_fewer_artists_is_not_found() -> None:
    rows = at_own_seconds([listen("A", artist_names=["A"]), listen("A", artist_names=["A", "B"])])
    assert counts(resolve(rows)) == (2, 1, 2, 2)


def test_two_listens_of_a_track_in_one_second_are_one() -> None:
    rows = [listen("A", client="x"), listen("A", client="y"), listen("A", "other", client="y")]
    plan = resolve(rows)
    assert plan.outcomes == ["inserted", "existing", "inserted"]
    assert plan.listens.to_pylist() == [
        {"row": 0, "track": -1, "listened_at": START, "listened_us": 0, "client": "x"},
        {"row": 2, "track": -2, "listened_at": START, "listened_us": 0, "client": "y"},
    ]


# Artists


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"artist": "A feat. B"}, ["B", "A"]),
        ({"artist": "A", "title": "s (feat. B)"}, ["A", "B"]),
        ({"artist": "A feat. B", "title": "s (feat. C)", "artist_names": ["D"]}, ["D"]),  # names end the parsing
        ({"artist": "A · B"}, ["A", "B"]),
        # Last.fm
        ({"artist": "A feat. B", "artist_mbids": [None]}, ["B", "A"]),
        (
            {"artist": "A feat. B", "artist_mbids": [A1], "credit_names": ["A feat. B"], "credit_mbids": [A1]},
            ["A feat. B"],
        ),
        # The same name in another case is the same artist, for this listen
        ({"artist_names": ["A", "a", "B"]}, ["A", "B"]),
        ({"artist_names": ["Kate", "\u212aate", "KATE"]}, ["Kate"]),
        ({"artist_names": ["Straße", "STRASSE", "STRAßE", "\u017ftraße"]}, ["Straße", "STRASSE"]),
        ({"artist_names": ["İ", "I", "i", "ı"]}, ["İ", "I", "ı"]),
        # Unknown MBIDs: names, else what is parsed
        ({"artist": "A feat. B", "artist_mbids": [A1]}, ["B", "A"]),
        ({"artist": "x", "artist_names": ["A", "B"], "artist_mbids": [A1, A2]}, ["A", "B"]),
        # The mapping, and what it is short of
        ({"credit_names": ["A", "B"], "credit_mbids": [A1, None]}, ["A", "B"]),
        ({"credit_names": ["A", "A"], "credit_mbids": [A1, A1]}, ["A"]),
        ({"credit_names": ["A"], "credit_mbids": [A1], "artist_names": ["a", "B"]}, ["A", "B"]),
        ({"credit_names": ["A"], "credit_mbids": [A1], "artist_names": ["B"]}, ["A"]),
        ({"credit_names": ["A", "B"], "credit_mbids": [A1, A2], "artist_mbids": [A1]}, ["A", "B"]),
        ({"credit_names": ["A"], "credit_mbids": [A1], "artist_mbids": [A1, A1]}, ["A"]),
        ({"credit_names": ["A"], "credit_mbids": [A1], "artist_mbids": [A1], "artist_names": [""]}, ["A"]),  # not read
        # An MBID more than the mapping has, and unknown: names are added, also those of the mapping, which count once
        (
            {"credit_names": ["A"], "credit_mbids": [A1], "artist_names": ["A", "B"], "artist_mbids": [A1, A2]},
            ["A", "B"],
        ),
        ({"artist": "C", "credit_names": ["A"], "credit_mbids": [A1], "artist_mbids": [A1, A2]}, ["A", "C"]),
        # No MBID and no names: the list of MBIDs brings nothing
        ({"artist": "C", "credit_names": ["A"], "credit_mbids": [A1], "artist_mbids": [None, A2]}, ["A"]),
    ],
)
def test_the_artists_of_a_listen_are_those_koito_would_list(fields: Row, names: list[str]) -> None:
    assert artists_of(listen_row(**fields)) == names


@pytest.mark.parametrize(
    ("fields", "artists"),
    [
        ({"artist": "A", "artist_mbids": [A2]}, ["2"]),  # MBIDs go before names
        ({"artist": "A", "artist_mbids": [A1, A2]}, ["1", "2"]),
        ({"artist": "A", "artist_mbids": [A1, A1, A2]}, ["1", "2"]),
        ({"artist": "C", "artist_mbids": [A1, A3]}, ["C"]),  # the one found is lost
        ({"artist": "C", "artist_mbids": [A1, None]}, ["C"]),
        ({"artist": "x", "artist_names": ["A", "C"], "artist_mbids": [A1, A3]}, ["C", "1"]),
        ({"artist": "x", "artist_names": ["A", "C"], "artist_mbids": [A1, None]}, ["C", "1"]),
        ({"artist": "x", "artist_names": ["a", "C"], "artist_mbids": [A1]}, ["1", "C"]),
        ({"artist": "B", "credit_names": ["x"], "credit_mbids": [A1]}, ["1"]),
        # One found by name has the mapping's MBID for the rest of the listen, even none
        ({"credit_names": ["A"], "credit_mbids": [None], "artist_mbids": [None, A2]}, ["1", "2"]),
        ({"credit_names": ["C"], "credit_mbids": [None], "artist_mbids": [None, A2]}, ["C"]),
    ],
)
def test_known_artists_are_found_as_koito_finds_them(fields: Row, artists: list[str]) -> None:
    image = known((1, "A", A1), (2, "B", A2))
    assert artists_of(listen_row(**fields), image) == artists


def test_mbids_without_a_mapping_are_not_stored() -> None:
    plan = resolve([listen("A", artist_names=["A"], artist_mbids=[A1])])
    assert plan.artists == [NewArtist(None)]


def test_the_mapping_gives_an_artist_its_mbid_whatever_it_had() -> None:
    image = known((1, "A", None), (2, "B", A2))
    plan = resolve([listen("x", credit_names=["A", "B"], credit_mbids=[A1, A3])], image)
    assert plan.artist_mbids == {1: A1, 2: A3}
    assert not plan.artists


def test_an_mbid_that_was_replaced_is_free_for_another_artist() -> None:
    rows = [
        listen("x", credit_names=["A"], credit_mbids=[A2]),
        listen("x", "t", credit_names=["C"], credit_mbids=[A1]),
        listen("x", "u", credit_names=["B"], credit_mbids=[A3]),
    ]
    plan = resolve(rows, known((1, "A", A1), (2, "B", None)))
    assert plan.artist_mbids == {1: A2, 2: A3}
    assert plan.artists == [NewArtist(A1)]


def test_mbids_stay_unique_when_two_artists_swap_theirs() -> None:
    rows = [
        listen("x", credit_names=["A"], credit_mbids=[A3]),
        listen("x", "t", credit_names=["B"], credit_mbids=[A1]),
        listen("x", "u", credit_names=["A"], credit_mbids=[A2]),
    ]
    plan = resolve(rows, known((1, "A", A1), (2, "B", A2)))
    assert plan.artist_mbids == {1: A2, 2: A1}


def test_a_new_artist_gets_the_mbid_it_is_given_later() -> None:
    plan = resolve([listen("A"), listen("A", credit_names=["A"], credit_mbids=[A1])])
    assert plan.artists == [NewArtist(A1)]
    assert plan.artist_mbids == {}


@pytest.mark.parametrize(("joint", "artists"), [("||", ["1"]), (None, ["1", "b"])])
def test_an_alias_counts_as_its_parts_where_koito_joins_aliases(joint: str | None, artists: list[str]) -> None:
    assert artists_of(listen_row(artist_names=["A||B", "b"]), known((1, "A||B", None), joint=joint)) == artists


def test_a_name_counts_as_its_parts_only_after_the_listen_that_brought_it() -> None:
    rows = at_own_seconds([listen_row(artist_names=["A||B", "b"])] * 2)
    plan = resolve([rows[0], rows[1] | {"title": "t"}], KoitoImage(alias_joint="||"))
    assert [artists for artists, _, _ in described(plan)] == [["A||B", "b"], ["A||B"]]


def test_an_artist_is_found_by_any_alias_and_the_first_row_wins() -> None:
    image = KoitoImage({1: None, 2: None}, [(2, "B"), (2, "A"), (1, "A")])
    assert artists_of(listen("A"), image) == ["2"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"artist": ""}, "empty_artist"),
        ({"artist": None}, "empty_artist"),
        ({"artist": " \u3000"}, "empty_artist"),
        ({"artist": "(feat. )"}, "empty_artist"),
        ({"artist": "A", "artist_names": ["New", " "]}, "empty_artist"),
        ({"artist": "A", "credit_names": ["New", ""], "credit_mbids": [A1, A2]}, "empty_artist"),
        ({"title": ""}, "empty_title"),
        ({"listened_at": None}, "bad_time"),
    ],
)
def test_a_listen_that_koito_would_stumble_over_is_rejected_and_leaves_no_trace(fields: Row, reason: str) -> None:
    plan = resolve([listen_row(**fields)], options=CACHED)
    assert (plan.outcomes, plan.reasons) == (["rejected"], [reason])
    assert plan.details[0]
    assert nothing_added(plan)
    assert plan.listens.num_rows == 0


def test_a_blank_artist_with_a_guest_in_the_title_is_the_guests_listen() -> None:
    assert artists_of(listen(" ", "s (feat. B)")) == ["B"]


def test_blank_titles_are_kept_untrimmed() -> None:
    plan = resolve([listen("A", " ", ""), listen("A", "s ", "R ")])
    assert [a.alias for a in plan.track_aliases] == [" ", "s "]
    assert [a.alias for a in plan.release_aliases] == [" ", "R "]


def test_rows_that_were_rejected_before_keep_their_reason() -> None:
    plan = resolve([listen("A"), listen("B", reason="not_finished", detail="it is so"), listen("C")])
    assert plan.outcomes == ["inserted", "rejected", "inserted"]
    assert plan.reasons == [None, "not_finished", None]
    assert plan.details == [None, "it is so", None]
    assert [a.alias for a in plan.artist_aliases] == ["A", "C"]


# Albums


def album_image(*releases: tuple[int, str | None, str | None], artist: int = 1) -> KoitoImage:
    """Artist 1 "A" and albums linked to `artist`: id, title and MBID."""
    image = known((1, "A", None), (2, "B", None))
    image.releases = [KnownRelease(*release) for release in releases]
    image.release_artists = [(release[0], artist) for release in releases]
    return image


def test_an_album_without_a_title_is_called_like_the_track() -> None:
    assert described(resolve([listen("A", "s", "")])) == [(["A"], "s", "s")]


def test_an_album_is_found_by_mbid_whatever_its_title_and_artists() -> None:
    plan = resolve([listen("B", album="other", release_mbid=B1)], album_image((5, "R", B1)))
    assert plan.tracks == [NewTrack(None, 5, 0)]
    assert plan.release_links == [ArtistLink(2, 5, False)]
    assert not plan.release_mbids


def test_an_album_found_by_title_gets_the_mbid_it_lacks() -> None:
    plan = resolve([listen("A", release_mbid=B1)], album_image((5, "R", None)))
    assert plan.release_mbids == {5: B1}
    assert not plan.releases


def test_an_album_found_by_title_keeps_the_mbid_it_has() -> None:
    plan = resolve([listen("A", release_mbid=B2)], album_image((5, "R", B1)))
    assert plan.release_mbids == {}
    assert not plan.releases


def test_a_new_album_keeps_its_first_mbid() -> None:
    plan = resolve([listen("A"), listen("A", "t", release_mbid=B1), listen("A", "u", release_mbid=B2)])
    assert plan.releases == [NewRelease(B1)]


def test_an_album_is_found_by_a_link_that_is_not_primary() -> None:
    plan = resolve([listen("A", artist_names=["A", "B"]), listen("B", "t")])
    assert len(plan.releases) == 1
    assert plan.release_links == [ArtistLink(-1, -1, True), ArtistLink(-2, -1, False)]


def test_an_album_is_not_found_by_its_second_artist_alone() -> None:
    plan = resolve([listen("x", artist_names=["B", "A"])], album_image((5, "R", None), artist=1))
    assert len(plan.releases) == 1


@pytest.mark.parametrize(
    ("releases", "found"), [([(9, "R", None), (5, "R", None)], 9), ([(5, "R", None), (9, "R", None)], 5)]
)
def test_of_several_albums_the_first_that_look_ups_meet_is_taken(releases: list[Any], found: int) -> None:
    assert resolve([listen("A")], album_image(*releases)).tracks[0].release == found


def test_albums_without_a_primary_title_are_found_by_mbid_only() -> None:
    image = album_image((5, None, B1))
    assert resolve([listen("A")], image).tracks[0].release == -1
    assert resolve([listen("A", release_mbid=B1)], image).tracks[0].release == 5


def test_an_album_without_artists_gets_those_of_the_listen() -> None:
    image = album_image((5, "R", B1))
    image.release_artists = []
    assert resolve([listen("A", release_mbid=B1)], image).release_links == [ArtistLink(1, 5, False)]


# Tracks


def track_image(*tracks: tuple[int, str | None, str | None, int]) -> KoitoImage:
    """Artist 1 "A", her album 5 "R", and tracks on it: id, title, MBID and duration."""
    image = album_image((5, "R", None))
    image.tracks = [KnownTrack(i, title, 5, m, duration) for i, title, m, duration in tracks]
    image.track_artists = [(track[0], 1) for track in tracks]
    return image


def test_a_track_is_found_by_mbid_whatever_its_title_and_album() -> None:
    plan = resolve([listen("B", "other", "other", recording_mbid=R1)], track_image((7, "s", R1, 0)))
    assert plan.listens.column("track").to_pylist() == [7]
    assert not plan.tracks
    assert len(plan.releases) == 1  # and stays empty


def test_a_track_found_by_title_gets_the_mbid_it_lacks_and_keeps_the_one_it_has() -> None:
    rows = at_own_seconds([listen("A", recording_mbid=R1), listen("A", recording_mbid=R2)])
    plan = resolve(rows, track_image((7, "s", None, 0)))
    assert plan.track_mbids == {7: R1}
    assert plan.listens.column("track").to_pylist() == [7, 7]


def test_the_first_duration_stays() -> None:
    rows = [listen("A"), listen("A", duration=180), listen("A", duration=200)]
    assert resolve(rows).tracks == [NewTrack(None, -1, 180)]
    assert resolve(rows, track_image((7, "s", None, 0))).track_durations == {7: 180}
    assert resolve(rows, track_image((7, "s", None, 90))).track_durations == {}


def test_a_track_found_by_mbid_gets_its_duration_too() -> None:
    row = listen("B", "x", "y", recording_mbid=R1, duration=180)
    assert resolve([row], track_image((7, "s", R1, 0))).track_durations == {7: 180}


def test_of_several_tracks_the_lowest_id_is_taken() -> None:
    plan = resolve([listen("A")], track_image((9, "s", None, 0), (7, "s", None, 0), (8, "s", None, 0)))
    assert plan.listens.column("track").to_pylist() == [7]


def test_tracks_without_a_primary_title_are_found_by_mbid_only() -> None:
    image = track_image((7, None, R1, 0))
    assert resolve([listen("A")], image).listens.column("track").to_pylist() == [-1]
    assert resolve([listen("A", recording_mbid=R1)], image).listens.column("track").to_pylist() == [7]


def test_a_new_track_is_written_as_koito_writes_it() -> None:
    plan = resolve([listen("A feat. B", recording_mbid=R1, release_mbid=B1, duration=3)])
    assert plan.artists == [NewArtist(None), NewArtist(None)]
    assert plan.artist_aliases == [NewAlias(-1, "B", "Canonical", True), NewAlias(-2, "A", "Canonical", True)]
    assert plan.releases == [NewRelease(B1)]
    assert plan.release_aliases == [NewAlias(-1, "R", "Canonical", True)]
    assert plan.release_links == [ArtistLink(-1, -1, True), ArtistLink(-2, -1, False)]
    assert plan.tracks == [NewTrack(R1, -1, 3)]
    assert plan.track_aliases == [NewAlias(-1, "s", "Canonical", True)]
    assert plan.track_links == [ArtistLink(-1, -1, True), ArtistLink(-2, -1, False)]


# Times


@pytest.mark.parametrize(("joint", "outcomes"), [("||", ["inserted", "existing"]), (None, ["inserted", "inserted"])])
def test_fractions_of_a_second_count_where_koito_keeps_them(joint: str | None, outcomes: list[str]) -> None:
    rows = [exported_row(listened_us=1), exported_row(listened_us=2)]
    plan = resolve(rows, KoitoImage(alias_joint=joint))
    assert plan.outcomes == outcomes
    assert plan.listens.column("listened_us").to_pylist() == ([0] if joint else [1, 2])


def test_other_listens_are_cut_to_the_second() -> None:
    plan = resolve([listen("A", listened_us=1), listen("A", listened_us=2)])
    assert plan.outcomes == ["inserted", "existing"]


# Koito's own export


def test_an_exported_listen_is_written_with_all_its_aliases() -> None:
    row = exported_row(
        [("A ", A1, ["Other", "A ", "Other ", "a", " "]), ("B", None, ["B"])],
        artist_images=["https://example.org/a.jpg", ""],
        title="s",
        track_aliases=["S", "s"],
        album="R",
        album_aliases=["R", "R2", " R2"],
        album_image="User Upload",
        various_artists=True,
        recording_mbid=R1,
        release_mbid=B1,
        duration=9,
    )
    plan = resolve([row])
    assert plan.artists == [NewArtist(A1, "https://example.org/a.jpg"), NewArtist(None)]
    assert plan.artist_aliases == [
        NewAlias(-1, "A", "Canonical", True),
        NewAlias(-1, "Other", "MusicBrainz", False),
        NewAlias(-1, "a", "MusicBrainz", False),
        NewAlias(-2, "B", "Canonical", True),
    ]
    assert plan.releases == [NewRelease(B1, True, "User Upload")]
    assert plan.release_aliases == [NewAlias(-1, "R", "Canonical", True), NewAlias(-1, "R2", "MusicBrainz", False)]
    assert plan.release_links == [ArtistLink(-1, -1, True), ArtistLink(-2, -1, False)]
    assert plan.tracks == [NewTrack(R1, -1, 9)]
    assert plan.track_aliases == [NewAlias(-1, "s", "Canonical", True), NewAlias(-1, "S", "Import", False)]
    assert plan.track_links == [ArtistLink(-1, -1, True), ArtistLink(-2, -1, False)]


def test_untrimmed_titles_of_an_export_come_back_trimmed_as_aliases() -> None:
    plan = resolve([exported_row(title="s ", track_aliases=[], album="R ", album_aliases=["R "])])
    assert [a.alias for a in plan.track_aliases] == ["s ", "s"]
    assert [a.alias for a in plan.release_aliases] == ["R ", "R"]
    assert [a.alias for a in resolve([exported_row(album="R ", album_aliases=[])]).release_aliases] == ["R "]


def test_an_export_does_not_change_what_is_there() -> None:
    row = exported_row(
        [("A", None, ["A", "new"])],
        artist_images=["https://example.org"],
        recording_mbid=R1,
        release_mbid=B1,
        duration=9,
    )
    image = track_image((7, "s", R1, 0))
    image.releases = [KnownRelease(5, "R", B1)]
    plan = resolve([row], image)
    assert nothing_added(plan)
    assert plan.listens.column("track").to_pylist() == [7]


@pytest.mark.parametrize(
    ("row", "added"),
    [
        (exported_row([("A", A1, ["A"])]), (1, 1, 1)),  # no artist of this name: it is another
        (exported_row(release_mbid=B1), (0, 1, 1)),
        (exported_row(recording_mbid=R1), (0, 0, 1)),
        (exported_row(), (0, 0, 0)),
    ],
)
def test_an_exported_mbid_is_looked_up_without_regard_to_names(row: Row, added: tuple[int, int, int]) -> None:
    assert counts(resolve([row], track_image((7, "s", None, 0))))[:3] == added


def test_an_export_links_artists_to_an_album_only_with_a_new_track() -> None:
    image = track_image((7, "s", R1, 0))
    image.releases = [KnownRelease(5, "R", B1)]
    both = [("A", None, ["A"]), ("B", None, ["B"])]
    assert not resolve([exported_row(both, release_mbid=B1, recording_mbid=R1)], image).release_links
    assert resolve([exported_row(both, release_mbid=B1)], image).release_links == [ArtistLink(2, 5, False)]


def test_an_artist_listed_twice_in_an_export_counts_once() -> None:
    rows = [exported_row([("A", A1, ["A", "B"]), ("B", None, ["B"])]) for _ in range(2)]
    plan = resolve(at_own_seconds(rows))
    assert counts(plan) == (1, 1, 1, 2)


def test_an_exported_album_without_a_title_is_called_like_the_track_and_is_one() -> None:
    plan = resolve(at_own_seconds([exported_row(album=""), exported_row(album="")]))
    assert counts(plan) == (1, 1, 1, 2)
    assert [a.alias for a in plan.release_aliases] == ["s"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (exported_row([]), "empty_artist"),
        (exported_row([], artist="A"), "empty_artist"),
        (exported_row([("A", None, ["A"]), (" ", A1, ["x"])]), "empty_artist"),
        (exported_row([("", None, [])]), "empty_artist"),
        (exported_row(title=" "), "empty_title"),
    ],
)
def test_an_exported_listen_without_names_is_rejected_and_leaves_no_trace(row: Row, reason: str) -> None:
    plan = resolve([row], options=CACHED)
    assert (plan.outcomes, plan.reasons) == (["rejected"], [reason])
    assert nothing_added(plan)


# The lookup cache


def test_without_the_cache_there_are_no_keys_and_no_resolutions() -> None:
    assert wanted(prepare_listens(listens_table([listen("A")]), ListenOptions())).keys == ()
    assert resolve([listen("A")]).resolutions == []


def digests(rows: Sequence[Row], options: ListenOptions = CACHED) -> list[bytes]:
    return [key[1] for key in wanted(prepare_listens(listens_table(rows), options)).keys]


FULL = listen_row(
    artist_names=["A"], artist_mbids=[A1], credit_names=["A"], credit_mbids=[A1], recording_mbid=R1, release_mbid=B1
)
EXPORTED = exported_row(recording_mbid=R1, release_mbid=B1)


DECISIVE: tuple[Row, ...] = (
    {"artist": "a"}, {"artist": "A "}, {"artist_names": ["A", "B"]}, {"artist_names": None}, {"artist_names": ["A "]},
    {"artist_mbids": [A2]}, {"artist_mbids": [None]}, {"credit_names": ["B"]}, {"credit_mbids": [A2]}, {"title": "S"},
    {"recording_mbid": None}, {"album": ""}, {"release_mbid": None},
)  # fmt: skip
DECISIVE_IN_EXPORTS: tuple[Row, ...] = (
    {"track_aliases": []}, {"album_aliases": []}, {"artist_aliases": [[]]}, {"artist_images": ["x"]},
    {"album_image": "x"}, {"various_artists": True}, {"kind": "spotify"}, {"artist_mbids": [A1]},
)  # fmt: skip


@pytest.mark.parametrize(
    ("row", "change"), [(FULL, change) for change in DECISIVE] + [(EXPORTED, change) for change in DECISIVE_IN_EXPORTS]
)
def test_the_digest_covers_all_that_decides(row: Row, change: Row) -> None:
    one, other = digests([row, row | change])
    assert one != other
    assert len(one) == 16


@pytest.mark.parametrize(
    ("row", "change"),
    [
        (FULL, {"listened_at": START + 1}),
        (FULL, {"client": "y"}),
        (FULL, {"kind": "lastfm"}),
        (FULL, {"origin": "other"}),
        (FULL, {"release_group_mbid": B2}),
        (listen_row(), {"artist_names": [], "artist_mbids": [], "credit_names": [], "credit_mbids": []}),
        (listen_row(album=None), {"album": ""}),
        (FULL, {"duration": 1}),
        (EXPORTED, {"duration": 1}),
        (EXPORTED, {"listened_us": 7}),
    ],
)
def test_the_digest_leaves_out_what_decides_nothing(row: Row, change: Row) -> None:
    one, other = digests([row, row | change])
    assert one == other


def test_the_digest_knows_the_parsers_setting_and_never_changes_by_itself() -> None:
    assert digests([FULL]) != digests([FULL], ListenOptions("/", lookup_cache=True))
    assert digests([FULL]) == digests([FULL], ListenOptions("", lookup_cache=True))
    assert digests([listen_row(title="Зима 🎵", artist="A")])[0].hex() == "71e113511d90560f95871b6778dade55"


def test_keys_name_the_row_the_time_and_the_digest() -> None:
    rows = [
        listen("A", reason="bad_time"), listen("A", listened_us=5, duration=7),
        exported_row(listened_us=5, duration=7), listen(""),
    ]  # fmt: skip
    keys = wanted(prepare_listens(listens_table(rows), CACHED)).keys
    assert [key._replace(digest=b"") for key in keys] == [(1, b"", START, 0, 7), (2, b"", START, 5, 0)]


def test_rows_that_were_loaded_before_are_not_replayed() -> None:
    plan = resolve([listen("A"), listen("B")], KoitoImage(loaded=frozenset({0})), CACHED)
    assert plan.outcomes == ["existing", "inserted"]
    assert [a.alias for a in plan.artist_aliases] == ["B"]


def test_a_followed_listen_fills_in_a_duration_that_is_unknown() -> None:
    image = track_image((7, "s", None, 0))
    image.followed = {digests([listen("Z", "z", "z")])[0]: 7}
    plan = resolve([listen("Z", "z", "z", duration=n) for n in (0, 180, 200)], image, CACHED)
    assert plan.track_durations == {7: 180}


def test_a_followed_listen_goes_to_its_track_and_changes_nothing_else() -> None:
    row = listen("Z", "z", "z")
    image = track_image((7, "s", None, 0))
    image.followed = {digests([row])[0]: 7}
    plan = resolve([row, row, row | {"listened_at": START + 1}], image, CACHED)
    assert plan.outcomes == ["inserted", "existing", "inserted"]
    assert plan.listens.column("track").to_pylist() == [7, 7]
    assert plan.resolutions == [Resolution(digests([row])[0], 1, 5, 7, (START, START + 1))]
    plan.resolutions = []
    assert nothing_added(plan)


def test_a_followed_track_that_the_image_lacks_has_no_resolution() -> None:
    row = listen("A")
    plan = resolve([row], KoitoImage(followed={digests([row])[0]: 7}), CACHED)
    assert plan.outcomes == ["inserted"]
    assert plan.resolutions == []


def test_a_resolution_has_the_first_artist_and_up_to_three_times() -> None:
    rows = at_own_seconds([listen("A feat. B")] * 5 + [listen("C", "x", "y")])
    plan = resolve([rows[0], *rows], None, CACHED)
    first, last = digests([rows[0], rows[5]])
    assert plan.resolutions == [
        Resolution(first, -1, -1, -1, (START, START + 1, START + 2)),
        Resolution(last, -3, -2, -2, (START + 5,)),
    ]


def test_a_digest_that_resolves_to_two_tracks_has_two_resolutions() -> None:
    rows = at_own_seconds(
        [
            listen("B", "t1", "Hits"),
            listen("A", "t2", "Hits"),
            listen("B", "t3", "Hits", artist_names=["B", "A"]),
            listen("A", "t2", "Hits"),
        ]
    )
    plan = resolve(rows, None, CACHED)
    digest = digests([rows[1]])[0]
    assert [(r.release, r.track) for r in plan.resolutions if r.digest == digest] == [(-2, -2), (-1, -4)]


# What is looked up


def test_wanted_are_all_texts_that_could_be_looked_up() -> None:
    rows = [
        listen("A feat. B", "s (feat. C)", ""),
        listen("D feat. E", "t", "R", artist_names=["F "], artist_mbids=[A1, None], recording_mbid=R1),
        listen("G", "u", "R", credit_names=["H "], credit_mbids=[A2], artist_mbids=[A2], release_mbid=B1),
        listen("I", "v", "R", credit_names=["J"], credit_mbids=[None], artist_mbids=[A2, A3]),
        exported_row([("K", mbid(1, 9), ["K", "alias"])], title="w", album="R3", recording_mbid=R2, release_mbid=B2),
        listen("L", "x", "x", reason="bad_time"),
        listen("", "y"),
    ]
    assert wanted(prepare_listens(listens_table(rows), ListenOptions())) == Wanted(
        artist_names=frozenset({"A", "B", "C", "F", "H", "J", "I", "K"}),
        artist_mbids=frozenset({A1, A2, A3, mbid(1, 9)}),
        release_titles=frozenset({"s (feat. C)", "R", "R3"}),
        release_mbids=frozenset({B1, B2}),
        track_titles=frozenset({"s (feat. C)", "t", "u", "v", "w"}),
        recording_mbids=frozenset({R1, R2}),
    )


def test_an_empty_table_wants_and_adds_nothing() -> None:
    assert wanted(prepare_listens(LISTENS.empty_table(), CACHED)) == Wanted()
    plan = resolve([])
    assert nothing_added(plan)
    assert (plan.outcomes, plan.reasons, plan.details) == ([], [], [])


def test_tables_may_come_in_chunks() -> None:
    table = listens_table([listen("A"), listen("B")])
    parts = pa.concat_tables([table.slice(0, 1), table.slice(1, 1)])
    assert resolve_listens(prepare_listens(parts, CACHED), KoitoImage()) == resolve_listens(
        prepare_listens(table, CACHED), KoitoImage()
    )


def test_separators_are_checked_when_the_options_are_made() -> None:
    with pytest.raises(ConfigError, match="BOOKPIPE_KOITO_ARTIST_SEPARATORS"):
        ListenOptions("(")
    assert artists_of(listen("A/B")) == ["A/B"]
    assert described(resolve([listen("A/B")], options=ListenOptions("/")))[0][0] == ["A", "B"]


# The reference that random listens are held to, by hand


def test_the_reference_agrees_on_the_small_histories() -> None:
    connection = connect()
    reference = KoitoReference(connection)
    rows = at_own_seconds([listen("A", "s", "Alb1", recording_mbid=R1), listen("A", "s", "Alb2", recording_mbid=R1)])
    assert [reference.submit(row) for row in [*rows, rows[0], listen("")]] == [
        "inserted",
        "inserted",
        "existing",
        "rejected",
    ]
    told = dump(connection)
    assert told["artists"] == ['["", [["A", "Canonical", 1]], ""]']
    assert [len(told[level]) for level in ("releases", "tracks", "listens")] == [2, 1, 2]
