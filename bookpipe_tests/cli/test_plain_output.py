"""What comes from outside (paths, names, messages) is printed as it is, whatever it looks like."""

import re
import time
from pathlib import Path

import pytest

import bookpipe as package
from bookpipe.cli.console import plain_console
from bookpipe.cli.loading import LoadSummary
from bookpipe.cli.status import print_statuses
from bookpipe.cli.worker import PartitionResult
from bookpipe.defs.progress import PipelineStatus
from bookpipe.demo.tar_shards import make_demo_shards
from bookpipe.model.counts import LoadCounts
from bookpipe_tests.cli.conftest import Invoke, Run
from bookpipe_tests.defs.conftest import Setup

HOSTILE = "[/x] [bold]:dog: shards"  # markup that ends what never began, markup, and the name of an emoji


def test_a_path_in_an_error_is_no_markup(
    home: Path, bookpipe: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BOOKPIPE_TAR_DIR", f"{tmp_path}/{HOSTILE}")
    said = bookpipe("load", "tars", code=1).stderr
    assert said.startswith(f"Error: The folder of tar shards {tmp_path}/{HOSTILE} cannot be listed")


def test_the_message_of_a_failed_partition_is_no_markup(
    setup: Setup, run_command: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BOOKPIPE_TAR_DIR", str(tmp_path / "shards"))
    make_demo_shards(tmp_path / "shards")
    done = run_command(
        "bookpipe", "load", "tars", "--limit", "1", code=1, BOOKPIPE_MYBOOKSHELF2_DATA_DIR=f"{tmp_path}/{HOSTILE}"
    )
    assert HOSTILE in re.sub(r"\s+", " ", done.stdout)
    assert "Traceback" not in done.stdout + done.stderr


def test_names_and_texts_of_a_status_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    status = PipelineStatus(True, failed_keys=[HOSTILE], running={HOSTILE: HOSTILE})
    print_statuses({"tars": status}, plain_console())
    assert capsys.readouterr().out.count(HOSTILE) == 3


def test_there_is_no_other_console_in_a_command() -> None:
    folder = Path(package.__file__).parent / "cli"
    assert [path.name for path in sorted(folder.glob("*.py")) if "Console(" in path.read_text()] == ["console.py"]


def test_the_rate_of_a_load_is_that_of_the_rows_it_did_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that went on where it was counts whole, and took as long as its rest."""
    summary = LoadSummary(total=2, started=0.0)
    monkeypatch.setattr(time, "monotonic", lambda: 10.0)
    summary.add(PartitionResult("1", "run", True, LoadCounts(inserted=5_000), rows_done=50))
    assert summary.counts.read == 5_000
    assert summary.rate == 5.0
