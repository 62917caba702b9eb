"""Exports of scrobbles into a real Koito through real runs."""

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bookpipe.definitions import defs
from bookpipe.defs.assets.koito_listens import KEY
from bookpipe.defs.partitions import parse_listens_key, scrobble_batches
from bookpipe.defs.progress import all_statuses
from bookpipe.defs.retries import plan_retries
from bookpipe.defs.sensors import discover_partitions
from bookpipe.demo.scrobble_exports import make_maloja
from bookpipe.pipelines import configured
from bookpipe.runtime.state import State
from bookpipe.settings import Settings
from bookpipe.sources.scrobbles import open_export, read_listens
from bookpipe.targets.koito.server import Koito, open_koito
from bookpipe_tests.defs.music_setups import (
    LISTENS,
    RECORDS,
    Scrobbling,
    checks_of,
    error_kind,
    find,
    metadata_of,
    retried,
    run,
    table_of,
)
from bookpipe_tests.defs.test_calibre_pipeline import failure_text
from bookpipe_tests.defs.test_sensors import keys_of, tick

CHECKS = dict.fromkeys(("counts_add_up", "listens_are_there", "names_are_whole"), True)


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """In memory, which makes a run ten times as fast."""
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def load(instance: dg.DagsterInstance, key: str) -> dg.ExecuteInProcessResult:
    return run(instance, "scrobbles", key)


def registered(instance: dg.DagsterInstance) -> list[str]:
    return list(instance.get_dynamic_partitions("scrobble_batches"))


def batch_of(instance: dg.DagsterInstance, kind: str, number: int = 0) -> str:
    """The key of a batch of the export of that kind."""
    return [key for key in find(instance, "scrobbles") if kind in key][number]


def test_every_export_is_loaded_whole_and_a_second_load_inserts_nothing(
    either_koito: Scrobbling, instance: dg.DagsterInstance
) -> None:
    keys = find(instance, "scrobbles")
    assert len(keys) == 2 * len(either_koito.facts)
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for key in keys:
        result = load(instance, key)
        assert result.success, failure_text(result)
        assert checks_of(result) == CHECKS
        said = metadata_of(result)
        counts.update({name: said[name] for name in ("read", "inserted", "existing", "rejected")})
        reasons.update(dict(table_of(result, "rejections")))
    assert counts["read"] == either_koito.read == counts["inserted"] + counts["existing"] + counts["rejected"]
    assert either_koito.count("listens") == counts["inserted"] > 500
    expected: Counter[str] = Counter()
    for facts in either_koito.facts.values():
        expected.update(facts.reasons)
    assert reasons == expected
    assert not either_koito.faults()
    before = either_koito.dump()

    for key in keys[::2]:
        result = load(instance, key)
        assert checks_of(result) == CHECKS
        said = metadata_of(result)
        assert said["inserted"] == said["new_artists"] == said["new_albums"] == said["new_tracks"] == 0
        assert said["known_listens"] == said["existing"]
    assert either_koito.dump() == before


def test_a_load_says_what_it_brought(scrobbling: Scrobbling, instance: dg.DagsterInstance) -> None:
    result = load(instance, batch_of(instance, "maloja"))
    said = metadata_of(result)
    assert said["read"] == LISTENS == said["inserted"] + said["existing"] + said["rejected"]
    assert said["inserted"] == scrobbling.count("listens")
    new = (said["new_artists"], said["new_albums"], said["new_tracks"])
    assert new == tuple(map(scrobbling.count, ("artists", "releases", "tracks")))
    assert {f"seconds_{phase}" for phase in ("parse_listens", "look_up", "resolve", "write")} <= set(said)
    assert said["rows_per_s"] > 0
    months = scrobbling.query("SELECT strftime('%Y-%m', listened_at, 'unixepoch'), count(*) FROM listens GROUP BY 1")
    assert table_of(result, "listens_by_month") == months
    top = table_of(result, "top_artists")
    assert 1 < len(top) <= 10
    assert [n for _, n in top] == sorted((n for _, n in top), reverse=True)
    names = {name for (name,) in scrobbling.query("SELECT alias FROM artist_aliases")}
    assert sum(name in names for name, _ in top) > len(top) / 2  # as the export spells them
    first = result.get_step_success_events()
    assert [event.step_key for event in first] == [
        f"koito__listens.{op}" for op in ("parse_listens", "load_listens", "check_listens")
    ]
    parquet = scrobbling.home / "bookpipe" / "parquet"
    kept = [str(path.relative_to(parquet)) for path in parquet.rglob("*") if path.is_file()]
    assert kept == [f"koito/listens/{batch_of(instance, 'maloja')}.parquet"]


@pytest.mark.parametrize(
    "key", ["nope", "../x", "maloja-1-100", "maloja-00000000-0000001-0000100", "{export}-0000001-0000099"]
)
def test_an_unknown_partition_is_refused_before_anything_happens(
    scrobbling: Scrobbling, instance: dg.DagsterInstance, key: str
) -> None:
    export = parse_listens_key(batch_of(instance, "maloja"))[0]
    before = scrobbling.tables()
    result = load(instance, key.format(export=export))
    assert not result.success
    assert "partition" in failure_text(result)
    assert not retried(result)
    assert error_kind(instance, result) == "config"
    assert scrobbling.tables() == before
    assert scrobbling.count("artists") == 0
    assert registered(instance) == []
    assert [path.name for path in (scrobbling.home / "bookpipe").iterdir()] == ["scrobbles"]


def test_a_key_that_cannot_be_one_is_refused_before_any_export_is_read(
    scrobbling: Scrobbling, instance: dg.DagsterInstance
) -> None:
    assert not load(instance, "nope").success
    assert not (scrobbling.home / "bookpipe").exists()


def test_a_valid_unknown_partition_registers_itself(scrobbling: Scrobbling, instance: dg.DagsterInstance) -> None:
    key = batch_of(instance, "spotify", 1)
    assert load(instance, key).success
    assert registered(instance) == [key]
    assert instance.get_materialized_partitions(KEY) == {key}


def test_the_asset_can_be_launched_alone(scrobbling: Scrobbling, instance: dg.DagsterInstance) -> None:
    key = batch_of(instance, "maloja")
    instance.add_dynamic_partitions("scrobble_batches", [key])
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={KEY})
    assert job.execute_in_process(partition_key=key, instance=instance).success
    assert scrobbling.count("listens") > 0


def test_the_sensor_asks_for_batches_in_their_order_and_a_new_export_adds_some(
    scrobbling: Scrobbling, kept_instance: dg.DagsterInstance
) -> None:
    first = tick(discover_partitions, kept_instance)
    requests = first.run_requests or []
    asked = [str(request.partition_key) for request in requests]
    assert asked == find(kept_instance, "scrobbles") == registered(kept_instance)
    assert {request.job_name for request in requests} == {"load_scrobbles"}
    assert keys_of(tick(discover_partitions, kept_instance, first.cursor)) == []
    assert load(kept_instance, asked[0]).success
    assert keys_of(tick(discover_partitions, kept_instance, first.cursor)) == []

    make_maloja(scrobbling.folder / "a newer maloja.json", 120, 30, 20, seed=7)
    second = tick(discover_partitions, kept_instance, first.cursor)
    new = keys_of(second)
    assert [parse_listens_key(key)[1:] for key in new] == [(1, 100), (101, 120)]
    assert set(registered(kept_instance)) == {*asked, *new} == set(find(kept_instance, "scrobbles"))
    assert load(kept_instance, new[1]).success
    assert keys_of(tick(discover_partitions, kept_instance, second.cursor)) == []


def test_what_was_loaded_by_hand_is_not_asked_for(scrobbling: Scrobbling, kept_instance: dg.DagsterInstance) -> None:
    key = batch_of(kept_instance, "koito")
    assert load(kept_instance, key).success
    found = keys_of(tick(discover_partitions, kept_instance))
    assert key not in found
    assert len(found) == 2 * len(scrobbling.facts) - 1


def test_a_new_batch_size_moves_no_batch(
    scrobbling: Scrobbling, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = find(instance, "scrobbles")
    instance.add_dynamic_partitions("scrobble_batches", before)
    one = before[3]  # the second of its export: the first one's records are cut anew
    monkeypatch.setenv("BOOKPIPE_BATCH_SIZE", "40")
    assert find(instance, "scrobbles") == before
    instance.delete_dynamic_partition("scrobble_batches", before[2])
    changed = find(instance, "scrobbles")
    assert set(before) - set(changed) == {before[2]}
    export = parse_listens_key(one)[0]
    ranges = [parse_listens_key(key)[1:] for key in changed if parse_listens_key(key)[0] == export]
    assert ranges == [(1, 40), (41, 80), (81, 100), (101, 150)]
    assert all(load(instance, key).success for key in changed if key.startswith(export))
    refused = load(instance, before[2])
    assert not refused.success
    assert "has no partition" in failure_text(refused)


def break_url(setup: Scrobbling, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/nowhere/koito.db"


def too_new(setup: Scrobbling, tmp_path: Path) -> str:
    with closing(sqlite3.connect(setup.url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
    return setup.url


def no_database(setup: Scrobbling, tmp_path: Path) -> str:
    (tmp_path / "text.db").write_text("This is a text. " * 100)
    return f"sqlite:///{tmp_path}/text.db"


@pytest.mark.parametrize(
    ("make_url", "text"),
    [
        (break_url, "nowhere"),
        (too_new, "version 99"),
        (no_database, "not a database"),
        (lambda *_: "postgresql://koito:wr0ng-s3cret@127.0.0.1:1/koito?no_such=1", "BOOKPIPE_KOITO_URL"),
        (lambda *_: "mysql://koito:wr0ng-s3cret@localhost/koito", "BOOKPIPE_KOITO_URL"),
        (lambda *_: "", "BOOKPIPE_KOITO_URL is not set"),
    ],
    ids=["missing", "too new", "no database", "bad url", "other database", "not set"],
)
def test_a_koito_that_cannot_be_loaded_into_is_told_and_not_tried_again(
    scrobbling: Scrobbling,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_url: Any,
    text: str,
) -> None:
    monkeypatch.setenv("BOOKPIPE_KOITO_URL", make_url(scrobbling, tmp_path))
    result = load(instance, batch_of(instance, "maloja"))
    assert not result.success
    assert text in failure_text(result)
    assert not retried(result)
    assert error_kind(instance, result) == "config"
    assert "s3cret" not in "".join(str(record) for record in instance.all_logs(result.run_id))
    assert scrobbling.count("listens") == 0


@pytest.mark.parametrize("either_koito", ["postgresql"], indirect=True)
def test_a_wrong_password_is_told_but_never_shown(
    either_koito: Scrobbling, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOKPIPE_KOITO_URL", either_koito.url.replace(":koito@", ":wr0ng-s3cret@"))
    result = load(instance, batch_of(instance, "maloja"))
    assert not result.success
    assert "BOOKPIPE_KOITO_URL" in failure_text(result)
    assert error_kind(instance, result) == "config"
    logs = "".join(str(record) for record in instance.all_logs(result.run_id))
    assert "s3cret" not in logs
    assert "koito:koito" not in logs


def test_a_locked_database_is_waited_for(
    scrobbling: Scrobbling, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(*arguments: Any, **options: Any) -> Koito:
        made = open_koito(*arguments, **options)
        return type(made)(made.url, made.user_id, made.lookup_cache, busy_timeout_s=0.05)

    monkeypatch.setattr(configured, "open_koito", impatient)
    with closing(sqlite3.connect(scrobbling.url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waits = []

        def unlock(_policy: dg.RetryPolicy, attempt: int) -> float:
            """Instead of the wait before an attempt: the other writer ends before the second one."""
            waits.append(attempt)
            if attempt == 2:
                other.execute("COMMIT")
            return 0.0

        monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", unlock)
        result = load(instance, batch_of(instance, "maloja"))
    assert result.success
    assert waits == [1, 2]
    assert retried(result)
    assert metadata_of(result)["inserted"] == scrobbling.count("listens") > 50


def test_a_database_that_stays_locked_fails_the_partition_and_a_later_run_loads_it(
    scrobbling: Scrobbling, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = batch_of(instance, "maloja")
    with monkeypatch.context() as patch:
        patch.setattr(configured, "open_koito", lambda url, **_: Koito(url, busy_timeout_s=0.01))
        patch.setattr(dg.RetryPolicy, "calculate_delay", lambda _policy, _attempt: 0.0)
        with closing(sqlite3.connect(scrobbling.url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            result = load(instance, key)
    assert not result.success
    assert error_kind(instance, result) == "transient"
    assert list(plan_retries(instance, KEY, scrobble_batches, 0.0).waiting) == [key]
    assert load(instance, key).success
    assert scrobbling.count("listens") > 50


def test_an_export_that_is_gone_fails_its_batches_only(
    scrobbling: Scrobbling, kept_instance: dg.DagsterInstance
) -> None:
    found = tick(discover_partitions, kept_instance)
    gone, there = (batch_of(kept_instance, kind) for kind in ("spotify", "listenbrainz"))
    (scrobbling.folder / "my_spotify_data.zip").unlink()
    result = load(kept_instance, gone)
    assert not result.success
    assert f"has no partition '{gone}'" in failure_text(result)
    assert error_kind(kept_instance, result) == "config"
    assert load(kept_instance, there).success
    assert keys_of(tick(discover_partitions, kept_instance, found.cursor)) == []
    assert gone in registered(kept_instance)


def test_an_export_that_changed_has_other_batches(scrobbling: Scrobbling, instance: dg.DagsterInstance) -> None:
    old = batch_of(instance, "maloja")
    make_maloja(scrobbling.folder / "maloja.json", RECORDS, 40, 30, seed=9)
    new = batch_of(instance, "maloja")
    assert new != old
    assert not load(instance, old).success
    assert load(instance, new).success


@pytest.mark.parametrize(("after", "before"), [(True, False), (False, True), (True, True)])
def test_only_listens_of_the_window_are_loaded(
    scrobbling: Scrobbling, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, after: bool, before: bool
) -> None:
    key = batch_of(instance, "maloja")
    rows = read_listens(open_export(scrobbling.folder / "maloja.json"), 1, LISTENS, now=time.time()).to_pylist()
    times = sorted(row["listened_at"] for row in rows if row["reason"] is None)
    first, last = times[len(times) // 4], times[len(times) // 2]
    with monkeypatch.context() as patch:
        patch.setenv("BOOKPIPE_IMPORT_AFTER", str(first) if after else "")
        patch.setenv("BOOKPIPE_IMPORT_BEFORE", str(last) if before else "")
        result = load(instance, key)
    assert checks_of(result) == CHECKS
    expected = [at for at in times if (not after or at >= first) and (not before or at <= last)]
    assert scrobbling.times() == expected
    assert dict(table_of(result, "rejections"))["outside_window"] == len(times) - len(expected)
    assert metadata_of(load(instance, key))["existing"] == len(expected)  # without a window the others come, too
    assert scrobbling.times() == times


def test_rejections_are_listed_with_their_records_and_those_of_earlier_loads_forgotten(
    scrobbling: Scrobbling, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = batch_of(instance, "spotify")
    for _ in range(2):
        result = load(instance, key)
        rows = list(State(Settings.load().state_path).list_rejections("scrobbles", key))
        assert len(rows) == metadata_of(result)["rejected"] > 10
        assert Counter(reason for *_, reason, _ in rows) == dict(table_of(result, "rejections"))
        export = parse_listens_key(key)[0]
        assert all(row.startswith(f"{export} record ") for _, _, row, _, _ in rows)


def test_files_that_are_no_exports_do_not_stop_the_others(scrobbling: Scrobbling, instance: dg.DagsterInstance) -> None:
    whole = find(instance, "scrobbles")
    folder = scrobbling.folder
    (folder / "0 notes.txt").write_text("Remember the milk.")
    (folder / "0 empty.json").write_bytes(b"")
    (folder / "0 broken.zip").write_bytes((folder / "listenbrainz.zip").read_bytes()[:5_000])
    (folder / "0 gone.json").symlink_to("nowhere.json")
    os.mkfifo(folder / "0 pipe.json")
    (folder / "0 locked.json").write_text("[]")
    (folder / "0 locked.json").chmod(0)
    (folder / "subfolder").mkdir()
    assert find(instance, "scrobbles") == whole
    assert load(instance, whole[0]).success


def test_an_export_that_breaks_off_is_loaded_as_far_as_it_goes(
    scrobbling: Scrobbling, instance: dg.DagsterInstance
) -> None:
    others = [key for key in find(instance, "scrobbles") if "maloja" not in key]
    path = scrobbling.folder / "maloja.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    keys = find(instance, "scrobbles")
    assert set(others) < set(keys)
    reasons: Counter[str] = Counter()
    for key in set(keys) - set(others):
        result = load(instance, key)
        assert checks_of(result) == CHECKS
        reasons.update(dict(table_of(result, "rejections")))
    assert reasons["damaged_file"] == 1
    assert 50 < scrobbling.count("listens") < RECORDS


def test_a_folder_that_cannot_be_read_registers_nothing_and_says_why(
    scrobbling: Scrobbling, kept_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOKPIPE_SCROBBLE_DIR", str(scrobbling.folder / "nowhere"))
    found = tick(discover_partitions, kept_instance)
    assert keys_of(found) == []
    assert "nowhere" in str(found.skip_message)
    assert registered(kept_instance) == []


def test_a_name_that_was_lost_shows_in_the_check(scrobbling: Scrobbling, instance: dg.DagsterInstance) -> None:
    key = batch_of(instance, "maloja")
    assert load(instance, key).success
    with closing(sqlite3.connect(scrobbling.url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE track_aliases SET is_primary = 0 WHERE track_id = 1")
    result = load(instance, key)
    assert result.success
    assert checks_of(result) == {**CHECKS, "names_are_whole": False}
    [check] = [c for c in result.get_asset_check_evaluations() if c.check_name == "names_are_whole"]
    assert check.metadata["problems"].value == 1
    assert "track 1 " in str(check.metadata["examples"].value)


def test_status_adds_up(scrobbling: Scrobbling, instance: dg.DagsterInstance) -> None:
    keys = find(instance, "scrobbles")
    instance.add_dynamic_partitions("scrobble_batches", keys)
    assert load(instance, keys[0]).success
    found = all_statuses(instance, Settings.load())
    assert set(found) == {"scrobbles"}
    status = found["scrobbles"].to_json()
    assert status["partitions"] == {"total": 10, "materialized": 1, "failed": 0, "running": 0, "missing": 9}
    assert status["rows"]["read"] == LISTENS
    assert sum(status["rejections"].values()) == status["rows"]["rejected"]
