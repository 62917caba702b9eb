"""One row for each record of an export of scrobbles: what Koito's importer of that format would hand on.

The columns are the arguments of Koito's listen submission and not a common denominator of the formats, so that
its rules can be replayed exactly. In the words of these rules: `artist` is the artist string, which is parsed for
features only when `artist_names` is empty; `artist_mbids` is the list of artist MBIDs, in which null stands for "no
MBID" and ends the search by MBID; `credit_names` and `credit_mbids` are the mapping of names to MBIDs, side by side.
No importer hands on the artists of the album.

Names and titles are as in the file, untrimmed, except that NULs are dropped and lone surrogates and undecodable
bytes are U+FFFD. MBIDs are lower case with hyphens; the nil UUID is null.
"""

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
