"""HTTP for uploads: any request, with a file in its body where there is one, and its answer.

Made of the standard library's client, and not of a larger one, for what was measured on a Rails server:
- API and storage share their connections. Puma's threads wait a fifth of a second for the next request of a connection
  that they have just answered; two connections for each upload are more than it has threads, and everything takes three
  times as long.
- The system copies a file into the connection at a quarter of the processor time.
- It is known for certain whether a lost request was complete, and nothing writes a signed address into a log.
There are no redirects, proxies, cookies or default headers here, and no request is ever sent a second time.
"""

import errno
import hashlib
import http.client
import json
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from bookpipe.model.errors import TerminalError, UnreachableError
from bookpipe.targets.music_archive.answers import Answer, UnansweredError
from bookpipe.targets.music_archive.server import MusicArchive

BLOCK = 256 * 1024  # bytes read at a time where they have to pass through us
LONGEST_ANSWER = 4 * 1024 * 1024  # bytes; a page of songs has some 50,000
IDLE_S = 3.0  # Apache closes idle connections after 5 s; one that is being closed must not get a request
_Origin = tuple[str, str, int | None]  # scheme, host, port
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect"})


class ChangedError(Exception):
    """The file is not what it was when it was hashed. The request was broken off: the archive has nothing of it."""


class UnreadableError(Exception):
    """The file cannot be read to its end. The request was broken off, too. `args` is the OSError."""


@dataclass(frozen=True, slots=True)
class Body:
    """The first `size` bytes of an open file (none for most requests), with something before and after.

    With an `md5` (lower-case hex) they are checked while they are sent, and the request is broken off before its end
    when they are others. Without one the receiver has to check them.
    """

    fd: int = -1
    size: int = 0
    before: bytes = b""
    after: bytes = b""
    md5: str | None = None

    def __len__(self) -> int:
        return len(self.before) + self.size + len(self.after)


class Transport:
    """Requests from any thread. Connections are kept for the next request to the same host."""

    def __init__(self, server: MusicArchive, tls: ssl.SSLContext) -> None:
        self._server, self._tls = server, tls
        self._lock = threading.Lock()
        self._idle: dict[_Origin, list[tuple[http.client.HTTPConnection, float]]] = {}
        self.sent = 0  # bytes of files, whole ones or not

    def close(self) -> None:
        with self._lock:
            for connections in self._idle.values():
                for connection, _ in connections:
                    connection.close()
            self._idle.clear()

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None = None,
        *,
        read: int = LONGEST_ANSWER,
        name: str = "",
    ) -> Answer:
        """The answer to one request, at most the first `read` bytes of it. `name`: what errors call the request.

        Raises UnreachableError when there is no connection, UnansweredError when it was lost or silent, ChangedError or
        UnreadableError for the file, TerminalError for an address that is none.
        """
        try:
            parts = urlsplit(url)
            origin = (parts.scheme, parts.hostname or "", parts.port)
        except ValueError:
            origin = ("", "", None)
        if origin[0] not in ("http", "https") or not origin[1]:
            raise TerminalError("The archive wants the file at an address that is no http:// or https:// address.")
        connection = self._connection(origin)
        name = name or f"a {method}" + (f" of {body.size:,} bytes" if body is not None and body.size else "")
        reusable = False
        try:
            answer, reusable = self._exchange(connection, method, parts, headers, body, read, f"{origin[1]}: {name}")
        finally:
            if reusable:
                with self._lock:
                    self._idle.setdefault(origin, []).append((connection, time.monotonic()))
            else:
                connection.close()
        return answer

    def _connection(self, origin: _Origin) -> http.client.HTTPConnection:
        with self._lock:
            idle = self._idle.get(origin, [])
            while idle:
                connection, since = idle.pop()
                if time.monotonic() - since < IDLE_S and _is_silent(connection.sock):
                    return connection
                connection.close()
        scheme, host, port = origin
        timeout = self._server.connect_timeout
        if scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise UnreachableError(
                f"{scheme}://{host}{f':{port}' if port else ''} cannot be reached: {_text(error)}. Is it running, and "
                "is BOOKPIPE_ARCHIVE_URL right?"
            ) from None
        return connection

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        parts: SplitResult,
        headers: Mapping[str, str],
        body: Body | None,
        read: int,
        name: str,
    ) -> tuple[Answer, bool]:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        delivered = False
        # The message of an error may quote the target, which is signed: errors leave here without their cause.
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for header, value in headers.items():
                if header.lower() not in _OURS:
                    connection.putheader(header, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
        except (ValueError, http.client.HTTPException):
            raise TerminalError(
                "The archive wants the file at an address, or with headers, that HTTP forbids."
            ) from None
        try:
            try:
                connection.sock.settimeout(self._server.send_timeout)
                connection.endheaders(body.before if body is not None and body.before else None)
                if body is not None:
                    self._send(connection.sock, body)
                delivered = True
            except (BrokenPipeError, ConnectionResetError):
                pass  # it may have said why: an answer can come before the end of the body
            connection.sock.settimeout(self._server.answer_timeout if delivered else 5)
            response = connection.getresponse()
            content = response.read(read)
        except (OSError, http.client.HTTPException) as error:
            raise UnansweredError(f"No answer from {name}: {_text(error)}.", delivered=delivered) from None
        answer = make_answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)
        return answer, delivered and not response.will_close and response.isclosed()

    def _send(self, sock: socket.socket, body: Body) -> None:
        """All but what is `before`, which goes with the headers."""
        if body.size == 0:
            pass
        elif body.md5 is None and not isinstance(sock, ssl.SSLSocket):
            self._copy(sock, body)
        else:
            self._pass_through(sock, body)
        if body.after:
            sock.sendall(body.after)

    def _copy(self, sock: socket.socket, body: Body) -> None:
        with open(body.fd, "rb", buffering=0, closefd=False) as file:
            try:
                sent = sock.sendfile(file, 0, body.size)
            except OSError as error:
                # Of both ends of the copy, only a disk fails like this.
                if error.errno in (errno.EIO, errno.ESTALE):
                    raise UnreadableError(error) from None
                raise
        self._count(sent)
        if sent != body.size:
            raise ChangedError

    def _pass_through(self, sock: socket.socket, body: Body) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        done = 0
        try:
            while done < body.size:
                try:
                    block = os.pread(body.fd, min(BLOCK, body.size - done), done)
                except OSError as error:
                    raise UnreadableError(error) from None
                if not block:
                    raise ChangedError
                digest.update(block)
                if done + len(block) == body.size and body.md5 not in (None, digest.hexdigest()):
                    raise ChangedError
                sock.sendall(block)
                done += len(block)
        finally:
            self._count(done)

    def _count(self, sent: int) -> None:
        with self._lock:
            self.sent += sent


def make_answer(status: int, headers: Mapping[str, str], content: bytes) -> Answer:
    data = None
    if content[:1] in (b"{", b" ", b"\n"):
        try:
            data = json.loads(content)
        except ValueError:
            data = None
    text = content[:20_000].decode("utf-8", "replace")
    return Answer(status, headers, data if isinstance(data, dict) else {}, text)


def _is_silent(sock: socket.socket) -> bool:
    """Whether nothing came on an idle connection. One that speaks before it is asked is being closed."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)


def _text(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return type(error).__name__
