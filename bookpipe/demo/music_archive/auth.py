"""Logging in: stateless tokens that end, and roles that are looked up with every request.

A token lives 2 days, or as long as the client asks, at most 30 days. Logging out revokes nothing.
"""

import uuid
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from bookpipe.demo.music_archive.answers import failure, success
from bookpipe.demo.music_archive.state import ArchiveState

PASSWORD = "let me in"  # noqa: S105 - of everybody in a demo
_DEFAULT_LIFE = 2 * 24 * 3600
_LONGEST_LIFE = 30 * 24 * 3600
_TOKEN_PURPOSE, _FORM_PURPOSE = "api_token", "csrf"
_FORM_COOKIE = "_archive_session"


@dataclass(frozen=True)
class User:
    """Somebody with PASSWORD. Moderators and admins may upload."""

    name: str
    email: str
    role: str

    @property
    def id(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, self.email))

    @property
    def may_upload(self) -> bool:
        return self.role in ("moderator", "admin")


ADMIN = User("Ada", "admin@archive.test", "admin")
MODERATOR = User("Mo", "moderator@archive.test", "moderator")
LISTENER = User("Lis", "listener@archive.test", "user")
_USERS = {user.email: user for user in (ADMIN, MODERATOR, LISTENER)}


class RefusedError(Exception):
    """A request without a good token, or without the right to do this."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Auth:
    """The endpoints below auth/, and the check before all others."""

    def __init__(self, state: ArchiveState) -> None:
        self._state = state

    async def login(self, request: Request) -> Response:
        values = await parameters(request)
        user = _USERS.get(str(values.get("email")))
        if user is None or values.get("password") != PASSWORD:
            return failure(401, "Invalid email or password")
        content = {"message": "Authentication successful", **self._token(user, values.get("expires_in"))}
        return success({**content, "user": _user_json(user)})

    async def refresh(self, request: Request) -> Response:
        user = self.user(request)
        values = await parameters(request)
        return success({**self._token(user, values.get("expires_in")), "user": _user_json(user)})

    async def verify(self, request: Request) -> Response:
        return success({"message": "API token is valid", "user": _user_json(self.user(request))})

    async def logout(self, request: Request) -> Response:
        self.user(request)
        return success({"message": "Logged out successfully"})

    async def login_page(self, _request: Request) -> Response:
        """A page with a session and its form token, as every page of the site has them."""
        session = uuid.uuid4().hex
        token = self._state.signer.sign(_FORM_PURPOSE, session)
        page = f'<html><head><meta name="csrf-token" content="{token}" /></head><body>Please log in</body></html>'
        response = HTMLResponse(page)
        response.set_cookie(_FORM_COOKIE, session, httponly=True)
        return response

    def has_form_token(self, request: Request) -> bool:
        """Whether a browser's request carries the token of its own session."""
        token = request.headers.get("x-csrf-token", "")
        session = self._state.signer.verify(_FORM_PURPOSE, token, now=self._state.now())
        return session is not None and session == request.cookies.get(_FORM_COOKIE)

    def user(self, request: Request) -> User:
        """Who asks. Raises RefusedError with the 401."""
        # The archive takes the header with or without the word Bearer.
        token = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not token:
            raise RefusedError(failure(401, "Missing API token"))
        now = self._state.now()
        payload = self._state.signer.verify(_TOKEN_PURPOSE, token, now=float("-inf"))
        user = None if payload is None else _USERS.get(payload["email"])
        if payload is None or user is None or payload["iat"] < self._state.tokens_valid_from:
            raise RefusedError(failure(401, "Invalid API token"))
        if now > payload["exp"]:
            raise RefusedError(failure(401, "API token expired"))
        return user

    def uploader(self, request: Request) -> User:
        """Who asks, if he may upload. Raises RefusedError with the 401 or 403."""
        user = self.user(request)
        if not user.may_upload:
            raise RefusedError(failure(403, "Insufficient permissions. Moderator or admin role required."))
        return user

    def _token(self, user: User, expires_in: object) -> dict[str, object]:
        try:
            life = int(str(expires_in))
        except ValueError:
            life = 0
        now = self._state.now()
        expires_at = int(now) + (min(life, _LONGEST_LIFE) if life > 0 else _DEFAULT_LIFE)
        payload = {"email": user.email, "iat": now, "exp": expires_at}
        return {"api_token": self._state.signer.sign(_TOKEN_PURPOSE, payload), "expires_at": expires_at}


async def parameters(request: Request) -> dict[str, object]:
    """The fields of a JSON or url-encoded body."""
    if request.headers.get("content-type", "").startswith("application/json"):
        body = await request.body()
        content = await request.json() if body else {}
        return content if isinstance(content, dict) else {}
    form = await request.body()
    return dict(parse_qsl(form.decode("utf-8", "replace"), keep_blank_values=True))


def _user_json(user: User) -> dict[str, str]:
    return {"id": user.id, "name": user.name, "email": user.email, "role": user.role}
