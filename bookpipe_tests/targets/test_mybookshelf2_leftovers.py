"""What a load that died had placed goes with the next load, and nothing that somebody else put there."""

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from bookpipe.model.book_plans import Placement
from bookpipe.targets.mybookshelf2.storage import MODES, PART, BookFolder
from bookpipe_tests.factories import hashed_table
from bookpipe_tests.targets.book_rows import book_rows
from bookpipe_tests.targets.shelf import Shelf, names_under, outcomes, placement

HERE = "Author Ann/A Title(en)"
NAME = "Author Ann - A Title"

each_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def one(library: Path) -> pa.Table:
    return hashed_table(book_rows(library, 1))


@each_mode
def test_leftovers_are_removed_with_the_folders_they_leave_empty(tmp_path: Path, library: Path, mode: str) -> None:
    (tmp_path / "books" / "B").mkdir(parents=True)
    (tmp_path / "books" / "B" / "theirs").touch()
    folder = BookFolder(tmp_path, mode, (str(library), "/inside"))
    files = [placement(library, name, b"abc") for name in ("A/S/1.epub", "A/2.epub", "B/3.epub")]
    folder.place(files)
    (tmp_path / "books" / "A" / f"4.epub{PART}").write_bytes(b"ab")
    never_placed = placement(library, "A/4.epub", b"abc")
    announced = [folder.describe(file) for file in [*files, never_placed]]
    # The prefix may have been what was wrong.
    assert BookFolder(tmp_path, "symlink", ("/other", "/else")).remove_leftovers(mode, announced) == 3
    assert names_under(tmp_path / "books") == ["B/theirs"]
    assert os.listdir(tmp_path / "books") == ["B"]


@each_mode
@pytest.mark.parametrize("theirs", [b"abd", b"", b"longer"])
def test_somebody_elses_file_at_an_announced_name_stays(
    tmp_path: Path, library: Path, mode: str, theirs: bytes
) -> None:
    (tmp_path / "books" / "A").mkdir(parents=True)
    (tmp_path / "books" / "A" / "1.epub").write_bytes(theirs)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "books" / "B").symlink_to(tmp_path / "elsewhere")
    folder = BookFolder(tmp_path, mode)
    announced = [placement(library, name, b"abc") for name in ("A/1.epub", "B/2.epub")]
    shutil.copyfile(announced[1].path, tmp_path / "elsewhere" / "2.epub")
    assert folder.remove_leftovers(mode, [folder.describe(file) for file in announced]) == 0
    assert (tmp_path / "books" / "A" / "1.epub").read_bytes() == theirs
    assert names_under(tmp_path / "elsewhere") == ["2.epub"]


def test_a_file_the_application_made_of_an_announced_name_stays(shelf: Shelf, library: Path, one: pa.Table) -> None:
    """A load of copies is killed before it places a file; then somebody uploads that very file."""
    target = shelf.using(file_mode="copy")
    with target.writing() as writer:
        location = f"{HERE}/{NAME}.epub"
        row = one.to_pylist()[0]
        file = Placement(0, location, row["path"], row["size"])
        writer.journal.plan_placement("calibre", "books-1", "copy", [writer.folder.describe(file)])
    (shelf.books / HERE).mkdir(parents=True)
    shutil.copyfile(row["path"], shelf.books / location)
    shelf.sql(
        "WITH e AS (INSERT INTO ebook (version_id, title, language_id, base_dir, created, modified) "
        f"VALUES (1, 'A Title', 2, '{HERE}', now(), now()) RETURNING id) "
        "INSERT INTO source (version_id, ebook_id, location, format_id, size, hash, created, modified) "
        f"SELECT 1, id, '{location}', 8, {row['size']}, '{row['sha1']}', now(), now() FROM e"
    )
    assert outcomes(shelf.load(one, target=target)) == ["existing"]
    assert (shelf.books / location).exists()
    assert shelf.placements() == 0
