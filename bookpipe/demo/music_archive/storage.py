"""Where the bytes of blobs are, and the Disk service's upload urls.

A PUT is read to its end before anything is tested, its end of life included. Bytes of the wrong MD5 have by then
replaced what was there, and are removed: a bad PUT deletes a good file.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from bookpipe.demo.music_archive.answers import base_url, error_page
from bookpipe.demo.music_archive.catalogue import Blob
from bookpipe.demo.music_archive.faults import Action, is_struck_by
from bookpipe.demo.music_archive.incoming import IncomingFile, receive_file
from bookpipe.demo.music_archive.state import ArchiveState

_PUT_PURPOSE, _GET_PURPOSE = "blob_token", "blob_key"


class Storage(Protocol):
    """What the archive needs of a storage service."""

    def path_of(self, key: str) -> Path:
        """Where the bytes of a blob are, or will be."""

    def upload_url(self, request: Request, blob: Blob) -> str:
        """Where the bytes of `blob` may be PUT for a while."""

    def upload_headers(self, blob: Blob) -> Mapping[str, str | None]:
        """What has to be sent along."""

    def download_url(self, request: Request, blob: Blob) -> str:
        """Where the bytes of `blob` may be read for a while, if they are there."""

    async def put(self, request: Request) -> Response:
        """Answer a PUT to an upload url."""

    async def get(self, request: Request) -> Response:
        """Answer a GET of a download url; parts may be asked for."""


class DiskStorage:
    """Files below `folder`, two levels deep by their keys."""

    def __init__(self, state: ArchiveState) -> None:
        self._state = state
        self._folder = state.directory / "storage"

    def path_of(self, key: str) -> Path:
        return self._folder / key[:2] / key[2:4] / key

    def upload_url(self, request: Request, blob: Blob) -> str:
        # What is missing is tested as it was reserved: a hex digest is accepted here and matches no bytes later.
        value = {"key": blob.key, "type": blob.content_type, "size": blob.byte_size, "checksum": blob.checksum}
        expires_at = self._state.now() + self._state.url_seconds
        token = self._state.signer.sign(_PUT_PURPOSE, value, expires_at=expires_at)
        return f"{base_url(request)}/rails/active_storage/disk/{token}"

    def upload_headers(self, blob: Blob) -> Mapping[str, str | None]:
        return {"Content-Type": blob.content_type}

    def download_url(self, request: Request, blob: Blob) -> str:
        value = {"key": blob.key, "type": blob.content_type}
        expires_at = self._state.now() + self._state.url_seconds
        token = self._state.signer.sign(_GET_PURPOSE, value, expires_at=expires_at)
        return f"{base_url(request)}/rails/active_storage/disk/{token}/{quote(blob.filename, safe='')}"

    async def get(self, request: Request) -> Response:
        token = request.path_params["token"]
        found: Any = self._state.signer.verify(_GET_PURPOSE, token, now=self._state.now())
        path = None if found is None else self.path_of(found["key"])
        if path is None or not path.exists():
            return Response(status_code=404)
        return FileResponse(path, media_type=found["type"])

    async def put(self, request: Request) -> Response:
        with self._state.counters.put(request.url.path):
            incoming = await receive_file(request.stream(), self._state.incoming)
            self._state.counters.received("put", incoming.size)
            try:
                return self._store(request, incoming)
            finally:
                incoming.discard()

    def _store(self, request: Request, incoming: IncomingFile) -> Response:
        content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if content_type == "application/x-www-form-urlencoded":
            return error_page(request, 400)  # Rails tries to read the bytes as a form
        token = request.path_params["token"]
        reserved: Any = self._state.signer.verify(_PUT_PURPOSE, token, now=self._state.now())
        if reserved is None:
            return Response(status_code=404)
        if content_type != (reserved["type"] or "").lower() or incoming.size != reserved["size"]:
            return Response(status_code=422)
        path = self.path_of(reserved["key"])
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_struck_by(request, Action.DISK_FULL):
            keep_half(incoming, path)
            return error_page(request, 500)
        os.replace(incoming.path, path)
        if incoming.checksum != reserved["checksum"]:
            path.unlink()
            return Response(status_code=422)
        return Response(status_code=204)


def keep_half(incoming: IncomingFile, path: Path) -> None:
    """Leave what a disk took before it was full."""
    shutil.move(incoming.path, path)
    os.truncate(path, incoming.size // 2)
