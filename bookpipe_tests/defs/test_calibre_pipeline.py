"""Partitions of a real library into a real MyBookshelf2 through real runs."""

import re
from collections import Counter

import dagster as dg
import pyarrow.parquet as pq
import pytest

from bookpipe.definitions import defs
from bookpipe.defs import heartbeat
from bookpipe.defs.assets.books_from_calibre import KEY
from bookpipe.defs.partitions import books_key
from bookpipe.defs.progress import all_statuses
from bookpipe.settings import Settings
from bookpipe.sources.calibre import CalibreLibrary
from bookpipe_tests.defs.conftest import Setup

KEYS = (books_key(1, 50), books_key(51, 100), books_key(101, 150))


def run(instance: dg.DagsterInstance, key: str, **options: object) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("load_calibre").execute_in_process(
        tags={"dagster/partition": key}, instance=instance, raise_on_error=False, **options  # type: ignore[arg-type]
    )  # fmt: skip


def outcome_counts(setup: Setup, keys: tuple[str, ...] = KEYS) -> Counter[str]:
    found: Counter[str] = Counter()
    for key in keys:
        path = setup.home / "bookpipe" / "parquet" / "mybookshelf2" / "books_from_calibre" / f"{key}.parquet"
        found.update(pq.read_table(path).column("outcome").to_pylist())
    return found


def failure_text(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            return str(data.user_failure_data and data.user_failure_data.description) + str(data.error)
    return ""


def test_a_library_is_loaded_whole_and_a_second_load_inserts_nothing(
    setup: Setup, instance: dg.DagsterInstance
) -> None:
    results = [run(instance, key) for key in KEYS if int(key[6:13]) <= max_id(setup)]
    assert all(result.success for result in results)
    facts = setup.facts
    assert setup.count("source") == facts.contents
    assert len(setup.tree()) == facts.contents
    counts = outcome_counts(setup, KEYS[: len(results)])
    assert counts["inserted"] == facts.contents
    assert counts["existing"] == facts.readable_files - facts.contents
    assert counts["inserted"] + counts["existing"] == facts.readable_files
    before, tree = dump(setup), setup.tree()

    for key in KEYS[: len(results)]:
        assert run(instance, key).success
    again = outcome_counts(setup, KEYS[: len(results)])
    assert again["inserted"] == 0
    assert again["existing"] == facts.readable_files
    assert again["rejected"] == counts["rejected"]
    assert dump(setup) == before
    assert setup.tree() == tree


def max_id(setup: Setup) -> int:
    bounds = CalibreLibrary(setup.library).id_bounds()
    assert bounds
    return bounds[1]


def dump(setup: Setup) -> list[tuple[object, ...]]:
    return setup.query(
        "SELECT e.id, e.title, e.base_dir, e.full_text::text, s.location, s.hash, s.size FROM ebook e "
        "LEFT JOIN source s ON s.ebook_id = e.id ORDER BY e.id, s.id"
    )


def test_checks_pass_and_numbers_are_on_the_materialization(setup: Setup, instance: dg.DagsterInstance) -> None:
    result = run(instance, KEYS[0])
    checks = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert set(checks) == {"counts_add_up", "files_are_readable", "nothing_is_there_twice"}
    assert all(check.passed for check in checks.values())
    event = next(e for e in result.get_asset_materialization_events() if e.asset_key == KEY)
    metadata = event.step_materialization_data.materialization.metadata
    value = {name: metadata[name].value for name in ("read", "inserted", "existing", "rejected")}
    assert value["read"] == value["inserted"] + value["existing"] + value["rejected"] > 0  # type: ignore[operator]
    assert {f"seconds_{phase}" for phase in ("read", "hash_files", "look_up", "resolve", "place_and_insert")} <= set(
        metadata
    )
    assert metadata["rows_per_s"].value > 0  # type: ignore[operator]
    table = metadata["rejections"]
    assert isinstance(table, dg.TableMetadataValue)
    assert sum(int(str(record.data["rows"])) for record in table.records) == value["rejected"]


def test_a_slow_disk_is_seen_to_be_read(
    setup: Setup, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.0)
    result = run(instance, KEYS[0])
    messages = [str(entry.user_message) for entry in instance.all_logs(result.run_id)]
    assert any(re.match(r"(\d+) of \1 files, ", message) for message in messages)


def test_a_load_renews_what_somebody_removed(setup: Setup, instance: dg.DagsterInstance) -> None:
    assert run(instance, KEYS[0]).success
    location = next(iter(setup.tree()))
    (setup.data / "books" / location).unlink()
    setup_rows = setup.query("SELECT count(*) FROM source")
    assert run(instance, KEYS[0]).success
    assert (setup.data / "books" / location).exists()
    assert setup.query("SELECT count(*) FROM source") == setup_rows


@pytest.mark.parametrize("key", ["nope", "books-0000051-0000060", "books-1-50", "books-0009951-0010000", "../x"])
def test_an_unknown_partition_is_refused_before_anything_happens(
    setup: Setup, instance: dg.DagsterInstance, key: str
) -> None:
    result = run(instance, key)
    assert not result.success
    assert "partition" in failure_text(result)
    assert setup.count("ebook") == setup.count("source") == 0
    assert not (setup.home / "bookpipe").exists()
    assert list(instance.get_dynamic_partitions("calibre_batches")) == []


def test_a_valid_unknown_partition_registers_itself(setup: Setup, instance: dg.DagsterInstance) -> None:
    assert run(instance, KEYS[1]).success
    assert list(instance.get_dynamic_partitions("calibre_batches")) == [KEYS[1]]


def test_an_asset_alone_loads_what_the_other_left(setup: Setup, instance: dg.DagsterInstance) -> None:
    job = defs.resolve_implicit_global_asset_job_def()
    instance.add_dynamic_partitions("calibre_batches", [KEYS[0]])
    for asset in ("calibre/books", "mybookshelf2/books_from_calibre"):
        result = job.get_subset(asset_selection={dg.AssetKey.from_user_string(asset)}).execute_in_process(
            partition_key=KEYS[0], instance=instance
        )
        assert result.success
    assert setup.count("source") > 0


def test_a_missing_library_fails_at_once_and_registers_nothing(
    setup: Setup, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOKPIPE_CALIBRE_LIBRARY", str(setup.home / "nothing"))
    result = run(instance, KEYS[0])
    assert not result.success
    assert "BOOKPIPE_CALIBRE_LIBRARY" in failure_text(result)
    assert not any(event.is_step_up_for_retry for event in result.all_events)
    assert list(instance.get_dynamic_partitions("calibre_batches")) == []
    assert instance.get_run_by_id(result.run_id).tags["bookpipe/error"] == "config"  # type: ignore[union-attr]


def test_an_unset_setting_is_named(
    setup: Setup, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.delenv("BOOKPIPE_MYBOOKSHELF2_URL")
    result = run(instance, KEYS[0])
    assert not result.success
    assert "BOOKPIPE_MYBOOKSHELF2_URL is not set" in failure_text(result)


def test_a_wrong_password_is_told_but_never_shown(
    setup: Setup, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOKPIPE_MYBOOKSHELF2_URL", setup.url.replace(":ebooks@", ":wr0ng-s3cret@"))
    result = run(instance, KEYS[0])
    assert not result.success
    assert "BOOKPIPE_MYBOOKSHELF2_URL" in failure_text(result)
    logs = "".join(str(record) for record in instance.all_logs(result.run_id))
    assert "s3cret" not in logs
    assert "ebooks:ebooks" not in logs


def test_scratch_is_removed_and_what_is_kept_is_by_partition(setup: Setup, instance: dg.DagsterInstance) -> None:
    result = run(instance, KEYS[0])
    parquet = setup.home / "bookpipe" / "parquet"
    assert not (parquet / result.run_id).exists()
    assert sorted(str(p.relative_to(parquet)) for p in parquet.rglob("*.parquet")) == [
        f"calibre/books/{KEYS[0]}.parquet",
        f"mybookshelf2/books_from_calibre/{KEYS[0]}.parquet",
    ]


def test_status_adds_up(setup: Setup, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("calibre_batches", list(KEYS[:2]))
    run(instance, KEYS[0])
    found = all_statuses(instance, Settings.load())["calibre"].to_json()
    assert found["partitions"] == {"total": 2, "materialized": 1, "failed": 0, "running": 0, "missing": 1}
    rows = found["rows"]
    assert rows["read"] == rows["inserted"] + rows["existing"] + rows["rejected"] > 0
    assert sum(found["rejections"].values()) == rows["rejected"]
    assert found["rate_rows_per_s"] > 0
    assert found["eta_s"] > 0
