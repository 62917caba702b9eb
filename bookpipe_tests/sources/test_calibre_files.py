"""A book's file is found where the library says, or where a person would look for it; never outside the library."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.model.rejections import Reason
from bookpipe.sources.calibre import file_path, find_file, folder_path
from bookpipe_tests.unprivileged import nobody, open_folder

NFC, NFD = unicodedata.normalize("NFC", "Čapek Žluťoučký"), unicodedata.normalize("NFD", "Čapek Žluťoučký")


def put(library: Path, *files: str) -> None:
    for name in files:
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_bytes(b"a book")


def find(library: Path, wanted: str) -> str | Reason:
    """What stands for a file, relative to the library."""
    found = find_file(os.fsencode(library / wanted))
    return found if isinstance(found, Reason) else os.path.relpath(os.fsdecode(found), library)


@pytest.mark.parametrize(
    ("files", "wanted", "found"),
    [
        (["A/T/b.EPUB"], "A/T/b.epub", "A/T/b.EPUB"),
        (["A/T/B - C.epub"], "A/T/b - c.epub", "A/T/B - C.epub"),
        (["A/T/ČAPEK.epub"], "A/T/čapek.epub", "A/T/ČAPEK.epub"),
        (["A/T/other.epub"], "A/T/b.epub", "A/T/other.epub"),
        (["A/T/other.EPUB", "A/T/b.pdf", "A/T/cover.jpg"], "A/T/b.epub", "A/T/other.EPUB"),
        (["A/T/B.epub", "A/T/other.epub"], "A/T/b.epub", "A/T/B.epub"),
        (["A/T/._b.epub", "A/T/c.epub"], "A/T/b.epub", "A/T/c.epub"),
        (["A/T/._b.epub"], "A/T/b.epub", Reason.MISSING_FILE),
        (["A/T/c.epub", "A/T/d.epub"], "A/T/b.epub", Reason.MISSING_FILE),
        (["A/T/b.pdf"], "A/T/b.epub", Reason.MISSING_FILE),
        (["A/T/b.epub.bak", "A/T/epub"], "A/T/b.epub", Reason.MISSING_FILE),
        (["A/T/b.epub/page.html"], "A/T/B.epub", Reason.MISSING_FILE),
        (["a/T/b.epub"], "A/T/b.epub", "a/T/b.epub"),
        (["A/t/b.epub"], "A/T/b.epub", "A/t/b.epub"),
        (["a/t/B.EPUB"], "A/T/b.epub", "a/t/B.EPUB"),
        (["A/other/b.epub", "a/T/b.epub"], "A/T/b.epub", Reason.MISSING_DIR),
        (["a/x/b.epub", "aA/T/b.epub"], "A/T/b.epub", Reason.MISSING_DIR),
        (["Aa/T/c.pdf", "aA/T/b.epub"], "AA/T/b.epub", "aA/T/b.epub"),
        (["B/T/b.epub"], "A/T/b.epub", Reason.MISSING_DIR),
        (["A/T2/b.epub"], "A/T/b.epub", Reason.MISSING_DIR),
        (["A/T"], "A/T/b.epub", Reason.MISSING_DIR),
        (["A"], "A/T/b.epub", Reason.MISSING_DIR),
        ([f"{NFD}/{NFD} (1)/{NFD}.epub"], f"{NFC}/{NFC} (1)/{NFC}.epub", f"{NFD}/{NFD} (1)/{NFD}.epub"),
        ([f"{NFC}/{NFC} (1)/{NFC}.epub"], f"{NFD}/{NFD} (1)/{NFD}.epub", f"{NFC}/{NFC} (1)/{NFC}.epub"),
        ([f"A/T/{NFD}.EPUB", "A/T/x.epub"], f"A/T/{NFC.upper()}.epub", f"A/T/{NFD}.EPUB"),
    ],
)
def test_a_file_is_found_by_its_name_and_then_by_its_kind(
    tmp_path: Path, files: list[str], wanted: str, found: str | Reason
) -> None:
    put(tmp_path, *files)
    assert find(tmp_path, wanted) == found


def test_the_choice_between_two_spellings_is_always_the_same(tmp_path: Path) -> None:
    put(tmp_path, "A/T/b.Epub", "A/T/B.epub", "A/T/b.EPUB")
    assert find(tmp_path, "A/T/b.epub") == "A/T/B.epub"


def test_undecodable_names_are_found_in_another_case(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/A/T \xff"
    os.makedirs(folder)
    Path(os.fsdecode(folder + b"/caf\xe9.EPUB")).write_bytes(b"a book")
    assert find_file(os.fsencode(tmp_path) + b"/a/t \xff/caf\xe9.epub") == folder + b"/caf\xe9.EPUB"


def test_dangling_links_and_loops_are_no_files(tmp_path: Path) -> None:
    put(tmp_path, "A/T/cover.jpg")
    (tmp_path / "A/T/x.epub").symlink_to("nowhere")
    (tmp_path / "A/T/loop").symlink_to("loop")
    assert find(tmp_path, "A/T/x.epub") == Reason.MISSING_FILE
    put(tmp_path, "A/T/y.epub")
    assert find(tmp_path, "A/T/x.epub") == "A/T/y.epub"


def test_a_library_that_is_gone_has_no_files(tmp_path: Path) -> None:
    assert find(tmp_path / "gone", "A/T/b.epub") in (Reason.MISSING_FILE, Reason.MISSING_DIR)


def test_a_folder_that_may_not_be_listed_is_unreadable() -> None:
    with open_folder() as library:
        put(library, "A/T/b.EPUB")
        (library / "A/T").chmod(0o711)
        with nobody():
            assert find(library, "A/T/b.epub") == Reason.UNREADABLE_FILE


def test_a_long_first_level_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, *(f"Author {n}/T/b.epub" for n in range(50)))
    listed: list[bytes] = []
    listdir = os.listdir

    def counting(folder: bytes) -> list[bytes]:
        listed.append(folder)
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", counting)
    os.utime(tmp_path, (0, 0))  # so that the change below cannot fall into the same tick of the clock
    for n in range(50):
        assert find(tmp_path, f"author {n}/T/b.epub") == f"Author {n}/T/b.epub"
    assert listed.count(os.fsencode(tmp_path)) == 1
    (tmp_path / "Author 7").rename(tmp_path / "AUTHOR 7")
    assert find(tmp_path, "author 7/T/b.epub") == "AUTHOR 7/T/b.epub"


@given(st.binary(max_size=40), st.binary(max_size=20), st.binary(max_size=10))
def test_no_path_leads_out_of_the_library(book_path: bytes, name: bytes, extension: bytes) -> None:
    folder = folder_path(b"/library", book_path)
    path = file_path(folder, name, extension) if isinstance(folder, bytes) else folder
    if isinstance(path, bytes):
        assert b"\0" not in path
        assert os.path.normpath(path) == path
        assert path.startswith(b"/library/")
        assert os.path.dirname(path) == b"/library/" + book_path
        assert all(len(part) <= 255 for part in path.split(b"/"))
