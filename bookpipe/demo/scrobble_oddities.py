"""Odd records that real exports of scrobbles have: what is done to a good one, and what a reader has to make of it."""

from collections.abc import Callable
from typing import Any

from bookpipe.model.rejections import Reason

Record = dict[str, Any]
# A change of a record, which may return another one instead; and why that is no listen (None: it still is one).
Oddity = tuple[Callable[[Record], Any], Reason | None]

_FAR = 4_102_444_800  # the year 2100, in seconds since 1970


class Broken(str):
    """Text that stands in the place of a record, and is no JSON."""

    __slots__ = ()


def _broken(text: str) -> Callable[[Record], Broken]:
    """A record that is no JSON."""
    return lambda _record: Broken(text)


def _without(key: str) -> Callable[[Record], Any]:
    """A record that lacks a field."""

    def change(record: Record) -> None:
        del record[key]

    return change


def _set(*path_and_value: Any) -> Callable[[Record], Any]:
    """A change of the field at a path of keys and indexes."""
    *path, last, value = path_and_value

    def change(record: Record) -> None:
        place: Any = record
        for key in path:
            place = place[key]
        place[last] = value(place[last]) if callable(value) else value

    return change


def _repeat(record: Record) -> None:
    """The same listen once more, half a minute later."""


MALOJA: tuple[Oddity, ...] = (
    (_repeat, None),
    (_set("track", "title", str.upper), None),
    (_set("track", "artists", 0, str.lower), None),
    (_set("track", "artists", 0, "{} ".format), None),
    (_set("track", "title", "\x00{}".format), None),
    (_set("track", "title", "{} \ud83c".format), None),
    (_set("time", str), None),
    (_set("time", lambda time: time + 0.5), None),
    (_set("track", "artists", []), Reason.EMPTY_ARTIST),
    (_set("track", "artists", ["A •  • B"]), Reason.EMPTY_ARTIST),
    (_set("track", "title", ""), Reason.EMPTY_TITLE),
    (_set("time", 0), Reason.BAD_TIME),
    (_set("time", lambda time: time * 1000), Reason.FUTURE_TIME),
    (_set("track", "title", ["no", "text"]), Reason.BAD_RECORD),
    (_broken('{"time": 1, "track": {"title": nothing}}'), Reason.BAD_RECORD),
)
_SPOTIFY_SKIPPED: tuple[Oddity, ...] = tuple(
    (_set("reason_end", end), Reason.NOT_FINISHED) for end in ("fwdbtn", "endplay", "fwdbtn", "logout")
)
SPOTIFY: tuple[Oddity, ...] = (
    (_repeat, None),
    *_SPOTIFY_SKIPPED,
    (_set("master_metadata_track_name", None), Reason.NOT_A_LISTEN),
    *_SPOTIFY_SKIPPED,
    (_set("ms_played", 215_000.5), None),
    *_SPOTIFY_SKIPPED,
    (_set("ts", None), Reason.BAD_TIME),
    *_SPOTIFY_SKIPPED,
)
LASTFM: tuple[Oddity, ...] = (
    (_repeat, None),
    (_set("date", "uts", int), None),
    (_set("date", "uts", ""), None),
    (_set("mbid", "no MBID"), None),
    (_set("artist", "#text", str.upper), None),
    (_set("date", None), Reason.BAD_TIME),
    (_set("name", ""), Reason.EMPTY_TITLE),
    (_set("artist", "#text", ""), Reason.EMPTY_ARTIST),
    (_set("date", "uts", "0"), Reason.BAD_TIME),
    (lambda record: record | {"date": None, "@attr": {"nowplaying": "true"}}, Reason.NOT_A_LISTEN),
)
LISTENBRAINZ: tuple[Oddity, ...] = (
    (_repeat, None),
    (_set("track_metadata", "additional_info", "duration_ms", "183.5"), None),
    (_set("track_metadata", "additional_info", "tags", "x" * 70_000), None),
    (_set("track_metadata", "mbid_mapping", None), None),
    (_set("track_metadata", "additional_info", None), None),
    (_set("track_metadata", "artist_name", "Daft Punk feat. Julian Casablancas"), None),
    (_set("track_metadata", "artist_name", ""), Reason.EMPTY_ARTIST),
    (_set("track_metadata", "track_name", None), Reason.EMPTY_TITLE),
    (_set("listened_at", None), Reason.BAD_TIME),
    (_set("listened_at", _FAR), Reason.FUTURE_TIME),
    (_broken('{"listened_at": 1600000000, "track_metadata": '), Reason.BAD_RECORD),
)
KOITO: tuple[Oddity, ...] = (
    (_repeat, None),
    (_without("client"), None),
    (_set("album", "various_artists", True), None),
    (_set("listened_at", "2024-02-29T12:00:00.25+01:00"), None),
    (_set("artists", []), Reason.EMPTY_ARTIST),
    (_set("artists", 0, "aliases", []), Reason.EMPTY_ARTIST),
    (_set("track", "aliases", []), Reason.EMPTY_TITLE),
    (_set("listened_at", "0001-01-01T00:00:00Z"), Reason.BAD_TIME),
    (_set("track", 7), Reason.BAD_RECORD),
)
