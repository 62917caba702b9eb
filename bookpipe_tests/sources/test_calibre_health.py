"""What doctor says about real libraries, whole and broken."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bookpipe.demo.calibre_writer import CalibreWriter, SampleBook
from bookpipe.model.findings import Finding
from bookpipe.sources.calibre import CalibreLibrary
from bookpipe.sources.calibre_health import SAMPLE, examine_library


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Forty books with a file each, the ids with a gap in the middle."""
    path = tmp_path / "library"
    with CalibreWriter(path) as writer:
        for n in range(40):
            writer.add(SampleBook(n + 1 if n < 20 else n + 1000, f"Title {n}", formats=(("TXT", b"words"),)))
    return path


def _findings(library: Path) -> dict[str, Finding]:
    found = examine_library(CalibreLibrary(library, timeout_s=0.05))
    assert len({f.subject for f in found}) == len(found)
    return {f.subject.removeprefix("Calibre: "): f for f in found}


def _tree(path: Path) -> list[tuple[str, int, int]]:
    found = [path, *path.rglob("*")]
    return sorted((str(p), p.lstat().st_mtime_ns, p.lstat().st_size) for p in found)


def test_a_healthy_library_has_nothing_wrong_and_is_not_touched(library: Path) -> None:
    before = _tree(library)
    found = _findings(library)
    assert {s: f.ok for s, f in found.items() if s != "file system"} == {
        "folder": True,
        "metadata.db": True,
        "books": True,
        "files": True,
    }
    assert found["books"].detail == "40, ids 1 to 1039"
    # Ids in the gap lead to the book behind it, once.
    assert found["files"].detail in {f"{n} of {n} sampled files can be read" for n in range(3, SAMPLE + 1)}
    assert _tree(library) == before


def _remove(library: Path) -> None:
    shutil.rmtree(library)


def _remove_database(library: Path) -> None:
    (library / "metadata.db").unlink()


def _corrupt(library: Path) -> None:
    (library / "metadata.db").write_bytes(b"no database at all, but long enough to have a header" * 100)


def _be_old(library: Path) -> None:
    with closing(sqlite3.connect(library / "metadata.db")) as db:
        db.execute("PRAGMA user_version = 5")


def _be_a_file(library: Path) -> None:
    shutil.rmtree(library)
    library.write_text("")


@pytest.mark.parametrize(
    ("damage", "subject", "words"),
    [
        (_remove, "folder", "is not there"),
        (_be_a_file, "folder", "is no folder"),
        (_remove_database, "metadata.db", "no metadata.db"),
        (_corrupt, "metadata.db", "corrupt"),
        (_be_old, "metadata.db", "old format 5"),
    ],
)
def test_what_cannot_be_opened_fails_once_and_skips_what_depends_on_it(
    library: Path, damage: Callable[[Path], None], subject: str, words: str
) -> None:
    damage(library)
    found = _findings(library)
    assert [s for s, f in found.items() if f.ok is False] == [subject]
    assert words in found[subject].detail
    assert found[subject].remedy or "set BOOKPIPE_CALIBRE_LIBRARY" in found[subject].detail
    assert found["books"].ok is None
    assert found["files"].ok is None


def test_a_locked_database_is_a_finding(library: Path) -> None:
    with closing(sqlite3.connect(library / "metadata.db", isolation_level=None)) as calibre:
        calibre.execute("BEGIN EXCLUSIVE")
        found = _findings(library)
    assert found["metadata.db"].ok is False
    assert "locked" in found["metadata.db"].detail
    assert "Calibre" in found["metadata.db"].remedy


def test_a_hot_journal_is_a_finding_and_stays(library: Path, tmp_path: Path) -> None:
    """The state a killed writer leaves: copied while a large transaction is under way."""
    dead = tmp_path / "dead"
    with closing(sqlite3.connect(library / "metadata.db", isolation_level=None)) as calibre:
        calibre.execute("PRAGMA cache_size = 1")
        calibre.execute("CREATE TABLE filler (text)")
        calibre.execute("BEGIN")
        calibre.executemany("INSERT INTO filler VALUES (?)", [("x" * 1000,)] * 2000)
        shutil.copytree(library, dead)
        calibre.execute("ROLLBACK")
    assert (dead / "metadata.db-journal").stat().st_size > 0
    before = _tree(dead)
    found = _findings(dead)
    assert found["metadata.db"].ok is False
    assert "hot journal" in found["metadata.db"].detail
    assert _tree(dead) == before


def test_a_newer_format_is_advice(library: Path) -> None:
    with closing(sqlite3.connect(library / "metadata.db")) as db:
        db.execute("PRAGMA user_version = 28")
    found = _findings(library)
    assert found["metadata.db"].ok is True
    assert "27" in found["metadata.db"].remedy


def test_an_empty_library_is_asked_about(tmp_path: Path) -> None:
    with CalibreWriter(tmp_path / "empty"):
        pass
    found = _findings(tmp_path / "empty")
    assert found["books"].ok is True
    assert "BOOKPIPE_CALIBRE_LIBRARY" in found["books"].remedy
    assert found["files"].ok is True


def test_some_missing_files_are_advice(library: Path) -> None:
    next(library.rglob("Title 0*.txt")).unlink()
    files = _findings(library)["files"]
    assert files.ok is True
    assert "book 1: missing_file" in files.detail
    assert files.remedy


def test_no_file_that_can_be_read_is_a_failure(library: Path) -> None:
    for folder in library.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    files = _findings(library)["files"]
    assert files.ok is False
    assert files.detail.startswith("0 of ")
    assert "mounted" in files.remedy


def _link_out(file: Path) -> None:
    outside = file.parents[3] / "outside.txt"
    outside.write_text("x")
    file.unlink()
    file.symlink_to(outside)


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("change", "words"),
    [(_link_out, "1: the file is really '"), (_pipe, "1: not_a_file"), (_folder, "1: not_a_file")],
)
def test_what_only_looks_like_a_file_is_noticed(library: Path, change: Callable[[Path], None], words: str) -> None:
    change(next(library.rglob("Title 0*.txt")))
    assert words in _findings(library)["files"].detail


def test_a_file_in_another_case_can_be_read(library: Path) -> None:
    file = next(library.rglob("Title 0*.txt"))
    file.rename(file.with_name(file.name.upper()))
    assert _findings(library)["files"].remedy == ""


def test_names_that_are_not_utf8_do_not_matter(library: Path) -> None:
    with closing(sqlite3.connect(library / "metadata.db")) as db:
        db.execute("UPDATE data SET name = CAST(x'ff41' AS text) WHERE book = 1")
        db.commit()
    assert _findings(library)["files"].ok is True


@pytest.mark.skipif(not Path("/proc/mounts").exists(), reason="Linux only")
def test_a_network_file_system_is_told_with_advice(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _findings(library)["file system"].remedy == ""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {os.path.realpath(library)} nfs4 rw 0 0\n")
    monkeypatch.setattr("bookpipe.runtime.file_systems.MOUNTS", mounts)
    told = _findings(library)["file system"]
    assert told.ok is True
    assert "nfs4" in told.detail
    assert "BOOKPIPE_HASH_THREADS" in told.remedy
