"""What Koito's importer makes of Spotify's plays."""

from pathlib import Path
from typing import Any

import pytest

from bookpipe.model.errors import TerminalError
from bookpipe.sources.scrobbles import open_export
from bookpipe_tests.sources.scrobbles.reading import TIME, only, outcomes, read_bytes, read_json, zip_bytes

PREFIX = "master_metadata_"


def play(**changes: Any) -> dict[str, Any]:
    return {
        "ts": "2020-09-13T12:26:40Z",
        "platform": "ios",
        "ms_played": 215_999,
        PREFIX + "track_name": "T (feat. B)",
        PREFIX + "album_artist_name": "A",
        PREFIX + "album_album_name": "R",
        "episode_name": None,
        "reason_start": "clickrow",
        "reason_end": "trackdone",
    } | changes


def test_a_play_has_what_koito_takes_and_nothing_else(tmp_path: Path) -> None:
    [row] = read_json(tmp_path, "Streaming_History_Audio_2020.json", [play()])
    wanted = {
        "kind": "spotify",
        "row": 1,
        "listened_at": TIME,  # the end of the play
        "listened_us": 0,
        "title": "T (feat. B)",
        "artist": "A",
        "album": "R",
        "duration": 215,
        "client": "spotify",
    }
    assert {key: value for key, value in row.items() if value is not None and key != "origin"} == wanted


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reason_end": "fwdbtn"}, "not_finished"),
        ({"reason_end": "TrackDone"}, "not_finished"),
        ({"reason_end": None}, "not_finished"),
        ({"reason_end": 5, "ts": None}, "not_finished"),
        ({PREFIX + "track_name": None, "episode_name": "E"}, "not_a_listen"),
        ({PREFIX + "album_artist_name": ""}, "not_a_listen"),
        ({PREFIX + "album_album_name": None}, None),
        ({PREFIX + "album_album_name": 5}, None),
        ({"ms_played": "none"}, None),
        ({"ms_played": 0}, None),
        ({"ts": "0001-01-01T00:00:00Z"}, "bad_time"),
        ({"ts": "1970-01-01T00:00:00Z"}, "bad_time"),
        ({"ts": "2020-09-13 12:26"}, "bad_time"),
        ({"ts": TIME}, "bad_time"),
        ({"ts": None}, "bad_time"),
        ({"ts": "2120-09-13T12:26:40Z"}, "future_time"),
        ({PREFIX + "track_name": 1999}, "bad_record"),
        ({PREFIX + "album_artist_name": {}}, "bad_record"),
    ],
)
def test_a_play_that_is_no_listen_says_why(tmp_path: Path, changes: dict[str, Any], reason: str | None) -> None:
    rows = read_json(tmp_path, "x.json", [play(**changes), play()])
    assert outcomes(rows) == [reason, None]


@pytest.mark.parametrize(
    ("ms", "seconds"), [(215_999, 215), (215_999.9, 215), ("215999", 215), (999, 0), (-1500, -1), (2**31, 0), (None, 0)]
)
def test_a_duration_is_cut_to_whole_seconds(tmp_path: Path, ms: Any, seconds: int) -> None:
    [row] = read_json(tmp_path, "x.json", [play(ms_played=ms)])
    assert row["duration"] == seconds


def test_a_time_with_another_zone_or_a_fraction_is_the_second_it_falls_into(tmp_path: Path) -> None:
    rows = read_json(tmp_path, "x.json", [play(ts="2020-09-13T14:26:40.9+02:00")])
    assert only(rows[0], "listened_at", "listened_us") == (TIME, 0)


def named(title: str) -> bytes:
    return b'[{"ts": "2020-09-13T12:26:40Z", "master_metadata_track_name": "%s", "ms_played": 1}]' % title.encode()


def test_the_whole_zip_is_read_in_the_order_of_the_names(tmp_path: Path) -> None:
    folder = "Spotify Extended Streaming History/"
    data = zip_bytes(
        {
            folder: b"",
            folder + "ReadMeFirst.pdf": b"%PDF",
            folder + "Streaming_History_Audio_2019_1.json": named("two"),
            "other/Streaming_History_Audio_2016-2018_0.json": named("one"),
            folder + "Streaming_History_Video_2020.json": named("video"),
            folder + "endsong_3.json": named("three"),
            folder + "Userdata.json": b'{"username": "x"}',
            "__MACOSX/._Streaming_History_Audio_2019_1.json": b"\0\5\26\7",
        }
    )
    rows = read_bytes(tmp_path, "my_spotify_data.zip", data)
    assert [row["title"] for row in rows] == ["one", "two", "three"]
    assert [row["row"] for row in rows] == [1, 2, 3]


def test_a_damaged_file_of_the_zip_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    data = zip_bytes(
        {
            "Streaming_History_Audio_0.json": named("one")[:-1],
            "Streaming_History_Audio_1.json": b"",
            "Streaming_History_Audio_2.json": b'{"no": "list"}',
            "Streaming_History_Audio_3.json": b"[]",
            "Streaming_History_Audio_4.json": named("two"),
        }
    )
    rows = read_bytes(tmp_path, "x.zip", data)
    damaged = "damaged_file"
    assert [row["title"] or row["reason"] for row in rows] == ["one", damaged, damaged, damaged, "two"]


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("Streaming_History_Video_2020.json", named("T")),
        ("StreamingHistory0.json", b'[{"endTime": "2020-09-13 12:26", "artistName": "A", "trackName": "T"}]'),
    ],
)
def test_what_koito_does_not_take_is_refused(tmp_path: Path, name: str, document: bytes) -> None:
    (tmp_path / name).write_bytes(document)
    with pytest.raises(TerminalError):
        open_export(tmp_path / name)
