"""Maloja's export (`scrobbles`) and the answer of its API (`list`), which Koito itself does not read.

Koito takes time, artists, title and the album's title; lengths and the album's artists are not handed on. Maloja
likes to list artists as ["feature", "main • feature"], and Koito has a rule to mend that.
"""

from collections.abc import Iterator
from typing import Any

from bookpipe.model.listens import fold_name, trim
from bookpipe.model.rejections import Reason
from bookpipe.sources.scrobbles.fields import (
    Record,
    UnusableError,
    field,
    mapping,
    optional_mapping,
    optional_text,
    text,
    texts,
    unix_seconds,
)
from bookpipe.sources.scrobbles.json_stream import ByteStream, JsonRecords, Layout, Records

KIND = "maloja"
CLIENT = "maloja"
COLUMNS = ("listened_at", "title", "artist", "artist_names", "album")
KEYS = frozenset({"scrobbles", "list"})

_LAYOUT = Layout(KEYS)
_BULLET = " • "


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
        optional_text(optional_mapping(track, "album"), "albumtitle"),
    )


def split_artists(artists: list[str]) -> tuple[str, list[str]]:
    """Koito's (artist string, names) of Maloja's artists.

    The first entry with a bullet moves to the front; all are split at bullets, and repeats go, whatever their case.
    (Koito itself loses that entry, and the main artist with it, when others stand behind it: the next one moves.)
    UnusableError for a blank name, which Koito takes for an error.
    """
    if not artists:
        return "", []
    if len(artists) == 1 and _BULLET not in artists[0]:
        names = artists
    else:
        joined = next((i for i, artist in enumerate(artists) if _BULLET in artist), 0)
        artists = [artists[joined], *artists[:joined], *artists[joined + 1 :]]
        names = list(_unique(name for artist in artists for name in artist.split(_BULLET)))
    if not all(map(trim, names)):
        raise UnusableError(Reason.EMPTY_ARTIST, f"one of the artists {artists!r} has no name")
    return artists[0], names


def _unique(names: Iterator[str]) -> Iterator[str]:
    seen = set()
    for name in names:
        folded = fold_name(name)
        if folded not in seen:
            seen.add(folded)
            yield name
