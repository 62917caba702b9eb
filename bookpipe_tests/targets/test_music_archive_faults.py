"""Whatever goes wrong: every file ends as one song, or as a row that says why not, and nothing is sent without need."""

import hashlib
import resource
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from bookpipe.demo.music_archive import LISTENER, Action, Fault
from bookpipe.model.errors import BookpipeError, ConfigError, TerminalError, TransientError, UnreachableError
from bookpipe.model.secrets import Secret
from bookpipe.targets.music_archive import lookup, schedule
from bookpipe.targets.music_archive.answers import Answer
from bookpipe_tests.targets.archive_uploads import Uploads, details, outcomes, reasons, song_bytes, uploads

FILES = 8
SIZE = 3_000


@pytest.fixture(params=["direct", "multipart"])
def up(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Uploads]:
    with uploads(tmp_path, direct_upload=request.param == "direct") as started:
        yield started


@pytest.fixture
def direct(tmp_path: Path) -> Iterator[Uploads]:
    with uploads(tmp_path, direct_upload=True) as started:
        yield started


@pytest.fixture
def multipart(tmp_path: Path) -> Iterator[Uploads]:
    with uploads(tmp_path) as started:
        yield started


def making(up: Uploads) -> str:
    """The endpoint that makes songs."""
    return "create_from_blob" if up.archive.state.direct_upload else "bulk_upload"


def sending(up: Uploads) -> str:
    """The endpoint that gets the bytes."""
    return "put" if up.archive.state.direct_upload else "bulk_upload"


def received(up: Uploads) -> int:
    return sum(up.count("received_bytes").values())


def assert_clean(up: Uploads) -> None:
    """Nobody has a claim, no lock is left, and no address got two PUTs."""
    with up.ledger.state.reading() as connection:
        assert connection.execute("SELECT count(*) FROM song_upload WHERE owner IS NOT NULL").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM song_upload WHERE state = 'sending'").fetchone() == (0,)
    assert not [path for path in up.folder.iterdir() if "uploader" in path.name]
    assert up.archive.counters.snapshot()["violations"] == []
    assert set(up.count("puts_per_url").values()) <= {1}


def assert_all_there(up: Uploads, names: list[str], result: Any) -> None:
    assert outcomes(result) == ["inserted"] * len(names), details(result)
    up.assert_holds(names)
    assert_clean(up)
    assert outcomes(up.upload(names)) == ["existing"] * len(names)


# What passes

_ANYWHERE = [
    Fault("", Action.CUT_BEFORE),
    Fault("", Action.CUT_BODY, size=10),
    Fault("", Action.CUT_AFTER),
    Fault("", Action.ANSWER, status=500),
    Fault("", Action.ANSWER_AFTER, status=500),
    Fault("", Action.ANSWER, status=502),
    Fault("", Action.ANSWER_AFTER, status=502),
    Fault("", Action.ANSWER, status=503, retry_after=0),
    Fault("", Action.ANSWER, status=429, retry_after=0),
    Fault("", Action.ANSWER, status=401),
    Fault("", Action.RESTART),
]
_PLACES = [
    *(("direct", endpoint) for endpoint in ("login", "direct_upload", "put", "create_from_blob")),
    *(("multipart", endpoint) for endpoint in ("login", "direct_upload", "bulk_upload")),
]


@pytest.mark.parametrize("fault", _ANYWHERE, ids=lambda fault: f"{fault.action.value}-{fault.status}")
@pytest.mark.parametrize(("strategy", "endpoint"), _PLACES)
def test_trouble_that_passes_is_got_over(tmp_path: Path, strategy: str, endpoint: str, fault: Fault) -> None:
    if endpoint == "login" and fault.status == 401:
        pytest.skip("that is a wrong password")
    if fault.status == 401 and (endpoint == "put" or (strategy, endpoint) == ("multipart", "direct_upload")):
        pytest.skip("a storage has no logins, and 401 is how direct uploads are found")
    with uploads(tmp_path, direct_upload=strategy == "direct") as up:
        names = up.many(FILES, SIZE)
        values = {**fault.to_json(), "endpoint": endpoint, "nth": 1 if endpoint == "login" else 3, "every": 3}
        if endpoint == "direct_upload" and strategy == "multipart":
            values["nth"] = 1  # it is asked once
        if endpoint != "login":
            values["times"] = 1 if fault.status == 401 else 2  # two for one request are fatal
        up.archive.faults.add(Fault.from_json(values))
        assert_all_there(up, names, up.upload(names))


@pytest.mark.parametrize("action", [Action.CUT_BEFORE, Action.CUT_AFTER, Action.ANSWER, Action.ANSWER_AFTER])
def test_trouble_with_the_questions_is_got_over_too(up: Uploads, action: Action) -> None:
    names = up.many(FILES, SIZE)
    up.archive.faults.add(Fault(making(up), Action.CUT_AFTER, times=2))
    for endpoint in ("songs", "audio_file", "audio_bytes"):
        up.archive.faults.add(Fault(endpoint, action, times=1))
    assert_all_there(up, names, up.upload(names))


def test_a_lost_answer_does_not_cost_the_file_again(up: Uploads) -> None:
    names = up.many(FILES, SIZE)
    up.archive.faults.add(Fault(making(up), Action.CUT_AFTER, every=2, times=3))
    assert_all_there(up, names, up.upload(names))
    assert received(up) == FILES * SIZE
    assert len(up.archive.state.catalogue.unattached_blobs()) == 0


def test_a_lost_answer_to_a_put_does_not_cost_the_file_again(direct: Uploads) -> None:
    names = direct.many(FILES, SIZE)
    direct.archive.faults.add(Fault("put", Action.CUT_AFTER, every=2, times=3))
    assert_all_there(direct, names, direct.upload(names))
    assert received(direct) == FILES * SIZE


def test_a_song_that_appears_some_time_after_the_answer_was_lost_is_waited_for(
    up: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    up.options["settle"] = 20.0
    asked: list[str] = []
    find_song = lookup.find_song

    def find_later(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments[1])
        return find_song(*arguments, **options) if len(asked) > 3 else None

    monkeypatch.setattr(lookup, "find_song", find_later)
    names = up.write("a.mp3", "b.mp3")
    up.archive.faults.add(Fault(making(up), Action.CUT_AFTER))
    assert_all_there(up, names, up.upload(names))
    assert len(asked) == 4
    assert received(up) == 2 * SIZE


def test_an_archive_that_is_asked_too_early_is_asked_again_by_the_next_run(up: Uploads) -> None:
    """A run that is given up in the middle leaves what nobody knows as unsure, and the next one settles it."""
    names = up.write("a.mp3")
    up.archive.faults.add(Fault(making(up), Action.CUT_AFTER))
    up.archive.faults.add(Fault("songs", Action.ANSWER, status=403))
    with pytest.raises(ConfigError):
        up.upload(names)
    assert up.ledger.count() == {"unsure": 1}
    assert_clean(up)
    result = up.upload(names)
    assert outcomes(result) == ["existing"]
    assert received(up) == SIZE
    up.assert_holds(names)


# The server's clock, tokens, restarts


@pytest.mark.parametrize("ahead", [-300_000.0, 300_000.0])
def test_another_clock_at_the_server_changes_nothing(
    up: Uploads, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    up.archive.state.clock_offset = ahead
    # The stand-in's Date header is of the real clock: let the answers say its own.
    monkeypatch.setattr(
        Answer, "time", property(lambda _: datetime.fromtimestamp(up.archive.state.now(), timezone.utc))
    )
    names = up.many(FILES, SIZE)
    up.archive.faults.add(Fault(making(up), Action.CUT_AFTER, every=2, times=2))
    assert_all_there(up, names, up.upload(names))
    # What another run left behind is asked for before anything else.
    up.write("another.mp3")
    up.archive.faults.add(Fault(making(up), Action.CUT_AFTER), Fault("songs", Action.ANSWER, status=403))
    with pytest.raises(ConfigError):
        up.upload(["another.mp3"])
    assert outcomes(up.upload(["another.mp3"])) == ["existing"]
    assert len(up.archive.songs()) == FILES + 1


def test_a_token_that_expires_in_the_middle_is_renewed(up: Uploads) -> None:
    names = up.many(FILES, SIZE)

    class ExpireInTheMiddle:
        def advance(self, step: str, done: int, total: int | None) -> None:
            if done in (2, 5):
                up.archive.expire_tokens()

    assert_all_there(up, names, up.upload(names, progress=ExpireInTheMiddle()))
    assert up.count("requests")["login"] >= 2


def test_a_server_that_restarts_in_the_middle_is_waited_for(up: Uploads) -> None:
    names = up.many(30, SIZE)
    up.archive.faults.add(Fault("*", Action.RESTART, nth=10, every=15, times=4))
    assert_all_there(up, names, up.upload(names))


# What does not pass


def test_a_server_that_is_not_there_is_transient_and_costs_nothing(up: Uploads) -> None:
    names = up.many(3)
    up.url = "http://127.0.0.1:9"
    with pytest.raises(UnreachableError, match="cannot be reached"):
        up.upload(names)
    assert_clean(up)


def test_a_server_that_stays_away_in_the_middle_is_transient(up: Uploads) -> None:
    up.options["outage"] = 0.2
    names = up.many(10, SIZE)
    up.archive.faults.add(Fault("*", Action.ANSWER, nth=8, status=503, times=None))
    with pytest.raises(TransientError, match="has not been there"):
        up.upload(names)
    assert_clean(up)
    up.archive.faults.clear()
    result = up.upload(names)
    assert result.counts.read == 10
    assert result.counts.rejected == 0
    up.assert_holds(names)
    assert set(up.count("puts_per_url").values()) <= {1}


@pytest.mark.parametrize(
    ("status", "kind"), [(302, TerminalError), (302, ConfigError), (403, ConfigError), (406, TerminalError)]
)
def test_what_the_archive_refuses_to_everybody_stops_the_batch(
    up: Uploads, status: int, kind: type[BookpipeError]
) -> None:
    names = up.many(20, SIZE)
    up.archive.faults.add(Fault(making(up), Action.ANSWER, nth=4, status=status, times=None))
    with pytest.raises(kind):
        up.upload(names)
    assert_clean(up)
    assert len(up.archive.songs()) == 3
    assert up.ledger.count()["created"] == 3
    assert "unsure" not in up.ledger.count()
    assert received(up) < 10 * SIZE
    up.archive.faults.clear()
    assert up.upload(names).counts.inserted == 17
    up.assert_holds(names)


def test_a_redirect_from_the_storage_stops_the_batch(direct: Uploads) -> None:
    names = direct.many(5, SIZE)
    direct.archive.faults.add(Fault("put", Action.ANSWER, nth=2, status=302))
    with pytest.raises(TerminalError):
        direct.upload(names)
    assert_clean(direct)
    assert direct.upload(names).counts.rejected == 0
    direct.assert_holds(names)


def test_a_wrong_password_ends_it_before_anything_is_sent(up: Uploads) -> None:
    up.options["password"] = Secret("wrong")
    with pytest.raises(ConfigError, match="BOOKPIPE_ARCHIVE_PASSWORD"):
        up.upload(up.many(10))
    assert received(up) == 0
    assert_clean(up)


def test_a_lost_role_ends_it(up: Uploads) -> None:
    up.options["email"] = LISTENER.email
    with pytest.raises(ConfigError, match="moderator or admin"):
        up.upload(up.many(10))
    assert up.archive.songs() == []
    assert_clean(up)


def test_an_archive_in_development_mode_is_explained(multipart: Uploads) -> None:
    multipart.archive.faults.add(Fault("bulk_upload", Action.ANSWER, status=404, times=None))
    with pytest.raises(ConfigError, match="development mode"):
        multipart.upload(multipart.many(3))
    assert_clean(multipart)


def test_one_file_that_the_server_cannot_take_is_left_to_the_next_run(direct: Uploads) -> None:
    names = direct.write("good 1.mp3", "bad.mp3", "good 2.mp3")
    rows = direct.rows(names)
    # Only one file at a time: the second to be committed is the bad one, again and again.
    bad = Fault("create_from_blob", Action.ANSWER, nth=2, status=500, times=schedule.ATTEMPTS)
    direct.archive.faults.add(bad)
    waits_for = [-1, 0, 1]
    result = direct.upload(rows, waits_for=waits_for)
    assert reasons(result) == [None, "upload_failed", None]
    assert "500" in details(result)[1]
    assert received(direct) == 3 * SIZE  # its bytes were sent once
    assert_clean(direct)
    assert outcomes(direct.upload(rows)) == ["existing", "inserted", "existing"]
    assert received(direct) == 3 * SIZE
    direct.assert_holds(names)


def test_a_disk_that_stays_full_ends_the_batch(up: Uploads) -> None:
    names = up.many(40, 500)
    up.archive.faults.add(Fault(sending(up), Action.DISK_FULL, nth=4, times=None))
    with pytest.raises(TransientError, match="files one after the other"):
        up.upload(names, concurrency_cap=4)
    assert_clean(up)
    assert up.ledger.count()["created"] == 3


def test_a_server_that_hangs_ends_the_batch(up: Uploads) -> None:
    up.options.update(answer_timeout=0.1, outage=0.1, settle=0.1)
    names = up.many(10, 500)
    up.archive.faults.add(Fault(making(up), Action.HOLD, nth=4, times=None))
    with pytest.raises(TransientError, match="files one after the other"):
        up.upload(names, concurrency_cap=4)
    assert_clean(up)
    assert up.ledger.count()["created"] == 3


def test_a_full_disk_that_is_cleared_is_forgotten_by_direct_uploads(direct: Uploads) -> None:
    names = direct.many(FILES, SIZE)
    direct.archive.faults.add(Fault("put", Action.DISK_FULL, nth=2, times=3))
    assert_all_there(direct, names, direct.upload(names))


def test_a_song_without_its_bytes_is_reported_and_not_made_twice(multipart: Uploads) -> None:
    """A full disk leaves a multipart song without its end, and nobody but a person can delete it."""
    names = multipart.write("a.mp3", "b.mp3")
    multipart.archive.faults.add(Fault("bulk_upload", Action.DISK_FULL))
    for _ in range(2):
        result = multipart.upload(names)
        assert sorted(reasons(result), key=str) == [None, "upload_failed"]
        [text] = [text for text in details(result) if text]
        assert "has not all of its bytes" in text and "delete the song" in text
        assert len(multipart.archive.songs()) == 2
        assert received(multipart) == 2 * SIZE
    assert_clean(multipart)


# Addresses and bytes


def test_an_address_that_expires_during_a_slow_put_is_replaced(direct: Uploads) -> None:
    names = direct.many(4, 50_000)
    direct.archive.state.url_seconds = 0.3
    direct.archive.faults.add(Fault("put", Action.SLOW_BODY, size=100_000, every=2, times=2))
    assert_all_there(direct, names, direct.upload(names))
    assert "put 404" in direct.count("statuses")


def test_an_address_that_always_expires_is_explained(direct: Uploads) -> None:
    names = direct.write("slow.mp3", "b.mp3")
    direct.archive.faults.add(Fault("put", Action.ANSWER, status=404, times=schedule.ATTEMPTS))
    rows = direct.rows(names)
    result = direct.upload(rows, waits_for=[-1, 0])
    assert reasons(result) == ["upload_failed", None]
    assert "expired" in details(result)[0]
    assert_clean(direct)
    assert outcomes(direct.upload(rows)) == ["inserted", "existing"]


def test_bytes_that_the_storage_refuses_though_they_are_right_are_not_sent_for_ever(direct: Uploads) -> None:
    names = direct.write("a.mp3", "b.mp3")
    direct.archive.faults.add(Fault("put", Action.ANSWER, status=422))
    result = direct.upload(direct.rows(names), waits_for=[-1, 0])
    assert reasons(result) == ["refused", None]
    assert "422" in details(result)[0]
    assert direct.count("requests")["put"] == 2


def test_a_storage_without_the_bytes_gets_them_again(direct: Uploads) -> None:
    names = direct.many(FILES, SIZE)
    text = "Upload failed: ActiveStorage::FileNotFoundError"
    direct.archive.faults.add(Fault("create_from_blob", Action.ANSWER, nth=2, status=500, message=text, times=2))
    assert_all_there(direct, names, direct.upload(names))
    assert received(direct) == (FILES + 2) * SIZE


def test_a_file_that_changes_while_it_is_sent_becomes_no_song(up: Uploads) -> None:
    [name] = up.write("a.mp3", size=30_000_000)
    rows = up.rows([name])
    up.archive.faults.add(Fault(sending(up), Action.SLOW_BODY, size=30_000_000))
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(up.upload(rows)))
    thread.start()
    while not up.count("requests").get(sending(up)):
        pass
    with (up.root / name).open("r+b") as file:
        file.seek(29_000_000)
        file.write(b"something else")
    thread.join()
    assert reasons(results[0]) == ["changed_while_reading"]
    assert up.archive.songs() == []
    assert_clean(up)
    assert outcomes(up.upload([name])) == ["inserted"]
    up.assert_holds([name])


def test_a_huge_file_passes_through_little_memory(up: Uploads) -> None:
    path = up.root / "huge.mp3"
    path.write_bytes(song_bytes("huge"))
    with path.open("r+b") as file:
        file.truncate(300_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with path.open("rb") as file:
        digest = hashlib.md5()
        while block := file.read(1 << 20):
            digest.update(block)
    other = up.write("small.mp3")
    rows = up.rows(
        other,
        path=[b"huge.mp3"],
        size=[300_000_000],
        md5=[digest.hexdigest()],
        mtime_ns=[path.stat().st_mtime_ns],
        title=["huge"],
    )
    assert outcomes(up.upload(rows)) == ["inserted"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB, with the server's own


# Waiting


def test_a_wish_to_be_left_alone_is_honoured_by_all(up: Uploads) -> None:
    names = up.many(10, SIZE)
    up.archive.faults.add(Fault(making(up), Action.ANSWER, nth=3, status=503, retry_after=1))
    began = time.monotonic()
    assert up.upload(names).counts.inserted == 10
    assert time.monotonic() - began >= 1.0
    up.assert_holds(names)


def test_a_wish_for_hours_is_left_to_the_next_run(up: Uploads) -> None:
    up.archive.faults.add(Fault(making(up), Action.ANSWER, status=503, retry_after=36_000))
    with pytest.raises(TransientError, match="36000 s"):
        up.upload(up.many(2))
    assert_clean(up)


def test_an_interrupt_finishes_what_was_begun(up: Uploads) -> None:
    names = up.many(20, SIZE)

    class Interrupt:
        def advance(self, step: str, done: int, total: int | None) -> None:
            if done == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        up.upload(names, progress=Interrupt())
    assert_clean(up)
    assert set(up.ledger.count()) <= {"created", "hashed"}
    up.upload(names)
    up.assert_holds(names)
    assert received(up) == 20 * SIZE
