"""Whatever the bytes of an audio file are, reading its tags ends soon, in little memory, and without an error."""

import io
import os
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from tempfile import TemporaryFile

import pytest
import tinytag
from hypothesis import given, settings
from hypothesis import strategies as st

from bookpipe.demo.audio_files import (
    MAKERS,
    Maker,
    SampleSong,
    make_flac,
    make_m4a,
    make_mp3,
    make_ogg_flac,
    make_ogg_opus,
    make_ogg_vorbis,
)
from bookpipe.model.songs import SongTags
from bookpipe.sources import audio_tags
from bookpipe.sources.audio_tags import MAX_CALLS, MAX_TEXT, BoundedFile, read_tags
from bookpipe.sources.audio_types import HEAD_BYTES

SONG = SampleSong("Title", "Artist", "Album", "Rock", "3/12", 0.2, picture=b"\xff\xd8\xff" + bytes(300))


@contextmanager
def opened(data: bytes) -> Iterator[int]:
    with TemporaryFile(buffering=0) as file:
        file.write(data)
        yield file.fileno()


def tags_of(data: bytes, extension: str = "mp3") -> SongTags:
    with opened(data) as fd:
        return read_tags(fd, len(data), data[:HEAD_BYTES], extension)


@cache
def sample(kind: str) -> bytes:
    return MAKERS[kind](SONG)


def synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def id3(name: bytes, content: bytes) -> bytes:
    frame = name + struct.pack(">I", len(content)) + b"\0\0" + content
    return b"ID3\x03\0\0" + synchsafe(len(frame)) + frame


# -- noise --------------------------------------------------------------------------------------------------------

KINDS = st.sampled_from(sorted(MAKERS))


def assert_sound(tags: SongTags) -> None:
    for text in (tags.title, tags.artist, tags.album, tags.genre, tags.track):
        assert text is None or (len(text) <= MAX_TEXT and text.encode())
    assert tags.duration is None or isinstance(tags.duration, float | int)


@settings(max_examples=300, deadline=None)
@given(KINDS, st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=12), st.integers(0, 5_000))
def test_a_damaged_file_has_tags_or_none(kind: str, changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(sample(kind)[: length or None])
    for at, value in changes:
        data[at % len(data)] = value
    assert_sound(tags_of(bytes(data), kind))


@settings(max_examples=200, deadline=None)
@given(
    KINDS, st.integers(0, 600), st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1"])
)
def test_a_size_that_lies_is_survived(kind: str, at: int, size: bytes) -> None:
    data = sample(kind)
    assert_sound(tags_of(data[:at] + size + data[at + 4 :], kind))


STARTS = [
    b"",
    b"ID3\x03\0\0\0\0\x7f\x7f",
    b"ID3\x04\0\x40\0\0\x7f\x7f",
    b"fLaC\x04\0\x10\0",
    b"OggS\0\2",
    b"\xff\xfb\x90\xc0",
]
STARTS += [
    b"RIFF\xff\xff\xff\xffWAVE",
    b"FORM\xff\xff\xff\xffAIFF",
    b"\0\0\0\x08ftyp",
    b"OggS\0\2" + bytes(20) + b"\1\x1e",
]
STARTS += [bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(13) + b"\2"]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(STARTS), st.binary(max_size=300), KINDS)
def test_noise_has_tags_or_none(start: bytes, noise: bytes, extension: str) -> None:
    assert_sound(tags_of(start + noise, extension))


# -- what is made to hurt -----------------------------------------------------------------------------------------


def many_values(size: int) -> bytes:
    """Different texts of four characters, with NULs in between."""
    return b"".join(b"%04x\0" % (n & 0xFFFF) for n in range(size // 5))


def ogg_comments(comments: bytes) -> bytes:
    """An Ogg Vorbis file whose second packet is this, on as many pages as it takes."""
    pages = [b"\x01vorbis" + bytes(22)]
    pages += [comments[at : at + 255 * 255] for at in range(0, len(comments), 255 * 255)]
    data = b""
    for number, page in enumerate(pages):
        full, rest = divmod(len(page), 255)
        lacing = b"\xff" * full + (bytes((rest,)) if full < 255 else b"")
        data += b"OggS\0\0" + struct.pack("<qIII", 0, 1, number, 0) + bytes((len(lacing),)) + lacing + page
    return data


def lying_box() -> bytes:
    data = sample("m4a")
    at = data.index(b"\xa9nam")
    return data[: at - 4] + b"\xff\xff\xff\xf0" + data[at:]


READERS = 2 if find_spec("mutagen") else 1  # each has its own bounds
HURTING: dict[str, Callable[[], bytes]] = {
    "an hour of zeros": lambda: b"\xff\xfb\x90\xc0" + bytes(20_000_000),
    "only sync bytes": lambda: b"\xff" * 5_000_000,
    "200,000 artists": lambda: id3(b"TPE1", b"\0" + many_values(1_000_000)),
    "lyrics without end": lambda: id3(b"SYLT", b"\1eng\2\0" + b"a" * 1_000_000),
    "comments without end": lambda: ogg_comments(b"\x03vorbis" + struct.pack("<II", 0, 0xFFFFFFFF) + bytes(6_000_000)),
    "4 GB of FLAC comments": lambda: b"fLaC\x84\xff\xff\xff" + struct.pack("<II", 0, 0xFFFFFFFF) + bytes(5_000_000),
    "a comment of 4 GB": lambda: b"fLaC\x84\xff\xff\xff" + struct.pack("<III", 0, 1, 0xFFFFFFF0) + b"TITLE=x",
    "an MP4 box of 4 GB": lying_box,
    "boxes in boxes": lambda: (
        b"\0\0\0\x10ftypM4A \0\0\0\0" + b"".join(struct.pack(">I", 8 * (50_000 - n)) + b"moov" for n in range(50_000))
    ),
    "a million empty boxes": lambda: b"\0\0\0\x10ftypM4A \0\0\0\0" + b"\0\0\0\x08free" * 1_000_000,
    "a million RIFF chunks": lambda: b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 1_000_000,
}


@pytest.mark.parametrize("case", HURTING)
def test_a_hostile_file_costs_little(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = HURTING[case]()
    tags_of(sample("mp3"))  # what is made once
    reads: list[int] = []
    pread = os.pread

    def counted(fd: int, size: int, at: int) -> bytes:
        reads.append(size)
        return pread(fd, size, at)

    with opened(data) as fd:
        head = data[:HEAD_BYTES]
        size = len(data)
        del data
        monkeypatch.setattr(audio_tags.os, "pread", counted)  # type: ignore[attr-defined]
        tracemalloc.start()
        assert_sound(read_tags(fd, size, head, "mp3"))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(reads) <= READERS * MAX_CALLS + 1
    assert sum(reads) <= READERS * audio_tags.MAX_BYTES_WITH_PICTURES + audio_tags._OGG_TAIL
    assert peak < 4 * READERS * audio_tags.MAX_BYTES_WITH_PICTURES


def test_a_file_that_is_cut_off_by_a_bound_has_no_duration() -> None:
    frames = make_mp3(SampleSong(seconds=0.2), id3="")
    assert tags_of(frames + bytes(200)).duration is not None
    assert tags_of(frames[:417] + bytes(1_000_000)).duration is None


# -- what must still be found -------------------------------------------------------------------------------------

PICTURE = b"\xff\xd8\xff" + bytes(3_000_000)


@pytest.mark.parametrize(
    ("make", "extension"),
    [
        (make_mp3, "mp3"),
        (lambda song: make_mp3(song, id3="2.4"), "mp3"),
        (make_flac, "flac"),
        (make_m4a, "m4a"),
    ],
)
def test_tags_are_found_beside_a_large_picture_that_is_not_read(
    make: Callable[[SampleSong], bytes], extension: str
) -> None:
    data = make(SampleSong("Title", "Artist", "Album", "Rock", "3", 0.2, picture=PICTURE))
    tags_of(sample("mp3"))  # what is made once
    tracemalloc.start()
    with opened(data) as fd:
        tags = audio_tags._by_tinytag(fd, len(data), data[:HEAD_BYTES], extension)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tags.title, tags.artist, tags.album, tags.genre, tags.track) == ("Title", "Artist", "Album", "Rock", "3")
    assert peak < 1 << 20


def test_comments_are_found_beside_a_picture_in_ogg() -> None:
    picture = b"METADATA_BLOCK_PICTURE=" + b"A" * 2_000_000
    comments = [b"TITLE=Title", picture, b"ARTIST=Artist"]
    packet = b"\x03vorbis" + struct.pack("<II", 0, 3) + b"".join(struct.pack("<I", len(c)) + c for c in comments)
    tags = tags_of(ogg_comments(packet), "ogg")
    assert (tags.title, tags.artist) == ("Title", "Artist")


def test_a_wrong_extension_does_not_matter() -> None:
    for kind in ("flac", "m4a", "ogg", "wav", "mp3"):
        assert tags_of(sample(kind), "wma").title == "Title"


@pytest.mark.parametrize("pad_to", [0, 400_000])
@pytest.mark.parametrize(
    ("make", "seconds"),
    [
        (make_ogg_vorbis, 2.5),
        (make_ogg_opus, 2.5),  # without the 312 samples that are skipped at the start
        (make_ogg_flac, 27 * 4096 / 44_100),
    ],
)
def test_an_ogg_file_is_as_long_as_its_last_page_says(make: Maker, seconds: float, pad_to: int) -> None:
    data = make(SampleSong("Title", seconds=2.5), pad_to=pad_to)
    with opened(data) as fd:
        duration = audio_tags._by_tinytag(fd, len(data), data[:HEAD_BYTES], "ogg").duration
    assert duration is not None
    assert abs(duration - seconds) < 1e-9


def test_further_values_are_forgotten_here_and_kept_by_other_users_of_tinytag() -> None:
    artists = id3(b"TPE1", b"\0One\0Two\0")
    assert audio_tags._tinytag().TinyTag.get(file_obj=io.BytesIO(artists)).other == {}
    assert tinytag.TinyTag.get(file_obj=io.BytesIO(artists)).other == {"artist": ["Two"]}


def test_trouble_of_the_storage_is_no_damaged_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sample("flac")
    with opened(data) as fd:

        def broken(*_: object) -> bytes:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(audio_tags.os, "pread", broken)  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="Input/output"):
            read_tags(fd, len(data), data[:HEAD_BYTES], "flac")


# -- the bounds ---------------------------------------------------------------------------------------------------

OPERATIONS = st.one_of(
    st.tuples(st.just("read"), st.integers(-1, 50), st.just(0)),
    st.tuples(st.just("seek"), st.integers(-60, 60), st.sampled_from([0, 1, 2])),
)


@given(st.binary(max_size=40), st.lists(OPERATIONS, max_size=15))
def test_within_its_bounds_a_file_is_like_any_other(data: bytes, operations: list[tuple[str, int, int]]) -> None:
    with opened(data) as fd, open(fd, "rb", buffering=0, closefd=False) as plain:
        bounded = BoundedFile(fd, len(data))
        plain.seek(0)
        for name, number, whence in operations:
            results: list[object] = []
            for file in (plain, bounded):
                try:
                    results.append(file.read(number) if name == "read" else file.seek(number, whence))
                except OSError as error:
                    results.append(error.errno)
                results.append(file.tell())
            assert results[:2] == results[2:]
        assert not bounded.cut


def test_past_its_bounds_a_file_seems_to_end() -> None:
    with opened(bytes(range(100))) as fd:
        file = BoundedFile(fd, 100, max_bytes=30, max_read=20)
        assert file.read(25) == bytes(range(20))
        assert (file.tell(), file.cut) == (25, True)
        assert file.read(20) == bytes(range(25, 35))
        assert (file.tell(), file.read(5)) == (45, b"")
        few = BoundedFile(fd, 100)
        assert [few.read(1) for _ in range(MAX_CALLS + 1)][99:101] == [b"\x63", b""]
        few.seek(0)
        assert [few.read(1) for _ in range(MAX_CALLS)][-1] == b""


# -- mutagen ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(MAKERS) - {"aac"}))
def test_mutagen_reads_the_same_where_it_is_installed(kind: str) -> None:
    pytest.importorskip("mutagen")
    tags = tags_of(sample(kind), kind)
    assert (tags.title, tags.artist, tags.album, tags.genre) == ("Title", "Artist", "Album", "Rock")
    assert tags.track in ("3", "3/12")
    assert tags.duration is not None
    assert abs(tags.duration - 0.2) < 0.1
