"""Files of earlier loads are renewed when the library moved or rewrote them; what somebody put there is not."""

import os
import shutil
from hashlib import sha1
from pathlib import Path

import pytest

from bookpipe.targets.mybookshelf2.storage import MODES
from bookpipe_tests.factories import hashed_table
from bookpipe_tests.targets.book_rows import ORIGIN, book_rows, many_books
from bookpipe_tests.targets.shelf import Shelf, files_under, names_under, outcomes

HERE = "Author Ann/A Title(en)"
NAME = "Author Ann - A Title"

each_mode = pytest.mark.parametrize("mode", MODES)


@each_mode
def test_a_file_that_calibre_rewrote_is_refreshed(shelf: Shelf, library: Path, mode: str) -> None:
    target = shelf.using(file_mode=mode)
    shelf.load(hashed_table(book_rows(library, 1, files={"epub": b"before"})), target=target)
    before = shelf.sql("SELECT id, location, version_id, created FROM source")
    old = library / "1" / "book 1.epub"
    old.rename(library / "old")  # Calibre writes a new file and renames it
    table = hashed_table(book_rows(library, 1, files={"epub": b"and after"}))
    result = shelf.load(table, target=target)
    assert (outcomes(result), result.refreshed) == (["existing"], 1)
    assert (shelf.books / HERE / f"{NAME}.epub").read_bytes() == b"and after"
    assert shelf.sql("SELECT size, hash FROM source") == [(9, sha1(b"and after").hexdigest())]
    assert shelf.sql("SELECT id, location, version_id - 1, created FROM source") == before
    assert shelf.one("SELECT modified > created FROM source") is True
    assert shelf.load(table, target=target).refreshed == 0


@each_mode
def test_files_of_a_library_that_moved_stand_for_the_new_place(shelf: Shelf, library: Path, mode: str) -> None:
    target = shelf.using(file_mode=mode)
    table = many_books(library, 1, 20)
    shelf.load(table, target=target)
    rows = shelf.sql("SELECT * FROM source ORDER BY id")
    moved = library.rename(library.with_name("moved"))
    there = [row | {"path": row["path"].replace(os.fsencode(library), os.fsencode(moved))} for row in table.to_pylist()]
    result = shelf.load(hashed_table(there), target=target)
    sources = shelf.one("SELECT count(*) FROM source")
    assert result.refreshed == (sources if mode == "symlink" else 0)
    for location, size in shelf.sql("SELECT location, size FROM source"):
        assert (shelf.books / location).stat().st_size == size
    assert shelf.sql("SELECT * FROM source ORDER BY id") == rows


@each_mode
def test_a_file_that_went_missing_is_placed_again(shelf: Shelf, library: Path, mode: str) -> None:
    target, table = shelf.using(file_mode=mode), many_books(library, 1, 20)
    shelf.load(table, target=target)
    before = shelf.tree()
    shutil.rmtree((shelf.books / shelf.one("SELECT min(location) FROM source")).parents[1])
    assert shelf.load(table, target=target).refreshed > 0
    assert shelf.tree() == before


@each_mode
@pytest.mark.parametrize("changed", [True, False])
def test_what_somebody_put_in_a_files_place_is_left_alone(
    shelf: Shelf, library: Path, mode: str, changed: bool
) -> None:
    target = shelf.using(file_mode=mode)
    shelf.load(hashed_table(book_rows(library, 1, files={"epub": b"before"})), target=target)
    placed = shelf.books / HERE / f"{NAME}.epub"
    placed.unlink()
    placed.write_bytes(b"with notes of mine")
    before = shelf.exactly()
    (library / "1" / "book 1.epub").unlink()
    table = hashed_table(book_rows(library, 1, files={"epub": b"after" if changed else b"before"}))
    result = shelf.load(table, target=target)
    assert (outcomes(result), result.refreshed) == (["existing"], 0)
    assert placed.read_bytes() == b"with notes of mine"
    assert shelf.exactly() == before


@each_mode
def test_nothing_is_refreshed_through_a_linked_folder(shelf: Shelf, library: Path, tmp_path: Path, mode: str) -> None:
    target = shelf.using(file_mode=mode)
    shelf.load(hashed_table(book_rows(library, 1, files={"epub": b"before"})), target=target)
    (shelf.books / "Author Ann").rename(tmp_path / "elsewhere")
    (shelf.books / "Author Ann").symlink_to(tmp_path / "elsewhere")
    (library / "1" / "book 1.epub").rename(library / "old")
    before = files_under(tmp_path / "elsewhere")
    shelf.load(hashed_table(book_rows(library, 1, files={"epub": b"and after"})), target=target)
    assert names_under(tmp_path / "elsewhere") == [f"A Title(en)/{NAME}.epub"]
    assert files_under(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("mode", ["hardlink", "copy"])
def test_a_refresh_killed_between_file_and_row_is_finished(shelf: Shelf, library: Path, mode: str) -> None:
    target = shelf.using(file_mode=mode)
    shelf.load(hashed_table(book_rows(library, 1, files={"epub": b"before"})), target=target)
    (library / "1" / "book 1.epub").unlink()
    table = hashed_table(book_rows(library, 1, files={"epub": b"and after"}))
    target.folder.replace(f"{HERE}/{NAME}.epub", table["path"][0].as_py())
    shelf.load(table, target=target)
    assert shelf.sql("SELECT size, hash FROM source") == [(9, sha1(b"and after").hexdigest())]
    assert (shelf.books / HERE / f"{NAME}.epub").read_bytes() == b"and after"


@pytest.mark.parametrize(("first", "then"), [(a, b) for a in MODES for b in MODES if a != b])
def test_another_file_mode_converts_what_is_there(shelf: Shelf, library: Path, first: str, then: str) -> None:
    table = hashed_table(book_rows(library, 1))
    shelf.load(table, target=shelf.using(file_mode=first))
    shelf.load(table, target=shelf.using(file_mode=then))
    placed, original = shelf.books / HERE / f"{NAME}.epub", library / "1" / "book 1.epub"
    if (first, then) != ("hardlink", "copy"):  # a hard link is as good as a copy of the right size
        assert placed.is_symlink() is (then == "symlink")
        assert placed.samefile(original) is (then != "copy")
    assert placed.read_bytes() == original.read_bytes() == f"{ORIGIN} 1".encode()


def test_the_link_of_a_file_that_calibre_moved_to_another_book_follows_it(shelf: Shelf, library: Path) -> None:
    shelf.load(hashed_table(book_rows(library, 1, files={"epub": b"moved"})))
    table = hashed_table(book_rows(library, 2, "Another Title", files={"epub": b"moved", "pdf": b"its own"}))
    (library / "1" / "book 1.epub").unlink()
    result = shelf.load(table)
    assert (sorted(outcomes(result)), result.refreshed) == (["existing", "inserted"], 1)
    assert (shelf.books / HERE / f"{NAME}.epub").read_bytes() == b"moved"
    assert shelf.load(table).refreshed == 0


def test_a_link_that_leads_somewhere_is_not_mended(shelf: Shelf, library: Path) -> None:
    shelf.load(hashed_table(book_rows(library, 1, files={"epub": b"twice"})))
    before = shelf.tree()
    result = shelf.load(hashed_table(book_rows(library, 2, "Another Title", files={"epub": b"twice"})))
    assert (outcomes(result), result.refreshed) == (["existing"], 0)
    assert shelf.tree() == before


@each_mode
def test_a_book_whose_folder_became_a_link_gets_new_files_elsewhere(
    shelf: Shelf, library: Path, tmp_path: Path, mode: str
) -> None:
    target = shelf.using(file_mode=mode)
    shelf.load(hashed_table(book_rows(library, 1, files={"epub": b"first"})), target=target)
    (shelf.books / "Author Ann").rename(tmp_path / "elsewhere")
    (shelf.books / "Author Ann").symlink_to(tmp_path / "elsewhere")
    before = files_under(tmp_path / "elsewhere")
    rows = book_rows(library, 1, files={"epub": b"first", "pdf": b"second"}) + book_rows(library, 2, "Another Title")
    result = shelf.load(hashed_table(rows), target=target)
    assert outcomes(result) == ["existing", "inserted", "inserted"]
    assert files_under(tmp_path / "elsewhere") == before
    (location,) = shelf.sql("SELECT location FROM source WHERE size = 6")[0]
    ebook = shelf.one("SELECT ebook_id FROM source WHERE size = 6")
    assert location == f"_ {ebook}/A Title(en)/{NAME}.pdf"
    assert (shelf.books / location).read_bytes() == b"second"
