"""Pictures of loaded books become covers and thumbnails: where they come from, and how every book ends."""

import io
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bookpipe.demo.calibre_library import CalibreWriter, SampleBook
from bookpipe.demo.ebook_files import MAKERS
from bookpipe.model.errors import ConfigError
from bookpipe.model.rejections import Reason
from bookpipe.model.schemas import COVER_OUTCOMES
from bookpipe.pipelines import calibre
from bookpipe.pipelines.covers import CoversResult, find_partitions, list_ebooks, make_covers, plan_dry
from bookpipe.runtime.state import State
from bookpipe.runtime.stopping import StoppedError, stop_requested
from bookpipe.sources.calibre import CalibreLibrary
from bookpipe.targets.mybookshelf2.cover_images import render
from bookpipe.targets.mybookshelf2.covers import MADE, Ending, NewCover, place_covers
from bookpipe.targets.mybookshelf2.undo import undo_partition
from bookpipe_tests.pipelines.covering import (
    SHARD,
    assert_whole,
    book,
    covers,
    load_books,
    make,
    picture,
    pictures_on_disk,
    text,
    thumbnail,
)
from bookpipe_tests.pipelines.shards import Heard, load, make_shard, numbered
from bookpipe_tests.targets.shelf import Shelf
from bookpipe_tests.targets.undoing import undo
from bookpipe_tests.unprivileged import nobody, open_folder


def reasons(result: CoversResult) -> dict[str, int]:
    counts = result.counts
    outcomes = result.outcomes.column("outcome").to_pylist()
    assert result.outcomes.schema == COVER_OUTCOMES
    assert counts.read == counts.inserted + counts.existing + counts.rejected == result.outcomes.num_rows
    assert (outcomes.count("inserted"), outcomes.count("existing")) == (counts.inserted, counts.existing)
    assert len(result.rejections()) == counts.rejected
    return dict(counts.rejections)


# Books of shards


@pytest.mark.parametrize("kind", ["epub", "mobi", "azw3", "prc", "fb2", "fbz"])
def test_the_picture_inside_a_book_becomes_its_cover_and_thumbnail(shelf: Shelf, tmp_path: Path, kind: str) -> None:
    load(shelf, make_shard(tmp_path / SHARD, numbered([book(7, kind)])))
    result = make(shelf)
    assert (result.counts.inserted, result.from_files, result.from_library) == (1, 1, 0)
    ebook, cover, base_dir, version, same = shelf.sql(
        "SELECT id, cover, base_dir, version_id, created = modified FROM ebook"
    )[0]
    images = render(picture(7))
    assert (cover, version, same) == (f"{base_dir}/cover.jpg", 1, True)
    assert (shelf.books / cover).read_bytes() == images.cover
    assert thumbnail(shelf, ebook).read_bytes() == images.thumbnail
    assert not (shelf.books / cover).is_symlink()
    assert result.bytes == len(images.cover) + len(images.thumbnail)


def test_every_book_ends_and_a_second_run_makes_nothing(shelf: Shelf, tmp_path: Path) -> None:
    contents = [book(1), book(2, cover=b""), book(3, "mobi"), book(4, cover=b"\xff\xd8\xff no picture"), book(5, "rtf")]
    load(shelf, make_shard(tmp_path / SHARD, numbered(contents)))
    first = make(shelf)
    assert (first.counts.inserted, reasons(first)) == (2, {"no_cover": 2, "bad_image": 1})
    key = next(r.key for r in first.rejections() if r.reason is Reason.BAD_IMAGE)
    assert key.startswith(f"tar:{SHARD}#") and "Book 4" in key
    tree, rows = shelf.tree(ids=True), shelf.exactly()
    again = make(shelf)
    assert (again.counts.inserted, again.counts.existing, reasons(again)) == (0, 2, {"no_cover": 2, "bad_image": 1})
    assert (shelf.tree(ids=True), shelf.exactly()) == (tree, rows)
    assert_whole(shelf, 2)


def test_the_first_page_of_a_pdf_is_its_cover_where_it_has_something_on_it(shelf: Shelf, tmp_path: Path) -> None:
    contents = [book(1, "pdf"), book(2, "pdf")[:-2000] + b"%%EOF"]
    load(shelf, make_shard(tmp_path / SHARD, numbered(contents)))
    result = make(shelf)
    assert result.from_files == result.counts.inserted >= 1
    assert_whole(shelf, result.counts.inserted)


def test_only_the_partitions_own_books_are_touched(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 3)
    load_books(shelf, tmp_path, 2, key="16480000")
    assert make(shelf, "16480000").counts.inserted == 2
    assert_whole(shelf, 2)
    assert make(shelf, "nothing").counts.read == 0


def test_chunks_of_any_size_end_alike_and_tell_how_far_they_are(
    shelf: Shelf, another_shelf: Shelf, tmp_path: Path
) -> None:
    for each in (shelf, another_shelf):
        load_books(each, tmp_path, 11, without=2)
    heard = Heard()
    assert make(shelf, chunk=4, progress=heard).counts == make(another_shelf, chunk=1000).counts
    assert heard.steps["books"] == [(4, 13), (8, 13), (12, 13), (13, 13)]
    assert covers(shelf) == covers(another_shelf)


def test_a_stop_between_two_chunks_loses_nothing(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 9)
    stop_requested.set()
    try:
        with pytest.raises(StoppedError, match="4 books"):
            make(shelf, chunk=4)
    finally:
        stop_requested.clear()
    assert_whole(shelf, 4)
    result = make(shelf, chunk=4)
    assert (result.counts.inserted, result.counts.existing) == (5, 4)


def test_a_book_may_have_a_cover_already(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 3)
    shelf.sql("UPDATE ebook SET cover = 'elsewhere/own.png' WHERE title = 'Book 16470001'")
    result = make(shelf)
    assert (result.counts.inserted, result.counts.existing) == (2, 1)
    assert shelf.one("SELECT cover FROM ebook WHERE title = 'Book 16470001'") == "elsewhere/own.png"


def test_a_book_without_its_file_says_so(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 2)
    location = shelf.one("SELECT min(location) FROM source")
    (shelf.books / location).unlink()
    result = make(shelf)
    assert (result.counts.inserted, reasons(result)) == (1, {"missing_file": 1})
    assert [r.detail for r in result.rejections()] == [location]


def test_a_dry_run_says_the_same_and_writes_nothing(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 4, without=1)
    (shelf.books / shelf.one("SELECT min(base_dir) FROM ebook") / "cover.jpg").write_bytes(b"somebody's")
    before = shelf.tree(ids=True), shelf.exactly()
    planned = plan_dry(shelf.target, list_ebooks(shelf.target, "tars", SHARD), threads=2)
    assert (shelf.tree(ids=True), shelf.exactly()) == before
    assert planned == make(shelf).counts
    assert dict(planned.rejections) == {"no_cover": 1, "name_taken": 1}


# Names


def test_somebodys_file_is_never_written_over(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 6)
    rows = shelf.sql("SELECT id, base_dir FROM ebook ORDER BY id")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "theirs.jpg").write_bytes(b"theirs")
    (shelf.books / rows[0][1] / "cover.jpg").write_bytes(b"theirs")
    (shelf.books / rows[1][1] / "cover.jpg").symlink_to(tmp_path / "theirs.jpg")
    (shelf.books / rows[2][1] / "cover.jpg").symlink_to(tmp_path / "nothing.jpg")
    thumbnail(shelf, rows[3][0]).write_bytes(b"theirs")
    moved = shelf.books / rows[4][1]
    shutil.copytree(moved, elsewhere / "book")
    shutil.rmtree(moved)
    moved.symlink_to(elsewhere / "book")
    before = shelf.tree(ids=True)
    result = make(shelf)
    assert (result.counts.inserted, reasons(result)) == (1, {"name_taken": 5})
    details = {r.detail for r in result.rejections()}
    assert f"thumbs/{rows[3][0]}.jpg" in details
    added = set(shelf.tree(ids=True)) - set(before)
    assert {path for path, _ in added} == {f"books/{rows[5][1]}/cover.jpg", f"thumbs/{rows[5][0]}.jpg"}
    assert set(before) <= set(shelf.tree(ids=True))
    assert os.listdir(elsewhere / "book") == [os.path.basename(shelf.one("SELECT location FROM source WHERE ebook_id = "
                                                                         f"{rows[4][0]}"))]  # fmt: skip
    assert (tmp_path / "theirs.jpg").read_bytes() == b"theirs"
    assert not (tmp_path / "nothing.jpg").exists()


def test_two_ebooks_of_one_folder_do_not_share_a_cover(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 3)
    shelf.sql("UPDATE ebook SET base_dir = (SELECT min(base_dir) FROM ebook) WHERE title <> 'Book 16470002'")
    result = make(shelf)
    assert (result.counts.inserted, reasons(result)) == (2, {"name_taken": 1})
    assert_whole(shelf, 2)


@pytest.mark.parametrize("base_dir", ["../outside", "/outside", "", "a//b", "a/./b", "x" * 503])
def test_a_folder_with_no_safe_name_gets_no_cover(shelf: Shelf, tmp_path: Path, base_dir: str) -> None:
    load_books(shelf, tmp_path, 2)
    shelf.sql("UPDATE ebook SET base_dir = %s WHERE title = 'Book 16470000'", base_dir)
    result = make(shelf)
    assert (result.counts.inserted, reasons(result)) == (1, {"name_unusable": 1})
    assert_whole(shelf, 1)


def test_our_own_files_are_taken_up_again_when_the_rows_were_lost(shelf: Shelf, tmp_path: Path) -> None:
    """As when the database comes back from a backup, and the folders do not."""
    load_books(shelf, tmp_path, 4)
    make(shelf)
    before = {path: (shelf.data_dir / path).stat().st_ino for path in pictures_on_disk(shelf)}
    shelf.sql("UPDATE ebook SET cover = NULL")
    thumbnail(shelf, shelf.one("SELECT min(id) FROM ebook")).unlink()
    assert make(shelf).counts.inserted == 4
    after = {path: (shelf.data_dir / path).stat().st_ino for path in pictures_on_disk(shelf)}
    assert after.keys() == before.keys()
    assert sum(after[path] != before[path] for path in after) <= 1
    assert_whole(shelf, 4)


def test_a_missing_folder_of_thumbnails_is_made(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 2)
    (shelf.data_dir / "thumbs").rmdir()
    assert make(shelf).counts.inserted == 2
    assert_whole(shelf, 2)


def test_linked_data_folders_keep_thumbnails_beside_the_link(shelf: Shelf, tmp_path: Path) -> None:
    """An administrator moved the books to a larger disk."""
    large = tmp_path / "large" / "disk"
    large.parent.mkdir()
    shelf.books.rename(large)
    shelf.books.symlink_to(large)
    (shelf.data_dir / "thumbs").rename(tmp_path / "fast")
    (shelf.data_dir / "thumbs").symlink_to(tmp_path / "fast")
    load_books(shelf, tmp_path, 2)
    assert make(shelf).counts.inserted == 2
    assert len(covers(shelf)) == 2
    assert len(os.listdir(tmp_path / "fast")) == 2
    assert sorted(os.listdir(tmp_path / "large")) == ["disk"]
    undo_shard(shelf)
    assert os.listdir(tmp_path / "fast") == os.listdir(large) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_covers_belong_to_the_application_which_writes_over_them(shelf: Shelf, tmp_path: Path) -> None:
    os.chown(shelf.books, 10_000, 10_001)
    (shelf.data_dir / "thumbs").rmdir()
    load_books(shelf, tmp_path, 1)
    make(shelf)
    for path in ("thumbs", *pictures_on_disk(shelf)):
        status = (shelf.data_dir / path).stat()
        assert (status.st_uid, status.st_gid) == (10_000, 10_001), path


def test_a_folder_that_cannot_be_written_fails_with_a_remedy_and_leaves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    with open_folder() as folder:
        closed = Shelf(shelf.url, folder, shelf.superuser_url)
        for name in ("books", "thumbs"):
            (folder / name).mkdir()
        load_books(closed, tmp_path, 3)
        for path, _, _ in os.walk(closed.books):
            os.chmod(path, 0o777)
        (folder / "thumbs").chmod(0o555)
        tree = closed.tree(ids=True)
        covers = [
            NewCover(ebook, base_dir, render(picture(ebook)))
            for ebook, base_dir in closed.sql("SELECT id, base_dir FROM ebook")
        ]

        def place() -> list[Ending]:  # alone: nobody may not even start a process
            with nobody(), closed.target.session() as session:
                return list(place_covers(session, covers, pipeline="tars_covers", partition=SHARD).values())

        with pytest.raises(ConfigError, match="thumbs"):
            place()
        assert closed.tree(ids=True) == tree
        assert closed.placements() == 0
        (folder / "thumbs").chmod(0o777)
        assert place() == [MADE] * 3


# Undo


def undo_shard(shelf: Shelf) -> None:
    undo_partition(shelf.target, "tars", SHARD)


def test_undo_leaves_nothing_of_a_shard_with_covers(shelf: Shelf, tmp_path: Path) -> None:
    before = shelf.tree()
    load_books(shelf, tmp_path, 5, without=1)
    make(shelf)
    undo_shard(shelf)
    assert shelf.tree() == before
    assert shelf.one("SELECT count(*) FROM ebook") == 0
    assert find_partitions(shelf.target, "tars") == {}


# Which partitions there are


def test_partitions_are_found_once_loaded_and_again_when_more_came(shelf: Shelf, tmp_path: Path) -> None:
    assert find_partitions(shelf.target, "tars") == {}
    load_books(shelf, tmp_path, 3)
    first = find_partitions(shelf.target, "tars")
    assert list(first) == [SHARD]
    assert find_partitions(shelf.target, "calibre") == {}
    load(shelf, make_shard(tmp_path / SHARD, numbered([book(n) for n in range(16470000, 16470003)])))
    make(shelf)
    assert find_partitions(shelf.target, "tars") == first
    load(shelf, make_shard(tmp_path / SHARD, numbered([book(n) for n in range(16470000, 16470005)])))
    assert find_partitions(shelf.target, "tars") != first


def test_a_shard_that_is_still_loaded_does_not_change_with_every_chunk(shelf: Shelf, tmp_path: Path) -> None:
    load_books(shelf, tmp_path, 3)
    done = find_partitions(shelf.target, "tars")
    shelf.sql("UPDATE bookpipe.shard SET finished = false")
    half = find_partitions(shelf.target, "tars")
    shelf.sql("UPDATE bookpipe.load SET id = id + 1")
    assert find_partitions(shelf.target, "tars") == half != done


# Books of a Calibre library


def calibre_book(number: int, cover: bytes | None, own: bytes = b"", kind: str = "epub") -> SampleBook:
    formats = ((kind.upper(), MAKERS[kind](text(number, own))),)
    return SampleBook(id=number, title=f"Book {number}", authors=("Ann Author",), formats=formats, cover=cover)


def load_library(shelf: Shelf, path: Path, *books: SampleBook, seed: int = 1) -> CalibreLibrary:
    with CalibreWriter(path, seed=seed) as writer:
        for each in books:
            writer.add(each)
    library = CalibreLibrary(path)
    shelf.load(calibre.hash_files(library, library.read(1, 1000), State(path.parent / "state.sqlite"), "1"))
    return library


def make_calibre(shelf: Shelf, library: CalibreLibrary | None) -> CoversResult:
    ebooks = list_ebooks(shelf.target, "calibre", "books-1")
    return make_covers(
        shelf.target, ebooks, pipeline="calibre_covers", partition="books-1", library=library, threads=2
    )  # fmt: skip


def centre(path: Path) -> tuple[int, ...]:
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        pixel = image.getpixel((image.width // 4, image.height // 4))
    assert isinstance(pixel, tuple)
    return pixel


def test_the_librarys_cover_is_taken_and_the_books_own_where_there_is_none(shelf: Shelf, tmp_path: Path) -> None:
    library = load_library(
        shelf,
        tmp_path / "calibre",
        calibre_book(1, picture(10, kind="PNG"), own=picture(110)),
        calibre_book(2, None, own=picture(120)),
        calibre_book(3, b"broken", own=picture(130)),
        calibre_book(4, picture(40)),
        calibre_book(5, None),
        calibre_book(6, b"broken"),
    )
    result = make_calibre(shelf, library)
    assert (result.from_library, result.from_files, reasons(result)) == (2, 2, {"no_cover": 1, "bad_image": 1})
    found = {t: (shelf.books / c) for t, c in shelf.sql("SELECT title, cover FROM ebook WHERE cover IS NOT NULL")}
    reds = {title: centre(path)[0] for title, path in found.items()}
    for title, red in {"Book 1": 10, "Book 2": 120, "Book 3": 130, "Book 4": 40}.items():
        assert abs(reds[title] - red) < 10


def test_flags_about_covers_are_not_believed(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "calibre"
    library = load_library(shelf, path, calibre_book(1, picture(1)), calibre_book(2, picture(2)))
    next(path.glob("*/Book 1*/cover.jpg")).unlink()
    with CalibreWriter(path) as writer:
        writer.connection.execute("UPDATE books SET has_cover = 1 - has_cover WHERE id = 2")
    assert make_calibre(shelf, library).counts.inserted == 1
    assert list(covers(shelf)) == ["Book 2"]


def test_a_cover_outside_of_the_library_is_not_read(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "calibre"
    library = load_library(shelf, path, *(calibre_book(n, picture(n)) for n in (1, 2, 3)))
    (tmp_path / "secret.jpg").write_bytes(picture(9))
    linked = next(path.glob("*/Book 1*/cover.jpg"))
    linked.unlink()
    linked.symlink_to(tmp_path / "secret.jpg")
    pipe = next(path.glob("*/Book 2*/cover.jpg"))
    pipe.unlink()
    os.mkfifo(pipe)
    result = make_calibre(shelf, library)
    assert (result.counts.inserted, reasons(result)) == (1, {"outside_library": 1, "not_a_file": 1})


def test_another_librarys_book_of_the_same_number_lends_no_cover(shelf: Shelf, tmp_path: Path) -> None:
    load_library(shelf, tmp_path / "one", calibre_book(1, None, kind="rtf"))
    other = load_library(shelf, tmp_path / "other", calibre_book(1, picture(100)), calibre_book(2, picture(2)), seed=2)
    result = make_calibre(shelf, other)
    assert (result.counts.inserted, result.from_library, reasons(result)) == (2, 2, {"no_cover": 1})


def test_without_the_library_the_linked_files_are_asked(shelf: Shelf, tmp_path: Path) -> None:
    load_library(shelf, tmp_path / "calibre", calibre_book(1, picture(1), own=picture(2)))
    assert make_calibre(shelf, None).from_files == 1


def test_links_of_a_container_are_followed_on_this_host(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "calibre"
    with CalibreWriter(path) as writer:
        writer.add(calibre_book(1, None, own=picture(1)))
    library, target = CalibreLibrary(path), shelf.using(link_prefix=f"{path}=/inside")
    shelf.load(calibre.hash_files(library, library.read(1, 10), State(tmp_path / "state.sqlite"), "1"), target=target)
    ebooks = list_ebooks(target, "calibre", "books-1")
    assert make_covers(target, ebooks, pipeline="calibre_covers", partition="books-1", library=library).from_files == 1


def test_undo_leaves_nothing_of_a_library_with_covers(shelf: Shelf, tmp_path: Path) -> None:
    before = shelf.tree()
    library = load_library(shelf, tmp_path / "calibre", *(calibre_book(n, picture(n)) for n in (1, 2, 3)))
    make_calibre(shelf, library)
    undone = undo(shelf)
    assert (undone.ebooks, undone.files) == (3, 9)
    assert shelf.tree() == before
