"""Maloja's export (`scrobbles`) and the answer of its API (`list`), which Koito itself does not read.

Koito takes time, artists, title and the album's title; lengths and the album's artists are not handed on. Maloja
likes to list artists as ["feature", "main • feature"], and Koito has a rule to mend that.
"""

from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bookpipe.model.listens import fold_name, trim
from bookpipe.model.rejections import Reason
from bookpipe.sources.scrobbles.arrow_records import INTEGER, TEXT, TEXTS, are_short, are_texts, replaced, struct
from bookpipe.sources.scrobbles.arrow_records import texts as text_column
from bookpipe.sources.scrobbles.fields import (
    Record,
    UnusableError,
    field,
    mapping,
    optional_mapping,
    optional_title,
    text,
    texts,
    unix_seconds,
)
from bookpipe.sources.scrobbles.json_stream import ByteStream, JsonRecords, Layout, Records

KIND = "maloja"
CLIENT = "maloja"
COLUMNS = ("listened_at", "title", "artist", "artist_names", "album")
KEYS = frozenset({"scrobbles", "list"})
FIELDS = struct(time=INTEGER, track=struct(artists=TEXTS, title=TEXT, album=struct(albumtitle=TEXT)))

_LAYOUT = Layout(KEYS)
_BULLET = " • "
_fold = lru_cache(maxsize=1 << 14)(fold_name)  # the same artists again and again


def records(stream: ByteStream, offset: int = 0) -> Records:
    return JsonRecords(stream, _LAYOUT, offset)


def parse(record: Record) -> tuple[Any, ...]:
    """COLUMNS of one scrobble."""
    track = mapping(record, "track")
    artist, names = split_artists(texts(track, "artists"))
    return (
        unix_seconds(field(record, "time")),
        text(track, "title"),
        artist,
        names,
        optional_title(optional_mapping(track, "album"), "albumtitle"),
    )


def parse_columns(records: pa.StructArray) -> dict[str, pa.Array] | None:
    """COLUMNS of scrobbles; None when one has no artists, artists that may have no name, or odd texts."""
    time, track = records.field("time"), records.field("track")
    artists, title, album = map(track.field, ("artists", "title", "album"))
    names = artists.values
    if artists.null_count or not are_short(artists) or _maybe_blank(names):
        return None
    if not are_texts(title, names, album.field("albumtitle")):
        return None
    lengths = pc.list_value_length(artists)
    if pc.min(lengths).as_py() == 0:
        return None
    artist = pc.list_element(artists, 0)
    several = pc.or_(pc.greater(lengths, 1), pc.match_substring(artist, _BULLET))
    try:
        mended = [split_artists(names) for names in artists.filter(several).to_pylist()]
    except UnusableError:
        return None
    return {
        "listened_at": time,
        "title": text_column(title),
        "artist": replaced(artist, several, [artist for artist, _ in mended]),
        "artist_names": replaced(artists, several, [names for _, names in mended]),
        "album": text_column(album.field("albumtitle")),
    }


def _maybe_blank(names: pa.StringArray) -> bool:
    blank = pc.or_(pc.equal(pc.binary_length(names), 0), pc.utf8_is_space(names))
    return pc.any(blank).as_py() is True


def split_artists(artists: list[str]) -> tuple[str, list[str]]:
    """Koito's (artist string, names) of Maloja's artists.

    The first entry with a bullet moves to the front; all are split at bullets, and repeats go, whatever their case.
    UnusableError for a blank name, which Koito takes for an error.
    """
    if not artists:
        return "", []
    if len(artists) == 1 and _BULLET not in artists[0]:
        names = artists
    else:
        joined = next((i for i, artist in enumerate(artists) if _BULLET in artist), 0)
        artists = [artists[joined], *artists[:joined], *artists[joined + 1 :]]
        unique: dict[str, str] = {}
        for artist in artists:
            for name in artist.split(_BULLET):
                unique.setdefault(_fold(name), name)
        names = list(unique.values())
    if not all(map(trim, names)):
        raise UnusableError(Reason.EMPTY_ARTIST, f"one of the artists {artists!r} has no name")
    return artists[0], names
