"""The endpoints that tell of songs: lists, single songs, checksums and the bytes themselves."""

import math
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from bookpipe.demo.music_archive.answers import base_url, error_page, not_found_redirect, success
from bookpipe.demo.music_archive.auth import Auth
from bookpipe.demo.music_archive.songs import song_json
from bookpipe.demo.music_archive.state import ArchiveState
from bookpipe.demo.music_archive.storage import Storage

_PAGE, _LONGEST_PAGE = 50, 100
_LISTED = (
    *("id", "title", "artist", "album", "genre", "duration", "track_number", "file_format", "processing_status"),
    "created_at",
)
_SHOWN = ("id", "title", "artist", "album", "genre", "duration", "file_format")
_LINKED = ("artist", "album", "genre")
_FILE = ("title", "artist", "album", "duration", "file_format", "file_size", "checksum")


class Listing:
    """Everything that any valid token may read."""

    def __init__(self, state: ArchiveState, auth: Auth, storage: Storage) -> None:
        self._state, self._auth, self._storage = state, auth, storage

    async def songs(self, request: Request) -> Response:
        self._auth.user(request)
        asked = request.query_params
        page = max(_number(asked.get("page"), 1), 1)
        limit = min(max(_number(asked.get("limit"), _PAGE), 1), _LONGEST_PAGE)
        rows, total = self._state.catalogue.songs(
            search=asked.get("search", ""),
            sort_by=asked.get("sort_by", "created_at"),
            descending=asked.get("sort_order", "desc").lower() != "asc",
            limit=limit,
            offset=(page - 1) * limit,
        )
        pagination = {
            "current_page": page,
            "total_pages": math.ceil(total / limit),
            "total_count": total,
            "limit": limit,
        }
        songs = [song_json(row, _LISTED, self._state) for row in rows]
        return success({"songs": songs, "pagination": pagination})

    async def song(self, request: Request) -> Response:
        self._auth.user(request)
        song = self._state.catalogue.song(request.path_params["id"])
        if song is None:
            return not_found_redirect(request)
        if request.query_params.get("include") == "binary":
            return self._bytes(request, song)
        if any(song[name] is None for name in _LINKED):
            return error_page(request, 500)  # the real code asks nothing for its name
        content = {**song_json(song, _SHOWN, self._state), "file_size": song["byte_size"]}
        return success({"song": {**content, **_urls(request, song)}})

    async def audio_file(self, request: Request) -> Response:
        self._auth.user(request)
        song = self._state.catalogue.song(request.path_params["id"])
        if song is None:
            return not_found_redirect(request)
        song_id = song_json(song, ("id",), self._state)["id"]
        return JSONResponse({"song_id": song_id, **song_json(song, _FILE, self._state), **_urls(request, song)})

    async def audio_bytes(self, request: Request) -> Response:
        self._auth.user(request)
        song = self._state.catalogue.song(request.path_params["id"])
        return not_found_redirect(request) if song is None else self._bytes(request, song)

    def _bytes(self, request: Request, song: dict[str, Any]) -> Response:
        path = self._storage.path_of(song["blob_key"])
        if not path.exists():
            return error_page(request, 404)
        return FileResponse(path, media_type=song["content_type"])


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    return int(text) if text.isdecimal() else 0


def _urls(request: Request, song: dict[str, Any]) -> dict[str, str]:
    files = f"{base_url(request)}/api/v1/audio_files/{song['id']}"
    return {"stream_url": f"{files}/stream", "download_url": f"{files}/download"}
