"""`bookpipe` on a folder of audio files and a real archive."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bookpipe.cli.doctor import diagnose
from bookpipe.demo.audio_files import SampleSong, make_mp3
from bookpipe.demo.music_archive import LISTENER, PASSWORD, Action, Fault
from bookpipe.runtime.state import State
from bookpipe.runtime.upload_ledger import UploadLedger
from bookpipe.settings import Settings
from bookpipe_tests.cli.conftest import BIN, Invoke, Run, contents, snapshot
from bookpipe_tests.cli.test_scrobbles_commands import numbers
from bookpipe_tests.defs.music_setups import FILES, Archiving, md5
from bookpipe_tests.defs.test_unreadable_folders import TOLD
from bookpipe_tests.unprivileged import make_folder_too_deep


def partitions_of(bookpipe: Invoke) -> dict[str, int]:
    pipelines = json.loads(bookpipe("status", "--json").stdout)["pipelines"]
    assert set(pipelines) == {"audio"}
    return dict(pipelines["audio"]["partitions"])


def test_a_dry_run_tells_what_an_upload_does_and_writes_nothing(
    archiving: Archiving, run_command: Run, bookpipe: Invoke
) -> None:
    def written() -> list[object]:
        return [snapshot(archiving.folder), contents(archiving.home)]

    before, facts = written(), archiving.facts
    first = run_command("bookpipe", "load", "audio", "--dry-run").stdout
    assert written() == before
    assert "nothing was written" in first
    assert "MB to send" in first
    assert "bookpipe rejections" not in first
    planned = numbers(first)
    assert (planned["read"], planned["existing"]) == (FILES, facts.aliases)
    assert planned["inserted"] == facts.songs + facts.refused  # the archive has the last word
    refused = re.findall(r"will probably refuse ([\d,]+) of these: it takes them for (\S+)\.", first)
    assert sum(int(n) for n, _ in refused) == facts.refused
    assert len({kind for _, kind in refused}) == len(refused) > 3
    skipping = numbers(bookpipe("load", "audio", "--dry-run", "--skip-likely-refused").stdout)
    assert (skipping["inserted"], skipping["likely_refused"]) == (facts.songs, facts.refused)
    os.environ["BOOKPIPE_ARCHIVE_SKIP_LIKELY_REFUSED"] = ""  # as in another process

    assert "audio: 2 partitions, 2 of them new" in bookpipe("discover").stdout
    before = written()
    assert numbers(bookpipe("load", "audio", "--dry-run").stdout) == planned
    key = "songs-0000031-0000060"
    chosen = numbers(bookpipe("load", "audio", "--dry-run", "--partition", key).stdout)
    assert chosen["read"] == FILES // 2
    wrong = bookpipe("load", "audio", "--dry-run", "--partition", "nope", code=1)
    assert "There is no batch nope" in wrong.stderr
    assert written() == before
    assert archiving.asked() == {}


def test_load_tells_what_was_refused_and_then_there_is_nothing_to_load(
    archiving: Archiving, run_command: Run, bookpipe: Invoke
) -> None:
    facts = archiving.facts
    archiving.archive.faults.add(Fault("bulk_upload", Action.DELAY, times=8, seconds=0.2))  # long enough to overlap
    done = run_command("bookpipe", "load", "audio", "--concurrency", "2", "--verbose").stdout
    loaded = numbers(done)
    assert (loaded["inserted"], loaded["existing"]) == (facts.songs, facts.aliases)
    assert loaded["rejected"] == facts.refused + facts.empty
    told = [line for line in done.splitlines() if line.startswith("audio\tsongs-")]
    assert len(told) == loaded["rejected"]
    assert sum("\trefused\t" in line for line in told) == facts.refused
    assert told == bookpipe("rejections", "--pipeline", "audio").stdout.splitlines()
    assert archiving.archive.counters.snapshot()["most_at_once_per_endpoint"]["bulk_upload"] == 2
    assert len(set(archiving.contents())) == len(archiving.contents()) == facts.songs
    assert partitions_of(bookpipe) == {"total": 2, "materialized": 2, "failed": 0, "running": 0, "missing": 0}

    archiving.archive.counters.reset()
    make_folder_too_deep(archiving.folder)
    for command in ("discover", "load audio", "load audio --dry-run"):
        assert TOLD in " ".join(bookpipe(*command.split()).stdout.split())
    assert "Nothing to load" in bookpipe("load", "audio").stdout
    dry = bookpipe("load", "audio", "--dry-run").stdout
    assert numbers(dry)["inserted"] == 0
    assert "0.0 MB to send" in dry
    assert archiving.asked() == {}


def test_uploads_cannot_be_undone(archiving: Archiving, bookpipe: Invoke) -> None:
    assert "--pipeline" in bookpipe("undo", "--pipeline", "audio", "songs-0000001-0000030", code=2).stderr


@pytest.fixture
def songs(archiving: Archiving) -> list[str]:
    """Nothing but thirty songs; their MD5s, sorted."""
    shutil.rmtree(archiving.folder)
    archiving.folder.mkdir()
    for n in range(30):
        (archiving.folder / f"{n:02}.mp3").write_bytes(make_mp3(SampleSong(f"Song {n}", "Somebody", seconds=0.2)))
    return sorted(md5(path) for path in archiving.folder.iterdir())


def start(cwd: Path, *options: str) -> "subprocess.Popen[str]":
    """`bookpipe load audio`, as a terminal would run it: in a process group of its own."""
    return subprocess.Popen(
        [str(BIN / "bookpipe"), "load", "audio", *options], cwd=cwd, env=os.environ, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for(reached: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_in_good_order_and_the_next_load_goes_on(
    archiving: Archiving,
    songs: list[str],
    bookpipe: Invoke,
    run_command: Run,
    monkeypatch: pytest.MonkeyPatch,
    end: signal.Signals,
) -> None:
    monkeypatch.setenv("BOOKPIPE_BATCH_SIZE", "20")
    archiving.archive.faults.add(Fault("bulk_upload", Action.DELAY, times=None, seconds=0.1))
    with start(archiving.home.parent, "--concurrency", "1") as process:
        assert process.stdout is not None
        wait_for(lambda: len(archiving.archive.songs()) >= 3)
        if end is signal.SIGINT:
            os.killpg(process.pid, end)  # Ctrl-C goes to all that the terminal runs
        else:
            process.send_signal(end)
        said = process.stdout.read()
    assert process.returncode == 1
    assert "Stopped on request." in said
    assert "Stopped. What is loaded is complete" in said
    assert "Traceback" not in said
    done = len(archiving.archive.songs())
    assert 3 <= done < 20
    ledger = UploadLedger(State(Settings.load().state_path), archiving.url)
    assert ledger.count() == {"created": done}  # nothing is left half-way
    assert partitions_of(bookpipe) == {"total": 2, "materialized": 0, "failed": 1, "running": 0, "missing": 1}

    if end is signal.SIGTERM:  # what follows is the same
        return
    archiving.archive.faults.clear()
    archiving.archive.counters.reset()
    after = numbers(run_command("bookpipe", "load", "audio").stdout)
    assert (after["inserted"], after["existing"]) == (30 - done, done)
    assert archiving.contents() == songs
    assert archiving.asked()["bulk_upload"] == 30 - done


def test_a_killed_load_is_gone_on_with_and_makes_every_song_once(
    archiving: Archiving, songs: list[str], bookpipe: Invoke, run_command: Run
) -> None:
    # The songs are made, and nobody is told.
    archiving.archive.faults.add(Fault("bulk_upload", Action.HOLD_AFTER, nth=5, times=None))
    with start(archiving.home.parent, "--concurrency", "1") as process:
        wait_for(lambda: len(archiving.archive.songs()) == 5)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert psutil.wait_procs(children, timeout=30)[1] == []  # workers see that they are orphans
    assert partitions_of(bookpipe)["running"] == 1
    archiving.archive.faults.clear()
    done = run_command("bookpipe", "load", "audio").stdout
    assert "1 earlier runs had died" in done
    assert numbers(done)["inserted"] + numbers(done)["existing"] == 30
    assert archiving.contents() == songs
    assert partitions_of(bookpipe)["materialized"] == 1
    assert archiving.archive.counters.snapshot()["violations"] == []


def test_doctor_looks_at_the_folder_and_at_the_archive(
    archiving: Archiving, bookpipe: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(archiving.home)
    shown = bookpipe("doctor").stdout
    assert f"{FILES} audio files in " in shown
    assert "Nothing is wrong." in shown
    assert PASSWORD not in shown
    assert snapshot(archiving.home) == before
    assert archiving.archive.songs() == []

    def failed() -> set[str]:
        return {finding.subject.lower() for finding in diagnose(Settings.load()) if finding.ok is False}

    subjects = {finding.subject.lower() for finding in diagnose(Settings.load()) if finding.ok}
    assert {"music: folder", *(f"music archive: {look}" for look in ("is there", "login", "role"))} <= subjects
    for name, value, subject in (
        ("BOOKPIPE_ARCHIVE_EMAIL", LISTENER.email, "music archive: role"),
        ("BOOKPIPE_ARCHIVE_PASSWORD", "wr0ng-s3cret", "music archive: login"),
        ("BOOKPIPE_ARCHIVE_PASSWORD", "", "music archive"),
        ("BOOKPIPE_ARCHIVE_URL", "http://127.0.0.1:1", "music archive: is there"),
        ("BOOKPIPE_ARCHIVE_STRATEGY", "direct", "music archive: strategy"),
        ("BOOKPIPE_MUSIC_DIR", str(archiving.folder / "nowhere"), "music: folder"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert failed() == {subject}
            assert "s3cret" not in bookpipe("doctor", code=1).stdout
