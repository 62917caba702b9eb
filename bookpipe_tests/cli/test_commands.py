"""`bookpipe` in a shell, on a real library, server and instance."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bookpipe.defs.partitions import books_key
from bookpipe.demo.embedded_server import delete_server
from bookpipe_tests.cli.conftest import BIN, Run, snapshot
from bookpipe_tests.defs.conftest import Setup


def test_load_status_and_load_again(setup: Setup, run_command: Run) -> None:
    first = run_command("bookpipe", "load", "calibre")
    assert setup.count("source") == setup.facts.contents
    assert re.search(rf"inserted +{setup.facts.contents}\b", first.stdout)
    assert "batch 3/3" in first.stdout
    assert "rows/s" in first.stdout

    status = json.loads(run_command("bookpipe", "status", "--json").stdout)
    calibre = status["pipelines"]["calibre"]
    assert set(calibre) == {"partitions", "rows", "rejections", "rate_rows_per_s", "eta_s", "running"}
    assert calibre["partitions"] == {"total": 3, "materialized": 3, "failed": 0, "running": 0, "missing": 0}
    rows = calibre["rows"]
    assert rows["inserted"] == setup.facts.contents
    assert rows["read"] == rows["inserted"] + rows["existing"] + rows["rejected"]
    assert sum(calibre["rejections"].values()) == rows["rejected"]
    assert calibre["eta_s"] == 0

    assert "Nothing to load" in run_command("bookpipe", "load", "calibre").stdout
    again = run_command("bookpipe", "load", "calibre", "--again", "--workers", "1")
    assert "Nothing was inserted" in again.stdout
    assert setup.count("source") == setup.facts.contents

    rejected = [json.loads(line) for line in run_command("bookpipe", "rejections", "--json").stdout.splitlines()]
    assert len(rejected) == rows["rejected"]
    missing = run_command("bookpipe", "rejections", "--reason", "missing_file").stdout.splitlines()
    assert len(missing) == calibre["rejections"]["missing_file"]


def test_limit_and_partition_choose(setup: Setup, run_command: Run) -> None:
    run_command("bookpipe", "load", "calibre", "--limit", "1")
    one = setup.count("ebook")
    run_command("bookpipe", "load", "calibre", "--partition", books_key(101, 150))
    assert setup.count("ebook") > one
    status = json.loads(run_command("bookpipe", "status", "--json").stdout)["pipelines"]["calibre"]["partitions"]
    assert (status["total"], status["materialized"], status["missing"]) == (3, 2, 1)
    wrong = run_command("bookpipe", "load", "calibre", "--partition", "books-0000001-0000007", code=1)
    assert "no partition" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_undo_takes_back_what_a_partition_made(setup: Setup, run_command: Run) -> None:
    key = books_key(1, 50)
    assert "Nothing to undo" in run_command("bookpipe", "undo", key).stdout
    run_command("bookpipe", "load", "calibre", "--partition", key)
    books = setup.count("ebook")
    assert f"{books} ebooks" in run_command("bookpipe", "undo", key, "--dry-run").stdout
    assert setup.count("ebook") == books
    assert f"{books} ebooks" in run_command("bookpipe", "undo", key).stdout
    assert setup.count("ebook") == setup.count("source") == setup.count("author") == 0
    assert not list((setup.data / "books").iterdir())
    run_command("bookpipe", "load", "calibre", "--partition", key)
    assert setup.count("ebook") == books


def test_a_dry_run_tells_what_a_load_does_and_writes_nothing(setup: Setup, run_command: Run) -> None:
    before = {folder: snapshot(folder) for folder in (setup.library, setup.data, setup.home)}
    tables = setup.query("SELECT schemaname, relname FROM pg_stat_user_tables ORDER BY 1, 2")
    dry = run_command("bookpipe", "load", "calibre", "--dry-run").stdout
    assert "nothing was written" in dry
    assert re.search(rf"inserted +{setup.facts.contents}\b", dry)
    assert "Estimated time" in dry
    assert {folder: snapshot(folder) for folder in before} == before
    assert setup.query("SELECT schemaname, relname FROM pg_stat_user_tables ORDER BY 1, 2") == tables
    assert setup.count("source") == 0


def test_a_dry_run_reads_no_file_that_a_load_has_read(setup: Setup, run_command: Run, tmp_path: Path) -> None:
    library = shutil.copytree(setup.library, tmp_path / "library", symlinks=True)  # others use the one that is there
    run_command("bookpipe", "load", "calibre", BOOKPIPE_CALIBRE_LIBRARY=str(library))
    setup.query("DELETE FROM source RETURNING 1")  # or nothing would be told of the files
    for path in library.rglob("*.epub"):
        if path.is_file() and not path.is_symlink() and (status := path.stat()).st_size:
            path.write_bytes(bytes(status.st_size))  # what is no book any more, for whoever looks
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    dry = run_command("bookpipe", "load", "calibre", "--dry-run", BOOKPIPE_CALIBRE_LIBRARY=str(library)).stdout
    assert re.search(rf"inserted +{setup.facts.contents}\b", dry)


def test_errors_end_in_a_sentence_without_a_traceback(setup: Setup, run_command: Run) -> None:
    for changes, text in (
        ({"BOOKPIPE_CALIBRE_LIBRARY": str(setup.home / "nowhere")}, "There is no Calibre library"),
        ({"BOOKPIPE_CALIBRE_LIBRARY": None}, "BOOKPIPE_CALIBRE_LIBRARY is not set"),
        ({"BOOKPIPE_BATCH_SIZE": "many"}, "BOOKPIPE_BATCH_SIZE is 'many'"),
        ({"DAGSTER_HOME": "relative/home"}, "must be an absolute path"),
    ):
        done = run_command("bookpipe", "load", "calibre", code=1, **changes)
        assert text in done.stderr
        assert "Traceback" not in done.stderr + done.stdout


def test_a_failed_partition_is_told_and_ends_with_an_error_code(setup: Setup, run_command: Run) -> None:
    url = setup.url.replace(":ebooks@", ":wr0ng-s3cret@")
    done = run_command("bookpipe", "load", "calibre", "--limit", "1", code=1, BOOKPIPE_MYBOOKSHELF2_URL=url)
    assert "refused the login" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr
    status = json.loads(run_command("bookpipe", "status", "--json").stdout)["pipelines"]["calibre"]["partitions"]
    assert status["failed"] == 1
    assert "calibre: failed:" in run_command("bookpipe", "status").stdout
    run_command("bookpipe", "load", "calibre")
    assert setup.count("source") == setup.facts.contents


def test_settings_come_from_a_env_file_too(setup: Setup, run_command: Run, tmp_path: Path) -> None:
    (tmp_path / "cwd" / ".env").write_text(f"BOOKPIPE_CALIBRE_LIBRARY={setup.library}\nBOOKPIPE_BATCH_SIZE=200\n")
    done = run_command("bookpipe", "discover", BOOKPIPE_CALIBRE_LIBRARY="/nowhere")
    assert "calibre: 1 partitions, 1 of them new" in done.stdout


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_finishes_what_runs_and_loses_nothing(
    setup: Setup, run_command: Run, tmp_path: Path, end: signal.Signals
) -> None:
    command = [str(BIN / "bookpipe"), "load", "calibre", "--workers", "1"]
    environment = {**os.environ, "BOOKPIPE_BATCH_SIZE": "5"}
    process = subprocess.Popen(command, cwd=tmp_path / "cwd", env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("batch 2/"):
            process.send_signal(end)
            break
    rest = process.stdout.read()
    assert process.wait(60) == 1
    assert "Stopped" in rest
    counts = json.loads(run_command("bookpipe", "status", "--json").stdout)["pipelines"]["calibre"]
    assert counts["partitions"]["running"] == 0
    assert 0 < counts["rows"]["inserted"] == setup.count("source") < setup.facts.contents
    run_command("bookpipe", "load", "calibre", BOOKPIPE_BATCH_SIZE="5")
    assert setup.count("source") == setup.facts.contents


def test_a_killed_load_goes_on_where_it_was(setup: Setup, run_command: Run, tmp_path: Path) -> None:
    environment = {**os.environ, "BOOKPIPE_BATCH_SIZE": "5"}
    process = subprocess.Popen(
        [str(BIN / "bookpipe"), "load", "calibre"], cwd=tmp_path / "cwd", env=environment, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("batch 3/"):
            process.kill()
            break
    process.wait(60)
    deadline = time.monotonic() + 30
    while True:  # orphaned workers see within a second or so that they are orphans
        done = run_command("bookpipe", "load", "calibre", BOOKPIPE_BATCH_SIZE="5", code=None)
        left = json.loads(run_command("bookpipe", "status", "--json").stdout)["pipelines"]["calibre"]["partitions"]
        if left["materialized"] == left["total"] or time.monotonic() > deadline:
            break
    assert left["materialized"] == left["total"], done.stdout
    assert setup.count("source") == len(setup.tree()) == setup.facts.contents
    assert setup.query("SELECT count(*) FROM bookpipe.placement") == [(0,)]


def test_the_sandbox_starts_tells_its_settings_and_stops(setup: Setup, run_command: Run, tmp_path: Path) -> None:
    unset = dict.fromkeys(
        ("BOOKPIPE_MYBOOKSHELF2_URL", "BOOKPIPE_MYBOOKSHELF2_DATA_DIR", "BOOKPIPE_KOITO_URL", "DAGSTER_HOME")
    )
    try:
        assert "No sandbox runs" in run_command("bookpipe", "sandbox", "env", code=1, **unset).stderr
        run_command("bookpipe", "sandbox", "start", **unset)
        lines = run_command("bookpipe", "sandbox", "env", **unset).stdout.splitlines()
        settings = dict(shlex.split(line)[0].split("=", 1) for line in lines)
        assert set(settings) == set(unset)
        run_command("bookpipe", "load", "calibre", "--limit", "1", **settings)
        assert "OK" in run_command("bookpipe", "doctor", code=None, **settings).stdout
        run_command("bookpipe", "sandbox", "start", "--fresh", **unset)
        fresh = run_command("bookpipe", "sandbox", "env", **unset).stdout.splitlines()
        assert len(fresh) == len(lines)
        run_command("bookpipe", "sandbox", "stop", **unset)
        assert "No sandbox runs" in run_command("bookpipe", "sandbox", "stop", **unset).stdout
    finally:
        delete_server(tmp_path / "cwd" / ".bookpipe" / "sandbox" / "server")
