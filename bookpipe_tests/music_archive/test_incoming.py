"""Bodies arrive in pieces of any size and are never whole in memory."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.demo.music_archive.incoming import Form, MalformedBodyError, receive_file, receive_form

BOUNDARY = "b0undary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


async def _pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def _receive(body: bytes, size: int, folder: Path, content_type: str = TYPE) -> Form:
    return asyncio.run(receive_form(_pieces(body, size), content_type, folder))


# Content that looks like the end of a part, and then is not.
_CONTENT = st.lists(
    st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n", b"--", BOUNDARY.encode(), b"\r\n--" + b"b0undar"])),
    max_size=8,
).map(b"".join)


@given(
    content=_CONTENT.filter(lambda content: b"\r\n--b0undary" not in content),
    fields=st.dictionaries(st.sampled_from(["title", "artist_name", "é"]), st.text(max_size=20), max_size=3),
    size=st.integers(1, 200),
)
def test_a_form_is_read_as_it_was_sent(content: bytes, fields: dict[str, str], size: int) -> None:
    files = {"audio_file": ("a b.mp3", content, "audio/mpeg")}
    request = httpx.Request("POST", "http://x", data=fields, files=files, headers={"Content-Type": TYPE})
    with tempfile.TemporaryDirectory() as folder:
        form = _receive(request.read(), size, Path(folder))
        file = form.files["audio_file"]
        assert form.fields == fields
        assert (file.path.read_bytes(), file.size, file.head) == (content, len(content), content[:4096])
        assert (file.filename, file.declared_type) == ("a b.mp3", "audio/mpeg")
        assert file.md5 == hashlib.md5(content).digest()
        form.discard()
        assert not list(Path(folder).iterdir())


PART = b'--b0undary\r\nContent-Disposition: form-data; name="audio_file"; filename="a.mp3"\r\n\r\nID3'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        PART,
        PART + b"\r\n--b0undary",
        PART + b"\r\n--b0undaryX\r\n",
        b"--b0undary\r\n\r\nno name\r\n--b0undary--\r\n",
        b"--b0undary\r\n" + b"x" * 20_000,
    ],
    ids=lambda body: body[-20:],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_what_is_no_form_leaves_nothing_behind(body: bytes, size: int, tmp_path: Path) -> None:
    with pytest.raises(MalformedBodyError):
        _receive(body, size, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/mixed; boundary=b0undary", "audio/mpeg"])
def test_a_form_has_a_boundary(content_type: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedBodyError):
        _receive(PART + b"\r\n--b0undary--\r\n", 10, tmp_path, content_type)


def test_fields_cannot_fill_the_memory(tmp_path: Path) -> None:
    field = b'--b0undary\r\nContent-Disposition: form-data; name="title"\r\n\r\n'
    with pytest.raises(MalformedBodyError):
        _receive(field + bytes(2 * 1024 * 1024), 65_536, tmp_path)


def test_the_last_file_of_a_name_counts(tmp_path: Path) -> None:
    form = _receive(PART + b"1\r\n" + PART + b"2\r\n--b0undary--\r\n", 9, tmp_path)
    assert form.files["audio_file"].path.read_bytes() == b"ID32"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_body_that_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"ID3"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(receive_file(broken(), tmp_path))
    assert not list(tmp_path.iterdir())
