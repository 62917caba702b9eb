"""A stand-in for the music archive: an ASGI application with its endpoints, its odd answers, and faults on demand.

It answers what the real application answers, as measured on it or read in its source: two of its routes lead nowhere,
unknown songs redirect, health is always ill, nothing is ever recognised as a duplicate.

    /__faults__    GET the faults, POST one or a list (see faults.Fault), DELETE them all
    /__state__     GET the switches and counters, PATCH switches or do "restart", "expire_tokens", "reset_counters"
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bookpipe.demo.music_archive.answers import error_page
from bookpipe.demo.music_archive.auth import Auth, RefusedError
from bookpipe.demo.music_archive.catalogue import SongIds
from bookpipe.demo.music_archive.connections import Connections
from bookpipe.demo.music_archive.counters import Counters
from bookpipe.demo.music_archive.faults import Fault, Faults, drain
from bookpipe.demo.music_archive.listing import Listing
from bookpipe.demo.music_archive.s3 import S3Storage
from bookpipe.demo.music_archive.songs import Songs
from bookpipe.demo.music_archive.state import ArchiveState, StorageKind
from bookpipe.demo.music_archive.storage import DiskStorage, Storage

Handler = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger(__name__)
_CONTROL = "/__"
_SWITCHES = {"direct_upload": bool, "url_seconds": float, "clock_offset": float}


class MusicArchive:
    """The archive of a directory; what is in it outlives the object, a kill included.

    `direct_upload` switches on the two actions that the real code has routes for and nothing more. `storage` says where
    the upload urls lead: to the archive itself, or to something like S3. `song_ids` as the real schema has them, or
    numbers. Users and the password: see auth.
    """

    def __init__(
        self,
        directory: Path,
        *,
        direct_upload: bool = False,
        storage: StorageKind = "disk",
        song_ids: SongIds = "uuid",
    ) -> None:
        self.state = ArchiveState(directory, direct_upload=direct_upload, storage_kind=storage, song_ids=song_ids)
        self.storage: Storage = S3Storage(self.state) if storage == "s3" else DiskStorage(self.state)
        auth = Auth(self.state)
        songs = Songs(self.state, auth, self.storage)
        listing = Listing(self.state, auth, self.storage)
        api = "/api/v1"
        nowhere = _no_action
        # In this order: `songs/export` is caught by `songs/{id}`, as in the real routes.
        self._routes = [
            _route("login", "POST", f"{api}/auth/login", auth.login),
            _route("refresh", "POST", f"{api}/auth/refresh", auth.refresh),
            _route("verify", "GET", f"{api}/auth/verify", auth.verify),
            _route("logout", "POST", f"{api}/auth/logout", auth.logout),
            _route("bulk_upload", "POST", f"{api}/songs/bulk_upload", songs.bulk_upload),
            _route("direct_upload", "POST", f"{api}/songs/direct_upload", songs.direct_upload),
            _route("create_from_blob", "POST", f"{api}/songs/create_from_blob", songs.create_from_blob),
            _route("bulk_create", "POST", f"{api}/songs/bulk_create", nowhere),
            _route("bulk_update", "PUT", f"{api}/songs/bulk_update", nowhere),
            _route("bulk_destroy", "DELETE", f"{api}/songs/bulk_destroy", nowhere),
            _route("songs", "GET", f"{api}/songs", listing.songs),
            _route("song", "GET", f"{api}/songs/{{id}}", listing.song),
            _route("audio_bytes", "GET", f"{api}/songs/{{id}}/stream", listing.audio_bytes),
            _route("audio_bytes", "GET", f"{api}/songs/{{id}}/download", listing.audio_bytes),
            _route("audio_file", "GET", f"{api}/audio_files/{{id}}", listing.audio_file),
            _route("audio_bytes", "GET", f"{api}/audio_files/{{id}}/stream", listing.audio_bytes),
            _route("audio_bytes", "GET", f"{api}/audio_files/{{id}}/download", listing.audio_bytes),
            _route("health", "GET", f"{api}/health", _health),
            _route("up", "GET", "/up", _up),
            _route("page", "GET", "/", _start_page),
            _route("page", "GET", "/login", auth.login_page),
            _route("rails_direct_upload", "POST", "/rails/active_storage/direct_uploads", songs.rails_direct_upload),
            _route("blob", "GET", "/rails/active_storage/blobs/redirect/{signed_id}/{filename:path}", songs.blob),
            _route("put", "PUT", "/rails/active_storage/disk/{token}", self.storage.put),
            _route("get", "GET", "/rails/active_storage/disk/{token}/{filename:path}", self.storage.get),
            _route("put", "PUT", "/s3/{bucket}/{key}", self.storage.put),
            _route("get", "GET", "/s3/{bucket}/{key}", self.storage.get),
        ]
        self._control = [
            _route("faults", "GET", "/__faults__", self._show_faults),
            _route("faults", "POST", "/__faults__", self._add_faults),
            _route("faults", "DELETE", "/__faults__", self._clear_faults),
            _route("state", "GET", "/__state__", self._show_state),
            _route("state", "PATCH", "/__state__", self._change_state),
        ]

    @property
    def faults(self) -> Faults:
        return self.state.faults

    @property
    def counters(self) -> Counters:
        return self.state.counters

    @property
    def connections(self) -> Connections:
        return self.state.connections

    def songs(self) -> list[dict[str, Any]]:
        """All songs, oldest first, with `checksum`, `byte_size` and `blob_key`."""
        return self.state.catalogue.songs(descending=False)[0]

    def bytes_path(self, song: dict[str, Any]) -> Path:
        """Where the bytes of a song of songs() are."""
        return self.storage.path_of(song["blob_key"])

    def restart(self) -> None:
        """Cut all connections, as a restart does. Tokens, songs and files stay."""
        self.connections.cut_all()

    def expire_tokens(self) -> None:
        """Refuse every API token that was issued up to now."""
        self.state.tokens_valid_from = self.state.now()

    def close(self) -> None:
        """Close the tables."""
        self.state.catalogue.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"].startswith(_CONTROL):
            await _work(_find(self._control, scope))(scope, receive, send)
            return
        route = _find(self._routes, scope)
        endpoint = route.name if route is not None else "unknown"
        with self.counters.request(endpoint):
            await self.faults.run(endpoint, _work(route), scope, receive, self._counted(endpoint, send))

    def _counted(self, endpoint: str, send: Send) -> Send:
        async def counting_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.counters.answered(endpoint, message["status"])
            await send(message)

        return counting_send

    async def _show_faults(self, _request: Request) -> Response:
        return JSONResponse({"faults": self.faults.to_json()})

    async def _add_faults(self, request: Request) -> Response:
        content = await request.json()
        try:
            self.faults.add(*map(Fault.from_json, content if isinstance(content, list) else [content]))
        except (TypeError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return await self._show_faults(request)

    async def _clear_faults(self, request: Request) -> Response:
        self.faults.clear()
        return await self._show_faults(request)

    async def _show_state(self, _request: Request) -> Response:
        switches = {name: getattr(self.state, name) for name in _SWITCHES}
        return JSONResponse({**switches, "counters": self.counters.snapshot()})

    async def _change_state(self, request: Request) -> Response:
        asked = await request.json()
        for name, kind in _SWITCHES.items():
            if name in asked:
                setattr(self.state, name, kind(asked[name]))
        if asked.get("expire_tokens"):
            self.expire_tokens()
        if asked.get("release"):
            self.faults.release()
        if asked.get("reset_counters"):
            self.counters.reset()
        if asked.get("restart"):
            self.restart()
        return await self._show_state(request)


def _route(name: str, method: str, path: str, handler: Handler) -> Route:
    return Route(path, handler, methods=[method], name=name)


def _find(routes: list[Route], scope: Scope) -> Route | None:
    for route in routes:
        match, found = route.matches(scope)
        if match is Match.FULL:
            scope.update(found)
            return route
    return None


def _work(route: Route | None) -> ASGIApp:
    """A route's handler, with what Rails and Puma do around it."""
    handler: Handler = _no_action if route is None else route.endpoint

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive)
        request = Request(scope, body)
        try:
            response = await handler(request)
            if not body.ended:
                await drain(body)
        except RefusedError as refused:
            await drain(body)
            response = refused.response
        except ClientDisconnect:
            return
        except Exception:
            _log.exception("the archive's stand-in failed")
            response = error_page(request, 500)
        await response(scope, receive, send)

    return respond


class _Body:
    """A request's messages, and whether the last one has been seen."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def __call__(self) -> Any:
        message = await self._receive()
        self.ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message


async def _no_action(request: Request) -> Response:
    return error_page(request, 404)


async def _health(_request: Request) -> Response:
    # The real one asks for the url of a text instead of a blob, counts the exception as an ill storage, and says so.
    return JSONResponse({"status": "unhealthy", "checks": {"storage": "unhealthy"}}, 503)


async def _up(_request: Request) -> Response:
    return HTMLResponse('<!DOCTYPE html><html><body style="background-color: green"></body></html>')


async def _start_page(_request: Request) -> Response:
    return RedirectResponse("/login", 302)
