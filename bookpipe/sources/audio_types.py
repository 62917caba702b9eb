"""What the music archive will take an audio file for, and what it is told the file is.

The archive looks at the first 4 KB of every upload with Marcel 1.0.4 and accepts eight types. Its verdict is
repeated here so that a dry run can say which files will be refused before their megabytes are sent; the archive's
own answer stays the last word, and a newer Marcel decides some kinds otherwise (Opus from 1.1 on).
Rules: Marcel's definitions and its table made from Apache Tika's; measured on the real application.
"""

import re

HEAD_BYTES = 4096  # what the archive looks at

BINARY = "application/octet-stream"

# The types of RFCs where the archive accepts them. Python's mimetypes knows only what the system has configured.
# The extensions are those which the archive's own tools look for, and .oga and .aif.
CONTENT_TYPES: dict[str, str] = {
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "m4b": "audio/mp4",
    "m4p": "audio/mp4",
    "mp4": "audio/mp4",
    "alac": "audio/mp4",
    "ogg": "audio/ogg",
    "oga": "audio/ogg",
    "opus": "audio/ogg",
    "wav": "audio/wav",
    "aac": "audio/aac",
    "aiff": "audio/aiff",
    "aif": "audio/aiff",
    "wma": "audio/x-ms-wma",
    "asf": "video/x-ms-asf",
    "wmv": "video/x-ms-wmv",
    "3gp": "video/3gpp",
    "amr": "audio/amr",
    "webm": "video/webm",
    "ra": "audio/x-pn-realaudio",
    "rm": "application/vnd.rn-realmedia",
}


def content_type(filename: str) -> str:
    """The type that is declared for a file, by its extension; `application/octet-stream` for one not of audio."""
    return CONTENT_TYPES.get(_extension(filename), BINARY)


def sniff(head: bytes, filename: str, declared: str | None) -> str:
    """The type the archive gives a file: by its first `HEAD_BYTES`, the declared type and the name.

    Bytes that say something win; the other two only make it more exact, or stand in when the bytes say nothing.
    That is why text, noise and nothing named .mp3 are audio/mpeg: nobody looks for audio in them.
    """
    candidates = (_by_bytes(head[:HEAD_BYTES]), _declared(declared), _BY_NAME.get(_extension(filename)))
    found = None
    for candidate in candidates:
        if candidate and (found is None or _is_kind_of(candidate, found)):
            found = candidate
    return found or BINARY


def _extension(filename: str) -> str:
    stem, _, extension = filename.rpartition(".")
    return extension.lower() if stem else ""


def _declared(declared: str | None) -> str | None:
    kind = re.split(r"[;,\s]", declared.lower(), maxsplit=1)[0] if declared else ""
    return kind if "/" in kind and kind != BINARY else None


def _is_kind_of(kind: str, parent: str) -> bool:
    at: str | None = kind
    while at is not None and at != parent:
        at = _PARENTS.get(at)
    return at == parent


def _by_bytes(head: bytes) -> str | None:
    for kind, marks in _SIGNATURES:
        if all(head.startswith(mark, at) if at >= 0 else mark in head[: len(mark) - at] for at, mark in marks):
            return kind
    return None


_ANYWHERE = -HEAD_BYTES
_Marks = tuple[tuple[int, bytes], ...]


def _starts(kind: str, *values: bytes, at: int = 0) -> list[tuple[str, _Marks]]:
    return [(kind, ((at, value),)) for value in values]


# Type and its marks, all of which must be there: (offset, bytes), or (-n, bytes) for bytes that start in the first n.
# The first row that fits decides. Marcel knows many more kinds: these are the ones that sound, and what is often
# found under a sound's name. Its own definitions come first, the later ones before the earlier ones, then the table.
_SIGNATURES: list[tuple[str, _Marks]] = [
    *_starts("audio/mpc", b"MPCKSH"),
    ("audio/x-wav", ((0, b"RIFF"), (8, b"WAVE"))),
    *_starts("audio/flac", b"fLaC"),
    *_starts("video/mp4", b"ftypisom", b"ftypM4V ", at=4),
    *_starts("image/heic", b"ftypheic", at=4),
    *_starts("image/heif", b"ftypmif1", at=4),
    *_starts("image/avif", b"ftypavif", at=4),
    ("audio/ogg", ((0, b"OggS"), (29, b"vorbis"))),
    *_starts("image/jpeg", b"\xff\xd8\xff"),
    *_starts("image/png", b"\x89PNG\r\n\x1a\n"),
    *_starts("image/gif", b"GIF87a", b"GIF89a"),
    ("image/svg+xml", ((_ANYWHERE, b"<svg"),)),
    ("video/x-msvideo", ((0, b"RIFF"), (8, b"AVI "))),
    ("video/x-ms-wmv", ((_ANYWHERE, b"Windows Media Video"),)),
    ("video/x-ms-wmv", ((_ANYWHERE, b"VC-1 Advanced Profile"),)),
    ("video/x-ms-wmv", ((_ANYWHERE, b"wmv2"),)),
    *_starts("video/mp4", b"ftypmp41", b"ftypmp42", at=4),
    *_starts("audio/mp4", b"ftypM4A ", b"ftypM4B ", b"ftypF4A ", b"ftypF4B ", at=4),
    *_starts("video/quicktime", b"moov\0", b"mdat\0", b"free\0", b"skip\0", b"pnot\0", b"ftyp", at=4),
    *_starts("video/quicktime", b"\0\0\0\x08wide"),
    *_starts("video/mpeg", b"\0\0\x01\xb3", b"\0\0\x01\xba"),
    ("video/webm", ((0, b"\x1aE\xdf\xa3"), (_ANYWHERE, b"B\x82"), (_ANYWHERE, b"webm"))),
    *_starts("video/x-matroska", b"\x1aE\xdf\xa3\x93B\x82\x88matroska"),
    *_starts("video/x-flv", b"FLV"),
    # MPEG 1 and 2, not 2.5, whose FF E2 and FF E3 say nothing to Marcel. ADTS (FF F0, F1, F8, F9) neither.
    *_starts("audio/mpeg", *(bytes((0xFF, byte)) for byte in (*range(0xF2, 0xF8), *range(0xFA, 0xFE), 0xFF)), b"ID3"),
    *_starts("application/pdf", b"%PDF-"),
    *_starts("application/x-rar-compressed", b"Rar!\x1a\x07"),
    ("audio/opus", ((0, b"OggS"), (29, b"pusHead"))),
    ("audio/speex", ((0, b"OggS"), (29, b"peex   "))),
    *_starts("audio/x-caf", b"caff\0\0", b"caff\0\x01", b"caff\0\x02"),
    *_starts("application/ogg", b"OggS"),
    *_starts("application/vnd.rn-realmedia", b".RMF"),
    *_starts("application/zip", b"PK\x03\x04"),
    *_starts("application/gzip", b"\x1f\x8b"),
    *_starts("audio/ac3", b"\x0bw"),
    ("audio/x-ms-wma", ((_ANYWHERE, b"Windows Media Audio"),)),
    *_starts("audio/x-pn-realaudio", b".ra\xfd"),
    *_starts("video/x-ms-asf", b"0&\xb2u"),
    *_starts("application/x-matroska", b"\x1aE\xdf\xa3"),
    *_starts("audio/amr", b"#!AMR"),
    *_starts("audio/midi", b"MThd"),
    ("audio/x-aiff", ((0, b"FORM"), (8, b"AIFF"))),
    ("audio/x-aiff", ((0, b"FORM"), (8, b"AIFC"))),
    *(("text/html", ((-64, mark),)) for mark in (b"<!DOCTYPE HTML", b"<!DOCTYPE html", b"<!doctype html", b"<head")),
    ("text/html", ((-128, b"<html"),)),
    *_starts("text/plain", b"/*", b"//", b";;", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf"),
]

# Marcel's types of extensions, and a type's parent where it has one.
_BY_NAME: dict[str, str] = {
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "m4b": "audio/mp4",
    "mp4": "video/mp4",
    "ogg": "audio/ogg",
    "oga": "audio/ogg",
    "opus": "audio/opus",
    "wav": "audio/x-wav",
    "aac": "audio/aac",
    "aiff": "audio/x-aiff",
    "aif": "audio/x-aiff",
    "wma": "audio/x-ms-wma",
    "asf": "video/x-ms-asf",
    "wmv": "video/x-ms-wmv",
    "3gp": "video/3gpp",
    "amr": "audio/amr",
    "webm": "video/webm",
    "ra": "audio/x-pn-realaudio",
    "rm": "application/vnd.rn-realmedia",
}
_PARENTS: dict[str, str] = {
    "audio/mp4": "application/quicktime",
    "video/quicktime": "application/quicktime",
    "video/mp4": "video/quicktime",
    "audio/ogg": "application/ogg",
    "audio/opus": "audio/ogg",
    "audio/speex": "audio/ogg",
    "audio/vorbis": "audio/ogg",
    "audio/flac": "audio/x-flac",
    "audio/aac": "audio/x-aac",
    "audio/x-wav": "audio/vnd.wav",
    "audio/x-ms-wma": "video/x-ms-asf",
    "video/x-ms-wmv": "video/x-ms-asf",
    "video/webm": "application/x-matroska",
}
