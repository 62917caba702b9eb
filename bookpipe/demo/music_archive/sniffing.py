"""What the archive takes a file for: the rule of Marcel 1.0.4, as far as audio files meet it.

The bytes speak first. The declared type, and after it the file name, may only name a kind of what was found so far;
where the bytes say nothing, the declared type decides, and without one the name.
"""

SNIFFED_BYTES = 4096
ALLOWED_TYPES = (
    *("audio/mpeg", "audio/mp3", "audio/x-m4a", "audio/mp4", "audio/ogg", "audio/flac", "audio/wav", "audio/aac"),
)
UNKNOWN_TYPE = "application/octet-stream"

_MPEG_FRAMES = tuple(bytes((0xFF, second)) for second in (0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, *range(0xFA, 0xFE), 0xFF))
_WMA_HEADER = bytes.fromhex("3026b2758e66cf11")

# (type, what must stand where); the first that fits. `audio/wav` is allowed, but no bytes are ever called so.
_SIGNATURES: tuple[tuple[str, tuple[tuple[int, bytes], ...]], ...] = (
    ("audio/x-wav", ((0, b"RIFF"), (8, b"WAVE"))),
    ("audio/flac", ((0, b"fLaC"),)),
    ("audio/ogg", ((0, b"OggS"), (29, b"vorbis"))),
    ("audio/opus", ((0, b"OggS"), (29, b"pusHead"))),
    ("audio/speex", ((0, b"OggS"), (29, b"peex   "))),
    ("application/ogg", ((0, b"OggS"),)),
    *(("video/mp4", ((4, b"ftyp" + brand),)) for brand in (b"isom", b"mp41", b"mp42", b"M4V ")),
    *(("audio/mp4", ((4, b"ftyp" + brand),)) for brand in (b"M4A ", b"M4B ", b"F4A ", b"F4B ")),
    ("video/quicktime", ((4, b"ftyp"),)),
    ("audio/mpeg", ((0, b"ID3"),)),
    *(("audio/mpeg", ((0, frame),)) for frame in _MPEG_FRAMES),
    ("audio/x-aiff", ((0, b"FORM"), (8, b"AIF"))),
    ("audio/x-ms-wma", ((0, _WMA_HEADER),)),
    ("application/pdf", ((0, b"%PDF-"),)),
    ("application/zip", ((0, b"PK\x03\x04"),)),
    ("image/png", ((0, b"\x89PNG\r\n\x1a\n"),)),
    ("image/jpeg", ((0, b"\xff\xd8\xff"),)),
)
_PARENTS = {
    "audio/aac": "audio/x-aac",
    "audio/flac": "audio/x-flac",
    "audio/ogg": "application/ogg",
    "audio/opus": "audio/ogg",
    "audio/speex": "audio/ogg",
    "audio/vorbis": "audio/ogg",
}
_EXTENSIONS = {
    **dict.fromkeys(("mp3", "mp2", "mpga"), "audio/mpeg"),
    **dict.fromkeys(("m4a", "m4b"), "audio/mp4"),
    **dict.fromkeys(("ogg", "oga"), "audio/ogg"),
    **dict.fromkeys(("aif", "aiff", "aifc"), "audio/x-aiff"),
    **{"aac": "audio/aac", "flac": "audio/flac", "opus": "audio/opus", "spx": "audio/speex", "wav": "audio/x-wav"},
    **{
        "wma": "audio/x-ms-wma",
        "mp4": "video/mp4",
        "mov": "video/quicktime",
        "txt": "text/plain",
        "pdf": "application/pdf",
    },
}
_FORMATS = {"audio/mpeg": "mp3", "audio/mp4": "m4a", "audio/ogg": "ogg", "audio/flac": "flac", "audio/aac": "aac"}


def sniff(head: bytes, filename: str, declared_type: str | None) -> str:
    """The media type of a file that begins with `head` (its first SNIFFED_BYTES bytes, fewer when it is shorter)."""
    found: str | None = None
    extension = filename.rpartition(".")[2].lower() if "." in filename else ""
    for candidate in (_by_bytes(head), _declared(declared_type), _EXTENSIONS.get(extension)):
        if candidate is not None and (found is None or _is_a(candidate, found)):
            found = candidate
    return found or UNKNOWN_TYPE


def file_format(content_type: str) -> str | None:
    """The short name that the archive keeps for an allowed type."""
    return _FORMATS.get(content_type)


def _by_bytes(head: bytes) -> str | None:
    for media_type, places in _SIGNATURES:
        if all(head.startswith(wanted, offset) for offset, wanted in places):
            return media_type
    return None


def _declared(declared_type: str | None) -> str | None:
    # Parameters do not count, nor does the type that only says "bytes".
    plain = (declared_type or "").replace(",", ";").split(";")[0].strip().lower()
    return plain if "/" in plain and plain != UNKNOWN_TYPE else None


def _is_a(media_type: str, ancestor: str) -> bool:
    level: str | None = media_type
    while level is not None and level != ancestor:
        level = _PARENTS.get(level)
    return level is not None
