"""The archive's HTTP API: one login for many threads, and every answer that ends a run turned into an error.

A redirect is an error. A 401 is answered by one new login: the archive says 401
also when its own database hiccups. Tokens, signed names and signed addresses are in no message, repr or log: messages
name the path of the API alone, and causes that could quote more are cut off.
"""

import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode, urlsplit

import bookpipe
from bookpipe.model.errors import ConfigError, TerminalError, UnreachableError
from bookpipe.targets.music_archive.answers import Answer, RedirectedError, TroubleError, UnansweredError
from bookpipe.targets.music_archive.server import MusicArchive
from bookpipe.targets.music_archive.transport import Body, Transport

API = "/api/v1"
TOKEN_LIFE_S = 24 * 3600  # what we ask for; a run that takes longer refreshes
RETRY_REFRESH_S = 60.0
GONE = frozenset({302, 303, 404})  # what an unknown record gets: a way to the start page

_HEADERS = {"Accept": "application/json", "User-Agent": f"bookpipe/{bookpipe.__version__}"}


@dataclass
class _Token:
    value: str
    refresh_at: float  # by the monotonic clock

    def __repr__(self) -> str:
        return "_Token(****)"


class ArchiveClient:
    """A connection to an archive. Logs in when something first needs it. Safe to use from several threads."""

    def __init__(self, server: MusicArchive) -> None:
        self.server = server
        # Trusts what the system trusts, and SSL_CERT_FILE.
        self.transport = Transport(server, ssl.create_default_context())
        self._lock = threading.Lock()
        self._token: _Token | None = None
        self.clock_ahead = timedelta(0)  # how far the archive's clock is ahead of ours

    def __enter__(self) -> "ArchiveClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.transport.close()

    # -- requests ---------------------------------------------------------------------------------------------------

    def get(self, path: str, *, expect: frozenset[int] = frozenset(), **params: str | int) -> Answer:
        """GET below the API. Statuses in `expect` are returned though they would else be errors."""
        return self._authorized(f"GET {path}", expect, lambda token: self._request("GET", path, token, params=params))

    def post(self, path: str, values: Mapping[str, Any]) -> Answer:
        """POST a JSON object below the API."""
        return self._authorized(
            f"POST {path}", frozenset(), lambda token: self._request("POST", path, token, values=values)
        )

    def post_file(self, path: str, content_type: str, body: Body) -> Answer:
        """POST a body that holds a file, for example a form, below the API."""

        def send(token: str | None) -> Answer:
            headers = {**_HEADERS, "Content-Type": content_type, "Authorization": f"Bearer {token}"}
            url = f"{self.server.url}{API}{path}"
            return self.transport.request("POST", url, headers, body, name=f"POST {path}")

        return self._authorized(f"POST {path}", frozenset(), send)

    def ask_openly(self, method: str, path: str, values: Mapping[str, Any] | None = None) -> Answer:
        """A request without a token, to any path of the server. No status is an error."""
        return self._request(method, path, None, values=values, below="")

    def read_head(self, path: str, headers: Mapping[str, str]) -> Answer:
        """GET any path of the server with the token; only the status and the headers are read."""

        def ask(token: str | None) -> Answer:
            own = {**_HEADERS, "Accept": "*/*", "Authorization": f"Bearer {token}"}
            url = f"{self.server.url}{path}"
            return self.transport.request("GET", url, {**own, **headers}, read=0, name=f"GET {path}")

        return self._authorized(f"GET {path}", frozenset({*GONE, 416}), ask)

    def _request(
        self,
        method: str,
        path: str,
        token: str | None,
        *,
        below: str = API,
        params: Mapping[str, str | int] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> Answer:
        headers = _HEADERS if token is None else {**_HEADERS, "Authorization": f"Bearer {token}"}
        url = f"{self.server.url}{below}{path}" + (f"?{urlencode(params)}" if params else "")
        body = None
        if values is not None:
            body = Body(before=json.dumps(values).encode())
            headers = {**headers, "Content-Type": "application/json"}
        return self.transport.request(method, url, headers, body, name=f"{method} {path}")

    # -- tokens -----------------------------------------------------------------------------------------------------

    def _authorized(self, doing: str, expect: frozenset[int], send: Callable[[str | None], Answer]) -> Answer:
        token = self._current_token()
        answer = send(token)
        if answer.status == 401:
            token = self._log_in_again(token)
            answer = send(token)
            if answer.status == 401:
                raise ConfigError(
                    f"The music archive answers {doing} with 401 right after a login: {answer.message}. Is the user "
                    "still there? `bookpipe doctor` checks."
                )
        if answer.status not in expect:
            check_answer(answer, doing, self.server)
        return answer

    def log_in(self) -> Answer:
        """Log in, whether or not there is a token already; the answer, with the `user`."""
        with self._lock:
            return self._log_in()

    def _log_in(self) -> Answer:
        server = self.server
        values = {"email": server.email, "password": server.password.reveal(), "expires_in": TOKEN_LIFE_S}
        try:
            answer = self._request("POST", "/auth/login", None, values=values)
        except UnansweredError as error:
            # Whoever needed the login has not sent anything yet.
            raise UnansweredError(str(error), delivered=False) from None
        if answer.status in (401, 422):
            raise ConfigError(
                f"The music archive refuses the login of {server.email}: {answer.message}. "
                "Check BOOKPIPE_ARCHIVE_EMAIL and BOOKPIPE_ARCHIVE_PASSWORD."
            )
        check_answer(answer, "POST /auth/login", server)
        self._keep_token(answer)
        return answer

    def _keep_token(self, answer: Answer) -> None:
        check_trouble(answer, "a login")
        token = answer.data.get("api_token")
        if not isinstance(token, str) or not token:
            raise ConfigError(
                f"{self.server.url} answers a login with {answer.status} and without a token: is it a music archive? "
                "Check BOOKPIPE_ARCHIVE_URL."
            )
        # The archive says when the token ends by its own clock, so that its own clock also has to say how long that is.
        life, ends = float(TOKEN_LIFE_S), answer.data.get("expires_at")
        if answer.time is not None:
            self.clock_ahead = answer.time - datetime.now(timezone.utc)
            if isinstance(ends, int | float):
                life = ends - answer.time.timestamp()
        self._token = _Token(token, time.monotonic() + max(life, 0.0) / 2)

    def _current_token(self) -> str:
        with self._lock:
            if self._token is None:
                self._log_in()
            elif time.monotonic() >= self._token.refresh_at:
                self._refresh(self._token)
            assert self._token is not None
            return self._token.value

    def _refresh(self, token: _Token) -> None:
        """At half of its life: when this fails the other half is left."""
        token.refresh_at = time.monotonic() + RETRY_REFRESH_S
        try:
            answer = self._request("POST", "/auth/refresh", token.value, values={"expires_in": TOKEN_LIFE_S})
        except (UnansweredError, UnreachableError):
            return
        if answer.ok:
            self._keep_token(answer)
        elif answer.status == 401:
            self._log_in()

    def _log_in_again(self, refused: str) -> str:
        """A new token, unless another thread has got one since `refused` was sent."""
        with self._lock:
            if self._token is None or self._token.value == refused:
                self._log_in()
            assert self._token is not None
            return self._token.value

    def now(self) -> datetime:
        """What time it is for the archive, which says so when somebody logs in."""
        self._current_token()
        return datetime.now(timezone.utc) + self.clock_ahead


def check_answer(answer: Answer, doing: str, server: MusicArchive) -> None:
    """Raise what no other attempt can change: redirects, refused rights, refused clients."""
    if 300 <= answer.status < 400:
        target = urlsplit(answer.headers.get("location", ""))
        raise RedirectedError(
            f"The music archive redirects {doing} to {target.scheme}://{target.hostname}, and bookpipe follows no "
            f"redirects. Set BOOKPIPE_ARCHIVE_URL, now {server.url}, to the address that answers itself (https?)."
        )
    if answer.status == 403 and not answer.data:
        raise ConfigError(
            f"{server.url} answers {doing} with 403, and not in the archive's words. Rails does so when it does not "
            "know the host name: use its APP_HOST in BOOKPIPE_ARCHIVE_URL, or allow this one."
        )
    if answer.status == 403:
        raise ConfigError(
            f"The music archive forbids {server.email} {doing}: {answer.message}. "
            "The user needs the role moderator or admin."
        )
    if answer.status == 406:
        raise TerminalError(f"The music archive refuses {doing} with 406: it takes bookpipe for an old browser.")


def check_trouble(answer: Answer, doing: str) -> None:
    """Raise TroubleError for what may pass: 5xx and 429."""
    if answer.status >= 500 or answer.status == 429:
        raise TroubleError(
            f"The music archive answers {doing} with {answer.describe()}.",
            retry_after=answer.retry_after,
            outage=answer.is_outage,
        )
