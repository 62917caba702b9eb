"""A load of a shard that is repeated, killed, overtaken or surprised ends as one clean run."""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bookpipe.model.counts import LoadCounts
from bookpipe.model.errors import BookpipeError, ConfigError, TransientError
from bookpipe.model.rejections import Reason
from bookpipe.pipelines import tars
from bookpipe.pipelines.tars import DamagedShardError, Limits
from bookpipe.runtime import stopping
from bookpipe.runtime.state import State
from bookpipe.sources.tar_shards import Shard
from bookpipe.targets.mybookshelf2.undo import undo_partition
from bookpipe_tests.pipelines.shards import SMALL, Heard, Member, book, files_of, load, make_shard, numbered
from bookpipe_tests.targets.shelf import Shelf, all_at_once

TWENTY = [*map(book, range(18)), b"", book(3)]  # 18 books, one nothing, one again
CLEAN = LoadCounts(18, 1, {"empty_file": 1})


class StoppedError(Exception):
    """Raised in the middle of a load."""


class Stopping:
    """A progress that ends the load behind so many chunks."""

    def __init__(self, chunks: int) -> None:
        self.left = chunks

    def advance(self, step: str, done: int, total: int | None) -> None:
        self.left -= step == "members"
        if self.left == 0:
            raise StoppedError


def assert_same(shelf: Shelf, clean: Shelf) -> None:
    assert shelf.meaning() == clean.meaning()
    assert shelf.tree() == clean.tree()
    assert shelf.placements() == 0


def process(shelf: Shelf, state: Path, shard: Shard, limits: Limits = SMALL) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bookpipe_tests.pipelines.load_shard_process", shelf.url, str(shelf.data_dir),
               str(state), shard.key, str(shard.path), str(limits.members), str(limits.bytes)]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


# Again


def test_a_finished_shard_is_answered_from_the_journal(shelf: Shelf, tmp_path: Path) -> None:
    shard, state = make_shard(tmp_path / "1.tar", numbered(TWENTY)), State(tmp_path / "state.db")
    first = load(shelf, shard, state=state)
    assert first.counts == CLEAN
    rejected = list(state.list_rejections())
    before = shelf.exactly()
    again = load(shelf, shard, state=state)
    assert (again.from_journal, again.members, again.bytes) == (True, 0, 0)
    assert again.counts == LoadCounts(0, 19, {"empty_file": 1})
    assert list(state.list_rejections()) == rejected
    assert len(rejected) == 1
    assert shelf.exactly() == before


@pytest.mark.parametrize("name", ["1.tar", "1.tar.gz"])
@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_a_stopped_load_goes_on_where_it_was(
    shelf: Shelf, another_shelf: Shelf, tmp_path: Path, chunks: int, name: str
) -> None:
    shard, state = make_shard(tmp_path / name, numbered(TWENTY)), State(tmp_path / "state.db")
    with pytest.raises(StoppedError):
        load(shelf, shard, progress=Stopping(chunks), state=state)
    heard = Heard()
    rest = load(shelf, shard, state=state, progress=heard)
    assert rest.members == 20 - 5 * chunks
    assert [done for done, _ in heard.steps["members"]] == list(range(5 * chunks + 5, 21, 5))
    assert rest.counts == CLEAN
    assert rest.resumed_at > 0
    assert [reason for *_, reason, _ in state.list_rejections()] == [Reason.EMPTY_FILE.value]
    load(another_shelf, shard)
    assert_same(shelf, another_shelf)


def test_a_load_that_is_asked_to_stop_ends_behind_its_chunk(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested = threading.Event()
    monkeypatch.setattr(stopping, "stop_requested", requested)
    shard = make_shard(tmp_path / "1.tar", numbered(TWENTY))

    class Asking:
        def advance(self, step: str, done: int, total: int | None) -> None:
            requested.set()

    with pytest.raises(stopping.StoppedError, match="5 members"):
        load(shelf, shard, progress=Asking())
    assert shelf.one("SELECT count(*) FROM source") == 5
    requested.clear()
    rest = load(shelf, shard, limits=Limits())
    assert (rest.members, rest.counts) == (15, CLEAN)
    assert load(shelf, make_shard(tmp_path / "2.tar", [("1", book(50))]), progress=Asking()).counts.inserted == 1


def test_other_chunks_than_before_do_not_matter(shelf: Shelf, another_shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered(TWENTY))
    with pytest.raises(StoppedError):
        load(shelf, shard, progress=Stopping(1), limits=Limits(members=7))
    assert load(shelf, shard, limits=Limits(members=4)).counts == CLEAN
    load(another_shelf, shard)
    assert_same(shelf, another_shelf)


def test_a_touched_shard_is_read_again_and_everything_found(shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered(TWENTY))
    load(shelf, shard)
    before = shelf.exactly()
    os.utime(shard.path, (1, 1))
    again = load(shelf, shard)
    assert (again.from_journal, again.members) == (False, 20)
    assert again.counts == LoadCounts(0, 19, {"empty_file": 1})
    assert shelf.exactly() == before


def test_another_shard_of_the_same_name_touches_nothing_of_the_first(shelf: Shelf, tmp_path: Path) -> None:
    """Its books stand at the very offsets of the first one's."""
    shard = make_shard(tmp_path / "1.tar", numbered(map(book, range(10, 20))))
    load(shelf, shard)
    before = {table: set(rows) for table, rows in shelf.exactly().items()}
    files = files_of(shelf)
    assert load(shelf, make_shard(shard.path, numbered(map(book, range(20, 30))))).counts.inserted == 10
    assert {table: rows & before[table] for table, rows in _sets(shelf).items()} == before
    assert files_of(shelf).items() >= files.items()
    # and the first one again
    assert load(shelf, make_shard(shard.path, numbered(map(book, range(10, 20))))).counts == LoadCounts(existing=10)


def _sets(shelf: Shelf) -> dict[str, set[str]]:
    return {table: set(rows) for table, rows in shelf.exactly().items()}


def test_what_the_application_deleted_comes_back(shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered(TWENTY))
    load(shelf, shard)
    ebook, location = shelf.sql("SELECT ebook_id, location FROM source ORDER BY id OFFSET 7 LIMIT 1")[0]
    shelf.sql("DELETE FROM source WHERE ebook_id = %s", ebook)
    shelf.sql("DELETE FROM ebook WHERE id = %s", ebook)
    (shelf.books / location).unlink()
    assert load(shelf, shard).counts == LoadCounts(1, 18, {"empty_file": 1})
    assert shelf.one("SELECT count(*) FROM ebook") == 18
    assert sorted(files_of(shelf).values()) == sorted(map(book, range(18)))
    assert load(shelf, shard).from_journal


def test_a_file_that_is_gone_comes_back(shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered(TWENTY))
    load(shelf, shard)
    before, files = shelf.exactly(), files_of(shelf)
    (shelf.books / sorted(files)[4]).unlink()
    again = load(shelf, shard)
    assert (again.refreshed, again.counts) == (1, LoadCounts(0, 19, {"empty_file": 1}))
    assert files_of(shelf) == files
    assert shelf.exactly() == before
    assert load(shelf, shard).from_journal


def test_what_the_user_put_in_a_file_s_place_is_left_alone(shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered(TWENTY))
    load(shelf, shard)
    mine = shelf.books / sorted(files_of(shelf))[4]
    mine.write_bytes(b"mine")
    os.utime(shard.path, (1, 1))
    load(shelf, shard)
    assert mine.read_bytes() == b"mine"
    assert load(shelf, shard).from_journal


def test_an_undone_shard_leaves_nothing_and_is_loaded_anew(shelf: Shelf, another_shelf: Shelf, tmp_path: Path) -> None:
    load(shelf, make_shard(tmp_path / "0.tar", numbered(map(book, range(15, 25)))))
    before, files = shelf.meaning(), files_of(shelf)
    shard = make_shard(tmp_path / "1.tar", numbered(TWENTY))
    first = load(shelf, shard).counts
    undo_partition(shelf.target, "tars", "1")
    assert (shelf.meaning(), files_of(shelf)) == (before, files)
    with pytest.raises(StoppedError):
        load(shelf, shard, progress=Stopping(2))
    undo_partition(shelf.target, "tars", "1")
    assert (shelf.meaning(), files_of(shelf)) == (before, files)
    again = load(shelf, shard)
    assert (again.members, again.counts) == (20, first)


# Damage


@pytest.mark.parametrize(
    ("cut", "problem"),
    [
        (lambda size: size // 2, r"missing_end at byte \d+"),
        (lambda size: size // 2 - 1000, r"truncated_member in bytes \d+"),
    ],
)
def test_a_truncated_shard_is_loaded_as_far_as_it_goes(
    shelf: Shelf, tmp_path: Path, cut: Callable[[int], int], problem: str
) -> None:
    whole = make_shard(tmp_path / "whole.tar", numbered(map(book, range(20)))).path.stat().st_size
    shard = make_shard(tmp_path / "1.tar", numbered(map(book, range(20))), cut=cut(whole))
    with pytest.raises(DamagedShardError, match=problem) as first:
        load(shelf, shard)
    counts = first.value.result.counts
    assert 0 < counts.inserted < 20
    assert shelf.one("SELECT count(*) FROM source") == counts.inserted
    with pytest.raises(DamagedShardError) as again:
        load(shelf, shard)
    assert again.value.result.from_journal
    assert str(again.value) == str(first.value)
    complete = load(shelf, make_shard(shard.path, numbered(map(book, range(20)))))
    assert complete.counts == LoadCounts(20 - counts.inserted, counts.inserted)


def test_damage_in_the_middle_costs_what_it_hits(shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered(map(book, range(20))))
    data = bytearray(shard.path.read_bytes())
    at = data.index(b"16470009")
    data[at : at + 512] = b"\xff" * 512
    shard.path.write_bytes(data)
    with pytest.raises(DamagedShardError, match="corrupt_header"):
        load(shelf, shard)
    assert shelf.one("SELECT count(*) FROM ebook") == 19


def test_mutated_shards_are_loaded_or_explained(shelf: Shelf, tmp_path: Path) -> None:
    """Headers and members with random damage, and names that are no text: never another exception, never a loss."""
    rng = random.Random(1)
    members: list[Member] = [(f"\udcff{n}\n\x01.epub", book(n)) for n in range(5)]
    clean = make_shard(tmp_path / "1.tar", [*members, *numbered(map(book, range(5, 10)))]).path.read_bytes()
    for _ in range(25):
        data = bytearray(clean)
        for _ in range(rng.choice((1, 5, 50, 500))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        shard = make_shard(tmp_path / "1.tar", [])
        shard.path.write_bytes(data)
        try:
            result = load(shelf, shard)
        except DamagedShardError as error:
            result = error.result
        assert load_again(shelf, shard).read == result.counts.read
    assert shelf.one("SELECT count(*) FROM source") == shelf.one("SELECT count(DISTINCT (hash, size)) FROM source")
    for location, size in shelf.sql("SELECT location, size FROM source"):
        assert (shelf.books / location).stat().st_size == size
    assert shelf.placements() == 0


def load_again(shelf: Shelf, shard: Shard) -> LoadCounts:
    try:
        return load(shelf, shard).counts
    except DamagedShardError as error:
        return error.result.counts


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100], ids=["empty", "junk"])
def test_what_is_no_tar_is_said_to_be_none(shelf: Shelf, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "1.tar").write_bytes(content)
    with pytest.raises(DamagedShardError):
        load(shelf, Shard("1", tmp_path / "1.tar", "tar"))
    assert shelf.one("SELECT count(*) FROM ebook") == 0


def test_an_empty_tar_is_loaded_at_once(shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", [])
    assert load(shelf, shard).counts == LoadCounts()
    assert load(shelf, shard).from_journal


def test_a_shard_that_is_not_there_is_a_matter_of_configuration(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        load(shelf, Shard("1", tmp_path / "1.tar", "tar"))


def test_a_shard_that_changes_while_it_is_read_is_tried_again(shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered(TWENTY))

    class Changing:
        def advance(self, step: str, done: int, total: int | None) -> None:
            os.utime(shard.path, (1, 1))

    with pytest.raises(TransientError, match="changed while it was read"):
        load(shelf, shard, progress=Changing(), limits=Limits(members=2))
    result = load(shelf, shard)
    assert result.counts.read == 20
    assert shelf.one("SELECT count(*) FROM ebook") == 18


# Killed and at once


@pytest.mark.parametrize("seed", range(6))
def test_a_load_killed_at_any_moment_and_run_again_is_one_clean_run(
    shelf: Shelf, another_shelf: Shelf, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    shard = make_shard(tmp_path / "1.tar", numbered([*map(book, range(200)), b"", book(3)]))
    limits, state = Limits(members=20), tmp_path / "state.db"
    for _ in range(3):
        running = process(shelf, state, shard, limits)
        assert running.stdout is not None
        line = ""
        for _ in range(rng.randrange(1, 7)):  # "loading", then a line behind each chunk
            line = running.stdout.readline()
        if not line.startswith("done"):
            kill = threading.Timer(rng.random() * 0.3, running.kill)
            kill.start()
            running.wait()
            kill.cancel()
        running.stdout.close()
        running.wait()
    last = process(shelf, state, shard, limits)
    out, _ = last.communicate()
    assert last.returncode == 0
    result = load(shelf, shard, limits=limits)
    assert result.from_journal
    assert result.counts == LoadCounts(0, 201, {"empty_file": 1})
    assert len(list(State(state).list_rejections())) == 1
    assert load(another_shelf, shard, limits=limits).counts == LoadCounts(200, 1, {"empty_file": 1})
    if " 200 1 1 " not in out:  # it had been finished before
        assert "done 0 201 1" in out
    assert_same(shelf, another_shelf)


def test_two_shards_with_the_same_books_at_once_bring_one_copy(shelf: Shelf, tmp_path: Path) -> None:
    contents = [book(n) for n in range(120)]
    shards = [make_shard(tmp_path / "1.tar", numbered(contents)),
              make_shard(tmp_path / "2.tar", numbered([*contents[60:], *contents[:60], book(500)]))]  # fmt: skip
    runs = [process(shelf, tmp_path / "state.db", shard, Limits(members=10)) for shard in shards]
    ended = [run.communicate()[0].splitlines()[-1].split() for run in runs]
    inserted, existing = (sum(int(words[i]) for words in ended) for i in (1, 2))
    assert (inserted, existing) == (121, 120)
    assert (
        shelf.one("SELECT count(*) FROM source") == shelf.one("SELECT count(DISTINCT (hash, size)) FROM source") == 121
    )
    assert sorted(files_of(shelf).values()) == sorted([*contents, book(500)])


@pytest.mark.parametrize("sizes", [(3, 3), (3, 4)])
def test_one_shard_loaded_twice_at_once_is_loaded_once(
    shelf: Shelf, another_shelf: Shelf, tmp_path: Path, sizes: tuple[int, int]
) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered(TWENTY))
    results = all_at_once(*(partial(load, shelf, shard, limits=Limits(members=size)) for size in sizes))
    assert not [r for r in results if isinstance(r, BookpipeError)]
    assert load(shelf, shard).counts == LoadCounts(0, 19, {"empty_file": 1})
    if sizes[0] == sizes[1]:
        assert CLEAN in [r.counts for r in results]
    load(another_shelf, shard)
    assert_same(shelf, another_shelf)


def test_a_connection_cut_in_mid_chunk_heals(shelf: Shelf, another_shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered(TWENTY))
    with pytest.raises(StoppedError):
        load(shelf, shard, progress=Stopping(1))
    with shelf.holding("bookpipe.book") as hold, hold.before(load, shelf, shard) as loading:
        hold.kill_loaders()
        assert isinstance(loading.exception(), TransientError)
    assert load(shelf, shard).counts == CLEAN
    load(another_shelf, shard)
    assert_same(shelf, another_shelf)


def test_a_name_in_the_way_is_left_alone(shelf: Shelf, tmp_path: Path) -> None:
    """Somebody's folder and somebody's file where a book's would be."""
    (shelf.books / "Last1 First1").mkdir()
    (shelf.books / "Last2 First2").write_bytes(b"mine")
    shard = make_shard(tmp_path / "1.tar", numbered(TWENTY))
    assert load(shelf, shard).counts == CLEAN
    assert (shelf.books / "Last2 First2").read_bytes() == b"mine"
    for location, size in shelf.sql("SELECT location, size FROM source"):
        assert (shelf.books / location).stat().st_size == size


# Memory


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count otherwise")
def test_a_shard_much_larger_than_memory_needs_no_more_than_its_chunks(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "1.tar"
    size = 1_000_000
    with path.open("wb") as file:  # holes: the bytes are read, but take no room on the disk
        import tarfile  # noqa: PLC0415

        for n in range(300):
            data = b"Plain text number %d.\n" % n
            info = tarfile.TarInfo(str(n))
            info.size = size
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            start = file.tell()
            file.write(data + b"x" * 5000)
            file.seek(start + size - 1)
            file.write(b"\n" + bytes(-size % 512))
        file.write(bytes(1024))
    run = process(shelf, tmp_path / "state.db", Shard("1", path, "tar"), Limits(members=2_000, bytes=32 << 20))
    words = run.communicate()[0].splitlines()[-1].split()
    assert words[:4] == ["done", "300", "0", "0"]
    assert int(words[4]) < 260_000  # KB: the interpreter with its libraries has 110 MB, two chunks 64


def test_the_default_limits_are_those_that_memory_is_promised_for() -> None:
    assert 2 * tars.MAX_BYTES + 2 * Limits().member < 350 << 20
