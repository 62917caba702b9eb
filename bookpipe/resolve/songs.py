"""TAGGED_FILES -> AUDIO_FILES: what the music archive is told of each song, and which has to wait for which.

The archive's own rules: a title of at most 200 characters, always; artist and album of at most 200 and genre of at
most 100 (a longer one is an error of the server there, not a refusal); track number and duration whole numbers above
zero. What it is told wins over what it reads itself, and what it is not told it fills in; so a value that cannot be
made to fit is left out, and only the title has a stand-in.
"""

import math
import re
import unicodedata
from dataclasses import dataclass

import pyarrow as pa

from bookpipe.model.songs import AUDIO_FILES, SongTags

MAX_TITLE = 200  # characters
MAX_NAME = 200  # of an artist or album
MAX_GENRE = 100
MAX_FILENAME = 255
MAX_NUMBER = 2**31 - 1
UNTITLED = "Untitled"

_TRACK = re.compile(r"\s*([0-9]+)\s*(?:/|$)")
_MAX_EXTENSION = 16
# Tabs and line ends become spaces, so that words stay apart. The mark of byte order is no character of a name.
_SPACES = "\t\n\v\f\r\x85\u2028\u2029"
_ODD = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class SongFields:
    """What is sent with a file, within the archive's limits; None is not sent."""

    filename: str
    title: str
    artist: str | None
    album: str | None
    genre: str | None
    track_number: int | None
    duration: int | None  # seconds


def song_fields(tags: SongTags, name: bytes) -> SongFields:
    """The fields of a file called `name` (without folders) that says `tags` of itself.

    All texts are NFC, trimmed and free of control characters. A title that is missing or blank is the file's name
    without extension. Bytes of a name that are no UTF-8 become U+FFFD.
    """
    stem, extension = _split(name.decode("utf-8", "replace"))
    return SongFields(
        filename=(clean_text(stem, MAX_FILENAME - len(extension)) or UNTITLED) + extension,
        title=clean_text(tags.title, MAX_TITLE) or clean_text(stem, MAX_TITLE) or UNTITLED,
        artist=clean_text(tags.artist, MAX_NAME),
        album=clean_text(tags.album, MAX_NAME),
        genre=clean_text(tags.genre, MAX_GENRE),
        track_number=track_number(tags.track),
        duration=whole_seconds(tags.duration),
    )


def _split(name: str) -> tuple[str, str]:
    """A file's name as stem and extension with its dot."""
    stem, dot, extension = name.rpartition(".")
    kept = clean_text(extension, _MAX_EXTENSION) if stem and dot else None
    return (stem, f".{kept}") if kept == extension else (name, "")


def clean_text(text: str | None, limit: int) -> str | None:
    """A text that is fit to be a name, of at most `limit` characters; None when nothing visible is left."""
    # Tags are often C strings in a longer field, or several values with NULs in between.
    for part in text.split("\0") if text else ():
        kept = _ODD.sub(lambda odd: " " if odd[0] in _SPACES else "", part)
        kept = unicodedata.normalize("NFC", kept).strip()[:limit].rstrip()
        if kept:
            return kept
    return None


def track_number(track: str | None) -> int | None:
    """The number of tracks such as `3`, `03` or `3/12`; None for any other and for none."""
    found = _TRACK.match(track[:100]) if track else None
    return _fit(int(found[1])) if found else None


def whole_seconds(duration: float | None) -> int | None:
    """A duration rounded to whole seconds; None when that is zero, or no number."""
    return _fit(math.floor(duration + 0.5)) if duration is not None and math.isfinite(duration) else None


def _fit(number: int) -> int | None:
    return number if 0 < number <= MAX_NUMBER else None


def describe_songs(files: pa.Table) -> pa.Table:
    """AUDIO_FILES of TAGGED_FILES rows, in the same order; rejected rows stay rejected."""
    tag_columns = (
        files.column(name).to_pylist() for name in ("title", "artist", "album", "genre", "track", "duration")
    )
    paths = files.column("path").to_pylist()
    fields = [
        song_fields(SongTags(*tags), path.rpartition(b"/")[2]) for path, *tags in zip(paths, *tag_columns, strict=True)
    ]
    columns = {name: files.column(name) for name in AUDIO_FILES.names if name in files.column_names}
    for name in SongFields.__slots__:
        columns[name] = pa.array([getattr(song, name) for song in fields], AUDIO_FILES.field(name).type)
    return pa.table({name: columns[name] for name in AUDIO_FILES.names}, schema=AUDIO_FILES)


def order_songs(songs: pa.Table) -> list[int]:
    """For each AUDIO_FILES row the row (counted from 0) that must be in the archive first, or -1 for none.

    The archive looks for an album by its exact title alone and, finding none, makes it, without a lock: two songs of a
    new album that are sent at once can make it twice. So the first song of each title leads, and the others wait
    until it has ended; when it ended without becoming a song, one of them should go alone again. Artists and genres
    need no order: they have unique indexes. Rejected rows and songs without an album wait for nothing.
    """
    leaders: dict[str, int] = {}
    waits_for = []
    for row, (album, reason) in enumerate(
        zip(songs.column("album").to_pylist(), songs.column("reason").to_pylist(), strict=True)
    ):
        leader = row if album is None or reason is not None else leaders.setdefault(album, row)
        waits_for.append(-1 if leader == row else leader)
    return waits_for
