"""What an open audio file says of itself, whatever its bytes are.

tinytag reads the tags; mutagen does where the user has installed it (GPL: never required). Both believe what
headers say, so they see a file only through BoundedFile: a size that lies costs no memory, a loop ends. Without it,
100 MB of zeros behind the first bytes of an MP3 kept tinytag busy for 13 s, four bytes at a time.
"""

import errno
import importlib
import importlib.util
import os
from functools import cache
from typing import Any

from bookpipe.model.songs import SongTags

MAX_TEXT = 1_000  # characters kept of a field: five times what the archive takes
MAX_CALLS = 20_000  # reads of one file; an MP3 without a table of contents needs some 3,000
MAX_READ = 256 * 1024  # bytes at once
MAX_BYTES = 1 << 20  # of one file, pictures not counted: tinytag steps over them
# An Ogg file's comments come in one piece with its pictures, in base64. mutagen reads all pictures.
MAX_BYTES_WITH_PICTURES = 8 << 20

_OGG_TAIL = 65_307 + 65_307  # bytes: the last whole page is in here, for no page is longer than half of it


class BoundedFile:
    """A file for readers that trust sizes: past the bounds it seems to end, and nothing raises.

    A read longer than `max_read` gives the first bytes only and moves on as if all had been given. `cut` tells
    whether a bound was met, so that what was concluded from an early end can be thrown away; `error` is the
    storage's own, which readers take for a broken file.
    """

    def __init__(self, fd: int, size: int, *, max_bytes: int = MAX_BYTES, max_read: int = MAX_READ) -> None:
        self.cut = False
        self.error: OSError | None = None
        self._fd = fd
        self._size = size
        self._at = 0
        self._calls = MAX_CALLS
        self._bytes = max_bytes
        self._max_read = max_read

    def read(self, size: int = -1) -> bytes:
        rest = self._size - self._at
        wanted = rest if size < 0 else min(size, rest)
        if wanted <= 0:
            return b""
        self._calls -= 1
        allowed = min(wanted, self._max_read, self._bytes) if self._calls >= 0 else 0
        if allowed < wanted:
            self.cut = True
        if allowed <= 0:
            return b""
        try:
            data = os.pread(self._fd, allowed, self._at)
        except OSError as error:
            self.error = error
            raise
        self._bytes -= len(data)
        self._at += wanted
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = (0, self._at, self._size)[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at


def read_tags(fd: int, size: int, head: bytes, extension: str) -> SongTags:
    """The tags of the file open as `fd`, of `size` bytes, of which `head` is the start.

    By content first, by `extension` (lower case, no dot) where the first bytes say nothing. A file that cannot be
    understood says nothing: that is an empty SongTags, never an error but the storage's own (OSError).
    """
    mutagen = _mutagen()
    if mutagen is not None:
        tags = _by_mutagen(mutagen, fd, size, extension)
        if tags is not None and tags.title:  # it does not look into all places: tinytag may know more of a WAV
            return tags
    return _by_tinytag(fd, size, head, extension)


def _text(value: object) -> str | None:
    if value is None:
        return None
    # Half an emoji is no Unicode, and Arrow refuses it.
    return str(value)[:MAX_TEXT].encode("utf-8", "ignore").decode()


# -- tinytag ------------------------------------------------------------------------------------------------------


@cache
def _tinytag() -> Any:
    """A tinytag of our own, that leaves out what nobody asks for and what takes it quadratic time.

    It looks through all values of a field for every further one (200 KB with 40,000 artists: 9 s), and for every
    line of lyrics through all that follow (1 MB: 25 s).
    """
    spec = importlib.util.find_spec("tinytag.tinytag")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.TinyTag._set_other_field = lambda *_: None
    module._ID3._parse_synced_lyrics = lambda *_: ""
    return module


def _by_tinytag(fd: int, size: int, head: bytes, extension: str) -> SongTags:
    tinytag = _tinytag()
    is_ogg = head.startswith(b"OggS")
    file = BoundedFile(fd, size, max_bytes=MAX_BYTES_WITH_PICTURES if is_ogg else MAX_BYTES)
    # tinytag would visit every page of an Ogg file, and look for MP3 frames in all bytes of an ADTS one.
    timed = not is_ogg and extension != "aac" and not _is_adts(head)
    duration = _ogg_seconds(fd, size, head) if is_ogg else None
    try:
        try:
            found = tinytag.TinyTag.get(file_obj=file, duration=timed)
        except tinytag.UnsupportedFormatError:
            file.seek(0)
            found = tinytag.TinyTag.get(filename=f"x.{extension}", file_obj=file, duration=timed)
    except Exception:
        if file.error is not None:
            raise file.error from None
        return SongTags(duration=duration)
    if timed and not file.cut:
        duration = found.duration
    return SongTags(
        title=_text(found.title),
        artist=_text(found.artist),
        album=_text(found.album),
        genre=_text(found.genre),
        track=_text(found.track),
        duration=duration,
    )


def _is_adts(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0


def _ogg_seconds(fd: int, size: int, head: bytes) -> float | None:
    """Samples at the last page's end by the rate its stream began with. RFC 3533, RFC 7845, Ogg FLAC mapping."""
    start = 27 + head[26] if len(head) > 26 else 0
    first = head[start : start + 64]
    skipped = 0
    if first.startswith(b"\x01vorbis"):
        rate = int.from_bytes(first[12:16], "little")
    elif first.startswith(b"OpusHead"):
        rate, skipped = 48_000, int.from_bytes(first[10:12], "little")
    elif first.startswith(b"\x7fFLAC"):
        rate = int.from_bytes(first[27:30], "big") >> 4
    elif first.startswith(b"Speex   "):
        rate = int.from_bytes(first[36:40], "little")
    else:
        return None
    at = max(0, size - _OGG_TAIL)
    tail = os.pread(fd, size - at, at)
    page = tail.rfind(b"OggS\0")
    while page >= 0 and tail[page + 14 : page + 18] != head[14:18]:  # a page of another stream
        page = tail.rfind(b"OggS\0", 0, page)
    samples = int.from_bytes(tail[page + 6 : page + 14], "little", signed=True) if page >= 0 else -1
    return max(samples - skipped, 0) / rate if rate and samples >= 0 else None


# -- mutagen ------------------------------------------------------------------------------------------------------

# Where mutagen's "easy" keys are missing (WAV, AIFF, ASF), its tags have the format's own names.
_MUTAGEN_KEYS = {
    "title": ("title", "TIT2", "Title"),
    "artist": ("artist", "TPE1", "Author"),
    "album": ("album", "TALB", "WM/AlbumTitle"),
    "genre": ("genre", "TCON", "WM/Genre"),
    "track": ("tracknumber", "TRCK", "WM/TrackNumber"),
}


@cache
def _mutagen() -> Any:
    try:
        return importlib.import_module("mutagen")
    except ImportError:
        return None


def _by_mutagen(mutagen: Any, fd: int, size: int, extension: str) -> SongTags | None:
    """The file's tags by mutagen; None when it does not know the format or cannot read it."""
    file: Any = BoundedFile(fd, size, max_bytes=MAX_BYTES_WITH_PICTURES, max_read=MAX_BYTES_WITH_PICTURES)
    file.name = f"x.{extension}"  # it weighs the name, too
    try:
        found = mutagen.File(file, easy=True)
        if found is None:
            return None
        texts = {field: _mutagen_text(found.tags, keys) for field, keys in _MUTAGEN_KEYS.items()}
        length = getattr(found.info, "length", None)
        return SongTags(**texts, duration=float(length) if length and not file.cut else None)
    except Exception:
        if file.error is not None:
            raise file.error from None
        return None


def _mutagen_text(tags: Any, keys: tuple[str, ...]) -> str | None:
    for key in keys:
        values = tags.get(key) if tags is not None else None
        values = getattr(values, "genres", None) or getattr(values, "text", None) or values  # an ID3 frame's
        if values:
            return _text(values[0])
    return None
