"""What doctor says about MyBookshelf2's folders. No server is asked: they are looked at all the same."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bookpipe.model.findings import Finding
from bookpipe.model.secrets import Secret
from bookpipe.targets.mybookshelf2.health import INODES_PER_BOOK, examine
from bookpipe.targets.mybookshelf2.server import MyBookshelf2

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """The folders of a library: two books and a database, of which only the folders matter here."""
    path = tmp_path / "library"
    for author in ("Čapek", "Frank Herbert"):
        folder = path / author / "Title (1)"
        folder.mkdir(parents=True)
        (folder / "book.epub").write_bytes(b"x" * 500)
        (folder / "metadata.opf").write_bytes(b"x" * 50)
    (path / "metadata.db").write_bytes(b"")
    return path


def _findings(
    data_dir: Path, library: Path | None = None, books: int | None = None, **settings: Any
) -> dict[str, Finding]:
    """By subject, without its first word."""
    found = examine(MyBookshelf2(Secret("no url"), data_dir, **settings), library, books)
    return {f.subject.removeprefix("MyBookshelf2: "): f for f in found}


def _failed(found: dict[str, Finding]) -> list[str]:
    """What failed but the address."""
    return [subject for subject, finding in found.items() if finding.ok is False and subject != "address"]


def _file_for(name: str) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        shutil.rmtree(data / name)
        (data / name).write_text("")

    return change


def _without(name: str) -> Callable[[Path], None]:
    return lambda data: shutil.rmtree(data / name)


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        (_without("."), "book folder"),
        (_without("books"), "book folder"),
        (_file_for("books"), "book folder"),
        (_without("thumbs"), "thumbs"),
        (_file_for("thumbs"), "thumbs"),
    ],
)
def test_a_folder_that_is_missing_or_a_file_is_a_failure(
    mybookshelf2_dir: Path, library: Path, change: Callable[[Path], None], subject: str
) -> None:
    change(mybookshelf2_dir)
    found = _findings(mybookshelf2_dir, library, 2)
    assert subject in _failed(found)
    assert "BOOKPIPE_MYBOOKSHELF2_DATA_DIR" in found[subject].detail + found[subject].remedy
    dependent = ("owner", "free inodes", "free space", "symlink works")
    assert {found[s].ok for s in dependent} == ({None} if subject == "book folder" else {True})


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_folder_without_the_right_to_write_is_a_failure(mybookshelf2_dir: Path, library: Path) -> None:
    for name in ("books", "thumbs"):
        (mybookshelf2_dir / name).chmod(0o500)
    found = _findings(mybookshelf2_dir, library)
    assert {"book folder", "thumbs"} <= set(_failed(found))
    assert "right to write" in found["book folder"].remedy


def test_a_book_folder_that_is_a_link_is_told(mybookshelf2_dir: Path, library: Path) -> None:
    (mybookshelf2_dir / "books").rename(mybookshelf2_dir / "elsewhere")
    (mybookshelf2_dir / "books").symlink_to("elsewhere")
    found = _findings(mybookshelf2_dir, library)
    assert found["book folder"].ok is True
    assert "is a link to" in found["book folder"].detail
    assert found["symlink works"].ok is True


def test_a_book_folder_inside_the_library_is_refused(library: Path) -> None:
    for name in ("books", "thumbs"):
        (library / "data" / name).mkdir(parents=True)
    found = _findings(library / "data", library)
    assert "book folder" in _failed(found)
    assert found["symlink works"].ok is None
    assert sorted(p.name for p in (library / "data").iterdir()) == ["books", "thumbs"]


def test_more_books_than_inodes_or_space_is_a_failure(mybookshelf2_dir: Path) -> None:
    status = os.statvfs(mybookshelf2_dir)
    books = max(status.f_favail // INODES_PER_BOOK, status.f_bavail * status.f_frsize // 4096) + 1
    found = _findings(mybookshelf2_dir, None, books)
    assert found["free space"].ok is False
    assert f"{books:,} books" in found["free space"].detail
    if status.f_files:
        assert found["free inodes"].ok is False


def test_without_a_library_nothing_is_tried_and_only_room_is_told(mybookshelf2_dir: Path) -> None:
    found = _findings(mybookshelf2_dir)
    assert [found[s].ok for s in ("symlink works", "links", "free space")] == [None, None, True]


def test_a_library_without_files_is_not_tried(mybookshelf2_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "Author" / "Title").mkdir(parents=True)
    for library in (tmp_path / "empty", tmp_path / "nothing"):
        assert _findings(mybookshelf2_dir, library)["symlink works"].ok is None


def test_a_hard_link_across_file_systems_is_explained(mybookshelf2_dir: Path, library: Path) -> None:
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == mybookshelf2_dir.stat().st_dev:
        pytest.skip("no second file system")
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as name:
        shutil.copytree(library, Path(name) / "library")
        for mode, ok in (("hardlink", False), ("symlink", True), ("copy", True)):
            found = _findings(mybookshelf2_dir, Path(name) / "library", file_mode=mode)
            assert found[f"{mode} works"].ok is ok
            if mode == "hardlink":
                assert "different file systems" in found["hardlink works"].detail
                assert "BOOKPIPE_FILE_MODE" in found["hardlink works"].remedy
    assert list((mybookshelf2_dir / "books").iterdir()) == []


def test_links_say_the_path_of_the_library_or_of_the_container(mybookshelf2_dir: Path, library: Path) -> None:
    def links(**settings: Any) -> Finding:
        return _findings(mybookshelf2_dir, library, **settings)["links"]

    plain = links()
    assert plain.ok is True
    assert f"{library}/" in plain.detail
    assert f"mount {library} there at the same path" in plain.remedy

    inside = links(link_prefix=f"{library}=/calibre")
    assert inside.ok is True
    assert "/calibre/Author/" in inside.detail
    assert f"mount {library} at /calibre" in inside.remedy

    above = links(link_prefix=f"{library.parent}=/srv")
    assert above.ok is True
    assert f"mount {library} at /srv/library" in above.remedy

    beside = links(link_prefix=f"{library}2=/calibre")
    assert beside.ok is False
    assert f"{library}=" in beside.remedy

    assert links(file_mode="copy").ok is None
