"""`bookpipe load tars` in a shell, on real shards, a real server and instance."""

import json
import os
import re
from pathlib import Path

import pytest

from bookpipe.demo.tar_shards import DemoShards, make_demo_shards
from bookpipe_tests.cli.conftest import Invoke, Run, snapshot
from bookpipe_tests.defs.conftest import Setup


@pytest.fixture
def shards(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DemoShards:
    """The demo's shards in the configured folder."""
    monkeypatch.setenv("BOOKPIPE_TAR_DIR", str(tmp_path / "shards"))
    monkeypatch.delenv("BOOKPIPE_CALIBRE_LIBRARY")
    return make_demo_shards(tmp_path / "shards")


def test_load_status_and_load_again(setup: Setup, shards: DemoShards, run_command: Run) -> None:
    assert "tars: 3 partitions, 3 of them new" in run_command("bookpipe", "discover").stdout
    first = run_command("bookpipe", "load", "tars")
    assert setup.count("source") == shards.books
    assert re.search(rf"inserted +{shards.books}\b", first.stdout)
    assert re.search(rf"existing +{shards.twice}\b", first.stdout)
    tars = json.loads(run_command("bookpipe", "status", "--json").stdout)["pipelines"]["tars"]
    assert tars["partitions"] == {"total": 3, "materialized": 3, "failed": 0, "running": 0, "missing": 0}
    rows = tars["rows"]
    assert (rows["inserted"], rows["rejected"], rows["read"]) == (shards.books, shards.junk, shards.members)
    rejected = [json.loads(line) for line in run_command("bookpipe", "rejections", "--json").stdout.splitlines()]
    assert len(rejected) == shards.junk
    assert "Nothing to load" in run_command("bookpipe", "load", "tars").stdout
    again = run_command("bookpipe", "load", "tars", "--again", "--workers", "1")
    assert "Nothing was inserted" in again.stdout
    assert setup.count("source") == shards.books


def test_a_dry_run_tells_what_a_load_does_and_writes_nothing(
    setup: Setup, shards: DemoShards, run_command: Run, tmp_path: Path
) -> None:
    """Books that are in two shards are counted once."""
    folders = (tmp_path / "shards", setup.data, setup.home)
    before = {folder: snapshot(folder) for folder in folders}
    tables = setup.query("SELECT schemaname, relname FROM pg_stat_user_tables ORDER BY 1, 2")
    dry = run_command("bookpipe", "load", "tars", "--dry-run").stdout
    assert "nothing was written" in dry
    assert re.search(rf"inserted +{shards.books}\b", dry)
    assert re.search(rf"existing +{shards.twice}\b", dry)
    assert {folder: snapshot(folder) for folder in folders} == before
    assert setup.query("SELECT schemaname, relname FROM pg_stat_user_tables ORDER BY 1, 2") == tables
    assert setup.count("source") == 0
    only = run_command("bookpipe", "load", "tars", "--dry-run", "--partition", shards.keys[0]).stdout
    assert not re.search(rf"inserted +{shards.books}\b", only)


def test_a_damaged_shard_is_told_and_the_others_are_loaded(
    setup: Setup, shards: DemoShards, run_command: Run, tmp_path: Path
) -> None:
    damaged = tmp_path / "shards" / "16480000.tar"
    os.truncate(damaged, damaged.stat().st_size // 2)
    os.utime(damaged, (1, 1))
    done = run_command("bookpipe", "load", "tars", code=1)
    assert "is damaged" in done.stdout
    assert re.search(r"bytes? \d+", done.stdout)
    assert "Traceback" not in done.stdout + done.stderr
    status = json.loads(run_command("bookpipe", "status", "--json").stdout)["pipelines"]["tars"]
    assert (status["partitions"]["materialized"], status["partitions"]["failed"]) == (2, 1)
    assert status["rows"]["inserted"] == setup.count("source")
    assert sum(status["rejections"].values()) == status["rows"]["rejected"]


def test_undo_takes_back_what_a_shard_made(setup: Setup, shards: DemoShards, run_command: Run) -> None:
    key = shards.keys[1]
    run_command("bookpipe", "load", "tars", "--partition", key)
    books = setup.count("ebook")
    assert books > 50
    run_command("bookpipe", "undo", key, "--pipeline", "tars")
    assert setup.count("ebook") == setup.count("source") == setup.count("author") == 0
    assert not list((setup.data / "books").iterdir())


def test_doctor_tells_the_shards_and_what_is_none(shards: DemoShards, bookpipe: Invoke, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    (folder / "7.tar.lz4").write_bytes(b"\x04\x22\x4d\x18" + bytes(600))
    (folder / "notes.txt").write_text("Remember the milk.")
    before = snapshot(folder)
    lines = bookpipe("doctor").stdout.splitlines()
    assert [line.split()[0] for line in lines if "Shards: folder" in line and "3, " in line] == ["OK"]
    passed_over = {line.split()[2] for line in lines if "Shards: " in line and "passed over" in line}
    assert passed_over == {"7.tar.lz4", "notes.txt"}
    assert snapshot(folder) == before

    for entry in list(folder.iterdir()):
        entry.rename(tmp_path / entry.name)
    assert "FAIL" in next(line for line in bookpipe("doctor", code=1).stdout.splitlines() if "Shards: folder" in line)
    first = next(path for path in tmp_path.iterdir() if path.name in shards.keys)
    (folder / first.name).write_bytes(first.read_bytes())
    lines = bookpipe("doctor").stdout.splitlines()
    assert any(f"Shards: {first.name}" in line and "is still being written" in line for line in lines)
