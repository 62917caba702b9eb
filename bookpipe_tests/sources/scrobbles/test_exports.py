"""Files are recognised by their content, keyed by it, and read alike in whatever ranges."""

import json
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bookpipe.demo import scrobble_exports as made
from bookpipe.model.errors import BookpipeError, ConfigError, TerminalError, TransientError
from bookpipe.model.listens import LISTENS
from bookpipe.sources import scrobbles
from bookpipe.sources.scrobbles import count_rows, find_exports, open_export, read_listens, row_index
from bookpipe_tests.sources.scrobbles.reading import MAKERS, NOW, TIME, outcomes, read_all, read_json, zip_bytes

RECORDS = 2_400


@pytest.fixture(scope="module", autouse=True)
def close_marks() -> Iterator[None]:
    """Places where reading can begin inside of small members, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_index, "STEP", 100)
        yield


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, scrobbles.Export]:
    """One export of each kind. Tests must not change them."""
    folder = tmp_path_factory.mktemp("exports")
    found = {}
    for kind, (name, make) in MAKERS.items():
        make(folder / name, RECORDS, 300, 200, 7)
        found[kind] = open_export(folder / name)
    return found


@pytest.mark.parametrize("kind", MAKERS)
def test_an_export_is_recognised_by_its_content(kind: str, exports: dict[str, scrobbles.Export]) -> None:
    assert exports[kind].kind == kind
    assert re.fullmatch(rf"{kind}-\w-[0-9a-f]{{8}}", exports[kind].key)
    assert count_rows(exports[kind]) == RECORDS


@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.sets(st.integers(1, RECORDS), max_size=4))
def test_any_split_into_ranges_gives_the_same_rows(
    kind: str, cuts: set[int], exports: dict[str, scrobbles.Export]
) -> None:
    edges = [1, *sorted(cuts), RECORDS + 1]
    parts = [read_listens(exports[kind], first, last - 1, now=NOW) for first, last in pairwise(edges)]
    assert pa.concat_tables(parts).equals(read_listens(exports[kind], 1, RECORDS, now=NOW))


@pytest.mark.parametrize("kind", ["maloja", "lastfm", "koito", "listenbrainz"])
def test_reading_in_the_middle_begins_near_it(kind: str, exports: dict[str, scrobbles.Export]) -> None:
    index = row_index.scan(exports[kind], scrobbles.FORMATS[kind].records)
    assert index.rows == RECORDS
    for row in (1, 1_500, RECORDS):
        assert 0 <= row - 1 - index.before(row).rows <= row_index.STEP


def test_ranges_beyond_the_end_are_short_or_empty(exports: dict[str, scrobbles.Export]) -> None:
    export = exports["maloja"]
    assert read_listens(export, RECORDS, RECORDS + 50)["row"].to_pylist() == [RECORDS]
    assert read_listens(export, RECORDS + 1, RECORDS + 50).num_rows == 0
    assert read_listens(export, 5, 4).num_rows == 0
    assert read_listens(export, -3, 2)["row"].to_pylist() == [1, 2]
    assert read_listens(export, RECORDS + 1, RECORDS + 50).schema.equals(LISTENS)


def test_the_index_is_kept_on_disk_and_made_again_when_it_is_lost(
    exports: dict[str, scrobbles.Export], tmp_path: Path
) -> None:
    export = exports["listenbrainz"]
    whole = read_listens(export, 1_900, 2_000, now=NOW)
    row_index.scan.cache_clear()
    assert count_rows(export, index_dir=tmp_path / "indexes") == RECORDS
    [kept] = (tmp_path / "indexes").iterdir()
    assert kept.name == f"{export.key}.json"
    index = json.loads(kept.read_text())
    kept.write_text(json.dumps(index | {"rows": 17}))
    assert count_rows(export, index_dir=tmp_path / "indexes") == 17  # it is believed, not made again
    damaged = ({"rows": "x"}, {"marks": [[1]]}, {"size": export.size + 1}, {"mtime_ns": export.mtime_ns - 1})
    for damage in ("", "{", "[]", "{}", *(json.dumps(index | {"rows": 17} | change) for change in damaged)):
        kept.write_text(damage)
        assert count_rows(export, index_dir=tmp_path / "indexes") == RECORDS
        assert read_listens(export, 1_900, 2_000, now=NOW, index_dir=tmp_path / "indexes").equals(whole)
    (tmp_path / "a file").write_text("")
    assert count_rows(export, index_dir=tmp_path / "a file") == RECORDS


def test_the_index_of_a_file_that_changed_is_not_believed_when_the_key_stays(tmp_path: Path) -> None:
    path, indexes = tmp_path / "big.json", tmp_path / "indexes"
    records = [GOOD.replace(b"T", b"%06d" % n) + b",\n" for n in range(40_000)]
    path.write_bytes(b'{"scrobbles": [' + b"".join(records)[:-2] + b"]}")
    export = open_export(path)
    assert count_rows(export, index_dir=indexes) == 40_000
    two = b"".join(records[1_200:1_202])  # between two samples
    path.write_bytes(path.read_bytes().replace(two, GOOD + b" " * (len(two) - len(GOOD) - 2) + b",\n"))
    os.utime(path, ns=(0, export.mtime_ns + 1))
    changed = open_export(path)
    assert (changed.key, changed.size) == (export.key, export.size)
    assert count_rows(changed, index_dir=indexes) == 39_999
    [row] = read_listens(changed, 39_999, 40_000, index_dir=indexes).to_pylist()
    assert row["title"] == "039999"


def test_a_key_is_of_the_content(tmp_path: Path) -> None:
    made.make_maloja(tmp_path / "one.json", 300, 30, 20)
    one = open_export(tmp_path / "one.json")
    os.utime(tmp_path / "one.json", (1, 1))
    assert open_export(tmp_path / "one.json").key == one.key
    data = bytearray((tmp_path / "one.json").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "one.json").write_bytes(data)
    assert open_export(tmp_path / "one.json").key != one.key


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("maloja export (1).json", "maloja_export_1-"),
        ("Прослушивания.json", "maloja-"),
        ("my..list.json", "maloja-my_list-"),
        ("x" * 200 + ".json", f"maloja-{'x' * 60}-"),
        ("no extension", "maloja-no_extension-"),
    ],
)
def test_a_key_is_readable_and_safe(tmp_path: Path, name: str, start: str) -> None:
    made.write_maloja(tmp_path / name, [made.SampleListen(TIME, "T", ("A",))])
    key = open_export(tmp_path / name).key
    assert key.startswith(start)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", key)
    assert len(key) < 90


def test_a_file_that_changed_is_not_read_as_what_it_was(tmp_path: Path) -> None:
    made.make_maloja(tmp_path / "m.json", 300, 30, 20)
    export = open_export(tmp_path / "m.json")
    made.make_maloja(tmp_path / "m.json", 300, 30, 20, seed=8)
    with pytest.raises(TransientError, match="changed"):
        read_listens(export, 1, 10)
    (tmp_path / "m.json").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_listens(export, 1, 10)


GOOD = b'{"time": 1600000000, "track": {"title": "T", "artists": ["A"]}}'


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a", b"", "empty"),
        ("a", b" \n ", "empty"),
        ("a", b"\xef\xbb\xbf", "empty"),
        ("a", b"artist,title,time\nA,T,1\n", "no JSON"),
        ("a", b"\xff\xfe{\0}\0", "no JSON"),
        ("a", b"\0" * 1000, "no JSON"),
        ("a", b"5", "no JSON"),
        ("a", b'"scrobbles"', "no JSON"),
        ("a", b"{}", "no export"),
        ("a", b'{"scrobbles": {}}', "no export"),
        ("a", b'{"scrobbles": null}', "no export"),
        ("a", b'{"list": [1, 2]}', "no export"),
        ("a", b'{"list": [{"id": 1}]}', "no export"),
        ("a", b'[{"id": 1}]', "no export"),
        ("a", b"[" + b"1, " * 100 + GOOD + b"]", "no export"),
        ("a", b"[", "ends too early"),
        ("a", b'{"x": [', "ends"),
        ("a", b"[]", "empty list"),
        ("a", b'{"listens": []}', "no version"),
        ("a", b'{"version": "2", "listens": []}', "version '2'"),
        ("a", zip_bytes({}), "without listens"),
        ("a", zip_bytes({"readme.txt": b"x", "list.json": b"[1]"}), "without listens"),
        ("a", zip_bytes({"maloja.json": b'{"scrobbles": []}'}), "without listens"),
        ("a", zip_bytes({"listens/1.jsonl": b"{}"})[:-10], "breaks off"),
        ("a", b"PK\x03\x04" + b"x" * 100, "breaks off"),
    ],
)
def test_what_is_no_export_is_refused_with_a_reason(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TerminalError, match=message) as caught:
        open_export(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Streaming_History_Audio_2020.json", "spotify"),
        ("recenttracks-me-1.json", "lastfm"),
    ],
)
def test_an_empty_list_is_an_export_of_what_its_name_says(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"[]")
    export = open_export(tmp_path / name)
    assert export.kind == kind
    assert count_rows(export) == 0
    assert read_listens(export, 1, 10).num_rows == 0


def test_content_goes_before_the_name(tmp_path: Path) -> None:
    made.write_lastfm(tmp_path / "maloja_koito.json", [made.SampleListen(TIME, "T", ("A",))])
    assert open_export(tmp_path / "maloja_koito.json").kind == "lastfm"


def test_odd_first_records_do_not_hide_the_format(tmp_path: Path) -> None:
    rows = read_json(tmp_path, "x.json", [None, 5, {}, {"ts": "2020-09-13T12:26:40Z", "ms_played": 5}])
    assert outcomes(rows) == ["bad_record", "bad_record", "not_finished", "not_finished"]


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_that_breaks_off_gives_what_comes_before(
    kind: str, exports: dict[str, scrobbles.Export], tmp_path: Path
) -> None:
    data = exports[kind].path.read_bytes()
    whole = read_listens(exports[kind], 1, RECORDS, now=NOW)
    for cut in (len(data) - 1, len(data) - 40, len(data) // 2, len(data) // 3):
        (tmp_path / "half").write_bytes(data[:cut])
        if data.startswith(b"PK"):
            with pytest.raises(TerminalError, match="breaks off"):
                open_export(tmp_path / "half")
            continue
        export = open_export(tmp_path / "half")
        rows = count_rows(export)
        half = read_listens(export, 1, rows, now=NOW)
        assert half["reason"].to_pylist()[-1] == "damaged_file"
        assert half.slice(0, rows - 1).drop_columns("origin").equals(whole.slice(0, rows - 1).drop_columns("origin"))
        assert read_listens(export, rows, rows, now=NOW).equals(half.slice(rows - 1))
        assert abs(rows - RECORDS * cut / len(data)) < RECORDS / 10


@pytest.mark.parametrize("kind", ["spotify", "listenbrainz"])
def test_a_damaged_zip_gives_the_same_rows_in_all_ranges(
    kind: str, exports: dict[str, scrobbles.Export], tmp_path: Path
) -> None:
    data = exports[kind].path.read_bytes()
    damaged_rows = 0
    for position in range(200, len(data) - 6_000, len(data) // 12):
        damaged = bytearray(data)
        damaged[position] ^= 0x5A
        (tmp_path / "damaged").write_bytes(damaged)
        export = open_export(tmp_path / "damaged")
        rows = count_rows(export)
        whole = read_listens(export, 1, rows, now=NOW)
        damaged_rows += whole["reason"].to_pylist().count("damaged_file")
        edges = [1, rows // 3, rows // 2, rows - 1, rows + 1]
        parts = [read_listens(export, first, last - 1, now=NOW) for first, last in pairwise(edges)]
        assert pa.concat_tables(parts).equals(whole)
    assert damaged_rows >= 8


def test_the_window_leaves_out_what_is_outside_and_includes_its_ends(tmp_path: Path) -> None:
    listens = [made.SampleListen(TIME + n, f"T{n}", ("A",)) for n in range(5)]
    made.write_maloja(tmp_path / "m.json", [*listens, made.SampleListen(0, "T", ("A",))])
    export = open_export(tmp_path / "m.json")

    def read(after: int | None, before: int | None) -> list[str | None]:
        return outcomes(read_listens(export, 1, 9, after=after, before=before, now=NOW).to_pylist())

    outside, bad = "outside_window", "bad_time"
    assert read(TIME + 1, TIME + 3) == [outside, None, None, None, outside, bad]
    assert read(TIME + 4, None) == [outside] * 4 + [None, bad]
    assert read(None, TIME) == [None] + [outside] * 4 + [bad]
    assert read(0, 0) == read(-5, -5) == read(None, None) == [None] * 5 + [bad]


def test_a_folder_gives_its_exports_in_the_order_of_koito_and_says_what_the_others_are(tmp_path: Path) -> None:
    listens = [made.SampleListen(TIME, "T", ("A",))]
    made.write_maloja(tmp_path / "b maloja.json", listens)
    made.write_koito(tmp_path / "Z.json", listens)
    made.write_listenbrainz(tmp_path / "é.zip", listens)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.json").write_text("x")
    (tmp_path / "import_complete").mkdir()
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    found, others = find_exports(tmp_path)
    assert [export.path.name for export in found] == ["Z.json", "b maloja.json", "é.zip"]
    assert [(path.name, type(error)) for path, error in others] == [
        ("gone.json", ConfigError),
        ("notes.txt", TerminalError),
        ("pipe", ConfigError),
    ]


def test_a_folder_that_is_not_there_is_a_setting_to_change(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        find_exports(tmp_path / "nowhere")
    for path in (tmp_path / "nowhere.json", tmp_path, tmp_path / "nul\0.json"):
        with pytest.raises(ConfigError):
            open_export(path)


def test_a_file_name_that_is_no_text_is_replaced_in_messages(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.json"))
    path.write_bytes(b"{}")
    with pytest.raises(TerminalError) as caught:
        open_export(path)
    str(caught.value).encode()
    path.write_bytes(b'{"scrobbles": [' + GOOD)
    assert outcomes(read_all(path)) == [None, "damaged_file"]


def test_every_row_of_every_kind_fits_the_schema(exports: dict[str, scrobbles.Export]) -> None:
    for kind, export in exports.items():
        table = read_listens(export, 1, RECORDS, now=NOW)
        table.validate(full=True)
        assert table.schema.equals(LISTENS)
        assert table["row"].to_pylist() == list(range(1, RECORDS + 1))
        assert set(table["kind"].to_pylist()) == {kind}
        assert set(table["origin"].to_pylist()) == {export.key}


@pytest.mark.parametrize("document", [{"scrobbles": 5}, [[[]]], {"listens": [5]}])
def test_errors_are_bookpipes_own(tmp_path: Path, document: Any) -> None:
    with pytest.raises(BookpipeError):
        read_json(tmp_path, "x.json", document)
