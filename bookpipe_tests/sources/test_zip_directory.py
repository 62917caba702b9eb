"""The zip directory reader against the standard library's writer, and against archives that lie."""

import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.sources.zip_directory import MAX_DIRECTORY_BYTES, MAX_ENTRIES, ReadAt, ZipEntry, read_entries, read_member


def _reader(data: bytes) -> ReadAt:
    return lambda offset, length: data[offset : offset + length]


def _entries(data: bytes) -> list[ZipEntry] | None:
    return read_entries(len(data), _reader(data))


def _zip(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.comment = comment
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _zip64_end(data: bytes) -> bytes:
    """The same zip with its counts, size and offset in a zip64 record, as archives over 4 GB have them."""
    total, length, offset = struct.unpack_from("<10xHII", data, len(data) - 22)
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, total, total, length, offset)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, offset + length, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:-22] + record + locator + end


_MEMBERS = {"a.txt": b"first", "folder/b.txt": b"second" * 1000, "žluťoučký.txt": b""}


@pytest.mark.parametrize(
    "data",
    [
        _zip(_MEMBERS),
        _zip(_MEMBERS, zipfile.ZIP_STORED),
        _zip(_MEMBERS, comment=b"x" * 65_535),
        b"MZ junk in front" * 100 + _zip(_MEMBERS),
        _zip64_end(_zip(_MEMBERS)),
        _zip(_MEMBERS) + b"\0" * 3000,
    ],
    ids=["deflated", "stored", "longest comment", "junk in front", "zip64", "bytes behind the end"],
)
def test_the_names_are_those_that_were_written(data: bytes) -> None:
    entries = _entries(data)
    assert entries is not None
    assert [entry.name.decode() for entry in entries] == list(_MEMBERS)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_reads_as_written_up_to_the_limit(method: int) -> None:
    data = _zip(_MEMBERS, method)
    entries = _entries(data)
    assert entries is not None
    read = [read_member(entry, len(data), _reader(data), 100) for entry in entries]
    assert read == [content[:100] for content in _MEMBERS.values()]


def test_a_member_that_cannot_be_inflated_reads_as_none() -> None:
    data = _zip({"a": b"text" * 100})
    entry = (_entries(data) or [])[0]
    damaged = data[:31] + b"\xff" * 8 + data[39:]
    assert read_member(entry, len(data), _reader(damaged), 100) is None
    assert read_member(entry._replace(flags=1), len(data), _reader(data), 100) is None  # encrypted
    assert read_member(entry._replace(method=14), len(data), _reader(data), 100) is None  # LZMA
    assert read_member(entry._replace(offset=7), len(data), _reader(data), 100) is None
    assert read_member(entry._replace(offset=1 << 31), len(data), _reader(data), 100) is None


def test_a_small_zip_that_inflates_to_fifty_megabytes_costs_only_the_limit() -> None:
    data = _zip({"bomb": b"\0" * 50_000_000})
    entry = (_entries(data) or [])[0]
    assert read_member(entry, len(data), _reader(data), 1000) == b"\0" * 1000


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04", b"PK\x05\x06", _zip(_MEMBERS)[:-1], _zip(_MEMBERS)[:-30], b"\0" * 100_000],
    ids=["empty", "start only", "cut end", "cut by one", "cut directory", "no zip"],
)
def test_without_an_end_record_there_is_no_directory(data: bytes) -> None:
    assert _entries(data) is None


def test_a_zip_without_members_has_an_empty_directory() -> None:
    assert _entries(_zip({})) == []


def test_more_entries_than_the_limit_are_refused() -> None:
    entry = struct.pack("<4s42x", b"PK\x01\x02")

    def data(count: int) -> bytes:
        end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, count * len(entry), 0, 0)
        return entry * count + end

    assert len(_entries(data(MAX_ENTRIES)) or []) == MAX_ENTRIES
    assert _entries(data(MAX_ENTRIES + 1)) is None


def test_a_directory_that_claims_to_be_larger_than_the_limit_is_not_read() -> None:
    asked = []

    def read_at(offset: int, length: int) -> bytes:
        asked.append(length)
        tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, MAX_DIRECTORY_BYTES + 1, 0, 0)
        return (b"\0" * (length - len(tail)) + tail)[:length]

    assert read_entries(1 << 40, read_at) is None
    assert sum(asked) <= 4096


@given(st.binary(max_size=300), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFF))
def test_any_end_record_is_survived(junk: bytes, length: int, offset: int, total: int) -> None:
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, total, total, length, offset, 0)
    entries = _entries(junk + b"PK\x01\x02" + junk + end)
    for entry in entries or []:
        read_member(entry, 1000, _reader(junk), 100)


@given(st.binary(max_size=300), st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), st.integers(0, 500))
def test_any_zip64_record_is_survived(junk: bytes, length: int, offset: int, record_at: int) -> None:
    record = struct.pack("<4s36xQQ", b"PK\x06\x06", length, offset)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, record_at, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    _entries(junk + record + locator + end)
    _entries(junk + record + record + locator + end)
