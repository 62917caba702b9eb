"""What the sensors ask for, evaluated on a real instance with real runs."""

import json
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from bookpipe.definitions import defs
from bookpipe.defs import retries, runs
from bookpipe.defs.assets.books_from_calibre import KEY
from bookpipe.defs.partitions import books_key, calibre_batches
from bookpipe.defs.retries import MAX_ATTEMPTS, backoff_s, plan_retries
from bookpipe.defs.sensors import discover_partitions, retry_failed_partitions
from bookpipe.demo.calibre_library import CalibreWriter, SampleBook
from bookpipe.demo.ebook_files import MAKERS, BookText
from bookpipe_tests.defs.conftest import BATCH_SIZE, Setup
from bookpipe_tests.defs.test_calibre_pipeline import KEYS, run

HOUR = 3600.0


def tick(sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None = None) -> SensorExecutionData:
    # Only with a reference does Dagster find the dynamic partitions of the requests.
    context = dg.build_sensor_context(instance_ref=instance.get_ref(), definitions=defs, cursor=cursor)
    found = sensor.evaluate_tick(context)
    for request in found.dynamic_partitions_requests or ():
        instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
    return found


def add_book(library: Path, title: str) -> None:
    text = BookText(title, ("Ann Author",), "en", None, None, (), 2001, f"All about {title}.")
    with CalibreWriter(library) as writer:
        writer.add(SampleBook(id=None, title=title, authors=("Ann Author",), formats=(("EPUB", MAKERS["epub"](text)),)))


@pytest.fixture
def growing(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of one full and one begun batch, which a test may add to."""
    library = tmp_path / "growing"
    for n in range(BATCH_SIZE + 2):
        add_book(library, f"Book {n}")
    monkeypatch.setenv("BOOKPIPE_CALIBRE_LIBRARY", str(library))
    return library


def keys_of(found: SensorExecutionData, job: str = "load_") -> list[str]:
    """The partitions asked for, of the jobs whose names begin so: covers are asked for as soon as books are there."""
    requests = [request for request in found.run_requests or () if str(request.job_name).startswith(job)]
    return sorted(str(request.partition_key) for request in requests)


def test_new_batches_are_registered_and_asked_for_once(growing: Path, instance: dg.DagsterInstance) -> None:
    first = tick(discover_partitions, instance)
    assert keys_of(first) == [books_key(1, 50), books_key(51, 100)]
    assert {request.job_name for request in first.run_requests or ()} == {"load_calibre"}
    assert list(instance.get_dynamic_partitions("calibre_batches")) == [books_key(1, 50), books_key(51, 100)]
    assert keys_of(tick(discover_partitions, instance, first.cursor)) == []


def test_a_batch_that_grew_is_asked_for_again_and_others_are_not(growing: Path, instance: dg.DagsterInstance) -> None:
    first = tick(discover_partitions, instance)
    for key in keys_of(first):
        assert run(instance, key).success
    assert keys_of(tick(discover_partitions, instance, first.cursor)) == []
    add_book(growing, "One more")
    second = tick(discover_partitions, instance, first.cursor)
    assert keys_of(second) == [books_key(51, 100)]
    assert {r.run_key for r in first.run_requests or ()}.isdisjoint({r.run_key for r in second.run_requests or ()})


def test_what_was_loaded_by_hand_is_not_asked_for(growing: Path, instance: dg.DagsterInstance) -> None:
    assert run(instance, books_key(1, 50)).success
    assert keys_of(tick(discover_partitions, instance)) == [books_key(51, 100)]


def test_a_broken_library_registers_nothing_and_says_why(
    growing: Path, instance: dg.DagsterInstance
) -> None:  # fmt: skip
    (growing / "metadata.db").write_bytes(b"this is no database" * 100)
    found = tick(discover_partitions, instance)
    assert keys_of(found) == []
    assert "metadata.db is corrupt" in str(found.skip_message)
    assert list(instance.get_dynamic_partitions("calibre_batches")) == []


def fail(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, key: str = KEYS[0]) -> str:
    """A run of the partition that fails for want of a setting, which a person can mend."""
    with monkeypatch.context() as patch:
        patch.delenv("BOOKPIPE_MYBOOKSHELF2_URL")
        result = run(instance, key)
    assert not result.success
    return result.run_id


def test_a_failed_partition_waits_longer_each_time_and_is_given_up_in_the_end(
    setup: Setup, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []
    for attempt in range(1, MAX_ATTEMPTS + 1):
        run_id = fail(instance, monkeypatch)
        now = time.time()
        plan = plan_retries(instance, KEY, calibre_batches, now)
        if attempt < MAX_ATTEMPTS:
            assert plan.due == []
            waits.append(plan.waiting[KEYS[0]] - now)
            later = plan_retries(instance, KEY, calibre_batches, now + HOUR)
            assert later.due == [(KEYS[0], attempt + 1, run_id)]
        else:
            assert plan.exhausted == [KEYS[0]]
            assert plan_retries(instance, KEY, calibre_batches, now + 24 * HOUR).due == []
    assert waits == sorted(waits)
    assert waits[-1] > 8 * waits[0]


def test_a_success_in_between_starts_the_count_anew(
    setup: Setup, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        fail(instance, monkeypatch)
    assert run(instance, KEYS[0]).success
    assert plan_retries(instance, KEY, calibre_batches, time.time() + HOUR).due == []
    run_id = fail(instance, monkeypatch)
    assert plan_retries(instance, KEY, calibre_batches, time.time() + HOUR).due == [(KEYS[0], 2, run_id)]


def test_a_terminal_error_never_comes_back(
    setup: Setup, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "metadata.db").write_bytes(b"this is no database" * 100)
    instance.add_dynamic_partitions("calibre_batches", [KEYS[0]])
    with monkeypatch.context() as patch:
        patch.setenv("BOOKPIPE_CALIBRE_LIBRARY", str(broken))
        result = run(instance, KEYS[0])
    assert not result.success
    assert not any(event.is_step_up_for_retry for event in result.all_events)
    plan = plan_retries(instance, KEY, calibre_batches, time.time() + 24 * HOUR)
    assert plan.terminal == [KEYS[0]]
    assert plan.due == []


def test_the_sensor_asks_once_for_each_failed_run_and_reports(
    setup: Setup, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = fail(instance, monkeypatch)
    waiting = tick(retry_failed_partitions, instance)
    assert keys_of(waiting) == []
    assert "1 waiting" in str(waiting.skip_message)
    monkeypatch.setattr(retries, "BASE_S", 0.0)
    due = tick(retry_failed_partitions, instance)
    request = (due.run_requests or [])[0]
    assert len(due.run_requests or ()) == 1
    assert request.run_key == f"calibre|{KEYS[0]}|{run_id}"
    assert request.tags["bookpipe/attempt"] == "2"
    report = json.loads(due.cursor or "{}")
    assert report["calibre"]["due"] == 1


def test_waits_double_with_jitter_and_stay_under_the_cap() -> None:
    spread = {backoff_s(1, f"run {n}") for n in range(50)}
    assert len(spread) > 40
    assert all(24 <= s <= 36 for s in spread)
    assert all(2880 <= backoff_s(20, f"run {n}") <= 4320 for n in range(50))
    assert backoff_s(3, "same") == backoff_s(3, "same")


def test_a_run_whose_process_is_gone_is_failed_and_a_living_one_is_not(
    setup: Setup, instance: dg.DagsterInstance
) -> None:
    job = defs.resolve_job_def("load_calibre")
    instance.add_dynamic_partitions("calibre_batches", [KEYS[0]])
    made = {}
    for name, tag in (("living", runs.process_tag()), ("dead", runs.process_tag()[:-1] + "x0"), ("unclaimed", "")):
        tags = {"dagster/partition": KEYS[0], **({runs.PROCESS_TAG: tag} if tag else {})}
        made[name] = instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED).run_id
    assert runs.fail_dead_runs(instance) == [made["dead"]]
    status = {name: instance.get_run_by_id(run_id).status for name, run_id in made.items()}  # type: ignore[union-attr]
    assert status["dead"] == dg.DagsterRunStatus.FAILURE
    assert status["living"] == status["unclaimed"] == dg.DagsterRunStatus.STARTED
