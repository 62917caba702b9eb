"""ListenBrainz' export: a zip with one JSON object on each line of listens/YEAR/MONTH.jsonl.

What the client sent (additional_info) goes before what ListenBrainz found (mbid_mapping). The mapping's list of artist
MBIDs is not handed on: Koito reads it and throws it away.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bookpipe.sources.scrobbles.arrow_records import (
    INTEGER,
    TEXT,
    TEXTS,
    are_short,
    are_texts,
    lists,
    mbids,
    struct,
    texts,
    whole_numbers,
)
from bookpipe.sources.scrobbles.fields import (
    NIL_MBID,
    Record,
    check_count,
    checked,
    checked_all,
    field,
    mapping,
    mbid,
    optional_mapping,
    optional_objects,
    optional_text,
    optional_texts,
    optional_title,
    parse_mbid,
    text,
    unix_seconds,
    whole_number,
)
from bookpipe.sources.scrobbles.json_lines import JsonLines
from bookpipe.sources.scrobbles.json_stream import ByteStream, Records

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
FIELDS = struct(
    listened_at=INTEGER,
    track_metadata=struct(
        track_name=TEXT,
        artist_name=TEXT,
        release_name=TEXT,
        additional_info=struct(
            artist_names=TEXTS,
            artist_mbids=TEXTS,
            recording_mbid=TEXT,
            release_mbid=TEXT,
            release_group_mbid=TEXT,
            duration=INTEGER,
            duration_ms=INTEGER,
            media_player=TEXT,
            submission_client=TEXT,
        ),
        mbid_mapping=struct(
            recording_mbid=TEXT,
            release_mbid=TEXT,
            artists=pa.list_(struct(artist_credit_name=TEXT, artist_mbid=TEXT)),
        ),
    ),
)


def records(stream: ByteStream, offset: int = 0) -> Records:
    return JsonLines(stream, offset)


def is_member(name: str, *, nested: bool = False) -> bool:
    """Whether a member of the zip holds listens, as Koito has it: in `listens/` at the root.

    `nested`: in a `listens/` that is in another folder, as in a zip that was packed again.
    """
    return name.endswith(".jsonl") and ("/listens/" in name if nested else name.startswith("listens/"))


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
    check_count(mbids, "artist_mbids")
    return (
        unix_seconds(field(record, "listened_at")),
        text(track, "track_name"),
        text(track, "artist_name"),
        checked_all(optional_texts(sent, "artist_names"), "artist_names"),
        [None if m == NIL_MBID else m for m in mbids],
        [name for name, _ in credits],
        [m for _, m in credits],
        optional_title(track, "release_name"),
        _first_mbid(sent, found, "recording_mbid"),
        _first_mbid(sent, found, "release_mbid"),
        mbid(sent, "release_group_mbid"),
        whole_number(field(sent, "duration")) or int(whole_number(field(sent, "duration_ms")) / 1000),
        optional_text(sent, "media_player") or optional_text(sent, "submission_client"),
    )


def parse_columns(records: pa.StructArray) -> dict[str, pa.Array] | None:
    """COLUMNS of listens; None when one has odd MBIDs, lists or texts."""
    track = records.field("track_metadata")
    sent, found = track.field("additional_info"), track.field("mbid_mapping")
    names, artist_mbids, credits = sent.field("artist_names"), sent.field("artist_mbids"), found.field("artists")
    credit_names, credit_mbids = credits.values.field("artist_credit_name"), credits.values.field("artist_mbid")
    title, artist, album = map(texts, map(track.field, ("track_name", "artist_name", "release_name")))
    player, client = map(texts, map(sent.field, ("media_player", "submission_client")))
    if not (are_short(names) and are_short(artist_mbids)):
        return None
    if not are_texts(title, artist, album, player, client, names.values, credit_names):
        return None
    columns = (
        *(artist_mbids.values, credit_mbids, sent.field("release_group_mbid")),
        *(sent.field("recording_mbid"), sent.field("release_mbid")),
        *(found.field("recording_mbid"), found.field("release_mbid")),
    )
    known = [column for column in map(mbids, columns) if column is not None]
    if len(known) < len(columns):
        return None
    of_artists, of_credits, group, sent_recording, sent_release, found_recording, found_release = known
    # Without one of the two, an artist is no credit, and a text is no MBID.
    if of_artists.null_count or of_credits.null_count or _any_empty(credit_names):
        return None
    duration = whole_numbers(sent.field("duration"))
    milliseconds = whole_numbers(sent.field("duration_ms"))
    return {
        "listened_at": records.field("listened_at"),
        "title": title,
        "artist": artist,
        "artist_names": lists(names),
        "artist_mbids": lists(artist_mbids, of_artists),
        "credit_names": lists(credits, credit_names),
        "credit_mbids": lists(credits, of_credits),
        "album": album,
        "recording_mbid": pc.coalesce(sent_recording, found_recording),
        "release_mbid": pc.coalesce(sent_release, found_release),
        "release_group_mbid": group,
        "duration": pc.if_else(pc.equal(duration, 0), pc.divide(milliseconds, 1000), duration),
        "client": pc.if_else(pc.equal(player, ""), client, player),
    }


def _any_empty(column: pa.StringArray) -> bool:
    return column.null_count > 0 or pc.any(pc.equal(column, "")).as_py() is True


def _first_mbid(sent: Record, found: Record, name: str) -> str | None:
    """The MBID the client sent, else the one found. A nil one that was sent hides the other, as it does in Koito."""
    given = field(sent, name)
    if given and parse_mbid(given) == NIL_MBID:
        return None
    return mbid(sent, name) or mbid(found, name)
