"""Koito's own export, version 1.

Names and titles are the aliases flagged as primary. Of the flags and sources of the other aliases, and of the artists'
own primary flags, Koito's importer makes nothing: the order of the lists decides.
"""

from typing import Any

from bookpipe.model.errors import TerminalError
from bookpipe.model.listens import trim
from bookpipe.model.rejections import Reason
from bookpipe.sources.scrobbles.fields import (
    Record,
    UnusableError,
    check_count,
    checked,
    field,
    mapping,
    mbid,
    optional_objects,
    optional_text,
    rfc3339,
    type_name,
    whole_number,
)
from bookpipe.sources.scrobbles.json_stream import ByteStream, JsonReader, JsonRecords, Layout, Records

KIND = "koito"
CLIENT = ""
COLUMNS = (
    "listened_at",
    "listened_us",
    "title",
    "artist",
    "artist_names",
    "artist_mbids",
    "album",
    "recording_mbid",
    "release_mbid",
    "duration",
    "client",
    "track_aliases",
    "album_aliases",
    "artist_aliases",
    "artist_images",
    "album_image",
    "various_artists",
)
KEYS = frozenset({"listens"})
FIELDS = None
VERSION = "1"

_LAYOUT = Layout(KEYS)


def records(stream: ByteStream, offset: int = 0) -> Records:
    return JsonRecords(stream, _LAYOUT, offset)


def check_version(stream: ByteStream) -> None:
    """TerminalError unless the export says it is of version 1. Raises JsonDamageError for a broken document."""
    reader = JsonReader(stream)
    reader.expect("{")
    version = None
    while (key := reader.key()) is not None:
        if key.casefold() == "version":
            version = reader.value()
            break
        reader.skip()
    if version != VERSION:
        named = f"version {version!r}" if isinstance(version, str | int | float) else "no version"
        raise TerminalError(
            f"it is a Koito export of {named[:80]}, and only version {VERSION!r} is known. Update bookpipe."
        )


def parse(record: Record) -> tuple[Any, ...]:
    """COLUMNS of one listen."""
    time = rfc3339(field(record, "listened_at"))
    track, album = mapping(record, "track"), mapping(record, "album")
    artists = _artists(record)
    title, track_aliases = _aliases(track)
    album_title, album_aliases = _aliases(album)
    if not all(map(trim, album_aliases)):
        album_aliases = []  # Koito then keeps none of them, and goes on
    named = [_aliases(artist) for artist in artists]
    names = [name for name, _ in named]
    if not all(map(trim, names)):
        raise UnusableError(Reason.EMPTY_ARTIST, f"one of the artists {names!r} has no primary name")
    return (
        time and time[0],
        time[1] if time else 0,
        title,
        names[0] if names else "",
        names,
        [mbid(artist, "mbid") for artist in artists],
        album_title,
        mbid(track, "mbid"),
        mbid(album, "mbid"),
        whole_number(field(track, "duration")),
        optional_text(record, "client"),
        _not_blank(track_aliases),
        album_aliases,
        [_not_blank(aliases) for _, aliases in named],
        [optional_text(artist, "image_url") for artist in artists],
        optional_text(album, "image_url"),
        field(album, "various_artists") is True,
    )


def parse_columns(records: object) -> None:
    """Nothing: names are chosen alias by alias."""


def _artists(record: Record) -> list[Record]:
    artists = field(record, "artists") or []
    if not isinstance(artists, list):
        raise UnusableError(Reason.BAD_RECORD, f"artists is {type_name(artists)}, not a list")
    if not all(isinstance(artist, dict) for artist in artists):
        raise UnusableError(Reason.BAD_RECORD, "artists holds something else than objects")
    check_count([""] * len(artists), "artists")
    return artists


def _aliases(entity: Record) -> tuple[str, list[str]]:
    """(name: the first alias flagged as primary, else ""; all aliases)."""
    aliases = []
    primary = None
    for item in optional_objects(entity, "aliases"):
        alias = field(item, "alias")
        if not isinstance(alias, str):
            continue
        alias = checked(alias, "alias")
        if primary is None and field(item, "is_primary") is True:
            primary = alias
        aliases.append(alias)
    check_count(aliases, "aliases")
    return primary or "", aliases


def _not_blank(aliases: list[str]) -> list[str]:
    return [alias for alias in aliases if trim(alias)]
