"""One row for each audio file of a batch: where it is, what its bytes are and what the music archive is told of it."""

from dataclasses import dataclass

import pyarrow as pa

# What the archive takes for audio, by the first bytes. Its list says audio/wav, and no file is ever called so.
ACCEPTED_TYPES = frozenset(
    (
        *("audio/mpeg", "audio/mp3", "audio/x-m4a", "audio/mp4"),
        *("audio/ogg", "audio/flac", "audio/wav", "audio/aac"),
    )
)


def is_likely_refused(sniffed: str) -> bool:
    """Whether the archive will answer 422 for a file whose first bytes it takes for this."""
    return sniffed not in ACCEPTED_TYPES


@dataclass(frozen=True, slots=True)
class SongTags:
    """What a file says of itself, just as it says it: texts may be blank, damaged or long. None = it does not say."""

    title: str | None = None
    artist: str | None = None
    album: str | None = None
    genre: str | None = None
    track: str | None = None  # such as "3" or "3/12"
    duration: float | None = None  # seconds


_FILE = [
    pa.field("item", pa.int64(), nullable=False),  # place in the batch, counted from 1
    pa.field("path", pa.binary(), nullable=False),  # under the music folder, as the file system spells it
    pa.field("size", pa.int64()),  # bytes
    pa.field("mtime_ns", pa.int64()),
    pa.field("md5", pa.string()),  # lower-case hex
    pa.field("content_type", pa.string()),  # what is declared, and sent with the bytes
    pa.field("sniffed_type", pa.string()),  # what the archive will take the first bytes for
]
_REJECTION = [
    pa.field("reason", pa.string()),  # null = still on its way
    pa.field("detail", pa.string()),
]

# Files as they were read, with the fields of SongTags.
TAGGED_FILES = pa.schema(
    [
        *_FILE,
        pa.field("title", pa.string()),
        pa.field("artist", pa.string()),
        pa.field("album", pa.string()),
        pa.field("genre", pa.string()),
        pa.field("track", pa.string()),
        pa.field("duration", pa.float64()),  # seconds
        *_REJECTION,
    ]
)

# The same files with the fields that the music archive accepts.
AUDIO_FILES = pa.schema(
    [
        *_FILE,
        pa.field("filename", pa.string()),  # valid Unicode, at most 255 characters
        pa.field("title", pa.string()),
        pa.field("artist", pa.string()),
        pa.field("album", pa.string()),
        pa.field("genre", pa.string()),
        pa.field("track_number", pa.int32()),
        pa.field("duration", pa.int32()),  # seconds
        *_REJECTION,
    ]
)

# How each file of a batch ended.
SONG_OUTCOMES = pa.schema(
    [
        pa.field("item", pa.int64(), nullable=False),
        pa.field("path", pa.binary(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),  # inserted, existing or rejected
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("song_id", pa.string()),  # the archive's, a UUID
        pa.field("size", pa.int64()),
        pa.field("md5", pa.string()),
        pa.field("sent_bytes", pa.int64(), nullable=False),  # 0 when nothing had to be sent
        pa.field("processing_error", pa.string()),  # the archive has the song and could not process it
    ]
)
