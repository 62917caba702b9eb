"""The open connections of a server, so that a fault can cut one of them, or all."""

import asyncio
import threading
from typing import Any

from starlette.types import Receive, Scope
from uvicorn.protocols.http.auto import AutoHTTPProtocol


class ConnectionCutError(ConnectionError):
    """What a client inside the process sees of a cut connection: there is none to cut."""


class Connections:
    """The transports of one server, by the client's address."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[str, int], tuple[asyncio.AbstractEventLoop, asyncio.Transport]] = {}

    def protocol_class(self) -> type[asyncio.Protocol]:
        """uvicorn's own protocol, which also enters its connections here."""
        connections = self

        class _Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
            def connection_made(self, transport: Any) -> None:
                self.peer = tuple(transport.get_extra_info("peername")[:2])
                with connections._lock:
                    connections._open[self.peer] = (asyncio.get_running_loop(), transport)
                super().connection_made(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                with connections._lock:
                    connections._open.pop(self.peer, None)
                super().connection_lost(exc)

        return _Protocol

    async def cut(self, scope: Scope, receive: Receive) -> None:
        """Cut the connection of a request, without an answer and without what is still to be sent."""
        with self._lock:
            found = self._open.get(tuple(scope.get("client") or ()))
        if found is None:
            raise ConnectionCutError("the server cut the connection")
        found[1].abort()
        # uvicorn hears of it a moment later, and would answer 500 until then.
        while (await receive())["type"] != "http.disconnect":
            pass

    def cut_all(self) -> int:
        """Cut every connection; their number. From any thread."""
        with self._lock:
            found = list(self._open.values())
        for loop, transport in found:
            loop.call_soon_threadsafe(transport.abort)
        return len(found)
