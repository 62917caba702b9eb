"""Rubbish, damage and lies never raise, cost bounded reads, and libmagic may be missing."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.demo.ebook_files import MAKERS, BookText, make_epub
from bookpipe.sources.ebook_types import HEAD_BYTES, identify, label_unknown
from bookpipe.sources.zip_directory import MAX_DIRECTORY_BYTES

BOOK = BookText("Vojna a mír", ("Lev Tolstoj",), "cs", "Série", 2.5, ("Román",), 1869, "První odstavec.\n\nDruhý.")
FILES = {extension: make(BOOK) for extension, make in MAKERS.items()}

_STARTS = [data[:length] for data in FILES.values() for length in (4, 12, 40, 90)]
_LIMIT = MAX_DIRECTORY_BYTES + 100_000


@given(st.binary(max_size=300), st.sampled_from([b"", *_STARTS]), st.none() | st.sampled_from(list(MAKERS)))
def test_arbitrary_bytes_are_survived(rest: bytes, start: bytes, name: str | None) -> None:
    data = start + rest
    kind = identify(data[:HEAD_BYTES], len(data), lambda offset, length: data[offset : offset + length], name)
    assert kind is None or kind == kind.lower()


@given(st.data(), st.sampled_from(list(MAKERS)))
def test_damaged_files_are_survived_within_the_limit(data: st.DataObject, extension: str) -> None:
    damaged = bytearray(FILES[extension])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        part = data.draw(st.binary(min_size=1, max_size=8))
        damaged[at : at + len(part)] = part
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    content = bytes(damaged)
    asked = 0

    def read_at(offset: int, length: int) -> bytes:
        nonlocal asked
        asked += length
        return content[offset : offset + length]

    identify(content[:HEAD_BYTES], len(content), read_at)
    assert asked <= 3 * len(content) + 5000


@given(st.integers(0, 1 << 50), st.binary(max_size=64), st.sampled_from(_STARTS))
def test_a_size_that_lies_is_survived_within_the_limit(size: int, content: bytes, start: bytes) -> None:
    asked = 0

    def read_at(offset: int, length: int) -> bytes:
        nonlocal asked
        assert offset >= 0
        assert length >= 0
        asked += length
        return content[:length]

    identify(start, size, read_at)
    assert asked <= _LIMIT


def test_the_source_s_own_error_passes_through() -> None:
    def read_at(offset: int, length: int) -> bytes:
        raise OSError("disk")

    data = make_epub(BOOK).replace(b"mimetype", b"mimetypo")
    with pytest.raises(OSError, match="disk"):
        identify(data[:100], len(data), read_at)


def test_what_is_asked_of_a_zip_stays_inside_the_limit() -> None:
    # Four gigabytes of claims: the end record declares the largest directory that is still read.
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, MAX_DIRECTORY_BYTES, 100, 0)
    entry = struct.pack("<4s4xHH8xI4xHHH8xI", b"PK\x01\x02", 0, 0, 0xFFFFFFFF, 8, 0, 0, 0) + b"mimetype"
    asked = 0

    def read_at(offset: int, length: int) -> bytes:
        nonlocal asked
        asked += length
        return (end if offset > 1 << 31 else entry).rjust(length, b"\0") if length > 100 else entry[:length]

    assert identify(b"PK\x03\x04".ljust(HEAD_BYTES, b"\0"), 1 << 32, read_at) == "zip"
    assert asked <= MAX_DIRECTORY_BYTES + 70_000


# -- libmagic -----------------------------------------------------------------------------------------------------


def _python(program: str, *, path: Path | None = None) -> str:
    environment = {"PYTHONPATH": ":".join([str(path)] * bool(path) + sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return result.stdout.strip()


def test_python_magic_is_not_imported_before_it_is_asked() -> None:
    program = (
        "import sys, bookpipe.sources.ebook_types as t; t.identify(b'x\\0', 2, None); print('magic' in sys.modules)"
    )
    assert _python(program) == "False"


@pytest.mark.parametrize(
    "module",
    [
        "raise ImportError('failed to find libmagic')",
        "raise OSError('broken library')",
        "",  # another module of that name
        "class Magic:\n    def __init__(self, mime): raise RuntimeError('no database')",
        "class Magic:\n    def __init__(self, mime): pass\n    def from_buffer(self, data): raise ValueError",
    ],
)
def test_without_a_working_libmagic_there_is_no_label(tmp_path: Path, module: str) -> None:
    (tmp_path / "magic.py").write_text(module)
    program = "from bookpipe.sources.ebook_types import label_unknown as l; print(l(b'\\x7fELF'), l(b'\\x7fELF'))"
    assert _python(program, path=tmp_path) == "None None"


def test_libmagic_labels_what_the_table_does_not_know() -> None:
    try:
        import magic  # noqa: F401, PLC0415
    except ImportError:
        pytest.skip("no libmagic on this machine")
    wave = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0data\0\0\0\0"
    assert identify(wave, len(wave), lambda offset, length: b"") is None
    assert label_unknown(wave) in ("audio/x-wav", "audio/wav", "audio/vnd.wave")
