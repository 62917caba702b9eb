"""What the archive has already. It knows no uniqueness and no key of ours: songs are found by the words of their title,
and recognised by the checksum and the size of their file."""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from bookpipe.model.errors import TransientError
from bookpipe.runtime.upload_ledger import Content
from bookpipe.targets.music_archive.answers import Answer
from bookpipe.targets.music_archive.client import GONE, ArchiveClient, check_trouble

SEARCH_WORDS = 10  # the archive leaves out the rest
PAGE = 100  # its longest
MOST_CANDIDATES = 1_000  # songs of one title whose checksums are asked for
# Patterns in the archive's search, or escapes: what is between them is searched for.
_WORD_ENDS = re.compile(r"[\s%_\\\0]+")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What the archive says of a song's file. `size` is None where it was not told to look at the file."""

    song_id: str
    checksum: str
    size: int | None
    stream: str = ""  # where its bytes are: a path below the base URL

    def is_(self, content: Content) -> bool:
        return self.checksum == checksum(content) and self.size in (None, content.size)


def checksum(content: Content) -> str:
    """Base64 of the 16 bytes of an MD5, as Active Storage writes it."""
    return base64.b64encode(bytes.fromhex(content.md5)).decode()


def get_audio_file(client: ArchiveClient, song_id: str) -> RemoteFile | None:
    """None for a song that is not there (any more)."""
    path = f"/audio_files/{song_id}"
    answer = client.get(path, expect=GONE)
    check_trouble(answer, f"GET {path}")
    if not answer.ok:
        return None
    size = answer.data.get("file_size")
    return RemoteFile(
        song_id,
        str(answer.data.get("checksum") or ""),
        int(size) if size is not None else None,
        _below(client.server.url, str(answer.data.get("stream_url") or "")),
    )


def _below(base: str, url: str) -> str:
    """The path of one of the archive's own addresses below its base URL; "" for any other. What host an address names
    depends on proxies, and no token is sent to a host just because an answer names it."""
    path = urlsplit(url).path
    prefix = urlsplit(base).path
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else ""


def get_processing_error(client: ArchiveClient, song_id: str) -> str:
    """What the archive says of a song that it could not process. Today's code keeps its reason to itself, and answers
    500 for a song without artist, album or genre."""
    try:
        song = client.get(f"/songs/{song_id}", expect=GONE).data.get("song")
    except TransientError:  # the song is there; its story can wait
        song = None
    text = song.get("processing_error") if isinstance(song, dict) else None
    return str(text or "the archive could not process the file, and its API does not say why")


@dataclass(frozen=True, slots=True)
class FoundSong:
    """A song with the content that was asked for. `failed`: the archive could not process it."""

    file: RemoteFile
    failed: bool

    @property
    def song_id(self) -> str:
        return self.file.song_id


def find_song(
    client: ArchiveClient, title: str, content: Content, *, since: datetime | None = None
) -> FoundSong | None:
    """A song with these words in its names, and with this content. `since`: by the archive's clock."""
    others = []
    for song in islice(_search(client, title, since), MOST_CANDIDATES):
        if song.get("title") != title:
            others.append(song)
        elif found := _with_content(client, song, content):
            return found
    return next((found for song in others if (found := _with_content(client, song, content))), None)


def _with_content(client: ArchiveClient, song: Mapping[str, Any], content: Content) -> FoundSong | None:
    file = get_audio_file(client, str(song["id"]))
    if file is None or not file.is_(content):
        return None
    return FoundSong(file, song.get("processing_status") == "failed")


def _search(client: ArchiveClient, title: str, since: datetime | None) -> Iterator[dict[str, Any]]:
    """Newest first: what is added meanwhile moves the others to later pages, where they are met twice, never missed."""
    words = " ".join([word for word in _WORD_ENDS.split(title) if word][:SEARCH_WORDS])
    page, seen = 1, set()
    while True:
        answer = client.get("/songs", search=words, sort_by="created_at", sort_order="desc", limit=PAGE, page=page)
        check_trouble(answer, "GET /songs")
        songs = answer.data.get("songs") or []
        for song in songs:
            created_at = _time(song.get("created_at"))
            if since is not None and created_at is not None and created_at < since:
                return
            if song["id"] not in seen:
                seen.add(song["id"])
                yield song
        if len(songs) < PAGE:
            return
        page += 1


def has_whole_file(client: ArchiveClient, file: RemoteFile, size: int) -> bool | None:
    """Whether the archive can give the last byte of a song's file; None when it does not say where the bytes are. Its
    tables tell what was announced, not what is on its disk: after a full disk a song may be there without its bytes."""
    if not file.stream:
        return None
    answer = client.read_head(file.stream, {"Range": f"bytes={size - 1}-{size - 1}"})
    check_trouble(answer, "GET stream")
    return _has_size(answer, size)


def has_whole_blob(client: ArchiveClient, signed_id: str, filename: str, size: int) -> bool | None:
    """Whether the last byte of a file is at its reserved place; None when the archive does not let us look. Active
    Storage leads from a signed id to an address of the bytes: here a redirect is the answer that is looked for."""
    way = f"{client.server.url}/rails/active_storage/blobs/redirect/{signed_id}/{quote(filename, safe='')}"
    answer = client.transport.request("GET", way, {})
    check_trouble(answer, "GET blobs/redirect")
    if answer.status not in (301, 302, 303, 307, 308) or "location" not in answer.headers:
        return None
    there = urljoin(way, answer.headers["location"])
    answer = client.transport.request("GET", there, {"Range": f"bytes={size - 1}-{size - 1}"}, read=0)
    check_trouble(answer, "GET blob")
    return bool(_has_size(answer, size))


def _has_size(answer: Answer, size: int) -> bool | None:
    if answer.status in (404, 410, 416):
        return False
    there = _size_there(answer)
    return None if there is None else there == size


def _size_there(answer: Answer) -> int | None:
    if answer.status == 206:
        total = answer.headers.get("content-range", "").rpartition("/")[2]
    elif answer.status == 200:
        total = answer.headers.get("content-length", "")
    else:
        return None
    return int(total) if total.isascii() and total.isdigit() else None


def _time(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
