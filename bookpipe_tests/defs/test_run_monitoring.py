"""A run whose process was killed is failed and comes back; one that is only slow shows that it lives."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from bookpipe.defs import retries, runs
from bookpipe.defs.progress import all_statuses
from bookpipe.defs.sensors import retry_failed_partitions
from bookpipe.demo.tar_shards import DemoShards, make_demo_shards
from bookpipe.settings import Settings
from bookpipe_tests.defs.conftest import Setup
from bookpipe_tests.defs.test_sensors import keys_of, tick
from bookpipe_tests.defs.test_tars_pipeline import loaded, run


@pytest.fixture
def shards(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DemoShards:
    """The demo's shards in the configured folder; the first of them is loaded."""
    facts = make_demo_shards(tmp_path / "shards")
    monkeypatch.setenv("BOOKPIPE_TAR_DIR", str(tmp_path / "shards"))
    monkeypatch.delenv("BOOKPIPE_CALIBRE_LIBRARY")
    with dg.DagsterInstance.get() as instance:
        assert run(instance, facts.keys[0]).success
    return facts


@contextmanager
def held_up(setup: Setup, key: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A run of the shard in a process, that waits in the middle of writing its first chunk until the block ends."""
    with psycopg.connect(setup.url) as holder, psycopg.connect(setup.url, autocommit=True) as watcher:
        holder.execute("LOCK TABLE bookpipe.file IN SHARE MODE")
        command = [sys.executable, "-m", "bookpipe_tests.defs.load_shard_run", key]
        root = Path(__file__).parents[2]
        paths = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
        try:
            waiting = "SELECT count(*), pg_sleep(0.05) FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
            until(lambda: watcher.execute(waiting.encode()).fetchall()[0][0], process)
            yield process
            holder.rollback()
            process.wait(60)
        finally:
            process.kill()
            process.wait()


def until(holds: Callable[[], object], process: "subprocess.Popen[bytes]") -> None:
    """Look again and again, as long as the process lives."""
    for _ in range(2_000):
        if holds():
            return
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.02)
    raise AssertionError("it never came to that")


def state_of(instance: dg.DagsterInstance, key: str) -> tuple[dg.DagsterRunStatus, dict[str, str]]:
    """Status and tags of the latest run of a partition."""
    (last, *_) = instance.get_runs(dg.RunsFilter(tags={"dagster/partition": key}), limit=1)
    return last.status, dict(last.tags)


def test_a_run_that_was_killed_is_failed_and_loaded_by_the_retry_sensor(
    setup: Setup, instance: dg.DagsterInstance, shards: DemoShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, before = shards.keys[1], setup.count("source")
    with held_up(setup, key) as process:
        process.kill()
        process.wait()
        assert state_of(instance, key)[0] == dg.DagsterRunStatus.STARTED  # nobody could say that it is over
        first = tick(retry_failed_partitions, instance)
        assert state_of(instance, key)[0] == dg.DagsterRunStatus.FAILURE
        assert keys_of(first) == []
        assert "1 runs whose process was gone" in str(first.skip_message)
    assert setup.count("source") == before
    monkeypatch.setattr(retries, "BASE_S", 0.0)
    due = tick(retry_failed_partitions, instance, first.cursor)
    assert keys_of(due) == [key]
    (request,) = due.run_requests or ()
    assert request.job_name == "load_tars"
    assert run(instance, key).success
    assert loaded(setup, key)["inserted"] == setup.count("source") - before > 50
    assert keys_of(tick(retry_failed_partitions, instance, due.cursor)) == []
    assert setup.query("SELECT count(*) FROM bookpipe.placement") == [(0,)]
    # One copy of each book and one file for each row: as one clean run leaves it.
    assert setup.query("SELECT count(*) - count(DISTINCT (hash, size)) FROM source") == [(0,)]
    files = {str(p.relative_to(setup.data / "books")) for p in (setup.data / "books").rglob("*") if p.is_file()}
    assert files == {str(location) for (location,) in setup.query("SELECT location FROM source")}


def test_a_run_that_is_slow_shows_that_it_lives_and_is_left_alone(
    setup: Setup, instance: dg.DagsterInstance, shards: DemoShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = shards.keys[1]
    monkeypatch.setattr(retries, "BASE_S", 0.0)
    with held_up(setup, key) as process:
        until(lambda: runs.PROGRESS_TAG in state_of(instance, key)[1], process)
        running = all_statuses(instance, Settings.load())["tars"].running
        assert "members" in running[key]
        (run_id,) = [r.run_id for r in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))]
        beats = len(instance.all_logs(run_id))
        until(lambda: len(instance.all_logs(run_id)) > beats + 1, process)  # though nothing advances
        assert keys_of(tick(retry_failed_partitions, instance)) == []
        assert state_of(instance, key)[0] == dg.DagsterRunStatus.STARTED
    assert process.returncode == 0
    assert state_of(instance, key)[0] == dg.DagsterRunStatus.SUCCESS
