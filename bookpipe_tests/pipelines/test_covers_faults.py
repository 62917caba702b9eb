"""Whatever is killed, in the way or changed meanwhile: run again, every cover is there, and nothing besides."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bookpipe.model.book_plans import Placement
from bookpipe.model.errors import TransientError
from bookpipe.targets.mybookshelf2.cover_images import CoverImages
from bookpipe.targets.mybookshelf2.covers import GONE, HAS_ONE, MADE, NewCover, place_covers
from bookpipe.targets.mybookshelf2.storage import BookFolder
from bookpipe_tests.pipelines.covering import (
    SHARD,
    assert_whole,
    book,
    covers,
    load_books,
    make,
    pictures_on_disk,
    thumbnail,
)
from bookpipe_tests.pipelines.shards import load, make_shard, numbered
from bookpipe_tests.targets.shelf import Shelf, all_at_once

ROOT = Path(__file__).parents[2]  # where the packages are


def start(shelf: Shelf, chunk: int = 500) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bookpipe_tests.pipelines.make_covers_process", shelf.url, str(shelf.data_dir),
               SHARD, str(chunk)]  # fmt: skip
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


# The connection and the process


def test_a_connection_cut_while_covers_are_written_heals(shelf: Shelf, another_shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 8)
    with shelf.holding("ebook") as hold, hold.before(make, shelf) as making:
        hold.kill_loaders()
        assert isinstance(making.exception(), TransientError)
    assert covers(shelf) == {}
    assert make(shelf).counts.inserted == 8
    assert_whole(shelf, 8)
    load_books(another_shelf, tmp_path, 8)
    make(another_shelf)
    assert covers(shelf) == covers(another_shelf)


def test_a_process_killed_in_its_transaction_leaves_files_for_the_next(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 8)
    before = shelf.tree(ids=True)
    with shelf.holding("ebook") as hold, start(shelf) as process:
        hold.wait_for_loader()
        process.kill()
        process.wait()
        hold.bury_loaders()
    assert covers(shelf) == {}
    assert shelf.placements() == 1
    assert len(pictures_on_disk(shelf)) == 16
    load_books(shelf, tmp_path, 0, key="16480000")  # any load clears up
    assert shelf.tree(ids=True) == before
    assert make(shelf).counts.inserted == 8
    assert_whole(shelf, 8)


def test_what_is_killed_leaves_the_applications_own_cover_alone(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 3)
    with shelf.holding("ebook") as hold, start(shelf) as process:
        hold.wait_for_loader()
        process.kill()
        process.wait()
        hold.kill_loaders()
    ebook, base_dir = shelf.sql("SELECT min(id), min(base_dir) FROM ebook WHERE title = 'Book 16470001'")[0]
    (shelf.books / base_dir / "cover.jpg").write_bytes(b"theirs")
    thumbnail(shelf, ebook).write_bytes(b"theirs")
    shelf.sql("UPDATE ebook SET cover = base_dir || '/cover.jpg' WHERE id = %s", ebook)
    result = make(shelf)
    assert (result.counts.inserted, result.counts.existing) == (2, 1)
    assert (shelf.books / base_dir / "cover.jpg").read_bytes() == thumbnail(shelf, ebook).read_bytes() == b"theirs"
    assert_whole(shelf, 3)


@pytest.mark.parametrize("kills", [4, pytest.param(25, marks=pytest.mark.slow)])
def test_covers_killed_at_any_moment_heal(shelf: Shelf, another_shelf: Shelf, tmp_path: Path, kills: int) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    load_books(shelf, tmp_path, 40)
    span = 0.6  # seconds; follows the time that runs which were not killed took
    for _ in range(kills):
        with start(shelf, chunk=7) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "making\n"
            started = time.monotonic()
            try:
                process.wait(chance.uniform(0, span))
                span = time.monotonic() - started
                shelf.sql("UPDATE ebook SET cover = NULL")
                for path in pictures_on_disk(shelf):
                    (shelf.data_dir / path).unlink()
            except subprocess.TimeoutExpired:
                process.kill()
    result = make(shelf)
    assert result.counts.inserted + result.counts.existing == 40
    assert_whole(shelf, 40)
    load_books(another_shelf, tmp_path, 40)
    make(another_shelf)
    assert covers(shelf) == covers(another_shelf)


# The application meanwhile


def test_the_applications_cover_of_a_moment_ago_wins(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 4)
    change = "UPDATE ebook SET cover = 'theirs.jpg' WHERE title = 'Book 16470002'"
    with shelf.transaction(change) as theirs, theirs.before(make, shelf) as making:
        pass
    result = making.result()
    assert (result.counts.inserted, result.counts.existing) == (3, 1)
    assert shelf.one("SELECT cover FROM ebook WHERE title = 'Book 16470002'") == "theirs.jpg"
    shelf.sql("DELETE FROM source WHERE ebook_id IN (SELECT id FROM ebook WHERE cover = 'theirs.jpg')")
    shelf.sql("DELETE FROM ebook WHERE cover = 'theirs.jpg'")
    assert_whole(shelf, 3)


def test_a_cover_that_came_while_ours_was_rendered_is_an_existing_one(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 3)
    rows = shelf.sql("SELECT id, base_dir FROM ebook ORDER BY id")
    new = [NewCover(ebook, base_dir, CoverImages(b"ours", b"our thumbnail")) for ebook, base_dir in rows]
    (shelf.books / rows[0][1] / "cover.jpg").write_bytes(b"theirs")
    thumbnail(shelf, rows[0][0]).write_bytes(b"theirs")
    shelf.sql("UPDATE ebook SET cover = base_dir || '/cover.jpg' WHERE id = %s", rows[0][0])
    shelf.sql("DELETE FROM source WHERE ebook_id = %s", rows[1][0])
    shelf.sql("DELETE FROM ebook WHERE id = %s", rows[1][0])
    with shelf.target.session() as session:
        ended = place_covers(session, new, pipeline="tars_covers", partition=SHARD)
    assert ended == {rows[0][0]: HAS_ONE, rows[1][0]: GONE, rows[2][0]: MADE}
    assert_whole(shelf, 2)


def test_an_ebook_deleted_meanwhile_leaves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 4)
    with (
        shelf.transaction(
            "DELETE FROM source WHERE ebook_id = (SELECT id FROM ebook WHERE title = 'Book 16470001')",
            "DELETE FROM ebook WHERE title = 'Book 16470001'",
        ) as theirs,
        theirs.before(make, shelf) as making,
    ):
        pass
    counts = making.result().counts
    assert (counts.inserted, dict(counts.rejections)) == (3, {"ebook_gone": 1})
    assert_whole(shelf, 3)


def test_a_folder_renamed_meanwhile_gets_nothing(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 3)
    change = "UPDATE ebook SET base_dir = 'Other/Folder(en)' WHERE title = 'Book 16470001'"
    with shelf.transaction(change) as theirs, theirs.before(make, shelf) as making:
        pass
    assert dict(making.result().counts.rejections) == {"name_taken": 1}
    assert_whole(shelf, 2)
    assert make(shelf).counts.inserted == 1
    assert_whole(shelf, 3)


def test_two_books_that_are_edited_in_the_other_order_are_no_deadlock(shelf: Shelf, tmp_path: Path) -> None:
    """As when the application merges two: neither it nor the covers are ended by the server."""
    load_books(shelf, tmp_path, 4)
    first, last = shelf.sql("SELECT min(id), max(id) FROM ebook")[0]
    edit = "UPDATE ebook SET description = 'edited' WHERE id = {}"
    with shelf.transaction(edit.format(last)) as theirs, theirs.before(make, shelf) as making:
        theirs.connection.execute(edit.format(first).encode())
    assert making.result().counts.inserted == 4
    assert shelf.one("SELECT count(*) FROM ebook WHERE description = 'edited'") == 2
    assert_whole(shelf, 4)


def taking(name: Callable[[Sequence[Placement]], str]) -> Callable[[BookFolder, Sequence[Placement]], None]:
    """A `place` before which the application takes one of the names."""
    place = BookFolder.place
    first = [True]

    def taken(folder: BookFolder, placements: Sequence[Placement]) -> None:
        if first.pop() if first else False:
            Path(folder.full_path(name(placements))).write_bytes(b"theirs")
        place(folder, placements)

    return taken


@pytest.mark.parametrize("what", ["cover.jpg", ".jpg"])
def test_a_name_taken_at_the_last_moment_costs_only_its_own_book(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    load_books(shelf, tmp_path, 5)

    def name(placements: Sequence[Placement]) -> str:
        return [p.location for p in placements if p.location.endswith(what)][3]

    monkeypatch.setattr(BookFolder, "place", taking(name))
    result = make(shelf)
    assert (result.counts.inserted, dict(result.counts.rejections)) == (4, {"name_taken": 1})
    assert shelf.placements() == 0
    left = [path for path in pictures_on_disk(shelf) if (shelf.data_dir / path).read_bytes() == b"theirs"]
    assert len(left) == 1
    assert len(pictures_on_disk(shelf)) == 2 * 4 + 1


def test_an_edit_that_waits_for_the_covers_is_not_lost(shelf: Shelf, tmp_path: Path) -> None:
    """The application writes over our files, and its row waits for ours."""
    load_books(shelf, tmp_path, 2)
    make(shelf)
    ebook, cover = shelf.sql("SELECT id, cover FROM ebook ORDER BY id LIMIT 1")[0]
    (shelf.books / cover).write_bytes(b"theirs")
    result = make(shelf)
    assert (result.counts.inserted, result.counts.existing) == (0, 2)
    assert (shelf.books / cover).read_bytes() == b"theirs"
    assert thumbnail(shelf, ebook).exists()


# Others of our kind


def test_two_runs_of_one_partition_at_once_make_each_cover_once(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 30, without=2)
    results: list[Any] = all_at_once(*[lambda: make(shelf, chunk=5)] * 3)
    assert sum(result.counts.inserted for result in results) == 30
    for result in results:
        assert result.counts.read == 32
        assert dict(result.counts.rejections) == {"no_cover": 2}
    assert_whole(shelf, 30)


def test_covers_beside_loads_of_books(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 20)
    shards = {}
    for n in range(3):
        key = f"1{n + 7}000000"
        shards[key] = make_shard(tmp_path / key, numbered([book(int(key) + i) for i in range(20)], int(key)))
    jobs = [lambda shard=shard: load(shelf, shard) for shard in shards.values()]
    results = all_at_once(lambda: make(shelf, chunk=3), *jobs, lambda: make(shelf, chunk=4))
    assert not [result for result in results if isinstance(result, BaseException)]
    for key in shards:
        assert make(shelf, key).counts.inserted == 20
    assert_whole(shelf, 80)


def test_nothing_to_make_takes_no_lock(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 2)
    make(shelf)
    with shelf.holding("ebook", "ROW EXCLUSIVE"), shelf.transaction(f"SELECT pg_advisory_lock({0x626F6F6B70697065})"):
        assert make(shelf).counts.existing == 2
    assert os.listdir(shelf.data_dir / "thumbs")
