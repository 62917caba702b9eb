"""Last.fm as lastfm.ghan.nl exports it: a list of pages of recent tracks, newest first.

An artist with an MBID is one artist by the name of the whole text, without one the text is parsed for features. A
page with one track may hold it without a list around it.
"""

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bookpipe.model.rejections import Reason
from bookpipe.sources.scrobbles.arrow_records import TEXT, are_texts, lists_of_one, mbids, numbers, struct, texts
from bookpipe.sources.scrobbles.fields import (
    Record,
    field,
    mapping,
    mbid,
    optional_mapping,
    optional_text,
    optional_title,
    text,
    unix_seconds,
    utc_seconds,
)
from bookpipe.sources.scrobbles.json_stream import ByteStream, JsonRecords, Layout, Records

KIND = "lastfm"
CLIENT = "lastfm"
COLUMNS = (
    "listened_at",
    "title",
    "artist",
    "artist_mbids",
    "credit_names",
    "credit_mbids",
    "album",
    "recording_mbid",
    "release_mbid",
    "reason",
)
KEYS = frozenset({"track"})
_NAMED = struct(**{"#text": TEXT, "mbid": TEXT})
FIELDS = struct(artist=_NAMED, name=TEXT, mbid=TEXT, album=_NAMED, date=struct(uts=TEXT))

_LAYOUT = Layout(KEYS, pages=True)
_DIGITS = 18  # that always fit into 64 bits
# As in Go, where the layout has a blank there may be several.
_DATE = re.compile(r"([0-9]{1,2}) +([a-z]{3}) +([0-9]{4}), +([0-9]{1,2}):([0-9]{2})", re.IGNORECASE)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def records(stream: ByteStream, offset: int = 0) -> Records:
    return JsonRecords(stream, _LAYOUT, offset)


def parse(record: Record) -> tuple[Any, ...]:
    """COLUMNS of one track."""
    artist = mapping(record, "artist")
    name = text(artist, "#text")
    artist_mbid = mbid(artist, "mbid")
    title = text(record, "name")
    album = optional_mapping(record, "album")
    date = optional_mapping(record, "date")
    playing = not date and optional_text(optional_mapping(record, "@attr"), "nowplaying") == "true"
    return (
        _seconds(date),
        title,
        name,
        [artist_mbid],
        [name] if artist_mbid else [],
        [artist_mbid] if artist_mbid else [],
        optional_title(album, "#text") or title,
        mbid(record, "mbid"),
        mbid(album, "mbid"),
        Reason.NOT_A_LISTEN.value if playing else None,
    )


def parse_columns(records: pa.StructArray) -> dict[str, pa.Array] | None:
    """COLUMNS of tracks; None when one has no seconds, or odd MBIDs or texts."""
    artist, album = records.field("artist"), records.field("album")
    title, name, album_title = map(texts, (records.field("name"), artist.field("#text"), album.field("#text")))
    seconds = records.field("date").field("uts")
    artist_mbid, recording, release = map(mbids, (artist.field("mbid"), records.field("mbid"), album.field("mbid")))
    if artist_mbid is None or recording is None or release is None or not are_texts(title, name, album_title):
        return None
    if seconds.null_count or not pc.all(pc.ascii_is_decimal(seconds)).as_py():
        return None
    if pc.max(pc.binary_length(seconds)).as_py() > _DIGITS:
        return None
    return {
        "listened_at": pc.cast(seconds, pa.int64()),
        "title": title,
        "artist": name,
        "artist_mbids": pa.ListArray.from_arrays(pc.cast(numbers(0, len(records) + 1), pa.int32()), artist_mbid),
        "credit_names": lists_of_one(pc.if_else(pc.is_valid(artist_mbid), name, None)),
        "credit_mbids": lists_of_one(artist_mbid),
        "album": pc.if_else(pc.equal(album_title, ""), title, album_title),
        "recording_mbid": recording,
        "release_mbid": release,
    }


def _seconds(date: Record) -> int | None:
    """The time of `date`: its seconds, else its text ("13 Jun 2025, 00:55", UTC)."""
    seconds = unix_seconds(field(date, "uts"))
    if seconds is not None:
        return seconds
    match = _DATE.fullmatch(optional_text(date, "#text"))
    if match is None or match[2].lower() not in _MONTHS:
        return None
    day, year, hour, minute = map(int, match.group(1, 3, 4, 5))
    return utc_seconds(year, _MONTHS.index(match[2].lower()) + 1, day, hour, minute, 0)
