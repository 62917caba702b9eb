"""ListenBrainz' export: a zip with one JSON object on each line of listens/YEAR/MONTH.jsonl.

What the client sent (additional_info) goes before what ListenBrainz found (mbid_mapping). The mapping's list of artist
MBIDs is not handed on: Koito reads it and throws it away.
"""

from typing import Any

from bookpipe.sources.scrobbles.fields import (
    NIL_MBID,
    Record,
    checked,
    field,
    mapping,
    mbid,
    optional_mapping,
    optional_objects,
    optional_text,
    optional_texts,
    parse_mbid,
    text,
    unix_seconds,
    whole_number,
)
from bookpipe.sources.scrobbles.json_stream import ByteStream, JsonLines, Records

KIND = "listenbrainz"
CLIENT = ""
COLUMNS = (
    "listened_at",
    "title",
    "artist",
    "artist_names",
    "artist_mbids",
    "credit_names",
    "credit_mbids",
    "album",
    "recording_mbid",
    "release_mbid",
    "release_group_mbid",
    "duration",
    "client",
)


def records(stream: ByteStream, offset: int = 0) -> Records:
    return JsonLines(stream, offset)


def is_member(name: str) -> bool:
    """Whether a member of the zip holds listens. A folder around `listens/` is of a zip that was packed again."""
    return name.endswith(".jsonl") and (name.startswith("listens/") or "/listens/" in name)


def parse(record: Record) -> tuple[Any, ...]:
    """COLUMNS of one listen."""
    track = mapping(record, "track_metadata")
    sent = optional_mapping(track, "additional_info")
    found = optional_mapping(track, "mbid_mapping")
    credits = [
        (checked(name, "artist_credit_name"), mbid(artist, "artist_mbid"))
        for artist in optional_objects(found, "artists")
        if isinstance(name := field(artist, "artist_credit_name"), str) and name and field(artist, "artist_mbid")
    ]
    mbids = [m for m in map(parse_mbid, optional_texts(sent, "artist_mbids")) if m]
    return (
        unix_seconds(field(record, "listened_at")),
        text(track, "track_name"),
        text(track, "artist_name"),
        optional_texts(sent, "artist_names"),
        [None if m == NIL_MBID else m for m in mbids],
        [name for name, _ in credits],
        [m for _, m in credits],
        optional_text(track, "release_name"),
        _first_mbid(sent, found, "recording_mbid"),
        _first_mbid(sent, found, "release_mbid"),
        mbid(sent, "release_group_mbid"),
        whole_number(field(sent, "duration")) or int(whole_number(field(sent, "duration_ms")) / 1000),
        optional_text(sent, "media_player") or optional_text(sent, "submission_client"),
    )


def _first_mbid(sent: Record, found: Record, name: str) -> str | None:
    """The MBID the client sent, else the one found. A nil one that was sent hides the other, as it does in Koito."""
    given = field(sent, name)
    if given and parse_mbid(given) == NIL_MBID:
        return None
    return mbid(sent, name) or mbid(found, name)
