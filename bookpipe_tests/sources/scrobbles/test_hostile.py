"""Files made to hurt: they end in rows with reasons or in bookpipe's own errors, in bounded memory."""

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bookpipe.demo import scrobble_exports as made
from bookpipe.model.errors import BookpipeError, TerminalError
from bookpipe.model.rejections import Reason
from bookpipe.sources.scrobbles import count_rows, open_export, read_listens
from bookpipe_tests.sources.scrobbles.reading import NOW, TIME, outcomes, read_all, read_bytes, zip_bytes

GOOD = '{"time": 1600000000, "track": {"title": "T", "artists": ["A"]}}'
REASONS = {reason.value for reason in Reason} | {None}
FRAGMENTS = (
    b'{ } [ ] , " \\ null NaN -1e999 true [] {} ", \\ud800 \xed\xa0\x80 \xef\xbb\xbf \0 99999999999999999999'.split(
        b" "
    )
)
SEEDS: list[bytes] = []
LISTENS = [made.SampleListen(TIME + n, f"T{n}", ("A", "B"), "R") for n in range(3)]


def seeds(folder: Path) -> list[bytes]:
    """A small export of each kind, as bytes."""
    made.write_maloja(folder / "m", LISTENS)
    made.write_maloja(folder / "a", LISTENS, api_shape=True)
    made.write_spotify(folder / "s", LISTENS)
    made.write_spotify(folder / "s.zip", LISTENS)
    made.write_lastfm(folder / "l", LISTENS)
    made.write_listenbrainz(folder / "b", LISTENS)
    made.write_koito(folder / "k", LISTENS)
    return [(folder / name).read_bytes() for name in ("m", "a", "s", "s.zip", "l", "b", "k")]


def check_any(path: Path, data: bytes) -> None:
    """Whatever the bytes are, they are refused, or read in one way."""
    path.write_bytes(data)
    try:
        export = open_export(path)
    except BookpipeError as error:
        assert len(str(error)) > 20
        return
    rows = count_rows(export)
    table = read_listens(export, 1, rows + 5, now=NOW)
    assert table.num_rows == rows
    table.validate(full=True)
    assert set(table["reason"].to_pylist()) <= REASONS
    middle = rows // 2 + 1
    assert read_listens(export, middle, rows, now=NOW).equals(table.slice(middle - 1))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from([b"", b"[", b'{"scrobbles": [', b'[{"track": [', b"PK\x03\x04"]))
def test_arbitrary_bytes_are_refused_or_read(tmp_path: Path, data: bytes, start: bytes) -> None:
    check_any(tmp_path / "x", start + data)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_exports_with_damage_are_refused_or_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    if not SEEDS:
        SEEDS.extend(seeds(tmp_path_factory.mktemp("seeds")))
    folder = tmp_path_factory.getbasetemp()
    export = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(export) - 1)))
        length = data.draw(st.integers(0, 8))
        export[at : at + length] = data.draw(st.binary(max_size=8) | st.sampled_from(FRAGMENTS))
    check_any(folder / "damaged", bytes(export))


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """What Python allocates inside of the block never exceeds `limit` bytes."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit


def sparse(path: Path, before: str, size: int, after: str) -> None:
    """A file with a run of NULs in its middle, which takes no place on disk."""
    with path.open("wb") as file:
        file.write(before.encode())
        file.seek(size, io.SEEK_CUR)
        file.write(after.encode())


@pytest.mark.parametrize("size", [80 << 20, pytest.param(2 << 30, marks=pytest.mark.slow)])
def test_a_huge_record_is_passed_over_in_bounded_memory(tmp_path: Path, size: int) -> None:
    path = tmp_path / "maloja.json"
    sparse(path, f'{{"scrobbles": [{GOOD}, {{"title": "', size, f'"}}, {GOOD}]}}')
    with memory_below(60 << 20):
        rows = read_all(path)
    assert outcomes(rows) == [None, "bad_record", None]
    assert "larger" in rows[1]["detail"]


def test_a_huge_value_before_the_records_is_passed_over_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "maloja.json"
    sparse(path, '{"junk": {"a": ["', 80 << 20, f'"]}}, "scrobbles": [{GOOD}]}}')
    with memory_below(20 << 20):
        assert outcomes(read_all(path)) == [None]


def test_a_huge_line_is_passed_over_in_bounded_memory(tmp_path: Path) -> None:
    listen = b'{"listened_at": 1600000000, "track_metadata": {"artist_name": "A", "track_name": "T"}}\n'
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("listens/2020/9.jsonl", listen + b" " * (64 << 20) + b"\n" + listen)
    with memory_below(40 << 20):
        assert outcomes(read_all(path)) == [None, "bad_record", None]


@pytest.mark.parametrize(
    "record", ["[" * 3_000_000, "[" * 200_000 + "]" * 200_000, '{"a":' * 100_000 + "1" + "}" * 100_000]
)
def test_deep_nesting_is_a_bad_record_or_the_end(tmp_path: Path, record: str) -> None:
    found = outcomes(read_bytes(tmp_path, "m", f'{{"scrobbles": [{GOOD}, {record}, {GOOD}]}}'.encode()))
    assert found in ([None, "bad_record", None], [None, "damaged_file"])


def test_many_long_names_do_not_fill_memory(tmp_path: Path) -> None:
    names = ", ".join(['"' + "x" * 2_400 + '"'] * 1_000)
    record = f'{{"time": 1600000000, "track": {{"title": "T", "artists": [{names}]}}}}'
    data = f'{{"scrobbles": [{", ".join([record] * 30)}]}}'.encode()
    (tmp_path / "m").write_bytes(data)
    export = open_export(tmp_path / "m")
    with memory_below(30 << 20):
        table = read_listens(export, 1, 100, now=NOW)
    assert table["reason"].to_pylist() == ["text_too_long"] * 30
    assert max(map(len, table["detail"].to_pylist())) <= 300


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for n in range(3):
            with archive.open(f"listens/2020/{n}.jsonl", "w") as member:
                for _ in range(100):
                    member.write(b"\0" * (1 << 20))
    with memory_below(5 << 20), pytest.raises(TerminalError, match="unpack to 300 MiB"):
        open_export(path)


def claiming(size: int, data: bytes) -> bytes:
    """A zip of one member whose directory claims this unpacked size."""
    at = data.rindex(b"PK\x01\x02") + 24
    return data[:at] + struct.pack("<I", size) + data[at + 4 :]


def test_a_member_that_lies_about_its_size_is_damaged(tmp_path: Path) -> None:
    line = b'{"listened_at": 1600000000, "track_metadata": {"artist_name": "A", "track_name": "T"}}\n'
    whole = zip_bytes({"listens/1.jsonl": line * 40_000})
    for size in (100, len(line) * 40_000 - 1, len(line) * 40_000 + 1):
        found = outcomes(read_bytes(tmp_path, "x.zip", claiming(size, whole)))
        assert found[-1] == "damaged_file"
        assert found.count("damaged_file") == 1
        assert set(found[:-1]) <= {None, "bad_record"}


@pytest.mark.parametrize("offset", [5, 100_000, 0xFFFFFFFE])
def test_a_member_that_is_not_where_the_zip_says_is_damaged(tmp_path: Path, offset: int) -> None:
    whole = zip_bytes({"listens/1.jsonl": b"{}\n" * 100, "listens/2.jsonl": b"5\n"})
    at = whole.index(b"PK\x01\x02") + 42
    rows = read_bytes(tmp_path, "x.zip", whole[:at] + struct.pack("<I", offset) + whole[at + 4 :])
    assert outcomes(rows) == ["damaged_file", "bad_record"]


def test_an_encrypted_or_oddly_packed_member_is_damaged(tmp_path: Path) -> None:
    line = b'{"listened_at": 1600000000, "track_metadata": {"artist_name": "A", "track_name": "T"}}\n'
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("listens/1.jsonl", line)
            archive.writestr("listens/2.jsonl", line, compress_type=zipfile.ZIP_STORED)
        assert outcomes(read_bytes(tmp_path, "x.zip", buffer.getvalue())) == ["damaged_file", None]
    data = bytearray(zip_bytes({"listens/1.jsonl": line}))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    [row] = read_bytes(tmp_path, "x.zip", bytes(data))
    assert "encrypted" in row["detail"]


def test_a_flipped_bit_that_stays_json_is_told_by_the_checksum(tmp_path: Path) -> None:
    line = b'{"listened_at": 1600000000, "track_metadata": {"artist_name": "A", "track_name": "T"}}\n'
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("listens/1.jsonl", line)
    rows = read_bytes(tmp_path, "x.zip", buffer.getvalue().replace(b'"T"', b'"U"'))
    assert outcomes(rows) == [None, "damaged_file"]
    assert "checksum" in rows[1]["detail"]


def test_a_zip_with_a_million_entries_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(50_001):
            archive.writestr(f"listens/{n}.jsonl", b"")
    with pytest.raises(TerminalError, match="too many"):
        open_export(path)


def test_a_member_without_a_name_is_passed_over(tmp_path: Path) -> None:
    line = b'{"listened_at": 1600000000, "track_metadata": {"artist_name": "A", "track_name": "T"}}\n'
    data = zip_bytes({"NONE": line, "listens/1.jsonl": line}).replace(b"NONE", b"\0ONE")  # a name ends at a NUL
    assert outcomes(read_bytes(tmp_path, "x.zip", data)) == [None]


def test_names_in_a_zip_lead_nowhere(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    line = b'{"listened_at": 1600000000, "track_metadata": {"artist_name": "A", "track_name": "T"}}\n'
    for names in (
        ["listens/../../up.jsonl", "listens//absolute.jsonl", "listens/nul\0.jsonl"],
        ["/listens/absolute.jsonl", "../listens/up.jsonl", "C:/listens/x.jsonl"],
    ):
        rows = read_bytes(inside, "x.zip", zip_bytes([(name, line) for name in names]))
        assert set(outcomes(rows)) == {None}
    assert [path.name for path in tmp_path.rglob("*")] == ["inside", "x.zip"]
