"""The ledger of uploads: what is written is known again, one content belongs to one uploader, the dead leave marks."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bookpipe.model.errors import ConfigError, TerminalError
from bookpipe.runtime.state import State
from bookpipe.runtime.upload_ledger import Content, Uploader, UploadLedger, UploadState

ARCHIVE = "https://archive.example.org"
SONG = Content("0" * 32, 1_000)
OTHER = Content("1" * 32, 1_000)
SIGNED = "a-signed-id-that-nobody-may-see"


@pytest.fixture
def ledger(tmp_path: Path) -> UploadLedger:
    return UploadLedger(State(tmp_path / "new" / "state.sqlite"), ARCHIVE)


def again(ledger: UploadLedger) -> UploadLedger:
    """The same file, opened by somebody else."""
    return UploadLedger(State(ledger.state.path), ledger.archive)


def state_of(ledger: UploadLedger, content: Content = SONG) -> str | None:
    upload = again(ledger).load([content]).get(content)
    return str(upload.state) if upload is not None else None


def locks(ledger: UploadLedger) -> list[str]:
    return [path.name for path in ledger.state.path.parent.iterdir() if "uploader" in path.name]


def test_a_new_ledger_knows_nothing(ledger: UploadLedger) -> None:
    assert ledger.load([SONG]) == {}
    assert ledger.count() == {}
    assert ledger.aliases(SONG) == []


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ([], "hashed"),
        ([lambda u: u.reserved(SONG, SIGNED)], "reserved"),
        ([lambda u: u.reserved(SONG, SIGNED), lambda u: u.stored(SONG)], "stored"),
        ([lambda u: u.sending(SONG)], "sending"),
        ([lambda u: u.sending(SONG), lambda u: u.unsure(SONG, "why")], "unsure"),
        ([lambda u: u.sending(SONG), lambda u: u.created(SONG, "7")], "created"),
        ([lambda u: u.sending(SONG), lambda u: u.refused(SONG, "why")], "refused"),
        ([lambda u: u.sending(SONG), lambda u: u.again(SONG, "why")], "hashed"),
        ([lambda u: u.reserved(SONG, SIGNED), lambda u: u.again(SONG, "why", stored=True)], "stored"),
    ],
)
def test_every_step_is_in_the_file_before_the_next(
    ledger: UploadLedger, steps: list[Callable[[Uploader], None]], state: str
) -> None:
    with ledger.uploading() as uploader:
        assert uploader.claim(SONG) is not None
        for step in steps:
            step(uploader)
        assert state_of(ledger) == state


def test_what_is_created_is_final_and_keeps_no_secret(ledger: UploadLedger) -> None:
    with ledger.uploading() as uploader:
        uploader.claim(SONG)
        uploader.reserved(SONG, SIGNED)
        uploader.stored(SONG)
        uploader.created(SONG, "some-uuid", "the file could not be read")
        upload = uploader.claim(SONG)
    assert upload is not None
    assert (upload.state, upload.song_id, upload.attempts) == (UploadState.CREATED, "some-uuid", 1)
    assert upload.processing_error == "the file could not be read"
    assert upload.signed_id is None
    ledger.state.close()
    assert SIGNED.encode() not in dump(ledger.state.path)


def dump(path: Path) -> bytes:
    connection = sqlite3.connect(path)
    text = "\n".join(connection.iterdump())
    connection.close()
    return text.encode()


def test_a_signed_id_is_in_no_repr(ledger: UploadLedger) -> None:
    with ledger.uploading() as uploader:
        uploader.claim(SONG)
        uploader.reserved(SONG, SIGNED)
        upload = uploader.claim(SONG)
    assert upload is not None and upload.signed_id == SIGNED
    assert SIGNED not in repr(upload) and SIGNED not in str(upload)


def test_archives_do_not_know_of_each_other(ledger: UploadLedger) -> None:
    with ledger.uploading() as uploader:
        uploader.claim(SONG)
        uploader.created(SONG, "7")
    other = UploadLedger(State(ledger.state.path), "https://other.example.org")
    assert other.load([SONG]) == {}
    with other.uploading() as uploader:
        upload = uploader.claim(SONG)
        assert upload is not None and upload.state is UploadState.HASHED


def test_the_same_md5_in_another_size_is_another_content(ledger: UploadLedger) -> None:
    longer = Content(SONG.md5, SONG.size + 1)
    with ledger.uploading() as uploader:
        uploader.claim(SONG)
        uploader.created(SONG, "7")
    assert ledger.load([SONG, longer]).keys() == {SONG}


def test_many_contents_are_loaded_at_once(ledger: UploadLedger) -> None:
    contents = [Content(f"{n:032x}", n) for n in range(2_500)]
    with ledger.state.writing() as connection:
        connection.executemany(
            "INSERT INTO song_upload (archive, md5, size, state, song_id, attempts, created_at, updated_at) "
            "VALUES (?, ?, ?, 'created', 'x', 1, 0, 0)",
            [(ARCHIVE, *content) for content in contents],
        )
    unknown = Content("f" * 32, 5)
    assert ledger.load(iter([*contents, unknown])).keys() == set(contents)
    assert ledger.count() == {"created": 2_500}


def test_paths_are_aliases_of_a_content(ledger: UploadLedger) -> None:
    ledger.add_aliases([(b"b.mp3", SONG), (b"a\xff.mp3", SONG), (b"c.mp3", OTHER), (b"b.mp3", SONG)])
    assert ledger.aliases(SONG) == [b"a\xff.mp3", b"b.mp3"]
    assert ledger.aliases(OTHER) == [b"c.mp3"]


def test_refusals_are_remembered_until_somebody_forgets_them(ledger: UploadLedger) -> None:
    with ledger.uploading() as uploader:
        uploader.claim(SONG)
        uploader.refused(SONG, "422 not audio")
        upload = uploader.claim(SONG)
        assert upload is not None and (upload.state, upload.last_error) == (UploadState.REFUSED, "422 not audio")
    assert ledger.forget_refusals() == 1
    assert ledger.load([SONG]) == {}


def test_the_best_window_is_remembered_for_each_archive(ledger: UploadLedger) -> None:
    assert ledger.window() is None
    ledger.keep_window(3)
    ledger.keep_window(6)
    assert again(ledger).window() == 6
    assert UploadLedger(ledger.state, "https://other.example.org").window() is None


# Claims


def test_a_claimed_content_is_nobody_elses(ledger: UploadLedger) -> None:
    with ledger.uploading() as first, again(ledger).uploading() as second:
        assert first.claim(SONG) is not None
        assert second.claim(SONG) is None
        assert first.claim(SONG) is not None
        assert second.claim(OTHER) is not None
        first.release(SONG)
        assert second.claim(SONG) is not None
        assert first.claim(SONG) is None


def test_a_created_content_is_seen_by_everybody(ledger: UploadLedger) -> None:
    with ledger.uploading() as first, again(ledger).uploading() as second:
        first.claim(SONG)
        first.created(SONG, "7")
        upload = second.claim(SONG)
        assert upload is not None and upload.song_id == "7"


def test_what_an_uploader_had_begun_is_unsure_when_it_leaves(ledger: UploadLedger) -> None:
    with ledger.uploading() as uploader:
        uploader.claim(SONG)
        uploader.sending(SONG)
        uploader.claim(OTHER)
        uploader.reserved(OTHER, SIGNED)
    assert (state_of(ledger), state_of(ledger, OTHER)) == ("unsure", "reserved")
    assert locks(ledger) == []
    with ledger.uploading() as uploader:
        assert uploader.claim(SONG) is not None and uploader.claim(OTHER) is not None


def test_only_the_owner_writes(ledger: UploadLedger) -> None:
    with ledger.uploading() as first, ledger.uploading() as second:
        first.claim(SONG)
        with pytest.raises(ConfigError, match="lost a song"):
            second.sending(SONG)
    assert state_of(ledger) == "hashed"


def test_of_many_who_claim_at_once_one_gets_it(ledger: UploadLedger) -> None:
    got = []
    barrier = threading.Barrier(8, timeout=120)

    def claim() -> None:
        with UploadLedger(State(ledger.state.path), ARCHIVE).uploading() as uploader:
            barrier.wait()
            got.append(uploader.claim(SONG) is not None)
            barrier.wait()

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    """SQLite does not wait for the lock that the change of the journal's mode needs: about one new file in twenty."""
    opened = []
    for n in range(100):
        barrier = threading.Barrier(8, timeout=120)

        def open_it(path: Path, barrier: threading.Barrier) -> None:
            barrier.wait()
            with UploadLedger(State(path), ARCHIVE).uploading():
                opened.append(path)

        path = tmp_path / str(n) / "state.sqlite"
        threads = [threading.Thread(target=open_it, args=(path, barrier)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(opened) == 800


_UPLOADER = """
import sys, time
from pathlib import Path
from bookpipe.runtime.state import State
from bookpipe.runtime.upload_ledger import Content, UploadLedger
with UploadLedger(State(Path(sys.argv[1])), sys.argv[2]).uploading() as uploader:
    song = Content("0" * 32, 1_000)
    uploader.claim(song)
    uploader.sending(song)
    print("sending", flush=True)
    sys.stdin.read()
"""


def test_the_song_of_a_killed_process_is_unsure_and_free_at_once(ledger: UploadLedger) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _UPLOADER, str(ledger.state.path), ARCHIVE],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process, ledger.uploading() as uploader:
        assert process.stdout is not None
        assert process.stdout.readline() == "sending\n"
        assert uploader.claim(SONG) is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        upload = uploader.claim(SONG)
        assert upload is not None and upload.state is UploadState.UNSURE
    assert locks(ledger) == []


def test_the_locks_of_the_dead_are_swept_away_by_the_next(ledger: UploadLedger) -> None:
    ledger.count()
    for owner in ("dead", "gone"):
        Path(f"{ledger.state.path}.uploader-{owner}").touch()
    with ledger.uploading() as first, ledger.uploading() as second:
        assert sorted(locks(ledger)) == sorted(f"state.sqlite.uploader-{one.owner}" for one in (first, second))
    assert locks(ledger) == []


def test_the_file_of_a_lock_that_was_swept_away_means_nobody(ledger: UploadLedger) -> None:
    with ledger.uploading() as first, ledger.uploading() as second:
        first.claim(SONG)
        os.unlink(f"{ledger.state.path}.uploader-{first.owner}")
        assert second.claim(SONG) is not None


# Reading only


def test_reading_only_sees_everything_and_writes_nothing(ledger: UploadLedger) -> None:
    with ledger.uploading() as uploader:
        uploader.claim(SONG)
        uploader.created(SONG, "7")
    ledger.state.close()
    before = ledger.state.path.read_bytes()
    reader = UploadLedger(State(ledger.state.path, read_only=True), ARCHIVE)
    assert reader.load([SONG])[SONG].song_id == "7"
    with pytest.raises(TerminalError, match="reading only"):
        reader.add_aliases([(b"a.mp3", SONG)])
    with pytest.raises(TerminalError, match="reading only"), reader.uploading():
        pass
    reader.state.close()
    assert ledger.state.path.read_bytes() == before


@pytest.mark.parametrize("older", [False, True])
def test_reading_only_a_file_without_a_ledger_knows_nothing(tmp_path: Path, older: bool) -> None:
    path = tmp_path / "folder" / "state.sqlite"
    if older:
        State(path).load_digests("any")
    reader = UploadLedger(State(path, read_only=True), ARCHIVE)
    assert reader.load([SONG]) == {}
    reader.state.close()
    assert path.exists() is older


def test_a_ledger_that_vanishes_in_the_middle_is_explained(ledger: UploadLedger) -> None:
    with ledger.uploading() as uploader:
        uploader.claim(SONG)
        ledger.state.close()
        ledger.state.path.unlink()
        with pytest.raises(ConfigError, match="replaced"):
            uploader.sending(SONG)
