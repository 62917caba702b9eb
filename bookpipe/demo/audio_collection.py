"""A music folder as people have them, for the demo, the tests and the benchmarks.

Mostly albums; between them everything that makes uploading hard. The same arguments give the same bytes and names
on every machine whose file system takes names that are no UTF-8.
"""

import hashlib
import os
import random
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from bookpipe.demo.audio_files import (
    MAKERS,
    SampleSong,
    make_aac,
    make_aiff,
    make_flac,
    make_m4a,
    make_mp3,
    make_ogg_opus,
    make_wav,
    make_wma,
)

_FIRST = ("Silver", "Paper", "Northern", "Electric", "Quiet", "Velvet", "Broken", "Golden", "Distant", "Crimson")
_SECOND = ("Lanterns", "Rivers", "Machines", "Orchard", "Weather", "Harbour", "Sparrows", "Avenue", "Mirrors", "Choir")
_THINGS = ("Window", "Summer", "Letter", "Road", "Garden", "Shadow", "Train", "Island", "Clock", "Fire", "Snow", "Bell")
_LANDS = ("of Glass", "at Night", "in Colour", "by the Sea", "for No One", "Again", "Without End", "(Live)", "II", "")
_GENRES = ("Rock", "Jazz", "Electronic", "Folk", "Classical", "Hip-Hop", "Drum & Bass")
_KINDS = {"mp3": 65, "flac": 15, "m4a": 10, "ogg": 6, "oga": 2, "aac": 2}
LEAST = 40  # files: what the oddities take


@dataclass(frozen=True)
class AudioCollection:
    """What a collection holds, known from making it. The counts of files add up to the number of paths."""

    paths: tuple[bytes, ...]  # the audio files from the folder, in the order of their bytes
    songs: int  # contents that the archive takes
    aliases: int  # further files with one of these contents
    refused: int  # files of kinds that the archive refuses
    empty: int
    passed_over: int  # further files that are hidden, junk, no audio, or links that lead nowhere good
    album_titles: int  # of songs that have one; two artists' "Greatest Hits" are one title


@dataclass(frozen=True, slots=True)
class _File:
    path: bytes
    data: bytes
    album: str = ""
    is_refused: bool = False


def make_audio_collection(folder: Path, *, files: int = 200, seed: int = 1) -> AudioCollection:
    """Make a collection of `files` audio files in `folder`, which is created.

    Raises ValueError for fewer than `LEAST` files, OSError where the file system refuses a name.
    """
    if files < LEAST:
        raise ValueError(f"a collection has at least {LEAST} files, not {files}")
    top = os.fsencode(folder)
    paths: list[bytes] = []
    contents: set[bytes] = set()
    albums: set[str] = set()
    aliases = refused = empty = 0
    for file in islice(chain(_oddities(), _albums(random.Random(f"music {seed}"))), files - 1):
        _write(top, file.path, file.data)
        paths.append(file.path)
        digest = hashlib.md5(file.data, usedforsecurity=False).digest()
        if not file.data:
            empty += 1
        elif file.is_refused:
            refused += 1
        elif digest in contents:
            aliases += 1
        else:
            contents.add(digest)
            albums |= {file.album} if file.album else set()
    link, target = b"Playlists/best of all.mp3", b"../Odds/twice.mp3"
    os.makedirs(os.path.join(top, b"Playlists"), exist_ok=True)
    os.symlink(target, os.path.join(top, link))
    paths.append(link)
    passed_over = _write_what_is_passed_over(top)
    return AudioCollection(tuple(sorted(paths)), len(contents), aliases + 1, refused, empty, passed_over, len(albums))


def _write(top: bytes, path: bytes, data: bytes) -> None:
    where = os.path.join(top, path)
    os.makedirs(os.path.dirname(where), exist_ok=True)
    with open(where, "wb") as file:
        file.write(data)


def _write_what_is_passed_over(top: bytes) -> int:
    others = {
        b"Odds/cover.jpg": b"\xff\xd8\xff",
        b"Odds/album.m3u": b"twice.mp3\n",
        b"Odds/.hidden.mp3": make_mp3(SampleSong("Hidden")),
        b"Odds/._twice.mp3": b"\0\x05\x16\x07",  # what macOS leaves beside a file on a share
        b"Odds/@eaDir/twice.mp3": b"a server's thumbnail",
        b".Trash-1000/files/gone.mp3": make_mp3(SampleSong("Gone")),
    }
    for path, data in others.items():
        _write(top, path, data)
    links = {b"Odds/all of it": b"..", b"Odds/gone.mp3": b"nowhere.mp3", b"Odds/outside.mp3": b"/etc/hostname"}
    for path, target in links.items():
        os.symlink(target, os.path.join(top, path))
    return len(others) + len(links)


def _oddities() -> Iterator[_File]:
    """Albums that share a title, a compilation, and single files, each with something about it."""
    for artist in ("The Paper Rivers", "Silver Choir"):
        for n in (1, 2, 3):
            song = SampleSong(f"{artist} {n}", artist, "Greatest Hits", "Rock", f"{n}/3", 0.2)
            yield _File(f"{artist}/Greatest Hits/{n:02}.mp3".encode(), make_mp3(song), song.album)
    for n, artist in enumerate(_SECOND[:5], 1):
        song = SampleSong(f"Hit {n}", artist, "Now and Then 7", "Pop", str(n), 0.2)
        yield _File(f"Compilations/Now and Then 7/{n} {artist}.flac".encode(), make_flac(song), song.album)
    long = SampleSong("Very " * 60 + "Long", "A\0B", "", "G" * 120, "12/12", 0.2)
    named = {
        b"Caf\xe9/Na\xefve \xff.mp3": make_mp3(SampleSong(artist="Café", seconds=0.2), id3="2.4"),
        unicodedata.normalize("NFD", "Béla Bartók/Ádám és Éva.mp3").encode(): make_mp3(SampleSong(seconds=0.3), id3=""),
        "音楽/さくら 🌸.mp3".encode(): make_mp3(SampleSong("さくら", "合唱団", seconds=0.2)),
        b"Odds/new\nline and \x07.mp3": make_mp3(SampleSong(seconds=0.4), id3=""),
        b"Odds/no tags.MP3": make_mp3(SampleSong(seconds=0.5), id3=""),
        b"Odds/old tags.mp3": make_mp3(SampleSong("Old Tags", "Somebody", "", "", "9", 0.2), id3="1"),
        b"Odds/long tags.mp3": make_mp3(long),
        b"Odds/zeros first.mp3": make_mp3(SampleSong(seconds=0.2), id3="", zeros=1_000),
        b"Odds/flac behind id3.flac": make_flac(SampleSong("Two Tags", "Somebody", seconds=0.2), behind_id3=True),
        b"Odds/flac in truth.mp3": make_flac(SampleSong("In Truth", "Somebody", seconds=0.2)),
        b"Odds/a text.mp3": b"This is no music, and nobody looks.\n",
        b"Odds/twice.mp3": make_mp3(SampleSong("Twice", "Somebody", seconds=0.2)),
        b"Odds/twice (1).mp3": make_mp3(SampleSong("Twice", "Somebody", seconds=0.2)),
        b"Odds/nothing.mp3": b"",
    }
    for path, data in named.items():
        yield _File(path, data)
    song = SampleSong("Refused", "Somebody", "Refusals", "Rock", "1", 0.2)
    refused = {
        **{"wav": make_wav(song), "opus": make_ogg_opus(song), "wma": make_wma(song), "aiff": make_aiff(song)},
        **{
            "m4a": make_m4a(song, brand="isom"),
            "mp4": make_m4a(song, brand="mp42"),
            "m4b": make_m4a(song, brand="qt  "),
        },
    }
    for extension, data in refused.items():
        yield _File(f"Odds/refused.{extension}".encode(), data, song.album, is_refused=True)


def _albums(rng: random.Random) -> Iterator[_File]:
    """Albums without end, no two files of the same bytes."""
    number = 0
    while True:
        artist = f"{rng.choice(_FIRST)} {rng.choice(_SECOND)}"
        number += 1
        album = f"{rng.choice(_THINGS)} {rng.choice(_LANDS)}".strip() + f" {number}"
        genre = rng.choice(_GENRES)
        kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
        tracks = rng.randint(6, 12)
        for n in range(1, tracks + 1):
            title = f"{rng.choice(_THINGS)} {rng.choice(_LANDS)}".strip()
            song = SampleSong(title, artist, album, genre, f"{n}/{tracks}", rng.randint(2, 15) / 10)
            yield _File(
                f"{artist}/{album}/{n:02} - {title}.{kind}".encode(), _make(kind, song, number * 100 + n), album
            )


def _make(kind: str, song: SampleSong, number: int) -> bytes:
    if kind == "mp3":
        return make_mp3(song, id3="2.4" if number % 2 else "2.3")
    if kind == "aac":  # without tags, only the length tells them apart
        return make_aac(song, pad_to=2_000 + number)
    return MAKERS[kind](song)
