"""Spotify's extended streaming history: JSON files of plays, alone or in the zip that Spotify sends.

Koito takes only plays that ended because the track did. The time of a play is the time it ended. Podcasts and
audiobooks have no track name. Files of videos have the same shape, but Koito passes over them by their name.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bookpipe.model.rejections import Reason
from bookpipe.sources.scrobbles.arrow_records import (
    INTEGER,
    TEXT,
    are_texts,
    seconds_in_utc,
    struct,
    texts,
    whole_numbers,
)
from bookpipe.sources.scrobbles.fields import (
    Record,
    field,
    optional_text,
    optional_title,
    rfc3339,
    text,
    whole_number,
)
from bookpipe.sources.scrobbles.json_stream import ByteStream, JsonRecords, Layout, Records

KIND = "spotify"
CLIENT = "spotify"
COLUMNS = ("listened_at", "title", "artist", "album", "duration", "reason")
KEYS = frozenset({"ts", "ms_played", "master_metadata_track_name", "master_metadata_album_artist_name", "reason_end"})
FIELDS = struct(
    ts=TEXT,
    ms_played=INTEGER,
    master_metadata_track_name=TEXT,
    master_metadata_album_artist_name=TEXT,
    master_metadata_album_album_name=TEXT,
    reason_end=TEXT,
)
VIDEO = "Streaming_History_Video"  # in the names of files that are passed over

_LAYOUT = Layout()


def records(stream: ByteStream, offset: int = 0) -> Records:
    return JsonRecords(stream, _LAYOUT, offset)


def parse(record: Record) -> tuple[Any, ...]:
    """COLUMNS of one play."""
    title = text(record, "master_metadata_track_name")
    artist = text(record, "master_metadata_album_artist_name")
    reason = None
    if optional_text(record, "reason_end") != "trackdone":
        reason = Reason.NOT_FINISHED.value
    elif not title or not artist:
        reason = Reason.NOT_A_LISTEN.value
    time = rfc3339(field(record, "ts"))
    return (
        time and time[0],
        title,
        artist,
        optional_title(record, "master_metadata_album_album_name"),
        int(whole_number(field(record, "ms_played")) / 1000),  # cut towards zero, as in Go
        reason,
    )


def parse_columns(records: pa.StructArray) -> dict[str, pa.Array] | None:
    """COLUMNS of plays; None when one has an odd time or text."""
    time = seconds_in_utc(records.field("ts"))
    title = texts(records.field("master_metadata_track_name"))
    artist = texts(records.field("master_metadata_album_artist_name"))
    album = texts(records.field("master_metadata_album_album_name"))
    end = texts(records.field("reason_end"))
    if time is None or not are_texts(title, artist, album, end):
        return None
    named = pc.and_(pc.not_equal(title, ""), pc.not_equal(artist, ""))
    reason = pc.if_else(named, pa.scalar(None, pa.string()), Reason.NOT_A_LISTEN.value)
    return {
        "listened_at": time,
        "title": title,
        "artist": artist,
        "album": album,
        "duration": pc.divide(whole_numbers(records.field("ms_played")), 1000),
        "reason": pc.if_else(pc.equal(end, "trackdone"), reason, Reason.NOT_FINISHED.value),
    }
