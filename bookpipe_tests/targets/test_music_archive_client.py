"""The client: logging in once for all, redirects and refusals as errors, and secrets that nobody gets to see."""

import json
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bookpipe.demo.music_archive import LISTENER, MODERATOR, PASSWORD, Action, Fault
from bookpipe.model.errors import ConfigError, TerminalError, TransientError, UnreachableError
from bookpipe.model.secrets import Secret
from bookpipe.runtime.upload_ledger import Content
from bookpipe.targets.music_archive import client as client_module
from bookpipe.targets.music_archive import strategies
from bookpipe.targets.music_archive.answers import Answer, RedirectedError, TroubleError, UnansweredError
from bookpipe.targets.music_archive.client import ArchiveClient
from bookpipe.targets.music_archive.server import MusicArchive
from bookpipe.targets.music_archive.strategies import Song
from bookpipe.targets.music_archive.transport import Body, ChangedError
from bookpipe_tests.targets.archive_uploads import Uploads, song_bytes, uploads


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Uploads]:
    with uploads(tmp_path, direct_upload=True) as started:
        yield started


@pytest.fixture
def client(up: Uploads) -> Iterator[ArchiveClient]:
    with ArchiveClient(up.server) as opened:
        yield opened


def song(size: int = 10) -> Song:
    return Song(Content("0" * 32, size), "a.mp3", "audio/mpeg", "A Title")


# Logging in


def test_it_logs_in_when_it_first_has_to_and_only_once(up: Uploads, client: ArchiveClient) -> None:
    assert up.count("requests") == {}
    with ThreadPoolExecutor(8) as pool:
        assert all(answer.ok for answer in pool.map(lambda _: client.get("/songs"), range(20)))
    assert up.count("requests") == {"login": 1, "songs": 20}


def test_the_email_is_lower_cased(up: Uploads) -> None:
    up.options["email"] = f" {MODERATOR.email.upper()} "
    with ArchiveClient(up.server) as client:
        assert client.get("/songs").ok


def test_a_wrong_password_is_a_matter_of_settings(up: Uploads) -> None:
    up.options["password"] = Secret("wrong")
    with ArchiveClient(up.server) as client, pytest.raises(ConfigError, match="BOOKPIPE_ARCHIVE_PASSWORD"):
        client.get("/songs")
    assert up.count("requests")["login"] == 1


def test_an_expired_token_is_answered_by_one_login(up: Uploads, client: ArchiveClient) -> None:
    client.get("/songs")
    up.archive.expire_tokens()
    with ThreadPoolExecutor(8) as pool:
        assert all(answer.ok for answer in pool.map(lambda _: client.get("/songs"), range(20)))
    assert up.count("requests")["login"] == 2


def test_two_401_in_a_row_are_fatal(up: Uploads, client: ArchiveClient) -> None:
    up.archive.faults.add(Fault("songs", Action.ANSWER, status=401, times=None))
    with pytest.raises(ConfigError, match="right after a login"):
        client.get("/songs")
    assert up.count("requests") == {"login": 2, "songs": 2}


@pytest.mark.parametrize("ahead", [-100_000.0, 0.0, 100_000.0])
def test_a_token_is_refreshed_at_half_of_its_life_whatever_the_clocks_say(
    up: Uploads, client: ArchiveClient, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    up.archive.state.clock_offset = ahead
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    # The Date header is of the real clock: let the archive say its own.
    monkeypatch.setattr(
        Answer, "time", property(lambda _: datetime.fromtimestamp(up.archive.state.now(), timezone.utc))
    )
    client.get("/songs")
    now[0] += client_module.TOKEN_LIFE_S / 2 - 60
    client.get("/songs")
    assert up.count("requests").get("refresh", 0) == 0
    now[0] += 120
    client.get("/songs")
    client.get("/songs")
    assert up.count("requests") == {"login": 1, "refresh": 1, "songs": 4}


def test_a_failed_refresh_leaves_the_second_half_of_the_life(
    up: Uploads, client: ArchiveClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    client.get("/songs")
    up.archive.faults.add(Fault("refresh", Action.ANSWER, status=500), Fault("refresh", Action.CUT_BEFORE, nth=2))
    for _ in range(3):
        now[0] += client_module.TOKEN_LIFE_S / 2 + 1
        assert client.get("/songs").ok
    assert up.count("requests") == {"login": 1, "refresh": 3, "songs": 4}


# What ends a run


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (302, RedirectedError, "follows no redirects"),
        (403, ConfigError, "moderator or admin"),
        (406, TerminalError, "old browser"),
    ],
)
def test_what_no_attempt_can_change_is_an_error(
    up: Uploads, client: ArchiveClient, status: int, kind: type[Exception], words: str
) -> None:
    up.archive.faults.add(Fault("songs", Action.ANSWER, status=status))
    with pytest.raises(kind, match=words):
        client.get("/songs")


def test_a_redirect_is_both_terminal_and_a_matter_of_settings() -> None:
    assert issubclass(RedirectedError, TerminalError) and issubclass(RedirectedError, ConfigError)


def test_a_listener_may_not_upload(up: Uploads) -> None:
    up.options["email"] = LISTENER.email
    with ArchiveClient(up.server) as client, pytest.raises(ConfigError, match="moderator or admin"):
        strategies.may_upload(client)


def test_a_blocked_host_is_told_from_a_missing_role() -> None:
    with (
        answering(403, b"<h1>Blocked hosts</h1>") as url,
        ArchiveClient(archive_at(url)) as client,
        pytest.raises(ConfigError, match="APP_HOST"),
    ):
        client.log_in()


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>Welcome</html>"), (200, b"{}"), (404, b"nothing here"), (200, b"[1, 2")]
)
def test_another_web_site_is_no_music_archive(status: int, body: bytes) -> None:
    with (
        answering(status, body) as url,
        ArchiveClient(archive_at(url)) as client,
        pytest.raises(ConfigError, match="is it a music archive"),
    ):
        client.log_in()


def test_nobody_there_is_a_wrong_address_or_a_server_that_is_down(up: Uploads) -> None:
    server = archive_at("http://127.0.0.1:9")
    with ArchiveClient(server) as client:
        with pytest.raises(UnreachableError, match="BOOKPIPE_ARCHIVE_URL"):
            client.get("/songs")
        with pytest.raises(UnreachableError, match="cannot be reached"):
            client.transport.request("PUT", "http://127.0.0.1:9/x", {}, Body(0, 0))


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "http://", "x", "https://user:secret@x", "https://:secret@x", "https://x/?token=secret"],
)
def test_an_address_that_is_none_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        archive_at(url)
    assert "secret" not in str(caught.value)


def test_an_address_has_one_spelling() -> None:
    assert archive_at("HTTPS://Archive.Example.org/music/").url == "https://archive.example.org/music"


def test_proxies_of_the_environment_are_not_used(up: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with ArchiveClient(up.server) as client:
        assert client.get("/songs").ok
        place = strategies.reserve(client, song())
        assert not isinstance(place, Answer)
        assert client.transport.request("PUT", place.url, place.headers, Body(0, 0)).status == 422


def test_it_says_who_it_is_and_keeps_no_cookies() -> None:
    seen: list[dict[str, str]] = []
    body = b'{"success": true}'
    with answering(200, body, {"Set-Cookie": "session=1"}, seen) as url, ArchiveClient(archive_at(url)) as client:
        client.ask_openly("GET", "/")
        client.ask_openly("GET", "/")
    assert seen[0]["user-agent"].startswith("bookpipe/")
    assert seen[0]["accept"] == "application/json"
    assert "cookie" not in seen[1] and "authorization" not in seen[1]


def test_storage_gets_the_reserved_headers_and_nothing_else() -> None:
    seen: list[dict[str, str]] = []
    with answering(204, b"", {}, seen) as url, ArchiveClient(archive_at(url)) as client:
        client.transport.request("PUT", f"{url}/x", {"Content-Type": "audio/flac", "Host": "evil"}, Body(0, 0))
    assert seen[0].keys() == {"host", "content-type", "content-length"}
    assert seen[0]["host"] in url


# Waiting and asking


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "soon"}, None),
        # The archive's clock is a year off, and only the difference counts.
        ({"date": "Sat, 01 Jan 2000 00:00:00 GMT", "retry-after": "Sat, 01 Jan 2000 00:01:30 GMT"}, 90.0),
        ({"date": "Sat, 01 Jan 2000 00:00:00 GMT", "retry-after": "Fri, 31 Dec 1999 00:00:00 GMT"}, 0.0),
    ],
)
def test_a_wish_to_be_left_alone_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert Answer(503, headers, {}, "").retry_after == seconds


@pytest.mark.parametrize(
    ("data", "text", "message"),
    [
        ({"message": "Failed", "errors": ["Title is too long", "x"]}, "", "Failed: Title is too long: x"),
        ({"error": "Not Found"}, "", "Not Found"),
        ({}, "<style>p {}</style><h1>Bad\n  Gateway</h1>", "Bad Gateway"),
        ({}, "", ""),
        ({}, "x" * 10_000, "x" * 500),
    ],
)
def test_the_archives_own_words_are_kept(data: dict[str, Any], text: str, message: str) -> None:
    assert Answer(500, {}, data, text).message == message


# Bodies


def test_a_body_has_exactly_its_length_and_its_bytes(up: Uploads, client: ArchiveClient) -> None:
    [name] = up.write("a.mp3", size=700_001)
    content = (up.root / name).read_bytes()
    table = up.rows([name])
    described = Song(Content(table["md5"][0].as_py(), len(content)), 'a "b"\\c.mp3', "audio/mpeg", "Tïtle")
    with open(up.root / name, "rb") as file:
        answer = strategies.send_form(client, described, file.fileno())
        place = strategies.reserve(client, described)
        assert not isinstance(place, Answer)
        assert strategies.put(client, place, file.fileno(), described.content).status == 204
    assert answer.status == 201
    [made] = up.archive.songs()
    assert (made["title"], made["byte_size"]) == ("Tïtle", len(content))
    assert up.archive.bytes_path(made).read_bytes() == content


@pytest.mark.parametrize("change", ["shorter", "other bytes"])
def test_bytes_that_are_not_those_that_were_hashed_never_arrive(
    up: Uploads, client: ArchiveClient, change: str
) -> None:
    [name] = up.write("a.mp3", size=700_001)
    described = Song(Content(up.rows([name])["md5"][0].as_py(), 700_001), "a.mp3", "audio/mpeg", "A")
    (up.root / name).write_bytes(song_bytes("a", 600_000) if change == "shorter" else song_bytes("b", 700_001))
    with open(up.root / name, "rb") as file, pytest.raises(ChangedError):
        strategies.send_form(client, described, file.fileno())
    assert client.get("/songs").data["songs"] == []


def test_a_lost_request_says_whether_it_was_complete(up: Uploads, client: ArchiveClient) -> None:
    [name] = up.write("a.mp3", size=30_000_000)  # more than fits into the buffers on the way
    up.archive.faults.add(Fault("put", Action.CUT_BODY, size=1_000_000), Fault("put", Action.CUT_AFTER, nth=2))
    with open(up.root / name, "rb") as file:
        for delivered in (False, True):
            place = strategies.reserve(client, song(30_000_000))
            assert not isinstance(place, Answer)
            with pytest.raises(UnansweredError) as caught:
                strategies.put(client, place, file.fileno(), song(30_000_000).content)
            assert caught.value.delivered is delivered


def test_silence_ends_after_a_while(up: Uploads) -> None:
    up.options["answer_timeout"] = 0.2
    up.archive.faults.add(Fault("songs", Action.HOLD), Fault("put", Action.HOLD))
    with ArchiveClient(up.server) as client:
        with pytest.raises(UnansweredError, match=r"No answer from .*GET /songs: it took too long"):
            client.get("/songs")
        with pytest.raises(UnansweredError, match="too long"):
            client.transport.request("PUT", f"{up.url}/rails/active_storage/disk/x", {}, Body(0, 0))


# Strategies


def test_the_strategy_is_asked_for_without_a_token(up: Uploads) -> None:
    for there, strategy in ((True, "direct"), (False, "multipart")):
        up.archive.state.direct_upload = there
        with ArchiveClient(up.server) as client:
            assert strategies.choose_strategy(client) == strategy
    assert "login" not in up.count("requests")


def test_a_strategy_that_is_wanted_is_checked(up: Uploads) -> None:
    up.archive.state.direct_upload = False
    up.options["strategy"] = "direct"
    with ArchiveClient(up.server) as client, pytest.raises(ConfigError, match="BOOKPIPE_ARCHIVE_STRATEGY"):
        strategies.choose_strategy(client)
    with pytest.raises(ConfigError, match="BOOKPIPE_ARCHIVE_STRATEGY"):
        archive_at(up.url, strategy="best")


def test_trouble_while_asking_is_no_answer(up: Uploads, client: ArchiveClient) -> None:
    up.archive.faults.add(Fault("direct_upload", Action.ANSWER, status=500))
    with pytest.raises(TroubleError):
        strategies.choose_strategy(client)


def test_a_type_that_the_archive_does_not_know_is_no_header() -> None:
    reservation = {
        "signed_id": "s",
        "direct_upload": {"url": "http://x/y", "headers": {"Content-Type": None, "A": "b"}},
    }
    body = json.dumps({"api_token": "t", **reservation}).encode()
    with answering(200, body) as url, ArchiveClient(archive_at(url)) as other:
        place = strategies.reserve(other, song())
    assert not isinstance(place, Answer) and place.headers == {"A": "b"}


@pytest.mark.parametrize(
    ("url", "base", "used"),
    [
        ("http://a.org/x?y=1", "https://a.org", "https://a.org/x?y=1"),
        ("http://a.org/x", "https://a.org:8443/music", "https://a.org:8443/x"),
        ("http://a.org/x", "http://a.org", "http://a.org/x"),
        ("http://storage.org/x", "https://a.org", "http://storage.org/x"),
        ("https://storage.org/x", "https://a.org", "https://storage.org/x"),
    ],
)
def test_an_archive_behind_tls_may_not_know_it(url: str, base: str, used: str) -> None:
    assert strategies._like_base(url, base) == used


# Secrets

_SECRETS = ("let me in", "eyJ")  # the password, and how everything that the archive signs begins


def test_secrets_are_in_no_error_log_or_repr(
    up: Uploads, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    [name] = up.write("a.mp3", size=2_000_000)
    content = up.rows([name])["md5"][0].as_py()
    described = Song(Content(content, 2_000_000), "a.mp3", "audio/mpeg", "A")
    said: list[str] = []

    def said_by(work: Callable[[], object]) -> None:
        try:
            said.append(repr(work()))
        except Exception as error:
            said.extend([repr(error), *traceback.format_exception(error)])

    with ArchiveClient(up.server) as client, open(up.root / name, "rb") as file:
        fd = file.fileno()
        place = strategies.reserve(client, described)
        assert not isinstance(place, Answer) and "eyJ" in place.url and "eyJ" in place.signed_id
        said_by(lambda: place)
        said_by(lambda: up.server)
        said_by(lambda: client._token)
        said_by(client.log_in)
        for endpoint in ("put", "create_from_blob", "bulk_upload", "direct_upload", "login"):
            for fault in (
                Fault(endpoint, Action.CUT_BODY),
                Fault(endpoint, Action.CUT_AFTER),
                *(Fault(endpoint, Action.ANSWER, status=status, times=2) for status in (302, 401, 403, 404, 500)),
            ):
                up.archive.faults.clear()
                up.archive.faults.add(fault)
                said_by(lambda: strategies.put(client, place, fd, described.content))
                said_by(lambda: strategies.commit(client, place.signed_id, described))
                said_by(lambda: strategies.send_form(client, described, fd))
                said_by(lambda: strategies.reserve(client, described))
                said_by(client.log_in)
        said_by(lambda: client.transport.request("PUT", place.url + "\n", {}, Body(fd, 1)))
        said_by(
            lambda: client.transport.request(
                "PUT", place.url.replace("127", f"{place.signed_id}:{place.signed_id}@127"), {}, Body(fd, 1)
            )
        )
        said_by(lambda: client.transport.request("PUT", f"http://{place.signed_id}:port/x", {}, Body(fd, 1)))
        said_by(lambda: client.transport.request("PUT", place.url.replace("http", "gopher"), {}, Body(fd, 1)))
        said_by(
            lambda: client.transport.request("PUT", place.url.replace("127.0.0.1", "nowhere.invalid"), {}, Body(fd, 1))
        )
    assert len(said) > 100
    logged = [record.getMessage() for record in caplog.records if not record.name.startswith("uvicorn")]
    text = "\n".join([*said, *logged, *capfd.readouterr()])
    shown = [line for line in text.splitlines() for secret in _SECRETS if secret in line]
    assert shown == []


# A web server that always says the same


class _Same(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: tuple[int, bytes, dict[str, str]]
    seen: list[dict[str, str]] | None

    def _say(self) -> None:
        if self.seen is not None:
            self.seen.append({name.lower(): value for name, value in self.headers.items()})
        self.rfile.read(int(self.headers.get("content-length") or 0))
        status, body, headers = self.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = _say  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class answering:  # noqa: N801
    """A web server with one answer; `seen` gets the headers of the requests."""

    def __init__(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        seen: list[dict[str, str]] | None = None,
    ) -> None:
        handler = type("Handler", (_Same,), {"answer": (status, body, headers or {}), "seen": seen})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def archive_at(url: str, **options: Any) -> MusicArchive:
    return MusicArchive(url, MODERATOR.email, Secret(PASSWORD), **options)


def test_transient_trouble_is_a_transient_error() -> None:
    assert issubclass(TroubleError, TransientError) and issubclass(UnansweredError, TroubleError)
