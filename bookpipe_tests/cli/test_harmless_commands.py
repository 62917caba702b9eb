"""Commands that only look make nothing, not even a home for Dagster."""

from pathlib import Path

import pytest

from bookpipe.cli.environment import registered_partitions
from bookpipe.defs.partitions import books_key
from bookpipe.demo.tar_shards import make_demo_shards
from bookpipe_tests.cli.conftest import Invoke
from bookpipe_tests.cli.test_scrobbles_commands import numbers
from bookpipe_tests.defs.conftest import Setup


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def empty(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory of a user who has no home for Dagster yet."""
    monkeypatch.delenv("DAGSTER_HOME")
    cwd = tmp_path / "empty"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    return cwd


@pytest.mark.parametrize(
    ("needs", "command"),
    [
        ("home", "doctor"),
        ("home", "rejections"),
        ("setup", "load calibre --dry-run"),
        ("setup", "load tars --dry-run"),
        ("setup", "undo books-0000001-0000050 --dry-run"),
        ("scrobbling", "load scrobbles --dry-run"),
        ("archiving", "load audio --dry-run"),
    ],
)
def test_who_only_looks_makes_nothing(
    needs: str,
    command: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    empty: Path,
    bookpipe: Invoke,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request.getfixturevalue(needs)
    monkeypatch.setenv("BOOKPIPE_TAR_DIR", str(tmp_path / "shards"))
    make_demo_shards(tmp_path / "shards")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    before = everything(tmp_path)
    bookpipe(*command.split())
    assert everything(tmp_path) == before


def test_a_home_that_cannot_be_made_is_told(bookpipe: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "file" / "home"))
    for command in ("status", "discover"):
        said = bookpipe(command, code=1).stderr
        assert f"The home for Dagster {tmp_path}/file/home cannot be made: Not a directory." in said
    assert "FAIL" in bookpipe("doctor", code=1).stdout


def test_a_dry_run_knows_the_partitions_that_a_load_knows(
    setup: Setup, bookpipe: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were registered keep their size when another one is set."""
    dry_run = ("load", "calibre", "--dry-run")
    every = numbers(bookpipe(*dry_run).stdout)
    monkeypatch.setenv("BOOKPIPE_BATCH_SIZE", "70")
    refused = bookpipe(*dry_run, "--partition", books_key(1, 50), code=1)
    assert f"no partition {books_key(1, 50)}" in refused.stderr
    monkeypatch.setenv("BOOKPIPE_BATCH_SIZE", "50")
    bookpipe("discover")
    monkeypatch.setenv("BOOKPIPE_BATCH_SIZE", "70")
    kept = everything(setup.home)
    first = numbers(bookpipe(*dry_run, "--partition", books_key(1, 50)).stdout)
    assert 0 < first["read"] < every["read"]
    assert numbers(bookpipe(*dry_run, "--limit", "1").stdout) == first
    assert numbers(bookpipe(*dry_run).stdout) == every
    bookpipe(*dry_run, "--partition", books_key(1, 70), code=1)
    assert everything(setup.home) == kept


def test_an_instance_that_keeps_its_runs_elsewhere_is_asked(
    setup: Setup, bookpipe: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bookpipe("discover")
    config = setup.home / "dagster.yaml"
    other = tmp_path / "other"
    other.mkdir()
    (other / "dagster.yaml").write_text(f"{config.read_text()}\nstorage:\n  sqlite:\n    base_dir: {setup.home}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(other))
    assert registered_partitions("calibre_batches") == [books_key(1, 50), books_key(51, 100), books_key(101, 150)]


@pytest.mark.parametrize(
    ("pipeline", "options"),
    [
        ("calibre", "--again"),
        ("calibre", "--workers 2"),
        ("tars", "--again"),
        ("scrobbles", "--again"),
        ("audio", "--again"),
        ("audio", "--verbose"),
        ("audio", "--concurrency 2"),
    ],
)
def test_a_dry_run_refuses_what_says_nothing_to_it(home: Path, bookpipe: Invoke, pipeline: str, options: str) -> None:
    said = bookpipe("load", pipeline, "--dry-run", *options.split(), code=2).stderr
    assert f"{options.split(maxsplit=1)[0]} says nothing to a dry run" in said


@pytest.mark.parametrize("pipeline", ["scrobbles", "audio"])
def test_partitions_that_are_loaded_in_their_order_take_no_workers(
    home: Path, bookpipe: Invoke, pipeline: str
) -> None:  # fmt: skip
    assert "No such option" in bookpipe("load", pipeline, "--workers", "2", code=2).stderr
    assert "--workers" not in bookpipe("load", pipeline, "--help").stdout
