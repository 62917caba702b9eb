"""One row for each record of an export of scrobbles: what Koito's importer of that format would hand on.

The columns are the arguments of Koito's listen submission and not a common denominator of the formats, so that
its rules can be replayed exactly. In the words of these rules: `artist` is the artist string, which is parsed for
features only when `artist_names` is empty; `artist_mbids` is the list of artist MBIDs, in which null stands for "no
MBID" and ends the search by MBID; `credit_names` and `credit_mbids` are the mapping of names to MBIDs, side by side.
No importer hands on the artists of the album.

Names and titles are as in the file, untrimmed, except that NULs are dropped and lone surrogates and undecodable
bytes are U+FFFD. MBIDs are lower case with hyphens; the nil UUID is null.
"""

from enum import Enum

import pyarrow as pa

_TEXTS = pa.list_(pa.string())

LISTENS = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),  # key of the export
        pa.field("row", pa.int64(), nullable=False),  # record of the export, counted from 1
        # maloja, spotify, lastfm, listenbrainz or koito: "koito" has rules of its own, the others share theirs.
        pa.field("kind", pa.string(), nullable=False),
        pa.field("listened_at", pa.int64()),  # seconds since 1970, UTC, rounded down
        pa.field("listened_us", pa.int32()),  # the rest in microseconds, which only Koito's export keeps; else 0
        pa.field("title", pa.string()),
        pa.field("artist", pa.string()),
        pa.field("artist_names", _TEXTS),
        pa.field("artist_mbids", _TEXTS),  # kind "koito": one for each of artist_names
        pa.field("credit_names", _TEXTS),
        pa.field("credit_mbids", _TEXTS),
        pa.field("album", pa.string()),  # "" when the record names none
        pa.field("recording_mbid", pa.string()),
        pa.field("release_mbid", pa.string()),
        pa.field("release_group_mbid", pa.string()),
        pa.field("duration", pa.int32()),  # seconds, 0 = unknown
        pa.field("client", pa.string()),  # "" = unknown
        # What only Koito's own export carries. Aliases are in the file's order and include the name or title itself.
        pa.field("track_aliases", _TEXTS),
        pa.field("album_aliases", _TEXTS),
        pa.field("artist_aliases", pa.list_(_TEXTS)),  # one list for each of artist_names
        pa.field("artist_images", _TEXTS),  # one for each of artist_names; "" = none
        pa.field("album_image", pa.string()),
        pa.field("various_artists", pa.bool_()),
        pa.field("reason", pa.string()),  # null = still on its way
        pa.field("detail", pa.string()),
    ]
)


class ListenReason(str, Enum):
    """Reasons a record is not loaded as a listen. The value is stable: it is stored and shown."""

    BAD_RECORD = "bad_record"
    DAMAGED_FILE = "damaged_file"
    BAD_TIME = "bad_time"
    FUTURE_TIME = "future_time"
    EMPTY_ARTIST = "empty_artist"
    EMPTY_TITLE = "empty_title"
    TEXT_TOO_LONG = "text_too_long"
    NOT_FINISHED = "not_finished"
    NOT_A_LISTEN = "not_a_listen"
    OUTSIDE_WINDOW = "outside_window"

    def __str__(self) -> str:
        return self.value


# Nothing is wrong with these records: Koito's own rules, or the user's, pass over them.
SKIPPED = frozenset({ListenReason.NOT_FINISHED, ListenReason.NOT_A_LISTEN, ListenReason.OUTSIDE_WINDOW})

LISTEN_REASON_HELP: dict[ListenReason, str] = {
    ListenReason.BAD_RECORD: "the record cannot be read as a listen; the other records of the file are not affected",
    ListenReason.DAMAGED_FILE: "the file breaks off or is damaged here; what came before is read; download it again",
    ListenReason.BAD_TIME: "the record has no readable time, or one of 1 January 1970 or earlier: no clock was set",
    ListenReason.FUTURE_TIME: "the listen is more than a day in the future; correct its time in the source",
    ListenReason.EMPTY_ARTIST: "the record names no artist, or an artist without a name",
    ListenReason.EMPTY_TITLE: "the record names no track",
    ListenReason.TEXT_TOO_LONG: "a name is longer than 2,500 bytes, or there are more names than one listen can have",
    ListenReason.NOT_FINISHED: "the track was not played to its end; Koito does not import such plays",
    ListenReason.NOT_A_LISTEN: "a podcast, an audiobook or a track that was just playing; Koito does not import these",
    ListenReason.OUTSIDE_WINDOW: "the listen is outside of the time window that was asked for",
}

# What Koito (Go's TrimSpace) trims: Unicode's white space. Python's own strip also takes U+001C to U+001F.
SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def trim(text: str) -> str:
    """The text as Koito trims it."""
    return text.strip(SPACE)


def fold_name(name: str) -> str:
    """What two names share that Koito takes for equal where it ignores case (Go's EqualFold).

    Simple folding, character by character: ß and ss differ, the Kelvin sign is a k, ſ is an s, and İ and ı are equal
    to nothing but themselves.
    """
    return name.lower() if name.isascii() else "".join(map(_fold, name))


def _fold(char: str) -> str:
    if char == "ı":
        return char
    upper = char.upper()
    lower = (upper if len(upper) == 1 else char).lower()
    return lower if len(lower) == 1 else char
