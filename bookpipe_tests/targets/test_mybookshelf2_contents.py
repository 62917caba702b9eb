"""Files written from bytes in memory: whole or not at all, over nothing, and known again after a crash."""

import errno
import os
from functools import partial
from hashlib import sha1
from pathlib import Path

import pytest

from bookpipe.model.book_plans import Content, Placement, Write
from bookpipe.model.errors import BookpipeError, TransientError
from bookpipe.targets.mybookshelf2.files import NameTakenError
from bookpipe.targets.mybookshelf2.storage import CONTENT, MODES, PART, BookFolder


def _write(data: bytes, file: int) -> None:
    assert os.write(file, data) == len(data)


def placement(location: str, data: bytes, write: Write | None = None) -> Placement:
    return Placement(0, location, b"", len(data), Content(sha1(data).hexdigest(), write or partial(_write, data)))


def several(count: int = 20) -> list[Placement]:
    return [placement(f"Author {n % 4}/Book {n}/{n}.epub", b"book %d" % n) for n in range(count)]


@pytest.fixture(params=MODES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> BookFolder:
    (tmp_path / "books").mkdir()
    return BookFolder(tmp_path, request.param)


def tree(folder: BookFolder) -> dict[str, bytes | None]:
    root = Path(folder.root)
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in root.rglob("*")}


def test_contents_become_real_files_in_any_mode(folder: BookFolder) -> None:
    folder.place(several())
    found = tree(folder)
    assert {k: v for k, v in found.items() if v is not None} == {
        f"Author {n % 4}/Book {n}/{n}.epub": b"book %d" % n for n in range(20)
    }
    assert all(path.stat().st_nlink == 1 for path in Path(folder.root).rglob("*.epub"))


@pytest.mark.parametrize("at", [0, 7, 19])
def test_all_or_none_are_placed(folder: BookFolder, at: int) -> None:
    def full(file: int) -> None:
        os.write(file, b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    placements = several()
    placements[at] = placement(placements[at].location, b"half of it", full)
    with pytest.raises(TransientError, match="disk is full"):
        folder.place(placements)
    assert tree(folder) == {}


def test_nothing_is_written_over(folder: BookFolder) -> None:
    mine = Path(folder.root, "Author 1/Book 5/5.epub")
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(NameTakenError):
        folder.place(several())
    assert tree(folder) == {"Author 1": None, "Author 1/Book 5": None, "Author 1/Book 5/5.epub": b"mine"}


def test_a_link_in_a_part_s_place_is_not_written_through(folder: BookFolder, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"theirs")
    Path(folder.root, "A").mkdir()
    os.symlink(theirs, f"{folder.root}/A/1.epub{PART}")
    folder.place([placement("A/1.epub", b"book")])
    assert theirs.read_bytes() == b"theirs"
    assert tree(folder) == {"A": None, "A/1.epub": b"book"}


def test_leftovers_are_known_by_size_and_digest(folder: BookFolder) -> None:
    placements = several(6)
    folder.place(placements)
    root = Path(folder.root)
    (root / placements[1].location).write_bytes(b"mine 1")  # of the same size
    (root / placements[2].location).write_bytes(b"another size")
    (root / placements[3].location).unlink()
    (root / (placements[4].location + PART)).write_bytes(b"boo")
    removed = folder.remove_leftovers(CONTENT, [folder.describe(p) for p in placements])
    assert removed == 3
    assert {k: v for k, v in tree(folder).items() if v is not None} == {
        placements[1].location: b"mine 1",
        placements[2].location: b"another size",
    }


def test_a_file_that_is_gone_is_renewed(folder: BookFolder) -> None:
    folder.place([placement("A/1.epub", b"book")])
    os.unlink(f"{folder.root}/A/1.epub")
    assert not folder.has_file("A/1.epub", 4)
    folder.replace("A/1.epub", b"", placement("A/1.epub", b"book").content)
    assert folder.has_file("A/1.epub", 4)
    assert tree(folder) == {"A": None, "A/1.epub": b"book"}


def test_a_link_is_no_file(folder: BookFolder, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"book")
    os.symlink(tmp_path / "elsewhere", f"{folder.root}/1.epub")
    assert not folder.has_file("1.epub", 4)


def test_a_failure_to_read_the_source_is_said(folder: BookFolder) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "the shard became shorter")

    with pytest.raises(BookpipeError, match="became shorter"):
        folder.place([placement("A/1.epub", b"book", broken)])
    assert tree(folder) == {}
