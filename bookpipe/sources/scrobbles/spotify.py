"""Spotify's extended streaming history: JSON files of plays, alone or in the zip that Spotify sends.

Koito takes only plays that ended because the track did. The time of a play is the time it ended. Podcasts and
audiobooks have no track name. Files of videos have the same shape, but Koito passes over them by their name.
"""

from typing import Any

from bookpipe.model.rejections import Reason
from bookpipe.sources.scrobbles.fields import Record, field, optional_text, rfc3339, text, whole_number
from bookpipe.sources.scrobbles.json_stream import ByteStream, JsonRecords, Layout, Records

KIND = "spotify"
CLIENT = "spotify"
COLUMNS = ("listened_at", "title", "artist", "album", "duration", "reason")
KEYS = frozenset({"ts", "ms_played", "master_metadata_track_name", "master_metadata_album_artist_name", "reason_end"})
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
        optional_text(record, "master_metadata_album_album_name"),
        int(whole_number(field(record, "ms_played")) / 1000),  # cut towards zero, as in Go
        reason,
    )
