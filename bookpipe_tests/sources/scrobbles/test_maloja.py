"""What Koito's importer makes of Maloja's records."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.model.listens import fold_name
from bookpipe.sources.scrobbles.maloja import split_artists
from bookpipe_tests.sources.scrobbles.reading import TIME, only, outcomes, read_bytes, read_json


def scrobble(**changes: Any) -> dict[str, Any]:
    album = {"artists": ["Album Artist"], "albumtitle": "R"}
    track = {"artists": ["A"], "title": "T", "album": album, "length": 200}
    track |= {key: changes.pop(key) for key in list(changes) if key in track}
    return {"time": TIME, "track": track, "duration": 100, "origin": "client:default"} | changes


def export(*records: Any) -> dict[str, Any]:
    return {"maloja": {"export_time": TIME}, "scrobbles": list(records)}


def test_a_scrobble_has_what_koito_takes_and_nothing_else(tmp_path: Path) -> None:
    [row] = read_json(tmp_path, "maloja.json", export(scrobble()))
    wanted = {
        "kind": "maloja",
        "row": 1,
        "listened_at": TIME,
        "listened_us": 0,
        "title": "T",
        "artist": "A",
        "artist_names": ["A"],
        "album": "R",
        "duration": 0,  # Koito ignores Maloja's lengths
        "client": "maloja",
    }
    assert {key: value for key, value in row.items() if value is not None and key != "origin"} == wanted


def test_the_api_shape_is_read_too(tmp_path: Path) -> None:
    document = {"status": "ok", "list": [scrobble(), scrobble(title="U")], "pagination": {"page": 0}}
    assert [row["title"] for row in read_json(tmp_path, "any name.json", document)] == ["T", "U"]


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"scrobbles": [{"time": 1600000000, "track": {"artists": ["A"], "title": "T"}}]}'
    assert [row["title"] for row in read_bytes(tmp_path, "x.json", data)] == ["T"]


@pytest.mark.parametrize(
    ("artists", "artist", "names"),
    [
        (["A"], "A", ["A"]),
        (["A", "B"], "A", ["A", "B"]),
        (["B", "A • B"], "A • B", ["A", "B"]),
        (["C", "A • B", "D • E"], "A • B", ["A", "B", "C", "D", "E"]),
        (["A • a • Ä • ä"], "A • a • Ä • ä", ["A", "Ä"]),
        (["A•B"], "A•B", ["A•B"]),
        (["A &amp; B"], "A &amp; B", ["A &amp; B"]),
        (["A feat. B"], "A feat. B", ["A feat. B"]),
        (["A "], "A ", ["A "]),
        (["A", "a"], "A", ["A"]),
        (["ſ", "S", "s", "Straße", "STRAẞE", "Strasse"], "ſ", ["ſ", "Straße", "Strasse"]),
    ],
)
def test_artists_are_ordered_split_and_made_unique(artists: list[str], artist: str, names: list[str]) -> None:
    assert split_artists(artists) == (artist, names)


@given(
    st.lists(st.text("aAsSſß •", min_size=1).filter(lambda name: all(p.strip() for p in name.split(" • "))), min_size=1)
)
def test_each_name_is_kept_once_in_some_case(artists: list[str]) -> None:
    _, names = split_artists(artists)
    folded = [fold_name(name) for name in names]
    assert len(set(folded)) == len(folded)
    assert set(folded) == {fold_name(name) for artist in artists for name in artist.split(" • ")}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (scrobble(album=None), None),
        (scrobble(album=[]), None),
        (scrobble(album={"albumtitle": None}), None),
        (scrobble(album={"albumtitle": 1999}), None),
        (scrobble(length="3:05"), None),
        (scrobble(duration={"odd": 1}, origin=5), None),
        (scrobble(time=str(TIME)), None),
        (scrobble(time=TIME + 0.75), None),
        ({"Time": TIME, "TRACK": {"Artists": ["A"], "tItle": "T"}}, None),
        (scrobble(artists=[]), "empty_artist"),
        (scrobble(artists=None), "empty_artist"),
        (scrobble(artists=[""]), "empty_artist"),
        (scrobble(artists=["\0"]), "empty_artist"),
        (scrobble(artists=["A", None]), "empty_artist"),
        (scrobble(artists=["A •  • B"]), "empty_artist"),
        (scrobble(artists=[" \u3000"]), "empty_artist"),
        (scrobble(title=""), "empty_title"),
        (scrobble(title=None), "empty_title"),
        (scrobble(title="\0"), "empty_title"),
        (scrobble(track=None), "empty_artist"),
        (scrobble(time=None), "bad_time"),
        (scrobble(time="soon"), "bad_time"),
        (scrobble(time=True), "bad_time"),
        (scrobble(time=0), "bad_time"),
        (scrobble(time=86_399), "bad_time"),
        (scrobble(time=-TIME), "bad_time"),
        (scrobble(time=10**30), "bad_time"),
        (scrobble(time=TIME * 1000), "future_time"),
        (scrobble(time=1_760_100_000), "future_time"),
        (scrobble(time=1_760_080_000), None),
        (scrobble(title=1999), "bad_record"),
        (scrobble(artists="A"), "bad_record"),
        (scrobble(artists=[["A"]]), "bad_record"),
        (scrobble(track="T"), "bad_record"),
        (scrobble(title="x" * 3000), "text_too_long"),
        ("text", "bad_record"),
        (None, "bad_record"),
        ([], "bad_record"),
        (7, "bad_record"),
    ],
)
def test_a_bad_record_is_a_row_with_a_reason_and_the_next_one_is_read(
    tmp_path: Path, record: Any, reason: str | None
) -> None:
    rows = read_json(tmp_path, "maloja.json", export(record, scrobble(title="next")))
    assert outcomes(rows) == [reason, None]
    assert rows[1]["title"] == "next"
    assert [row["row"] for row in rows] == [1, 2]
    assert (rows[0]["detail"] is None) == (reason is None)


def test_an_album_that_is_no_text_is_no_album(tmp_path: Path) -> None:
    rows = read_json(tmp_path, "m.json", export(scrobble(album=None), scrobble(album={"albumtitle": 5})))
    assert [row["album"] for row in rows] == ["", ""]


def test_a_rejected_time_is_kept_for_whoever_wants_the_row_all_the_same(tmp_path: Path) -> None:
    rows = read_json(tmp_path, "m.json", export(scrobble(time=0), scrobble(time=TIME * 1000)))
    assert [only(row, "listened_at", "title", "artist") for row in rows] == [(0, "T", "A"), (TIME * 1000, "T", "A")]
    assert "milliseconds" in rows[1]["detail"]


def test_lone_surrogates_and_undecodable_bytes_are_replaced_as_go_does(tmp_path: Path) -> None:
    data = rb'{"scrobbles": [{"time": 1600000000, "track": {"artists": ["\ud800x\udc00"], "title": "' + b"\xe2\x82y"
    [row] = read_bytes(tmp_path, "m.json", data + b'\\ud83d\\ude00"}}]}')
    assert only(row, "artist", "artist_names", "title") == ("\ufffdx\ufffd", ["\ufffdx\ufffd"], "\ufffd\ufffdy😀")


def test_of_a_repeated_key_the_last_counts(tmp_path: Path) -> None:
    record = b'{"time": 1, "time": 1600000000, "track": {"title": "a", "title": "b", "artists": ["A"]}}'
    [row] = read_bytes(tmp_path, "m.json", b'{"scrobbles": [' + record + b"]}")
    assert only(row, "listened_at", "title", "reason") == (TIME, "b", None)


def test_titles_and_names_are_not_trimmed(tmp_path: Path) -> None:
    [row] = read_json(tmp_path, "m.json", export(scrobble(title=" T ", artists=["A "], album={"albumtitle": " R"})))
    assert only(row, "title", "artist", "artist_names", "album") == (" T ", "A ", ["A "], " R")
