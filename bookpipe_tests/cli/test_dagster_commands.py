"""The documented `dagster` command lines, as subprocesses."""

import json
import os
import subprocess
import time
from pathlib import Path

import dagster as dg
import psycopg
import pytest

import bookpipe
from bookpipe.defs.partitions import books_key
from bookpipe.demo.embedded_server import ServerInfo
from bookpipe_tests.cli.conftest import BIN, Run
from bookpipe_tests.defs.conftest import Setup

ROOT = Path(bookpipe.__file__).parent.parent
TAGS = json.dumps({"dagster/partition": books_key(1, 50)})


def test_job_execute_loads_one_partition(setup: Setup, run_command: Run) -> None:
    run_command("dagster", "job", "execute", "-m", "bookpipe.definitions", "-j", "load_calibre", "--tags", TAGS)
    assert setup.count("source") > 0
    with dg.DagsterInstance.from_config(str(setup.home)) as instance:
        key = dg.AssetKey(["mybookshelf2", "books_from_calibre"])
        assert instance.get_materialized_partitions(key) == {books_key(1, 50)}


def test_job_execute_works_without_a_home_or_a_daemon(setup: Setup, run_command: Run) -> None:
    run_command(
        "dagster", "job", "execute", "-m", "bookpipe.definitions", "-j", "load_calibre", "--tags", TAGS,
        DAGSTER_HOME=None,
    )  # fmt: skip
    assert setup.count("source") > 0


def test_job_execute_refuses_a_partition_that_is_not_there(setup: Setup, run_command: Run) -> None:
    tags = json.dumps({"dagster/partition": "books-0000003-0000004"})
    command = ("dagster", "job", "execute", "-m", "bookpipe.definitions", "-j", "load_calibre", "--tags", tags)
    done = run_command(*command, code=None)
    assert done.returncode != 0
    assert "no partition" in done.stdout + done.stderr
    assert setup.count("source") == 0


def test_asset_materialize_loads_a_registered_partition(setup: Setup, run_command: Run) -> None:
    run_command("bookpipe", "discover")
    select = "calibre/books,mybookshelf2/books_from_calibre"
    run_command(
        "dagster", "asset", "materialize", "-m", "bookpipe.definitions", "--select", select, "--partition",
        books_key(51, 100),
    )  # fmt: skip
    assert setup.count("source") > 0


def test_the_discover_job_registers_every_partition(setup: Setup, run_command: Run) -> None:
    run_command("dagster", "job", "execute", "-m", "bookpipe.definitions", "-j", "discover")
    with dg.DagsterInstance.from_config(str(setup.home)) as instance:
        assert len(instance.get_dynamic_partitions("calibre_batches")) == 3


def test_the_workspace_loads(run_command: Run) -> None:
    run_command("dagster", "definitions", "validate", "-w", str(ROOT / "workspace.yaml"))


@pytest.mark.slow
def test_a_backfill_that_fails_is_mended_by_the_daemon_alone(
    setup: Setup, run_command: Run, tmp_path: Path, postgres: ServerInfo
) -> None:
    """Break the target, launch a backfill, mend the target, wait: everything ends loaded with no hand on it."""
    run_command("bookpipe", "discover")
    database = setup.url.rsplit("/", 1)[1]
    with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
        server.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false".encode())
    daemon = subprocess.Popen(
        [str(BIN / "dagster-daemon"), "run", "-m", "bookpipe.definitions"], cwd=tmp_path / "cwd", env=os.environ,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        run_command(
            "dagster",
            "job",
            "backfill",
            "-w",
            str(ROOT / "workspace.yaml"),
            "-j",
            "load_calibre",
            "--all",
            "--noprompt",
        )
        wait_for(run_command, lambda partitions: partitions["failed"] == 3)
        with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
            server.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true".encode())
        wait_for(run_command, lambda partitions: partitions["materialized"] == 3)
    finally:
        daemon.terminate()
        daemon.wait(30)
        with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
            server.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true".encode())
    assert setup.count("source") == len(setup.tree()) == setup.facts.contents


def wait_for(run_command: Run, reached: object, seconds: float = 420) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = json.loads(run_command("bookpipe", "status", "--json").stdout)["pipelines"]["calibre"]["partitions"]
        if reached(status):  # type: ignore[operator]
            return
        time.sleep(5)
    raise AssertionError(f"still {status} after {seconds} seconds")
