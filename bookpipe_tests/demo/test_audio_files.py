"""The audio files the demo makes are what they say: read back by a reader that is not ours, and byte by byte."""

import hashlib
import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinytag import TinyTag

from bookpipe.demo.audio_collection import LEAST, make_audio_collection
from bookpipe.demo.audio_files import (
    MAKERS,
    RATE,
    Maker,
    SampleSong,
    make_aac,
    make_aiff,
    make_flac,
    make_m4a,
    make_mp3,
    make_ogg_flac,
    make_ogg_opus,
    make_ogg_vorbis,
    make_wav,
)
from bookpipe.sources.audio import walk_audio

PLAIN = SampleSong("Title", "Artist", "Album", "Rock", "3/12", 1.5)
RICH = SampleSong("Šárka 🎵", "Дмитрий", "音楽", "Hip-Hop", "12", 0.3, picture=b"\xff\xd8\xff" + bytes(500))
SONGS = pytest.mark.parametrize("song", [PLAIN, RICH], ids=["plain", "rich"])
TAGGED = sorted(set(MAKERS) - {"aac"})


def read_back(data: bytes) -> TinyTag:
    return TinyTag.get(file_obj=io.BytesIO(data))


@SONGS
@pytest.mark.parametrize("kind", TAGGED)
def test_the_tags_are_read_back(kind: str, song: SampleSong) -> None:
    tags = read_back(MAKERS[kind](song))
    assert (tags.title, tags.artist, tags.album, tags.genre) == (song.title, song.artist, song.album, song.genre)
    assert tags.track == int(song.track.partition("/")[0])


@SONGS
@pytest.mark.parametrize("kind", sorted(set(TAGGED) - {"oga"}))  # tinytag leaves out Ogg FLAC's length
def test_the_length_is_read_back(kind: str, song: SampleSong) -> None:
    duration = read_back(MAKERS[kind](song)).duration
    assert duration is not None
    assert abs(duration - song.seconds) < 0.1


@pytest.mark.parametrize("id3", ["2.3", "2.4", "1", ""])
def test_an_mp3_has_the_tag_that_was_asked_for(id3: str) -> None:
    data = make_mp3(PLAIN, id3=id3)
    assert data.startswith(b"ID3" + bytes((int(id3[2]),))) if "." in id3 else data.startswith(b"\xff\xfb")
    assert data[-128:].startswith(b"TAG") == (id3 == "1")
    assert read_back(data).title == (PLAIN.title if id3 else None)


@pytest.mark.parametrize("kind", TAGGED)
def test_empty_texts_are_not_written(kind: str) -> None:
    tags = read_back(MAKERS[kind](SampleSong(seconds=0.2)))
    assert (tags.title, tags.artist, tags.album, tags.track) == (None, None, None, None)


def test_pictures_are_read_back() -> None:
    for make in (make_mp3, make_flac, make_m4a):
        tags = TinyTag.get(file_obj=io.BytesIO(make(RICH)), image=True)
        assert tags.images.any is not None
        assert tags.images.any.data == RICH.picture


@given(st.sampled_from(sorted(MAKERS)), st.integers(0, 200_000))
def test_a_file_is_as_long_as_asked(kind: str, size: int) -> None:
    song = SampleSong("Title", "Artist", "Album", seconds=0.1)
    natural = len(MAKERS[kind](song))
    # An MP3 and a FLAC cannot always be a few bytes longer, and get zeros behind the last frame.
    assert len(MAKERS[kind](song, pad_to=size)) == max(natural, size)


@pytest.mark.parametrize("kind", sorted(set(TAGGED) - {"oga"}))  # tinytag mixes Ogg FLAC's packets with others
def test_a_file_that_was_made_longer_has_its_tags(kind: str) -> None:
    tags = read_back(MAKERS[kind](PLAIN, pad_to=300_000))
    assert (tags.title, tags.artist, tags.album) == (PLAIN.title, PLAIN.artist, PLAIN.album)


def test_making_is_repeatable() -> None:
    for make in MAKERS.values():
        assert make(RICH) == make(RICH)


# -- byte by byte -------------------------------------------------------------------------------------------------


def ogg_pages(data: bytes) -> Iterator[tuple[int, int, int, list[bytes]]]:
    """(flags, granule, serial, packets) of each page; its checksum is computed bit by bit."""
    at = 0
    while at < len(data):
        assert data[at : at + 5] == b"OggS\0"
        flags, granule, serial, _, crc, segments = struct.unpack_from("<BqIIIB", data, at + 5)
        lacing = data[at + 27 : at + 27 + segments]
        end = at + 27 + segments + sum(lacing)
        page = data[at : at + 22] + bytes(4) + data[at + 26 : end]
        computed = 0
        for byte in page:
            computed ^= byte << 24
            for _ in range(8):
                computed = (computed << 1 ^ (0x04C11DB7 if computed & 0x80000000 else 0)) & 0xFFFFFFFF
        assert computed == crc
        packets, start, size = [], at + 27 + segments, 0
        for length in lacing:
            size += length
            if length < 255:
                packets.append(data[start : start + size])
                start, size = start + size, 0
        yield flags, granule, serial, packets
        at = end


@pytest.mark.parametrize("make", [make_ogg_vorbis, make_ogg_opus, make_ogg_flac])
@pytest.mark.parametrize("pad_to", [0, 3_333])
def test_the_pages_of_an_ogg_file_are_sound(make: Maker, pad_to: int) -> None:
    pages = list(ogg_pages(make(PLAIN, pad_to=pad_to)))
    own = [page for page in pages if page[2] == 1]
    assert own[0][0] == 2  # begins
    assert own[-1][0] == 4  # ends
    assert own[-1][1] >= PLAIN.seconds * RATE
    begins = [page[0] & 2 for page in pages]
    assert begins == sorted(begins, reverse=True)  # all streams begin before one goes on


def test_an_adts_frame_tells_its_length() -> None:
    data = make_aac(PLAIN)
    frames = at = 0
    while at < len(data):
        assert data[at : at + 2] == b"\xff\xf1"
        at += (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        frames += 1
    assert at == len(data)
    assert frames == -(-PLAIN.seconds * RATE // 1024)


def boxes(data: bytes) -> dict[bytes, bytes]:
    found, at = {}, 0
    while at < len(data):
        size = struct.unpack_from(">I", data, at)[0]
        found[data[at + 4 : at + 8]] = data[at + 8 : at + size]
        at += size
    assert at == len(data)
    return found


def test_the_boxes_of_an_mp4_file_fill_it_and_point_to_the_sound() -> None:
    data = make_m4a(PLAIN, brand="M4B ", pad_to=20_000)
    top = boxes(data)
    assert list(top) == [b"ftyp", b"moov", b"mdat", b"free"]
    assert top[b"ftyp"].startswith(b"M4B ")
    table = boxes(boxes(boxes(boxes(boxes(top[b"moov"])[b"trak"])[b"mdia"])[b"minf"])[b"stbl"])
    offset = struct.unpack(">I", table[b"stco"][-4:])[0]
    assert data[offset - 4 : offset] == b"mdat"
    size, frames = struct.unpack(">II", table[b"stsz"][4:])
    assert size * frames == len(top[b"mdat"])


@pytest.mark.parametrize("pad_to", [0, 100_001])
@pytest.mark.parametrize(("make", "order"), [(make_wav, "<"), (make_aiff, ">")])
def test_a_chunked_file_tells_its_length(make: Maker, order: str, pad_to: int) -> None:
    data = make(SampleSong("Title", seconds=0.1), pad_to=pad_to)
    assert struct.unpack_from(f"{order}I", data, 4)[0] == len(data) - 8


# -- the collection -----------------------------------------------------------------------------------------------


def everything(folder: Path) -> dict[bytes, bytes]:
    top = os.fsencode(folder)
    found = {}
    for parent, _, names in os.walk(top):
        for name in names:
            path = os.path.join(parent, name)
            found[os.path.relpath(path, top)] = (
                os.readlink(path) if os.path.islink(path) else Path(os.fsdecode(path)).read_bytes()
            )
    return found


def test_a_collection_is_the_same_every_time(tmp_path: Path) -> None:
    facts = [make_audio_collection(tmp_path / name, files=70, seed=3) for name in "ab"]
    assert facts[0] == facts[1]
    assert everything(tmp_path / "a") == everything(tmp_path / "b")
    assert make_audio_collection(tmp_path / "c", files=70, seed=4).paths != facts[0].paths


@pytest.mark.parametrize("files", [LEAST, 200])
def test_a_collection_has_what_it_says(tmp_path: Path, files: int) -> None:
    facts = make_audio_collection(tmp_path / "music", files=files)
    assert len(facts.paths) == files == facts.songs + facts.aliases + facts.refused + facts.empty
    assert tuple(walk_audio(tmp_path / "music")) == facts.paths
    contents = [Path(os.fsdecode(os.fsencode(tmp_path) + b"/music/" + path)).read_bytes() for path in facts.paths]
    digests = {hashlib.sha256(data).digest() for data in contents if data}
    assert len(digests) == facts.songs + facts.refused
    assert contents.count(b"") == facts.empty == 1
    assert facts.aliases >= 2


def test_a_collection_has_every_oddity(tmp_path: Path) -> None:
    facts = make_audio_collection(tmp_path, files=LEAST)
    assert any(path.decode("utf-8", "replace").count("\ufffd") for path in facts.paths)
    assert any("e\u0301" in path.decode("utf-8", "replace") for path in facts.paths)
    assert sum(b"/Greatest Hits/" in path for path in facts.paths) == 6
    assert facts.refused == 7
    assert facts.passed_over == 9


def test_a_collection_cannot_be_smaller_than_its_oddities(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least"):
        make_audio_collection(tmp_path / "music", files=LEAST - 1)
