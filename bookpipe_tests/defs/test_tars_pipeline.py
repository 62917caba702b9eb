"""Tar shards into a real MyBookshelf2 through real runs."""

import os
import tarfile
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from bookpipe.definitions import defs
from bookpipe.defs.assets.books_from_tars import KEY
from bookpipe.defs.heartbeat import Heartbeat
from bookpipe.defs.ops.tars import shard_metadata
from bookpipe.defs.partitions import tar_shards
from bookpipe.defs.pipelines import PIPELINES
from bookpipe.defs.progress import all_statuses
from bookpipe.defs.retries import plan_retries
from bookpipe.defs.sensors import discover_partitions
from bookpipe.demo.tar_shards import DemoShards, make_demo_shards
from bookpipe.model.counts import LoadCounts
from bookpipe.pipelines.tars import ShardResult
from bookpipe.runtime.state import State
from bookpipe.settings import Settings
from bookpipe_tests.defs.conftest import Setup
from bookpipe_tests.defs.test_calibre_pipeline import failure_text
from bookpipe_tests.defs.test_sensors import keys_of, tick


@pytest.fixture
def shards(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, DemoShards]:
    """The demo's shards in the configured folder, and what is in them."""
    directory = tmp_path / "shards"
    directory.mkdir()
    facts = make_demo_shards(directory, calibre_library=setup.library)
    monkeypatch.setenv("BOOKPIPE_TAR_DIR", str(directory))
    monkeypatch.delenv("BOOKPIPE_CALIBRE_LIBRARY")
    return directory, facts


def run(instance: dg.DagsterInstance, key: str) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("load_tars").execute_in_process(
        tags={"dagster/partition": key}, instance=instance, raise_on_error=False
    )


def loaded(setup: Setup, key: str) -> dict[str, int]:
    path = setup.home / "bookpipe" / "parquet" / "mybookshelf2" / "books_from_tars" / f"{key}.parquet"
    row = pq.read_table(path).to_pylist()[0]
    return {name: row[name] for name in ("inserted", "existing", "rejected")}


def test_shards_are_loaded_whole_and_a_second_load_inserts_nothing(
    setup: Setup, instance: dg.DagsterInstance, shards: tuple[Path, DemoShards]
) -> None:
    _, facts = shards
    inserted = 0
    for key in facts.keys:
        result = run(instance, key)
        assert result.success
        checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
        assert checks == dict.fromkeys(("counts_add_up", "files_are_readable", "nothing_is_there_twice"), True)
        inserted += loaded(setup, key)["inserted"]
    assert setup.count("source") == inserted > 100
    files = [path for path in (setup.data / "books").rglob("*") if path.is_file()]
    assert len(files) == inserted
    assert not any(path.is_symlink() for path in files)
    for key in facts.keys:
        assert run(instance, key).success
        assert loaded(setup, key)["inserted"] == 0
    assert setup.count("source") == inserted


def test_an_unknown_shard_is_refused_before_anything_happens(
    setup: Setup, instance: dg.DagsterInstance, shards: tuple[Path, DemoShards]
) -> None:
    result = run(instance, "nope")
    assert not result.success
    assert "no shard 'nope'" in failure_text(result)
    assert setup.count("source") == 0
    assert list(instance.get_dynamic_partitions("tar_shards")) == []


def test_the_sensor_finds_settled_shards_only(
    setup: Setup, instance: dg.DagsterInstance, shards: tuple[Path, DemoShards]
) -> None:
    directory, facts = shards
    with tarfile.open(directory / "growing.tar", "w"):
        pass  # just written: it may go on growing
    found = tick(discover_partitions, instance)
    assert keys_of(found) == sorted(facts.keys)
    os.utime(directory / "growing.tar", (1, 1))
    assert keys_of(tick(discover_partitions, instance, found.cursor)) == ["growing"]


def test_a_damaged_shard_is_loaded_as_far_as_it_can_be_and_not_tried_again(
    setup: Setup, instance: dg.DagsterInstance, shards: tuple[Path, DemoShards]
) -> None:
    directory, _ = shards
    whole = next(path for path in sorted(directory.iterdir()) if path.suffix == ".tar")
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    os.utime(whole, (1, 1))
    result = run(instance, whole.stem)
    assert not result.success
    assert "is damaged" in failure_text(result)
    assert setup.count("source") > 10
    assert plan_retries(instance, KEY, tar_shards, 1e12).terminal == [whole.stem]

    # What was loaded is told all the same.
    (observed,) = instance.fetch_observations(KEY, limit=9).records
    assert observed.partition_key == whole.stem
    assert observed.asset_observation is not None
    told = observed.asset_observation.metadata
    assert told["inserted"].value == setup.count("source")
    (damage,) = told["damage"].value  # type: ignore[misc]
    assert "byte" in str(damage)
    rows = all_statuses(instance, Settings.load())["tars"].to_json()["rows"]
    assert rows["inserted"] == setup.count("source")
    assert rows["read"] == told["read"].value
    rejected = list(State(Settings.load().state_path).list_rejections("tars"))
    assert len(rejected) == rows["rejected"] == told["rejected"].value

    # Nobody asks for it again before there is another shard in its place.
    first = tick(discover_partitions, instance)
    assert whole.stem not in keys_of(first)
    whole.write_bytes(data)
    os.utime(whole, (2, 2))
    assert keys_of(tick(discover_partitions, instance, first.cursor)) == [whole.stem]
    assert run(instance, whole.stem).success
    status = all_statuses(instance, Settings.load())["tars"].to_json()
    assert status["rows"]["inserted"] + status["rows"]["existing"] > rows["inserted"]


def test_status_tells_of_shards_too(
    setup: Setup, instance: dg.DagsterInstance, shards: tuple[Path, DemoShards]
) -> None:
    _, facts = shards
    instance.add_dynamic_partitions("tar_shards", list(facts.keys))
    assert run(instance, facts.keys[0]).success
    status = all_statuses(instance, Settings.load())["tars"].to_json()
    assert status["partitions"] == {"total": 3, "materialized": 1, "failed": 0, "running": 0, "missing": 2}
    assert status["rows"]["inserted"] == setup.count("source")
    assert PIPELINES["tars"].job_name == "load_tars"


def test_the_rate_of_a_resumed_shard_is_that_of_what_it_did_itself(instance: dg.DagsterInstance) -> None:
    """9,000 of its 10,000 members were loaded by an attempt that died."""
    result = ShardResult(LoadCounts(9_990, 10), members=1_000, seconds={"total": 10.0})
    told = shard_metadata(result, "tar:1@1")
    assert (told["read"].value, told["rows_per_s"].value) == (10_000, 100.0)
    instance.add_dynamic_partitions("tar_shards", ["1", "2", "3"])
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition="1", metadata=told))
    status = all_statuses(instance, Settings.load())["tars"]
    assert status.counts.read == 10_000
    assert status.rate_rows_per_s == pytest.approx(100.0)
    assert status.eta_s == pytest.approx(200.0)  # the others are whole shards

    # One that finds all of it done tells nothing of how fast the others will be.
    known = shard_metadata(ShardResult(LoadCounts(0, 500), from_journal=True, seconds={"total": 0.01}), "tar:1@1")
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition="2", metadata=known))
    status = all_statuses(instance, Settings.load())["tars"]
    assert status.counts.read == 10_500
    assert status.rate_rows_per_s == pytest.approx(100.0)


def test_a_heartbeat_says_how_far_steps_without_bytes_are() -> None:
    beat = Heartbeat(dg.build_op_context(), "read_audio_files", rows="files read")
    beat.advance("read_audio_files", 64, 10_000)
    beat.advance("read_audio_files", 500, 10_000)
    assert beat.text(10.0) == "500 of 10,000 files read, 50/s, 190 s left"
    beat.advance("read_audio_files", 10_000, 10_000)
    assert beat.text(100.0) == "10,000 of 10,000 files read, 100/s"


def test_a_heartbeat_says_how_far_a_shard_is() -> None:
    beat = Heartbeat(dg.build_op_context(), "members", 400_000)
    beat.advance("bytes", 100_000_000_000, 300_000_000_000)  # where an earlier run had come to
    beat.advance("members", 12_000, None)
    beat.advance("bytes", 103_000_000_000, 300_000_000_000)
    assert beat.text(10.0) == "12,000 of 400,000 members, 103,000 of 300,000 MB, 300 MB/s, 657 s left"
