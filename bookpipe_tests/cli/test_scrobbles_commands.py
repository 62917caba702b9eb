"""`bookpipe` and `dagster` on exports of scrobbles and a real Koito."""

import json
import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

import bookpipe as package
from bookpipe.defs.partitions import parse_listens_key
from bookpipe.demo.koito_database import create_koito_sqlite
from bookpipe_tests.cli.conftest import Invoke, Run, contents, snapshot
from bookpipe_tests.defs.music_setups import Scrobbling, find

ROOT = Path(package.__file__).parent.parent
DAY = 86_400


@pytest.fixture
def keys(scrobbling: Scrobbling, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The partitions, one for each export."""
    monkeypatch.setenv("BOOKPIPE_BATCH_SIZE", "1000")
    with dg.DagsterInstance.ephemeral() as instance:
        found = find(instance, "scrobbles")
    assert len(found) == len(scrobbling.facts)
    return found


def numbers(text: str) -> dict[str, int]:
    """The counts of a summary."""
    rows = re.findall(r"^ *(read|inserted|existing|rejected|[a-z]+(?:_[a-z]+)+) +([\d,]+)\b", text, re.MULTILINE)
    return {name: int(n.replace(",", "")) for name, n in rows}


def status_of(bookpipe: Invoke) -> dict[str, dict[str, float]]:
    pipelines = json.loads(bookpipe("status", "--json").stdout)["pipelines"]
    assert set(pipelines) == {"scrobbles"}
    return dict(pipelines["scrobbles"])


def test_load_status_rejections_and_load_again(
    scrobbling: Scrobbling, keys: list[str], run_command: Run, bookpipe: Invoke
) -> None:
    first = run_command("bookpipe", "load", "scrobbles", BOOKPIPE_WORKERS="4").stdout
    loaded = numbers(first)
    assert loaded["read"] == scrobbling.read
    assert loaded["inserted"] == scrobbling.count("listens") > 500
    done = [line.split()[2].rstrip(":") for line in first.splitlines() if re.match(r"batch \d/5 [a-z]", line)]
    assert done == keys  # in their order, however many workers are asked for
    status = status_of(bookpipe)
    assert status["partitions"] == {"total": 5, "materialized": 5, "failed": 0, "running": 0, "missing": 0}
    assert status["rows"] == {name: loaded[name] for name in ("read", "inserted", "existing", "rejected")}
    assert status["rejections"] == {name: n for name, n in loaded.items() if name not in status["rows"]}

    rejected = [json.loads(line) for line in bookpipe("rejections", "--json").stdout.splitlines()]
    assert len(rejected) == loaded["rejected"]
    assert {row["pipeline"] for row in rejected} == {"scrobbles"}
    unfinished = bookpipe("rejections", "--pipeline", "scrobbles", "--reason", "not_finished").stdout.splitlines()
    assert len(unfinished) == loaded["not_finished"]

    assert "Nothing to load" in bookpipe("load", "scrobbles").stdout
    before = scrobbling.dump()
    again = run_command("bookpipe", "load", "scrobbles", "--again").stdout
    assert "Nothing was inserted" in again
    assert numbers(again)["existing"] == loaded["inserted"] + loaded["existing"]
    assert scrobbling.dump() == before


def test_a_dry_run_tells_what_a_load_does_and_writes_nothing(
    scrobbling: Scrobbling, keys: list[str], run_command: Run, bookpipe: Invoke, tmp_path: Path
) -> None:
    def written() -> list[object]:
        folders = [snapshot(scrobbling.folder), snapshot(tmp_path / "koito")]
        return [*folders, contents(scrobbling.home), (tmp_path / "koito" / "koito.db").read_bytes()]

    before = written()
    dry = run_command("bookpipe", "load", "scrobbles", "--dry-run").stdout
    assert written() == before
    assert "nothing was written" in dry
    assert "Estimated time" in dry
    assert "bookpipe rejections" not in dry  # they are of loads
    limited = bookpipe("load", "scrobbles", "--dry-run", "--limit", "2").stdout
    chosen = [bookpipe("load", "scrobbles", "--dry-run", "--partition", key).stdout for key in keys[:2]]
    assert numbers(limited)["read"] == sum(numbers(text)["read"] for text in chosen)
    assert written() == before

    loaded = numbers(run_command("bookpipe", "load", "scrobbles", "--limit", "1").stdout)
    assert numbers(chosen[0]) == loaded
    before = written()
    after = numbers(bookpipe("load", "scrobbles", "--dry-run").stdout)
    assert after["existing"] == numbers(dry)["existing"] + loaded["inserted"]
    assert written() == before


def test_a_dry_run_knows_batches_of_an_earlier_size(
    scrobbling: Scrobbling, keys: list[str], bookpipe: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    bookpipe("discover")
    monkeypatch.setenv("BOOKPIPE_BATCH_SIZE", "40")
    dry = bookpipe("load", "scrobbles", "--dry-run", "--partition", keys[0]).stdout
    assert numbers(dry)["read"] == parse_listens_key(keys[0])[2]
    beyond = keys[0][:-7] + "0000999"
    for key in (beyond, "nope", "maloja-00000000-0000001-0000010"):
        wrong = bookpipe("load", "scrobbles", "--dry-run", "--partition", key, code=1)
        assert key in wrong.stderr
        assert "Traceback" not in wrong.output


def test_after_and_before_choose_days(
    scrobbling: Scrobbling, keys: list[str], run_command: Run, bookpipe: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = next(key for key in keys if "maloja" in key)
    chosen = ("--partition", key)
    every = numbers(bookpipe("load", "scrobbles", "--dry-run", *chosen).stdout)
    window = ("--after", "2025-05-26", "--before", "2025-05-27")
    dry = numbers(bookpipe("load", "scrobbles", "--dry-run", *window, *chosen).stdout)
    loaded = numbers(run_command("bookpipe", "load", "scrobbles", *window, *chosen).stdout)
    assert loaded == dry
    times = scrobbling.times()
    start = 1_748_217_600  # 26 May 2025
    assert 5 < len(times) < every["inserted"]
    assert all(start <= at < start + 2 * DAY for at in times)
    assert times[-1] >= start + DAY  # the last day is one of them
    assert loaded["outside_window"] == every["inserted"] - len(times)
    monkeypatch.setenv("BOOKPIPE_IMPORT_AFTER", "2025-05-26")
    monkeypatch.setenv("BOOKPIPE_IMPORT_BEFORE", "2025-05-27")
    assert numbers(bookpipe("load", "scrobbles", "--dry-run", *chosen).stdout) == {
        **dry,
        "inserted": 0,
        "existing": dry["inserted"] + dry["existing"],
    }
    wrong = bookpipe("load", "scrobbles", "--after", "yesterday", code=1)
    assert "BOOKPIPE_IMPORT_AFTER is 'yesterday'" in wrong.stderr
    wrong = bookpipe("load", "scrobbles", "--after", "", "--before", "2025-13-01", "--dry-run", code=1)
    assert "BOOKPIPE_IMPORT_BEFORE" in wrong.stderr


def counts(setup: Scrobbling) -> dict[str, int]:
    tables = ("artists", "artist_aliases", "releases", "release_aliases", "tracks", "track_aliases", "listens")
    return {table: setup.count(table) for table in tables}


def test_discover_limit_partition_and_undo(
    scrobbling: Scrobbling, keys: list[str], run_command: Run, bookpipe: Invoke
) -> None:
    assert "scrobbles: 5 partitions, 5 of them new" in bookpipe("discover").stdout
    again = bookpipe("discover").stdout.splitlines()
    assert again == [
        "calibre: not configured",
        "tars: not configured",
        "scrobbles: 5 partitions, 0 of them new",
        "audio: not configured",
    ]
    undo = ("undo", "--pipeline", "scrobbles", keys[1])
    assert "Nothing to undo" in bookpipe(*undo).stdout

    run_command("bookpipe", "load", "scrobbles", "--limit", "1")
    assert status_of(bookpipe)["partitions"]["missing"] == 4
    before, listens = counts(scrobbling), scrobbling.count("listens")
    run_command("bookpipe", "load", "scrobbles", "--partition", keys[1])
    made = scrobbling.count("listens") - listens
    assert made > 50
    both = scrobbling.dump()
    wrong = bookpipe("load", "scrobbles", "--partition", keys[0][:-1] + "1", code=1)
    assert "no partition" in wrong.stderr
    assert "Traceback" not in wrong.output

    assert f"{made} listens" in bookpipe(*undo, "--dry-run").stdout
    assert scrobbling.dump() == both
    assert bookpipe("rejections", "--partition", keys[1]).stdout
    assert f"{made} listens" in bookpipe(*undo).stdout
    assert counts(scrobbling) == before
    assert not scrobbling.faults()
    assert bookpipe("rejections", "--partition", keys[1]).stdout == ""
    assert "Nothing to undo" in bookpipe(*undo).stdout
    run_command("bookpipe", "load", "scrobbles", "--partition", keys[1])
    assert scrobbling.dump() == both


def test_the_documented_line_loads_one_partition(scrobbling: Scrobbling, keys: list[str], run_command: Run) -> None:
    text = (ROOT / "docs" / "koito.md").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("dagster job execute")]
    command = shlex.split(line)
    tags = json.loads(command[-1])
    parse_listens_key(tags["dagster/partition"])  # the example could be one
    key = next(key for key in keys if "maloja" in key)
    run_command(*command[:-1], json.dumps({"dagster/partition": key}))
    assert scrobbling.count("listens") > 100
    with dg.DagsterInstance.from_config(str(scrobbling.home)) as instance:
        assert instance.get_materialized_partitions(dg.AssetKey(["koito", "listens"])) == {key}


def rows_of(bookpipe: Invoke, code: int = 0) -> dict[str, str]:
    """What doctor says, by subject."""
    header, *lines = bookpipe("doctor", code=code).stdout.splitlines()
    subject, detail = header.index("subject"), header.index("detail")
    rows = [(line[:subject].strip(), line[subject:detail].strip()) for line in lines]
    return {name: word for word, name in rows if word and name}


def test_doctor_looks_at_the_exports_and_at_koito(
    scrobbling: Scrobbling, bookpipe: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scrobbling.folder / "notes.txt").write_text("Remember the milk.")
    before = [snapshot(folder) for folder in (scrobbling.folder, tmp_path / "koito", scrobbling.home)]
    rows = rows_of(bookpipe)
    assert rows["Scrobbles: exports"] == "OK"
    assert rows["Scrobbles: notes.txt"] == "-"
    koito = {subject: word for subject, word in rows.items() if subject.startswith("Koito: ")}
    assert {"Koito: file", "Koito: schema version", "Koito: user", "Koito: lookup cache"} <= set(koito)
    assert set(koito.values()) == {"OK"}
    assert "-" == rows["Music"] == rows["Music archive"] == rows["Calibre"] == rows["MyBookshelf2"]
    assert [snapshot(folder) for folder in (scrobbling.folder, tmp_path / "koito", scrobbling.home)] == before

    with closing(sqlite3.connect(tmp_path / "koito" / "koito.db")) as connection, connection:
        connection.execute("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
    assert rows_of(bookpipe, code=1)["Koito: schema version"] == "FAIL"
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("BOOKPIPE_SCROBBLE_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("BOOKPIPE_KOITO_URL", create_koito_sqlite(tmp_path / "other.db"))
    assert rows_of(bookpipe, code=1)["Scrobbles: exports"] == "FAIL"
    monkeypatch.setenv("BOOKPIPE_SCROBBLE_DIR", str(tmp_path / "nowhere"))
    assert rows_of(bookpipe, code=1)["Scrobbles: exports"] == "FAIL"
