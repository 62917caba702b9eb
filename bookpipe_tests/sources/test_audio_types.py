"""What the archive takes files for. The expectations were measured on the real application."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.demo.audio_files import (
    MAKERS,
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
    make_wma,
)
from bookpipe.model.songs import ACCEPTED_TYPES, is_likely_refused
from bookpipe.sources.audio_types import (
    BINARY,
    CONTENT_TYPES,
    HEAD_BYTES,
    content_type,
    sniff,
)

SONG = SampleSong("Title", "Artist", "Album", "Rock", "1", 0.5)


def sniffed(data: bytes, name: str) -> str:
    return sniff(data[:HEAD_BYTES], name, content_type(name))


ACCEPTED = {
    "ID3v2.3": (make_mp3(SONG), "a.mp3", "audio/mpeg"),
    "ID3v2.4": (make_mp3(SONG, id3="2.4"), "a.mp3", "audio/mpeg"),
    "bare MP3": (make_mp3(SONG, id3=""), "a.mp3", "audio/mpeg"),
    "MP3 behind zeros": (make_mp3(SONG, id3="", zeros=2_000), "a.mp3", "audio/mpeg"),
    "MPEG 2.5": (b"\xff\xe3\x18\xc4" + bytes(200), "a.mp3", "audio/mpeg"),
    "ADTS": (make_aac(SONG), "a.aac", "audio/aac"),
    "FLAC": (make_flac(SONG), "a.flac", "audio/flac"),
    "FLAC named MP3": (make_flac(SONG), "a.mp3", "audio/flac"),
    "FLAC behind ID3": (make_flac(SONG, behind_id3=True), "a.flac", "audio/mpeg"),
    "Vorbis": (make_ogg_vorbis(SONG), "a.ogg", "audio/ogg"),
    "Vorbis .oga": (make_ogg_vorbis(SONG), "a.oga", "audio/ogg"),
    "Vorbis named MP3": (make_ogg_vorbis(SONG), "a.mp3", "audio/ogg"),
    "FLAC in Ogg": (make_ogg_flac(SONG), "a.ogg", "audio/ogg"),
    "FLAC in Ogg .oga": (make_ogg_flac(SONG), "a.oga", "audio/ogg"),
    "text": (b"no music at all\n", "a.mp3", "audio/mpeg"),
    "noise": (bytes(range(1, 200)), "a.mp3", "audio/mpeg"),
    "nothing": (b"", "a.mp3", "audio/mpeg"),
    **{f"brand {b!r}": (make_m4a(SONG, brand=b), "a.m4a", "audio/mp4") for b in ("M4A ", "M4B ", "F4A ")},
    "M4B .m4b": (make_m4a(SONG, brand="M4B "), "a.m4b", "audio/mp4"),
    "M4A .mp4": (make_m4a(SONG), "a.mp4", "audio/mp4"),
}
REFUSED = {
    **{f"brand {b!r}": (make_m4a(SONG, brand=b), "a.m4a", "video/mp4") for b in ("isom", "mp41", "mp42", "M4V ")},
    **{
        f"brand {b!r}": (make_m4a(SONG, brand=b), "a.m4a", "video/quicktime")
        for b in ("iso2", "iso4", "iso5", "iso6", "dash", "qt  ", "3gp5", "MSNV", "M4P ", "avc1")
    },
    "iso2 named .mp4": (make_m4a(SONG, brand="iso2"), "a.mp4", "video/mp4"),
    "WAV": (make_wav(SONG), "a.wav", "audio/x-wav"),
    "Opus": (make_ogg_opus(SONG), "a.opus", "audio/opus"),
    "Opus named .ogg": (make_ogg_opus(SONG), "a.ogg", "audio/opus"),
    "WMA": (make_wma(SONG), "a.wma", "audio/x-ms-wma"),
    "AIFF": (make_aiff(SONG), "a.aiff", "audio/x-aiff"),
    "AIFF .aif": (make_aiff(SONG), "a.aif", "audio/x-aiff"),
    "FLAC in Ogg named MP3": (make_ogg_flac(SONG), "a.mp3", "application/ogg"),
    "page of an error": (b"<!DOCTYPE html><html>404</html>", "a.mp3", "text/html"),
    "zip": (b"PK\x03\x04" + bytes(30), "a.mp3", "application/zip"),
    "AMR": (b"#!AMR\n" + bytes(30), "a.amr", "audio/amr"),
}


@pytest.mark.parametrize(("data", "name", "kind"), ACCEPTED.values(), ids=ACCEPTED)
def test_the_archive_takes(data: bytes, name: str, kind: str) -> None:
    assert sniffed(data, name) == kind
    assert not is_likely_refused(kind)


@pytest.mark.parametrize(("data", "name", "kind"), REFUSED.values(), ids=REFUSED)
def test_the_archive_refuses(data: bytes, name: str, kind: str) -> None:
    assert sniffed(data, name) == kind
    assert is_likely_refused(kind)


@pytest.mark.parametrize(
    ("name", "declared", "kind"),
    [
        ("a.mp3", None, "audio/mpeg"),
        ("a.xyz", "audio/mp3", "audio/mp3"),
        ("a.xyz", "Audio/MPEG; charset=x", "audio/mpeg"),
        ("a.mp3", BINARY, "audio/mpeg"),
        ("a.mp3", "nonsense", "audio/mpeg"),
        ("a.aac", "audio/x-aac", "audio/aac"),  # the name makes it more exact
        ("a.alac", "audio/mp4", "audio/mp4"),
        ("a.xyz", None, BINARY),
        (".mp3", None, BINARY),
    ],
)
def test_bytes_that_say_nothing_leave_it_to_the_declared_type_and_the_name(
    name: str, declared: str | None, kind: str
) -> None:
    assert sniff(b"no music", name, declared) == kind


def test_only_the_first_4_kilobytes_count() -> None:
    filler = b"x" * HEAD_BYTES
    assert sniff(filler + b"Windows Media Video", "a.mp3", None) == "audio/mpeg"
    assert sniff(filler[:-30] + b"Windows Media Video", "a.mp3", None) == "video/x-ms-wmv"


@given(st.binary(max_size=100), st.text(max_size=20), st.none() | st.text(max_size=20))
def test_anything_has_a_type(head: bytes, name: str, declared: str | None) -> None:
    assert "/" in sniff(head, name, declared)


@given(st.sampled_from(sorted(CONTENT_TYPES)), st.booleans())
def test_every_extension_has_a_declared_type(extension: str, upper: bool) -> None:
    name = f"song.{extension.upper() if upper else extension}"
    assert content_type(name) == CONTENT_TYPES[extension] != BINARY


def test_a_type_is_declared_by_the_extension_alone() -> None:
    assert content_type("a.b.FLAC") == "audio/flac"
    assert content_type("flac") == content_type(".flac") == content_type("a.txt") == BINARY


@pytest.mark.parametrize("kind", ["mp3", "flac", "m4a", "ogg", "oga", "aac"])
def test_what_is_declared_for_good_files_is_what_the_archive_accepts(kind: str) -> None:
    declared = content_type(f"a.{kind}")
    assert declared in ACCEPTED_TYPES
    assert sniffed(MAKERS[kind](SONG), f"a.{kind}") == declared
