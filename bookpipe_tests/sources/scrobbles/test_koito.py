"""What Koito's importer makes of Koito's own export."""

import json
from pathlib import Path
from typing import Any

import pytest

from bookpipe.model.errors import TerminalError
from bookpipe.sources.scrobbles import open_export, read_listens
from bookpipe_tests.sources.scrobbles.reading import MBID, NOW, TIME, only, outcomes, read_bytes, read_json

M1, M2, M3, M4 = (MBID + digit for digit in "1234")


def alias(name: Any, primary: Any = True, source: str = "Canonical") -> dict[str, Any]:
    return {"alias": name, "source": source, "is_primary": primary}


def artist(*aliases: Any, mbid: Any = None, image: str = "") -> dict[str, Any]:
    return {"image_url": image, "mbid": mbid, "is_primary": False, "aliases": list(aliases)}


def listen(**changes: Any) -> dict[str, Any]:
    return {
        "listened_at": "2020-09-13T12:26:40Z",
        "client": "C",
        "track": {"mbid": M1, "duration": 354, "aliases": [alias("T")]},
        "album": {"image_url": "", "mbid": M2, "aliases": [alias("R")], "various_artists": False},
        "artists": [artist(alias("A"), mbid=M3)],
    } | changes


def export(*listens: Any, **changes: Any) -> dict[str, Any]:
    return {"version": "1", "exported_at": "2025-06-18T12:56:53Z", "user": "u", "listens": list(listens)} | changes


def test_a_listen_has_all_that_koito_takes(tmp_path: Path) -> None:
    record = listen(
        track={"mbid": M1, "duration": 354, "aliases": [alias("T2", False), alias("T"), alias("T3")]},
        album={
            "image_url": "https://example.org/front",
            "mbid": None,
            "aliases": [alias("R"), alias("R2", False, "MusicBrainz")],
            "various_artists": True,
        },
        artists=[
            artist(alias("鈴木雅之"), alias("Masayuki Suzuki", False), mbid=M3, image="User Upload"),
            artist(alias("すぅ")),
        ],
    )
    [row] = read_json(tmp_path, "koito_export.json", export(record))
    wanted = {
        "kind": "koito",
        "row": 1,
        "listened_at": TIME,
        "listened_us": 0,
        "title": "T",
        "artist": "鈴木雅之",
        "artist_names": ["鈴木雅之", "すぅ"],
        "artist_mbids": [M3, None],
        "album": "R",
        "recording_mbid": M1,
        "duration": 354,
        "client": "C",
        "track_aliases": ["T2", "T", "T3"],
        "album_aliases": ["R", "R2"],
        "artist_aliases": [["鈴木雅之", "Masayuki Suzuki"], ["すぅ"]],
        "artist_images": ["User Upload", ""],
        "album_image": "https://example.org/front",
        "various_artists": True,
    }
    assert {key: value for key, value in row.items() if value is not None and key != "origin"} == wanted


def test_an_older_export_has_no_clients(tmp_path: Path) -> None:
    record = listen()
    record.pop("client")
    [row] = read_json(tmp_path, "k.json", export(record))
    assert only(row, "client", "reason") == ("", None)


def test_fractions_of_seconds_are_kept_aside(tmp_path: Path) -> None:
    rows = read_json(tmp_path, "k.json", export(listen(listened_at="2020-09-13T14:26:40.123456789+02:00")))
    assert only(rows[0], "listened_at", "listened_us") == (TIME, 123_456)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (listen(artists=[]), "empty_artist"),
        (listen(artists=None), "empty_artist"),
        (listen(artists=[artist()]), "empty_artist"),
        (listen(artists=[artist(alias("A")), artist(alias("B", False))]), "empty_artist"),
        (listen(artists=[artist(alias(" "))]), "empty_artist"),
        (listen(track={"aliases": []}), "empty_title"),
        (listen(track={"aliases": [alias("T", False)]}), "empty_title"),
        (listen(track=None), "empty_title"),
        (listen(album=None), None),
        (listen(album={"aliases": [], "various_artists": "yes"}), None),
        (listen(listened_at=None), "bad_time"),
        (listen(listened_at="0001-01-01T00:00:00Z"), "bad_time"),
        (listen(listened_at=TIME), "bad_time"),
        (listen(listened_at="2120-01-01T00:00:00Z"), "future_time"),
        (listen(track="T"), "bad_record"),
        (listen(album=5), "bad_record"),
        (listen(artists={"a": 1}), "bad_record"),
        (listen(artists=["A"]), "bad_record"),
        (listen(artists=[artist(alias("A"), mbid="x")]), None),
        (listen(client=5, track={"duration": "354", "aliases": [alias("T")]}), None),
        (listen(track={"aliases": [alias("T"), alias("x" * 3_000, False)]}), "text_too_long"),
        (7, "bad_record"),
    ],
)
def test_a_bad_listen_is_a_row_with_a_reason(tmp_path: Path, record: Any, reason: str | None) -> None:
    assert outcomes(read_json(tmp_path, "k.json", export(record, listen()))) == [reason, None]


def test_blank_and_malformed_aliases_are_left_out(tmp_path: Path) -> None:
    aliases = [alias(""), alias("  ", False), alias(None, False), "T0", alias("T", "yes"), {"alias": "T1"}]
    [row] = read_json(tmp_path, "k.json", export(listen(artists=[artist(*aliases[1:], alias("A"))])))
    assert only(row, "artist_names", "artist_aliases") == (["A"], [["T", "T1", "A"]])
    [row] = read_json(tmp_path, "k.json", export(listen(track={"aliases": aliases})))
    assert row["reason"] == "empty_title"  # the first alias flagged as primary is blank


@pytest.mark.parametrize("aliases", [[alias("R"), alias("R2", False), alias(" ", False)], [alias(" "), alias("R2", 0)]])
def test_of_an_albums_aliases_koito_keeps_none_when_one_is_blank(tmp_path: Path, aliases: list[Any]) -> None:
    [row] = read_json(tmp_path, "k.json", export(listen(album={"aliases": aliases})))
    assert only(row, "album", "album_aliases") == (aliases[0]["alias"], [])


@pytest.mark.parametrize("version", ["2", 1, None, "", [1], "1.0"])
def test_an_unknown_version_is_refused(tmp_path: Path, version: Any) -> None:
    with pytest.raises(TerminalError, match="version"):
        read_json(tmp_path, "koito_export.json", export(listen(), version=version))


def test_a_missing_version_is_refused_and_one_behind_the_listens_found(tmp_path: Path) -> None:
    document = export(listen())
    del document["version"]
    with pytest.raises(TerminalError, match="no version"):
        read_json(tmp_path, "k.json", document)
    assert outcomes(read_json(tmp_path, "k.json", document | {"version": "1"})) == [None]


def test_half_an_export_gives_its_first_half(tmp_path: Path) -> None:
    text = b'{"version": "1", "listens": [' + b", ".join([b'{"listened_at": "2020-09-13T12:26:40Z"}'] * 3)
    assert outcomes(read_bytes(tmp_path, "k.json", text[:-5])) == ["empty_artist"] * 2 + ["damaged_file"]


def test_clients_and_images_have_any_length(tmp_path: Path) -> None:
    long = "https://example.org/" + "x" * 5_000
    album = {"image_url": long + "\0", "aliases": [alias("R")]}
    record = listen(client=long, album=album, artists=[artist(alias("A"), image=long)])
    [row] = read_json(tmp_path, "k.json", export(record))
    assert only(row, "reason", "client", "album_image", "artist_images") == (None, long, long, [long])


def test_a_part_of_a_second_after_the_end_of_the_window_is_outside(tmp_path: Path) -> None:
    parts = ("39.5", "40", "40.000001", "40.5", "41")
    path = tmp_path / "k.json"
    path.write_text(json.dumps(export(*(listen(listened_at=f"2020-09-13T12:26:{part}Z") for part in parts))))
    found = open_export(path)
    outside = "outside_window"
    rows = read_listens(found, 1, 9, before=TIME, now=NOW).to_pylist()
    assert outcomes(rows) == [None, None, outside, outside, outside]
    rows = read_listens(found, 1, 9, after=TIME, now=NOW).to_pylist()
    assert outcomes(rows) == [outside, None, None, None, None]
