"""Covers of loaded partitions through real runs, sensors and the registry."""

import io
import os

import dagster as dg
import pytest
from PIL import Image

from bookpipe.definitions import defs
from bookpipe.defs.assets.books_from_calibre import books_from_calibre
from bookpipe.defs.assets.calibre_books import calibre_books
from bookpipe.defs.assets.covers import covers_from_calibre
from bookpipe.defs.io_managers import remove_scratch
from bookpipe.defs.jobs import discover
from bookpipe.defs.ops import books as book_ops
from bookpipe.defs.ops import covers as cover_ops
from bookpipe.defs.partitions import books_key, calibre_batches, partition_states
from bookpipe.defs.pipelines import PIPELINES
from bookpipe.defs.progress import all_statuses
from bookpipe.defs.sensors import discover_partitions
from bookpipe.model.errors import UnreachableError
from bookpipe.settings import Settings
from bookpipe_tests.defs.conftest import Setup
from bookpipe_tests.defs.test_calibre_pipeline import KEYS, failure_text, run
from bookpipe_tests.defs.test_sensors import keys_of, tick

JOB = "make_calibre_covers"
KEY = covers_from_calibre.key


def make(instance: dg.DagsterInstance, key: str, job: str = JOB) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def(job).execute_in_process(
        tags={"dagster/partition": key}, instance=instance, raise_on_error=False
    )


def numbers(result: dg.ExecuteInProcessResult, key: dg.AssetKey = KEY) -> dict[str, int]:
    event = next(e for e in result.get_asset_materialization_events() if e.asset_key == key)
    metadata = event.step_materialization_data.materialization.metadata
    names = ("read", "inserted", "existing", "rejected", "from_library", "from_files")
    return {name: int(str(metadata[name].value)) for name in names}


def test_the_books_of_a_library_get_their_covers_and_a_second_run_makes_none(
    setup: Setup, instance: dg.DagsterInstance
) -> None:
    for key in KEYS:
        assert run(instance, key).success
    made = 0
    for key in KEYS:
        result = make(instance, key)
        assert result.success, failure_text(result)
        found = numbers(result)
        assert found["read"] == found["inserted"] + found["existing"] + found["rejected"] > 0
        assert found["existing"] == 0
        made += found["inserted"]
        checks = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
        assert checks == {"counts_add_up": True, "covers_are_readable": True}
    rows = setup.query("SELECT id, cover, base_dir, version_id, modified = created FROM ebook WHERE cover IS NOT NULL")
    assert len(rows) == made > setup.count("ebook") / 2
    for ebook, cover, base_dir, version, untouched in rows:
        assert (cover, version, untouched) == (f"{base_dir}/cover.jpg", 1, True)
        for path, most in ((f"books/{cover}", (320, 452)), (f"thumbs/{ebook}.jpg", (100, 140))):
            assert not (setup.data / path).is_symlink()
            with Image.open(io.BytesIO((setup.data / path).read_bytes())) as image:
                assert (image.format, image.mode) == ("JPEG", "RGB")
                assert image.width == most[0] or image.height == most[1]
    assert len(os.listdir(setup.data / "thumbs")) == made
    for key in KEYS:
        again = numbers(make(instance, key))
        assert again["inserted"] == 0
        assert again["read"] == again["existing"] + again["rejected"]
    assert len(os.listdir(setup.data / "thumbs")) == made


@pytest.mark.parametrize("key", ["nope", KEYS[0]])
def test_covers_of_what_is_not_loaded_are_refused_before_anything_happens(
    setup: Setup, instance: dg.DagsterInstance, key: str
) -> None:
    result = make(instance, key)
    assert not result.success
    assert "load them first" in failure_text(result)
    assert list(instance.get_dynamic_partitions("calibre_batches")) == []


def test_a_loaded_partition_of_a_lost_instance_registers_itself(
    setup: Setup, instance: dg.DagsterInstance
) -> None:  # fmt: skip
    assert run(instance, KEYS[0]).success
    instance.delete_dynamic_partition("calibre_batches", KEYS[0])
    assert make(instance, KEYS[0]).success
    assert list(instance.get_dynamic_partitions("calibre_batches")) == [KEYS[0]]


def test_the_sensor_makes_covers_of_what_is_loaded_once(setup: Setup, instance: dg.DagsterInstance) -> None:
    assert keys_of(tick(discover_partitions, instance), JOB) == []
    assert run(instance, KEYS[0]).success
    found = tick(discover_partitions, instance)
    assert keys_of(found, JOB) == [KEYS[0]]
    assert keys_of(tick(discover_partitions, instance, found.cursor), JOB) == []
    assert make(instance, KEYS[0]).success
    assert keys_of(tick(discover_partitions, instance), JOB) == []  # whatever its cursor says
    setup.query("UPDATE bookpipe.load SET id = id + 100 RETURNING 1")
    assert keys_of(tick(discover_partitions, instance), JOB) == [KEYS[0]]


def test_books_that_come_after_covers_failed_are_noticed(setup: Setup, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("calibre_batches", [KEYS[0]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOOKPIPE_MYBOOKSHELF2_URL", "no address")
        assert not make(instance, KEYS[0]).success
    assert partition_states(instance, KEY, calibre_batches) == {KEYS[0]: "failed"}
    assert keys_of(tick(discover_partitions, instance), JOB) == []
    assert run(instance, KEYS[0]).success
    found = tick(discover_partitions, instance)
    assert keys_of(found, JOB) == [KEYS[0]]
    assert keys_of(tick(discover_partitions, instance, found.cursor), JOB) == []


def test_a_partition_that_brought_no_book_has_no_covers_until_one_comes(
    setup: Setup, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions("calibre_batches", [KEYS[0]])
    assert numbers(make(instance, KEYS[0]))["read"] == 0
    assert keys_of(tick(discover_partitions, instance), JOB) == []
    assert run(instance, KEYS[0]).success
    assert keys_of(tick(discover_partitions, instance), JOB) == [KEYS[0]]


def test_books_and_covers_go_in_one_run_and_each_takes_its_own_scratch_away(
    setup: Setup, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions("calibre_batches", [KEYS[0]])
    books = [calibre_books.key, books_from_calibre.key, KEY]
    parquet = setup.home / "bookpipe" / "parquet"
    left: list[set[str]] = []

    def remove(context: dg.OpExecutionContext) -> None:
        remove_scratch(context)
        left.append({path.name.partition(".")[0] for path in parquet.glob(f"{context.run_id}/*")})

    with pytest.MonkeyPatch.context() as patch:
        for module in (book_ops, cover_ops):
            patch.setattr(module, "remove_scratch", remove)
        job = defs.resolve_implicit_global_asset_job_def()
        result = job.get_subset(asset_selection=set(books)).execute_in_process(partition_key=KEYS[0], instance=instance)
    assert result.success
    assert numbers(result)["inserted"] > 0
    assert all(asset != "mybookshelf2__books_from_calibre" for asset in left[0])
    assert left[-1] == set()
    assert not (parquet / result.run_id).exists()


def test_covers_have_no_partitions_of_their_own_to_discover(
    setup: Setup, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOKPIPE_MYBOOKSHELF2_URL", "postgresql://ebooks:ebooks@127.0.0.1:1/none")
    with pytest.raises(UnreachableError):
        PIPELINES["calibre_covers"].find(Settings.load(), instance, print)
    assert discover.execute_in_process(instance=instance).success
    assert books_key(1, 50) in instance.get_dynamic_partitions("calibre_batches")


def test_status_tells_of_the_covers(setup: Setup, instance: dg.DagsterInstance) -> None:
    for key in KEYS[:2]:
        assert run(instance, key).success
    made = numbers(make(instance, KEYS[0]))
    found = all_statuses(instance, Settings.load())["calibre_covers"].to_json()
    assert found["partitions"] == {"total": 2, "materialized": 1, "failed": 0, "running": 0, "missing": 1}
    assert found["rows"]["inserted"] == made["inserted"]
    assert sum(found["rejections"].values()) == made["rejected"]


def test_an_asset_alone_can_be_launched(setup: Setup, instance: dg.DagsterInstance) -> None:
    assert run(instance, KEYS[0]).success
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.get_subset(asset_selection={KEY}).execute_in_process(partition_key=KEYS[0], instance=instance)
    assert result.success
    assert numbers(result)["inserted"] > 0
