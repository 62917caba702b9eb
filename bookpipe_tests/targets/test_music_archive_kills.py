"""Whenever an upload is killed or asked to stop: run again, there is one song for each content, sent once."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bookpipe.demo.music_archive import Action, Fault
from bookpipe_tests.targets.archive_uploads import Uploads, uploads

ROOT = Path(__file__).parents[2]  # where the packages are
FILES = 40
SIZE = 20_000


@pytest.fixture(params=["direct", "multipart"])
def up(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Uploads]:
    with uploads(tmp_path, direct_upload=request.param == "direct") as started:
        # Slow enough to be killed in the middle of everything.
        started.archive.faults.add(Fault("*", Action.DELAY, every=2, seconds=0.01, times=None))
        yield started


def start(up: Uploads, **options: float) -> "subprocess.Popen[str]":
    numbers = [f"{name}={value}" for name, value in options.items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "bookpipe_tests.targets.upload_process", up.url, str(up.folder), *numbers],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "uploading\n"
    return process


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """What an upload says at its end."""
    with process:
        assert process.stdout is not None
        text = process.stdout.read()
    assert process.returncode == 0
    return dict(json.loads(text))


def kill(process: "subprocess.Popen[str]") -> None:
    with process:
        process.send_signal(signal.SIGKILL)


def received(up: Uploads) -> int:
    """Bytes of complete requests."""
    return sum(up.count("received_bytes").values())


def assert_once(up: Uploads, names: list[str]) -> None:
    up.assert_holds(names)
    assert set(up.ledger.count()) == {"created"}
    assert set(up.count("puts_per_url").values()) <= {1}
    assert up.archive.counters.snapshot()["violations"] == []
    assert received(up) == len(names) * SIZE
    assert not [path for path in up.folder.iterdir() if "uploader" in path.name]


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_it_ends_with_one_song_per_content(up: Uploads, seed: int) -> None:
    names = up.many(FILES, SIZE)
    chance = random.Random(seed)
    for _ in range(5):
        process = start(up, settle=2)
        time.sleep(chance.uniform(0.0, 0.4))
        kill(process)
    result = finish(start(up, settle=2))
    assert result["inserted"] + result["existing"] == FILES
    assert_once(up, names)


@pytest.mark.parametrize(
    ("endpoint", "action"),
    [
        ("direct_upload", Action.HOLD), ("direct_upload", Action.HOLD_AFTER), ("put", Action.HOLD),
        ("put", Action.HOLD_AFTER), ("create_from_blob", Action.HOLD), ("create_from_blob", Action.HOLD_AFTER),
        ("bulk_upload", Action.HOLD), ("bulk_upload", Action.HOLD_AFTER),
    ],
)  # fmt: skip
def test_killed_in_the_middle_of_each_request_it_goes_on(tmp_path: Path, endpoint: str, action: Action) -> None:
    with uploads(tmp_path, direct_upload=endpoint != "bulk_upload") as up:
        names = up.many(6, SIZE)
        up.archive.faults.add(Fault(endpoint, action, nth=3, times=2))
        process = start(up, settle=1)
        while up.count("requests").get(endpoint, 0) < 4:
            assert process.poll() is None
        kill(process)
        up.archive.faults.clear()
        result = finish(start(up, settle=1))
        assert result["inserted"] + result["existing"] == 6
        assert_once(up, names)


def test_a_term_signal_drains_and_leaves_a_clean_ledger(up: Uploads) -> None:
    names = up.many(FILES, SIZE)
    process = start(up)
    while len(up.archive.songs()) < 5:
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    result = finish(process)
    assert result["stopped"]
    assert 5 <= result["inserted"] < FILES
    assert set(up.ledger.count()) == {"created"}
    assert len(up.archive.songs()) == result["inserted"]
    assert not [path for path in up.folder.iterdir() if "uploader" in path.name]
    rest = finish(start(up))
    assert (rest["inserted"], rest["existing"]) == (FILES - result["inserted"], result["inserted"])
    assert_once(up, names)


def test_two_processes_share_the_work(up: Uploads) -> None:
    names = up.many(FILES, SIZE)
    results = [finish(process) for process in [start(up), start(up)]]
    assert sum(result["inserted"] for result in results) == FILES
    assert sum(result["existing"] for result in results) == FILES
    assert_once(up, names)


def test_one_of_two_processes_is_killed_and_the_other_takes_over(up: Uploads) -> None:
    names = up.many(FILES, SIZE)
    victim, other = start(up, settle=2), start(up, settle=2)
    while len(up.archive.songs()) < 5:
        assert victim.poll() is None
    kill(victim)
    result = finish(other)
    assert result["inserted"] + result["existing"] == FILES
    assert_once(up, names)


def test_a_whole_upload_takes_little_memory(up: Uploads) -> None:
    up.archive.faults.clear()
    up.many(5, 20_000_000)
    assert finish(start(up))["most_memory_kb"] < 150_000
