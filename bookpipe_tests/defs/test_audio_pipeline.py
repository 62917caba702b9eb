"""Audio files into a real archive, over a real socket, through real runs."""

import os
import shutil
import socket
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
import stamina

from bookpipe.definitions import defs
from bookpipe.defs.assets.archive_songs import KEY
from bookpipe.defs.ops import audio
from bookpipe.defs.partitions import audio_batches
from bookpipe.defs.progress import all_statuses
from bookpipe.defs.retries import plan_retries
from bookpipe.defs.sensors import discover_partitions
from bookpipe.demo.audio_files import SampleSong, make_mp3
from bookpipe.demo.music_archive import LISTENER, PASSWORD, Action, Fault, serve
from bookpipe.pipelines.configured import music_archive
from bookpipe.runtime.audio_batches import AudioBatches
from bookpipe.runtime.state import State
from bookpipe.runtime.stopping import stop_requested
from bookpipe.settings import Settings
from bookpipe.targets.music_archive.server import MusicArchive
from bookpipe_tests.defs.music_setups import (
    FILES,
    SONGS,
    Archiving,
    checks_of,
    error_kind,
    find,
    md5,
    metadata_of,
    retried,
    run,
    table_of,
)
from bookpipe_tests.defs.test_calibre_pipeline import failure_text
from bookpipe_tests.defs.test_sensors import keys_of, tick

CHECKS = dict.fromkeys(("counts_add_up", "songs_are_whole", "songs_are_processed"), True)
KEYS = ("songs-0000001-0000030", "songs-0000031-0000060")


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """In memory, which makes a run ten times as fast."""
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What waits before it tries again waits for moments only."""

    def quick(settings: Settings) -> MusicArchive:
        return replace(music_archive(settings), backoff=0.001, settle=0.1)

    monkeypatch.setattr(audio, "music_archive", quick)
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda _policy, _attempt: 0.0)
    with stamina.set_testing(True, attempts=2):
        yield


def load(instance: dg.DagsterInstance, key: str) -> dg.ExecuteInProcessResult:
    return run(instance, "audio", key)


def registered(instance: dg.DagsterInstance) -> list[str]:
    return list(instance.get_dynamic_partitions("audio_batches"))


def paths_of(key: str) -> list[bytes]:
    return AudioBatches(State(Settings.load().state_path)).paths(key)


def put_song(folder: Path, name: str, title: str = "") -> str:
    """A file whose content nobody else has; its MD5."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(make_mp3(SampleSong(title or name, "Somebody New", seconds=0.2)))
    return md5(folder / name)


def few(setup: Archiving, count: int) -> list[str]:
    """Only so many songs in the folder; their MD5s, sorted."""
    shutil.rmtree(setup.folder)
    return sorted(put_song(setup.folder, f"{n:02}.mp3") for n in range(count))


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "multipart"])
def test_a_folder_becomes_songs_and_a_second_load_sends_nothing(
    archiving: Archiving, instance: dg.DagsterInstance, direct: bool
) -> None:
    archiving.archive.state.direct_upload = direct
    assert find(instance, "audio") == list(KEYS)
    facts = archiving.facts
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for key in KEYS:
        result = load(instance, key)
        assert result.success, failure_text(result)
        assert checks_of(result) == CHECKS
        said = metadata_of(result)
        assert said["strategy"] == ("direct" if direct else "multipart")
        assert said["read"] == SONGS == said["inserted"] + said["existing"] + said["rejected"]
        counts.update({name: said[name] for name in ("inserted", "existing", "rejected", "sent_bytes")})
        reasons.update(dict(table_of(result, "rejections")))
    assert (counts["inserted"], counts["existing"]) == (facts.songs, facts.aliases)
    assert reasons == {"refused": facts.refused, "empty_file": facts.empty}
    there = archiving.contents()
    sources = {md5(archiving.folder / os.fsdecode(path)) for path in facts.paths}
    assert len(there) == len(set(there)) == facts.songs
    assert set(there) < sources
    taken = sum(archiving.archive.bytes_path(song).stat().st_size for song in archiving.archive.songs())
    assert counts["sent_bytes"] >= taken

    archiving.archive.counters.reset()
    for key in KEYS:
        result = load(instance, key)
        assert checks_of(result) == CHECKS
        said = metadata_of(result)
        assert (said["inserted"], said["sent_bytes"]) == (0, 0)
        assert said["strategy"] == "nothing had to be sent"
    assert set(archiving.asked()) == {"login", "audio_file"}  # to read back what is there
    assert archiving.archive.counters.snapshot()["received_bytes"] == {}
    assert archiving.contents() == there


def test_a_load_says_how_it_went_and_lists_what_was_refused(archiving: Archiving, instance: dg.DagsterInstance) -> None:
    find(instance, "audio")
    result = load(instance, KEYS[1])
    said = metadata_of(result)
    assert {"seconds_hash_songs", "seconds_upload", "mb_per_s", "uploads_at_a_time", "rows_per_s"} <= set(said)
    assert {"thread_seconds_put", "thread_seconds_commit"} & set(said) or "thread_seconds_send" in said
    assert said["processing_failed"] == 0
    rows = list(State(Settings.load().state_path).list_rejections("audio", KEYS[1]))
    assert len(rows) == said["rejected"] > 0
    assert Counter(reason for *_, reason, _ in rows) == dict(table_of(result, "rejections"))
    [detail] = {detail for *_, reason, detail in rows if reason == "refused"}
    assert "must be an audio file" in detail  # the archive's own words
    parquet = archiving.home / "bookpipe" / "parquet"
    kept = [str(path.relative_to(parquet)) for path in parquet.rglob("*") if path.is_file()]
    assert kept == [f"archive/songs/{KEYS[1]}.parquet"]


def test_batches_are_fixed_when_their_files_are_found_and_new_files_make_new_ones(
    archiving: Archiving, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(instance, "audio") == list(KEYS)
    before = {key: paths_of(key) for key in KEYS}
    assert [path for key in KEYS for path in before[key]] == list(archiving.facts.paths)
    monkeypatch.setenv("BOOKPIPE_BATCH_SIZE", "7")
    assert find(instance, "audio") == list(KEYS)
    gone = before[KEYS[0]][0]
    (archiving.folder / os.fsdecode(gone)).unlink()
    new = sorted(put_song(archiving.folder, f"0 new/{n}.mp3") for n in range(9))
    found = find(instance, "audio")
    assert found == [*KEYS, "songs-0000061-0000067", "songs-0000068-0000069"]
    assert {key: paths_of(key) for key in KEYS} == before
    for key in found[2:]:
        assert checks_of(load(instance, key)) == CHECKS
    assert archiving.contents() == new
    result = load(instance, KEYS[0])
    assert checks_of(result) == CHECKS
    assert dict(table_of(result, "rejections"))["missing_file"] == 1


@pytest.mark.parametrize("key", ["nope", "../x", "songs-0000001-0000029", "songs-0000061-0000090"])
def test_an_unknown_batch_is_refused_before_anything_happens(
    archiving: Archiving, instance: dg.DagsterInstance, key: str
) -> None:
    find(instance, "audio")
    result = load(instance, key)
    assert not result.success
    assert f"There is no batch '{key}'" in failure_text(result)
    assert not retried(result)
    assert error_kind(instance, result) == "config"
    assert archiving.asked() == {}
    assert registered(instance) == []


def test_a_batch_that_was_not_found_yet_is_refused_with_what_to_do(
    archiving: Archiving, instance: dg.DagsterInstance
) -> None:
    result = load(instance, KEYS[0])
    assert not result.success
    assert "bookpipe discover" in failure_text(result)


def test_a_batch_that_is_not_registered_registers_itself(archiving: Archiving, instance: dg.DagsterInstance) -> None:
    find(instance, "audio")
    assert registered(instance) == []
    assert load(instance, KEYS[1]).success
    assert registered(instance) == [KEYS[1]]
    assert instance.get_materialized_partitions(KEY) == {KEYS[1]}


def test_the_asset_can_be_launched_alone(archiving: Archiving, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("audio_batches", find(instance, "audio"))
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={KEY})
    assert job.execute_in_process(partition_key=KEYS[1], instance=instance).success
    assert archiving.contents()


def test_the_sensor_asks_for_each_batch_once_and_for_those_of_new_files(
    archiving: Archiving, kept_instance: dg.DagsterInstance
) -> None:
    few(archiving, 3)
    first = tick(discover_partitions, kept_instance)
    assert keys_of(first) == registered(kept_instance) == ["songs-0000001-0000003"]
    assert {request.job_name for request in first.run_requests or ()} == {"load_audio"}
    assert keys_of(tick(discover_partitions, kept_instance, first.cursor)) == []
    assert load(kept_instance, "songs-0000001-0000003").success
    assert keys_of(tick(discover_partitions, kept_instance)) == []
    put_song(archiving.folder, "more.mp3")
    assert keys_of(tick(discover_partitions, kept_instance, first.cursor)) == ["songs-0000004-0000004"]
    assert len(registered(kept_instance)) == 2


def test_an_archive_that_is_down_fails_the_batch_and_a_later_run_mends_it(
    archiving: Archiving, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("BOOKPIPE_ARCHIVE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        contents = few(archiving, 4)
        [key] = find(instance, "audio")
        result = load(instance, key)
        assert not result.success
        assert "BOOKPIPE_ARCHIVE_URL" in failure_text(result)
        assert retried(result)
        assert error_kind(instance, result) == "transient"
        assert plan_retries(instance, KEY, audio_batches, 1e12).due == [(key, 2, result.run_id)]
        closed.close()
        with serve(archiving.archive, port=int(Settings.load().archive_url.rpartition(":")[2])):  # type: ignore[union-attr]
            assert checks_of(load(instance, key)) == CHECKS
    assert archiving.contents() == contents


def test_a_server_in_trouble_is_tried_again_within_the_run(
    archiving: Archiving, instance: dg.DagsterInstance, impatient: None
) -> None:
    contents = few(archiving, 6)
    [key] = find(instance, "audio")
    archiving.archive.faults.add(
        Fault("bulk_upload", Action.ANSWER, nth=2, status=503), Fault("bulk_upload", Action.CUT_BODY, nth=4)
    )
    result = load(instance, key)
    assert checks_of(result) == CHECKS
    assert not retried(result)
    assert metadata_of(result)["inserted"] == 6
    assert archiving.contents() == contents


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"BOOKPIPE_ARCHIVE_PASSWORD": "wr0ng-s3cret"}, "BOOKPIPE_ARCHIVE_PASSWORD"),
        ({"BOOKPIPE_ARCHIVE_EMAIL": LISTENER.email}, "role"),
        ({"BOOKPIPE_ARCHIVE_PASSWORD": ""}, "BOOKPIPE_ARCHIVE_PASSWORD is not set"),
        ({"BOOKPIPE_ARCHIVE_EMAIL": ""}, "BOOKPIPE_ARCHIVE_EMAIL is not set"),
        ({"BOOKPIPE_ARCHIVE_URL": "http://mo:wr0ng-s3cret@127.0.0.1"}, "BOOKPIPE_ARCHIVE_URL"),
    ],
    ids=["wrong password", "wrong role", "no password", "no email", "password in the address"],
)
def test_who_may_not_upload_is_told_at_once_and_no_secret_is_shown(
    archiving: Archiving,
    kept_instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    text: str,
) -> None:
    few(archiving, 3)
    [key] = find(kept_instance, "audio")
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    result = load(kept_instance, key)
    assert not result.success
    assert text in failure_text(result)
    assert not retried(result)
    assert error_kind(kept_instance, result) == "config"
    assert archiving.archive.songs() == []
    assert shown(archiving.home, "s3cret", PASSWORD) == []


def shown(home: Path, *secrets: str) -> list[Path]:
    """Files of Dagster's home, which has every event, log, configuration and tag, that hold one of these texts."""
    texts = [secret.encode() for secret in secrets]
    found = [path for path in home.rglob("*") if path.is_file()]
    assert len(found) > 5
    return [path for path in found if any(text in path.read_bytes() for text in texts)]


def test_the_password_of_a_good_run_is_nowhere(archiving: Archiving, kept_instance: dg.DagsterInstance) -> None:
    few(archiving, 3)
    [key] = find(kept_instance, "audio")
    result = load(kept_instance, key)
    assert result.success
    assert shown(archiving.home, PASSWORD) == []
    assert shown(archiving.home, "songs-0000001-0000003")  # what is there is found


def test_what_the_archive_could_not_process_shows_in_the_check(
    archiving: Archiving, instance: dg.DagsterInstance
) -> None:
    few(archiving, 4)
    [key] = find(instance, "audio")
    archiving.archive.faults.add(Fault("bulk_upload", Action.PROCESSING_FAILS, nth=2))
    for outcome in ("inserted", "existing"):
        result = load(instance, key)
        assert result.success
        assert checks_of(result) == {**CHECKS, "songs_are_processed": False}
        [check] = [c for c in result.get_asset_check_evaluations() if c.check_name == "songs_are_processed"]
        assert check.severity == dg.AssetCheckSeverity.WARN
        assert check.metadata["failed"].value == metadata_of(result)["processing_failed"] == 1
        assert ".mp3: " in str(check.metadata["examples"].value)
        assert metadata_of(result)[outcome] == 4


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ("UPDATE blobs SET checksum = 'AAAAAAAAAAAAAAAAAAAAAA==' WHERE id = 2", "different"),
        ("DELETE FROM songs WHERE number = 2", "gone"),
    ],
)
def test_a_song_that_is_not_what_was_sent_fails_the_check(
    archiving: Archiving, instance: dg.DagsterInstance, tmp_path: Path, change: str, number: str
) -> None:
    few(archiving, 4)
    [key] = find(instance, "audio")
    assert checks_of(load(instance, key)) == CHECKS
    with closing(sqlite3.connect(tmp_path / "archive" / "archive.sqlite3")) as tables, tables:
        tables.execute(change)
    result = load(instance, key)
    assert checks_of(result) == {**CHECKS, "songs_are_whole": False}
    [check] = [c for c in result.get_asset_check_evaluations() if c.check_name == "songs_are_whole"]
    assert (check.metadata["checked"].value, check.metadata[number].value) == (4, 1)
    assert check.severity == dg.AssetCheckSeverity.ERROR


@contextmanager
def stopped_while_held(setup: Archiving, endpoint: str, number: int) -> Iterator[None]:
    """A stop is requested while the archive holds the request of that number."""
    setup.archive.faults.add(Fault(endpoint, Action.HOLD, nth=number))
    ended = threading.Event()

    def stop() -> None:
        while setup.asked().get(endpoint, 0) < number and not ended.wait(0.01):
            pass
        stop_requested.set()
        setup.archive.faults.release()

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        stop_requested.clear()


def test_a_stop_ends_the_run_in_good_order_and_the_next_one_goes_on(
    archiving: Archiving, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = few(archiving, 9)
    monkeypatch.setenv("BOOKPIPE_ARCHIVE_CONCURRENCY", "1")
    [key] = find(instance, "audio")
    with stopped_while_held(archiving, "bulk_upload", 4):
        result = load(instance, key)
    assert not result.success
    assert "Stopped on request. 4 songs were uploaded." in failure_text(result)
    assert not retried(result)
    assert error_kind(instance, result) == "transient"
    assert len(archiving.contents()) == 4  # the one that was held is finished
    result = load(instance, key)
    assert checks_of(result) == CHECKS
    assert (metadata_of(result)["inserted"], metadata_of(result)["existing"]) == (5, 4)
    assert archiving.contents() == contents


def test_a_stop_before_anything_was_sent_sends_nothing(archiving: Archiving, instance: dg.DagsterInstance) -> None:
    few(archiving, 3)
    [key] = find(instance, "audio")
    stop_requested.set()
    try:
        result = load(instance, key)
    finally:
        stop_requested.clear()
    assert not result.success
    assert "Stopped on request" in failure_text(result)
    assert not retried(result)
    assert archiving.archive.songs() == []
    assert load(instance, key).success


def test_a_file_that_changed_since_is_another_song(archiving: Archiving, instance: dg.DagsterInstance) -> None:
    before = few(archiving, 3)
    [key] = find(instance, "audio")
    assert load(instance, key).success
    changed = put_song(archiving.folder, "00.mp3", "A title that is much longer than it was")
    assert metadata_of(load(instance, key))["inserted"] == 1
    assert archiving.contents() == sorted([*before, changed])


def test_files_that_are_likely_refused_are_not_sent_when_that_is_wanted(
    archiving: Archiving, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOKPIPE_ARCHIVE_SKIP_LIKELY_REFUSED", "true")
    find(instance, "audio")
    reasons: Counter[str] = Counter()
    for key in KEYS:
        result = load(instance, key)
        assert checks_of(result) == CHECKS
        reasons.update(dict(table_of(result, "rejections")))
    assert reasons == {"likely_refused": archiving.facts.refused, "empty_file": archiving.facts.empty}
    assert not any(status.endswith(" 422") and n > 1 for status, n in statuses(archiving).items())


def statuses(setup: Archiving) -> dict[str, int]:
    return dict(setup.archive.counters.snapshot()["statuses"])


def test_status_adds_up(archiving: Archiving, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("audio_batches", find(instance, "audio"))
    assert load(instance, KEYS[0]).success
    found = all_statuses(instance, Settings.load())
    assert set(found) == {"audio"}
    status = found["audio"].to_json()
    assert status["partitions"] == {"total": 2, "materialized": 1, "failed": 0, "running": 0, "missing": 1}
    assert status["rows"]["read"] == SONGS == FILES // 2
    assert sum(status["rejections"].values()) == status["rows"]["rejected"]


def test_a_folder_that_is_gone_registers_nothing_and_says_why(
    archiving: Archiving, kept_instance: dg.DagsterInstance
) -> None:
    shutil.rmtree(archiving.folder)
    found = tick(discover_partitions, kept_instance)
    assert keys_of(found) == registered(kept_instance) == []
    assert str(archiving.folder) in str(found.skip_message)
