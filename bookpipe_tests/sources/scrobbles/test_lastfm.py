"""What Koito's importer makes of Last.fm's tracks."""

from pathlib import Path
from typing import Any

import pytest

from bookpipe_tests.sources.scrobbles.reading import MBID, TIME, only, outcomes, read_json

M1, M2, M3 = (MBID + digit for digit in "123")


def track(**changes: Any) -> dict[str, Any]:
    return {
        "artist": {"mbid": "", "#text": "A feat. B"},
        "streamable": "0",
        "image": [{"size": "small", "#text": "https://example.org/none.png"}],
        "mbid": M2,
        "album": {"mbid": M3, "#text": "R"},
        "name": "T",
        "date": {"uts": str(TIME), "#text": "13 Sep 2020, 12:26"},
    } | changes


def pages(*tracks: Any) -> list[Any]:
    return [{"track": [one], "@attr": {"page": "1"}} for one in tracks]


def test_a_track_has_what_koito_takes_and_nothing_else(tmp_path: Path) -> None:
    [row] = read_json(tmp_path, "recenttracks.json", pages(track()))
    wanted = {
        "kind": "lastfm",
        "row": 1,
        "listened_at": TIME,
        "listened_us": 0,
        "title": "T",
        "artist": "A feat. B",
        "artist_mbids": [None],  # and the artist is parsed for features
        "credit_names": [],
        "credit_mbids": [],
        "album": "R",
        "recording_mbid": M2,
        "release_mbid": M3,
        "duration": 0,
        "client": "lastfm",
    }
    assert {key: value for key, value in row.items() if value is not None and key != "origin"} == wanted


def test_an_artist_with_an_mbid_is_a_credit_of_the_whole_text(tmp_path: Path) -> None:
    [row] = read_json(tmp_path, "x.json", pages(track(artist={"mbid": M1.upper(), "#text": "A feat. B"})))
    assert only(row, "artist_mbids", "credit_names", "credit_mbids") == ([M1], ["A feat. B"], [M1])


@pytest.mark.parametrize("album", [None, {}, {"#text": "", "mbid": ""}, "R", {"#text": None}, {"#text": 5}])
def test_without_an_album_the_title_is_the_albums(tmp_path: Path, album: Any) -> None:
    [row] = read_json(tmp_path, "x.json", pages(track(album=album)))
    assert only(row, "album", "release_mbid") == ("T", None)


def test_malformed_and_nil_mbids_are_absent(tmp_path: Path) -> None:
    nil = "00000000-0000-0000-0000-000000000000"
    rows = read_json(
        tmp_path,
        "x.json",
        pages(
            track(mbid="x", artist={"mbid": "x", "#text": "A"}, album={"mbid": "x", "#text": "R"}),
            track(mbid=nil, artist={"mbid": nil, "#text": "A"}, album={"mbid": 5, "#text": "R"}),
        ),
    )
    for row in rows:
        assert only(row, "recording_mbid", "release_mbid", "artist_mbids", "credit_names") == (None, None, [None], [])


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ({"uts": str(TIME)}, TIME),
        ({"uts": TIME}, TIME),
        ({"uts": float(TIME) + 0.5}, TIME),
        ({"uts": f"+{TIME}"}, TIME),
        ({"uts": "", "#text": "13 Jun 2025, 00:55"}, 1_749_776_100),
        ({"#text": "13 jun 2025, 00:55"}, 1_749_776_100),
        ({"#text": "13  Jun   2025,  00:55"}, 1_749_776_100),
        ({"#text": "13\tJun 2025, 00:55"}, None),
        ({"#text": "13 Jun 2025,00:55"}, None),
        ({"#text": "13 Jun 2025, 00:55" + " " * 3_000}, None),
        ({"uts": "soon", "#text": "01 Feb 2006, 23:59"}, 1_138_838_340),
        ({"uts": f"{TIME} "}, None),
        ({"#text": "31 Feb 2006, 23:59"}, None),
        ({"#text": "13 Juin 2025, 00:55"}, None),
        ({"#text": "2025-06-13"}, None),
        ({"#text": "13 Jun 2025, 24:55"}, None),
        ({"#text": 5}, None),
        ("13 Jun 2025, 00:55", None),
        ({}, None),
        (None, None),
    ],
)
def test_a_time_is_seconds_or_else_a_date(tmp_path: Path, date: Any, seconds: int | None) -> None:
    [row] = read_json(tmp_path, "x.json", pages(track(date=date)))
    assert only(row, "listened_at", "reason") == (seconds, None if seconds else "bad_time")


def test_what_is_playing_now_is_no_listen_yet(tmp_path: Path) -> None:
    playing = track(**{"@attr": {"nowplaying": "true"}})
    playing.pop("date")
    assert outcomes(read_json(tmp_path, "x.json", pages(playing, track()))) == ["not_a_listen", None]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (track(name=""), "empty_title"),
        (track(name=None), "empty_title"),
        (track(artist={"#text": ""}), "empty_artist"),
        (track(artist=None), "empty_artist"),
        (track(image=5, streamable=None, url=[]), None),
        (track(date={"uts": "0"}), "bad_time"),
        (track(date={"uts": "-5"}), "bad_time"),
        (track(date={"uts": "99999999999"}), "future_time"),
        (track(artist="A"), "bad_record"),
        (track(name=["T"]), "bad_record"),
        (5, "bad_record"),
    ],
)
def test_a_bad_track_is_a_row_with_a_reason(tmp_path: Path, record: Any, reason: str | None) -> None:
    assert outcomes(read_json(tmp_path, "x.json", pages(record, track()))) == [reason, None]


def test_a_page_may_hold_one_track_without_a_list(tmp_path: Path) -> None:
    document = [{"track": track(name="one")}, {"track": [track(name="two"), track(name="three")]}, {"track": []}]
    assert [row["title"] for row in read_json(tmp_path, "x.json", document)] == ["one", "two", "three"]


def test_a_page_that_is_none_is_a_row_and_the_next_page_is_read(tmp_path: Path) -> None:
    document = [{"track": [track()]}, None, "page", {"track": "none"}, {"@attr": {}}, {"track": None}, *pages(track())]
    bad = "bad_record"
    assert outcomes(read_json(tmp_path, "x.json", document)) == [None, bad, bad, bad, None]
