"""What Koito's importer makes of ListenBrainz' listens."""

import json
from pathlib import Path
from typing import Any

import pytest

from bookpipe_tests.sources.scrobbles.reading import MBID, TIME, Row, only, outcomes, read_bytes, zip_bytes

M1, M2, M3, M4, M5 = (MBID + digit for digit in "12345")
NIL = "00000000-0000-0000-0000-000000000000"


def listen(info: Any = None, mapping: Any = None, **changes: Any) -> dict[str, Any]:
    track = {"artist_name": "A", "track_name": "T", "release_name": "R"}
    track |= {key: changes.pop(key) for key in list(changes) if key in track}
    return {
        "listened_at": TIME,
        "inserted_at": TIME + 5,
        "track_metadata": track | {"additional_info": info or {}, "mbid_mapping": mapping},
    } | changes


def lines(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def read(folder: Path, *records: Any) -> list[Row]:
    data = zip_bytes({"user.json": b"{}", "listens/2020/9.jsonl": lines(*records)})
    return read_bytes(folder, "listenbrainz_user.zip", data)


def test_a_listen_has_what_koito_takes_and_nothing_else(tmp_path: Path) -> None:
    info = {
        "media_player": "P",
        "submission_client": "S",
        "artist_names": ["A", "B"],
        "artist_mbids": [M1, "x", M2.upper()],
        "recording_mbid": M3,
        "release_mbid": M4,
        "release_group_mbid": M5,
        "duration": 200,
        "duration_ms": 5000,
        "tags": {"unknown": 1},
    }
    mapping = {
        "recording_mbid": M1,
        "release_mbid": M1,
        "artist_mbids": [M5],
        "artists": [{"artist_mbid": M1, "artist_credit_name": "A"}, {"artist_mbid": M2, "artist_credit_name": "B"}],
    }
    [row] = read(tmp_path, listen(info, mapping))
    wanted = {
        "kind": "listenbrainz",
        "row": 1,
        "listened_at": TIME,
        "listened_us": 0,
        "title": "T",
        "artist": "A",
        "artist_names": ["A", "B"],
        "artist_mbids": [M1, M2],
        "credit_names": ["A", "B"],
        "credit_mbids": [M1, M2],
        "album": "R",
        "recording_mbid": M3,
        "release_mbid": M4,
        "release_group_mbid": M5,
        "duration": 200,
        "client": "P",
    }
    assert {key: value for key, value in row.items() if value is not None and key != "origin"} == wanted


def test_what_was_found_stands_in_for_what_was_not_sent(tmp_path: Path) -> None:
    mapping = {"recording_mbid": M1, "release_mbid": M2, "artist_mbids": [M3]}
    rows = read(
        tmp_path,
        listen({}, mapping),
        listen({"recording_mbid": "x", "release_mbid": 5}, mapping),
        listen({"recording_mbid": NIL, "release_mbid": NIL}, mapping),
    )
    assert [only(row, "recording_mbid", "release_mbid") for row in rows] == [(M1, M2), (M1, M2), (None, None)]
    assert [row["artist_mbids"] for row in rows] == [[], [], []]  # the mapping's own list is thrown away


def test_a_nil_artist_mbid_stays_in_the_list_as_none(tmp_path: Path) -> None:
    [row] = read(tmp_path, listen({"artist_mbids": [M1, NIL, "", M2]}))
    assert row["artist_mbids"] == [M1, None, M2]


def test_credits_need_a_name_and_an_mbid_and_a_malformed_mbid_is_absent(tmp_path: Path) -> None:
    artists = [
        {"artist_mbid": M1, "artist_credit_name": "A "},
        {"artist_mbid": "", "artist_credit_name": "B"},
        {"artist_mbid": M2, "artist_credit_name": ""},
        {"artist_mbid": "b1c2", "artist_credit_name": "C"},
        {"artist_mbid": NIL, "artist_credit_name": "D"},
        {"artist_credit_name": "E"},
        "F",
        {"artist_mbid": M3, "artist_credit_name": 7},
    ]
    [row] = read(tmp_path, listen({}, {"artists": artists}))
    assert only(row, "credit_names", "credit_mbids") == (["A ", "C", "D"], [M1, None, None])


@pytest.mark.parametrize(
    ("info", "seconds"),
    [
        ({"duration": 200}, 200),
        ({"duration": 0, "duration_ms": 215_999}, 215),
        ({"duration": 183.7}, 183),
        ({"duration": "183"}, 183),
        ({"duration": "3:05", "duration_ms": 185_000}, 185),
        ({"duration": None, "duration_ms": "185000"}, 185),
        ({"duration": 2**40}, 0),
        ({}, 0),
    ],
)
def test_a_duration_is_seconds_or_milliseconds(tmp_path: Path, info: dict[str, Any], seconds: int) -> None:
    [row] = read(tmp_path, listen(info))
    assert only(row, "duration", "reason") == (seconds, None)


@pytest.mark.parametrize(
    ("info", "client"),
    [
        ({"media_player": "P", "submission_client": "S"}, "P"),
        ({"media_player": "", "submission_client": "S"}, "S"),
        ({"media_player": 5, "submission_client": "S"}, "S"),
        ({}, ""),
    ],
)
def test_the_client_is_the_player_or_what_submitted(tmp_path: Path, info: dict[str, Any], client: str) -> None:
    [row] = read(tmp_path, listen(info))
    assert row["client"] == client


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (listen(release_name=None), None),
        (listen(release_name=5), None),
        (listen(info=[1]), None),
        (listen(info={"artist_names": "A", "artist_mbids": {}, "media_player": []}), None),
        (listen(info={"artist_names": ["A", 5]}), None),
        (listen(info={"artist_mbids": ["x" * 3_000]}), None),
        (listen(info={"artist_names": ["x" * 3_000]}), "text_too_long"),
        (listen(release_name="x" * 3_000), "text_too_long"),
        (listen(mapping="x"), None),
        (listen(listened_at=str(TIME)), None),
        (listen(listened_at=TIME + 0.5), None),
        (listen(artist_name=""), "empty_artist"),
        (listen(track_name=""), "empty_title"),
        (listen(track_metadata=None), "empty_artist"),
        (listen(listened_at=None), "bad_time"),
        (listen(listened_at=0), "bad_time"),
        (listen(listened_at="now"), "bad_time"),
        (listen(listened_at=TIME * 1000), "future_time"),
        (listen(artist_name=5), "bad_record"),
        (listen(track_metadata=[]), "bad_record"),
        ([], "bad_record"),
    ],
)
def test_a_bad_listen_is_a_row_with_a_reason(tmp_path: Path, record: Any, reason: str | None) -> None:
    assert outcomes(read(tmp_path, record, listen())) == [reason, None]


def test_lists_that_hold_anything_but_texts_are_ignored(tmp_path: Path) -> None:
    [row] = read(tmp_path, listen({"artist_names": ["A", 5], "artist_mbids": [M1, 5]}))
    assert only(row, "artist_names", "artist_mbids") == ([], [])


def test_null_in_a_list_is_an_empty_text(tmp_path: Path) -> None:
    [row] = read(tmp_path, listen({"artist_names": ["A3", None], "artist_mbids": [None, M1]}))
    assert only(row, "artist_names", "artist_mbids") == (["A3", ""], [M1])


def test_a_client_has_any_length(tmp_path: Path) -> None:
    rows = read(tmp_path, listen({"media_player": "x" * 3_000, "submission_client": "y" * 3_000}), listen())
    assert [only(row, "client", "reason") for row in rows] == [("x" * 3_000, None), ("", None)]


def test_a_line_has_no_limit_of_64_kib(tmp_path: Path) -> None:
    rows = read(tmp_path, listen({"notes": "x" * 70_000}), listen({"notes": ["é"] * 300_000}), listen())
    assert outcomes(rows) == [None, None, None]


def test_a_line_that_is_no_json_is_a_row_and_blank_lines_are_none(tmp_path: Path) -> None:
    one = lines(listen())
    data = b"\xef\xbb\xbf" + one + b"\r\n\n" + one.replace(b"\n", b"\r\n") + b'{"listened_at": \n' + one[:-1]
    rows = read_bytes(tmp_path, "x.zip", zip_bytes({"listens/2020/9.jsonl": data}))
    assert outcomes(rows) == [None, None, "bad_record", None]


def test_members_are_read_in_the_order_of_the_archive_and_others_passed_over(tmp_path: Path) -> None:
    def titled(title: str) -> bytes:
        return lines(listen(track_name=title))

    data = zip_bytes(
        [
            ("feedback.jsonl", lines({"score": 1})),
            ("listens/2021/1.jsonl", titled("one")),
            ("listens/", b""),
            ("listens/2020/12.jsonl", titled("two")),
            ("listens/readme.txt", titled("no")),
            ("listens/2020/11.jsonl", b""),
            ("listens/../../escape.jsonl", titled("three")),
            ("old/listens/2021/1.jsonl", titled("no")),
        ]
    )
    rows = read_bytes(tmp_path, "x.zip", data)
    assert [row["title"] for row in rows] == ["one", "two", "three"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]
    assert not (tmp_path.parent / "escape.jsonl").exists()


def test_a_zip_that_was_packed_again_has_its_listens_in_a_folder(tmp_path: Path) -> None:
    members = {"export/listens/2021/1.jsonl": lines(listen()), "export/listens.jsonl": b"{}\n"}
    assert outcomes(read_bytes(tmp_path, "x.zip", zip_bytes(members))) == [None]
