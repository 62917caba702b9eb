"""The ways into an archive: `direct` (reserve a place, put the bytes there, make the song), `multipart` (all in one).

Which one an archive has is asked without a token: the reserving action says 401 where it exists and 404 where it does
not. Today's code of the archive has a route for it and no action.
"""

import re
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from bookpipe.model.errors import ConfigError, TerminalError
from bookpipe.runtime.upload_ledger import Content
from bookpipe.targets.music_archive.answers import Answer
from bookpipe.targets.music_archive.client import API, ArchiveClient, check_trouble
from bookpipe.targets.music_archive.lookup import checksum
from bookpipe.targets.music_archive.transport import Body

Strategy = Literal["direct", "multipart"]

_UPLOAD = "/songs/bulk_upload"
_RESERVE = "/songs/direct_upload"
_CREATE = "/songs/create_from_blob"
# The ways in which the archive says that a signed name leads to no bytes.
_NO_BYTES = re.compile(r"FileNotFound|InvalidSignature|Invalid blob signed", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Song:
    """What the archive is told of a file."""

    content: Content
    filename: str
    content_type: str
    title: str
    artist: str | None = None
    album: str | None = None
    genre: str | None = None
    track_number: int | None = None
    duration: int | None = None  # seconds

    def fields(self) -> dict[str, str | int]:
        values = {
            "title": self.title,
            "artist_name": self.artist,
            "album_title": self.album,
            "genre_name": self.genre,
            "track_number": self.track_number,
            "duration": self.duration,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the archive wants the bytes of a file, for some minutes. Never shown: whoever knows it may write there."""

    signed_id: str = field(repr=False)
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)


def choose_strategy(client: ArchiveClient) -> Strategy:
    """The strategy of the settings, or the best that the archive has."""
    wanted = client.server.strategy
    if wanted == "multipart":
        return "multipart"
    answer = client.ask_openly("POST", f"{API}{_RESERVE}", {})
    check_trouble(answer, f"POST {_RESERVE}")
    if answer.status == 401:
        return "direct"
    if wanted == "direct":
        raise ConfigError(
            f"The music archive has no direct uploads (POST {_RESERVE} says {answer.status}). "
            "Set BOOKPIPE_ARCHIVE_STRATEGY to auto or multipart."
        )
    if answer.status != 404:
        raise ConfigError(
            f"{client.server.url} answers POST {_RESERVE} with {answer.describe()}: is it a music archive? "
            "Check BOOKPIPE_ARCHIVE_URL."
        )
    return "multipart"


def reserve(client: ArchiveClient, song: Song) -> Place | Answer:
    """A place for the bytes of a song, or the answer when there is none."""
    answer = client.post(
        _RESERVE,
        {
            "filename": song.filename,
            "byte_size": song.content.size,
            "checksum": checksum(song.content),
            "content_type": song.content_type,
        },
    )
    if not answer.ok:
        return answer
    upload = answer.data.get("direct_upload")
    found: dict[str, Any] = upload if isinstance(upload, dict) else {}
    signed_id, url = answer.data.get("signed_id") or found.get("signed_id"), found.get("url")
    headers = found.get("headers")
    if not isinstance(signed_id, str) or not isinstance(url, str):
        raise TerminalError(f"The music archive answers POST {_RESERVE} without a signed id or an address.")
    return Place(
        signed_id,
        _like_base(url, client.server.url),
        # A type that the archive does not know is null here.
        {str(name): str(value) for name, value in headers.items() if value is not None}
        if isinstance(headers, dict)
        else {},
    )


def _like_base(url: str, base: str) -> str:
    """Behind a proxy that ends TLS the archive may believe that it is spoken to in http; its own urls then say so."""
    own, given = urlsplit(base), urlsplit(url)
    if own.scheme == "https" and given.scheme == "http" and given.hostname == own.hostname:
        return given._replace(scheme="https", netloc=own.netloc).geturl()
    return url


def put(client: ArchiveClient, place: Place, fd: int, content: Content) -> Answer:
    """Put the bytes. The receiver tests them: their MD5 is part of the reservation."""
    return client.transport.request("PUT", place.url, place.headers, Body(fd, content.size))


def commit(client: ArchiveClient, signed_id: str, song: Song) -> Answer:
    """Make the song of bytes that are there."""
    return client.post(_CREATE, {"blob_signed_id": signed_id, "filename": song.filename, "metadata": song.fields()})


def says_no_bytes(answer: Answer) -> bool:
    """Whether `commit` failed because the signed name leads to no bytes. Then there is no song either."""
    return answer.status >= 400 and _NO_BYTES.search(answer.message) is not None


def send_form(client: ArchiveClient, song: Song, fd: int) -> Answer:
    """The bytes and the song in one request. The bytes are tested on their way."""
    boundary = f"bookpipe-{secrets.token_hex(16)}"
    before = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {**song.fields(), "filename": song.filename}.items()
    )
    before += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="audio_file"; filename="{_quoted(song.filename)}"\r\n'
        f"Content-Type: {song.content_type}\r\n\r\n"
    )
    body = Body(
        fd, song.content.size, before.encode("utf-8", "replace"), f"\r\n--{boundary}--\r\n".encode(), song.content.md5
    )
    answer = client.post_file(_UPLOAD, f"multipart/form-data; boundary={boundary}", body)
    if answer.status == 404:
        raise ConfigError(
            f"The music archive answers POST {_UPLOAD} with 404. In development mode its code does so to everybody who "
            "is logged in: start it in production mode."
        )
    return answer


def may_upload(client: ArchiveClient) -> Answer:
    """Ask to upload nothing: 422 is the answer to one who may, an error to one who may not. Nothing is made."""
    return client.post(_UPLOAD, {})


def _quoted(name: str) -> str:
    """A file name in a form, as browsers write it."""
    return name.replace("\\", "_").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
