"""Batches of audio files never change, and their MD5s come back."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.runtime.audio_batches import AudioBatches, Md5Cache
from bookpipe.runtime.state import State


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state.sqlite")


@pytest.fixture
def batches(state: State) -> AudioBatches:
    return AudioBatches(state)


def all_of(batches: AudioBatches) -> dict[str, list[bytes]]:
    return {key: batches.paths(key) for key in batches.keys()}  # noqa: SIM118


def test_files_make_batches_in_the_order_of_their_bytes(batches: AudioBatches) -> None:
    assert batches.plan_batches([b"c", b"a\xff", b"b", b"a/b", b"d"], 2) == [
        "songs-0000001-0000002", "songs-0000003-0000004", "songs-0000005-0000005",
    ]  # fmt: skip
    assert all_of(batches) == {
        "songs-0000001-0000002": [b"a/b", b"a\xff"],
        "songs-0000003-0000004": [b"b", b"c"],
        "songs-0000005-0000005": [b"d"],
    }


def test_new_files_make_new_batches_and_a_batch_that_is_not_full_stays(batches: AudioBatches) -> None:
    batches.plan_batches([b"b", b"d", b"f"], 2)
    before = all_of(batches)
    assert batches.plan_batches([b"a", b"b", b"c", b"d", b"e", b"f"], 2) == [
        "songs-0000004-0000005", "songs-0000006-0000006",
    ]  # fmt: skip
    after = all_of(batches)
    assert {key: after[key] for key in before} == before
    assert after["songs-0000004-0000005"] == [b"a", b"c"]


def test_files_that_are_gone_stay_in_their_batch(batches: AudioBatches) -> None:
    batches.plan_batches([b"a", b"b"], 10)
    assert batches.plan_batches([b"b"], 10) == []
    assert all_of(batches) == {"songs-0000001-0000002": [b"a", b"b"]}


def test_another_size_is_for_new_files(batches: AudioBatches) -> None:
    batches.plan_batches([b"a", b"b", b"c"], 3)
    assert batches.plan_batches([b"d", b"e"], 1) == ["songs-0000004-0000004", "songs-0000005-0000005"]


@given(st.lists(st.lists(st.binary(min_size=1, max_size=3), max_size=30), max_size=5), st.integers(1, 7))
def test_every_path_is_in_one_batch_for_ever(
    tmp_path_factory: pytest.TempPathFactory, walks: list[list[bytes]], size: int
) -> None:
    batches = AudioBatches(State(tmp_path_factory.mktemp("state") / "state.sqlite"))
    known: dict[str, list[bytes]] = {}
    for walk in walks:
        new = batches.plan_batches(iter(walk), size)
        now = all_of(batches)
        assert list(now) == [*known, *new]
        assert {key: now[key] for key in known} == known
        known = now
    paths = [path for batch in known.values() for path in batch]
    assert len(paths) == len(set(paths))
    assert set(paths) == {path for walk in walks for path in walk}
    assert all(0 < len(batch) <= size for batch in known.values())


def test_a_walk_that_breaks_off_makes_no_batch(batches: AudioBatches) -> None:
    def walk() -> Iterator[bytes]:
        yield from (b"%d" % n for n in range(25_000))
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        batches.plan_batches(walk(), 10)
    assert batches.keys() == []
    assert batches.plan_batches([b"a"], 10) == ["songs-0000001-0000001"]
    assert all_of(batches) == {"songs-0000001-0000001": [b"a"]}


def test_others_write_while_a_folder_is_walked(batches: AudioBatches, state: State) -> None:
    def walk() -> Iterator[bytes]:
        for n in range(20_000):
            if n == 15_000:
                other = threading.Thread(target=State(state.path).save_digests, args=("a", []))
                other.start()
                other.join()
            yield b"%06d" % n

    assert len(batches.plan_batches(walk(), 10_000)) == 2


def test_two_who_plan_at_once_put_every_file_into_one_batch(state: State) -> None:
    paths = [b"%04d" % n for n in range(1_000)]
    threads = [threading.Thread(target=AudioBatches(state).plan_batches, args=(iter(paths), 100)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path for batch in all_of(AudioBatches(state)).values() for path in batch) == paths
    assert len(AudioBatches(state).keys()) == 10


def test_an_unknown_batch_has_no_paths(batches: AudioBatches) -> None:
    assert batches.paths("songs-0000001-0000010") == []


def test_md5s_come_back_by_scope(state: State) -> None:
    cache = Md5Cache(state)
    cache.save("a", [(b"x\xff", (1, 2, "0" * 32)), (b"y", (3, -4, "1" * 32))])
    cache.save("a", [(b"y", (5, 6, "2" * 32)), (b"z", (1, 2**70, "3" * 32))])
    assert Md5Cache(State(state.path)).load("a") == {b"x\xff": (1, 2, "0" * 32), b"y": (5, 6, "2" * 32)}
    assert cache.load("b") == {}
