"""metadata.db is opened safely: nothing is written, nothing half-written is read, and errors say what to do."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bookpipe.demo.calibre_writer import CalibreWriter, SampleBook
from bookpipe.model.errors import BookpipeError, ConfigError, TerminalError, TransientError
from bookpipe.sources.calibre import CalibreLibrary
from bookpipe.sources.calibre_db import reading, translate
from bookpipe_tests.unprivileged import nobody, open_folder

BOOKS = 30

# A writer that dies in the middle of a transaction, after it had to write changed pages to the database.
_KILLED_WRITER = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 5")
connection.execute("BEGIN IMMEDIATE")
connection.execute("DELETE FROM comments")
connection.executemany(
    "INSERT INTO comments (book, text) VALUES (?, ?)", [(n, "half a change " * 300) for n in range(1, 300)]
)
os._exit(9)
"""

# A program that has a library in WAL mode open until it hears something.
_SERVER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("DELETE FROM books WHERE id = 1")
print("open", flush=True)
sys.stdin.read()
"""


def make_library(path: Path) -> Path:
    with CalibreWriter(path) as writer:
        for n in range(1, BOOKS + 1):
            writer.add(
                SampleBook(id=n, title=f"Book {n}", comments="<p>words</p>" * 100, formats=(("EPUB", b"PK" * n),))
            )
    return path


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return make_library(tmp_path / "Calibre Library")


def connect(library: Path, timeout: float = 0) -> sqlite3.Connection:
    """A connection as another program has it, which gives up at once when the database is locked."""
    return sqlite3.connect(library / "metadata.db", timeout=timeout, isolation_level=None)


def execute(library: Path, *statements: str) -> None:
    with closing(connect(library)) as connection:
        for statement in statements:
            connection.execute(statement)


def titles(library: Path) -> list[str]:
    found: list[str] = CalibreLibrary(library, timeout_s=0.2).read(1, 100).column("title").to_pylist()
    return found


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Times and contents of everything below a folder, and of the folder itself."""
    return {
        str(entry): (entry.stat().st_mtime_ns, entry.read_bytes() if entry.is_file() else b"")
        for entry in [folder, *folder.rglob("*")]
    }


def read_everything(library: Path) -> None:
    calibre = CalibreLibrary(library, timeout_s=0.2)
    calibre.count_books()
    calibre.id_bounds()
    calibre.states(10)
    calibre.state(1, 10)
    assert calibre.read(1, BOOKS).num_rows == BOOKS


def test_reading_leaves_the_library_as_it_was(library: Path) -> None:
    before = snapshot(library)
    read_everything(library)
    assert snapshot(library) == before


def test_nothing_can_be_written_through_the_connection(library: Path) -> None:
    with pytest.raises(ConfigError), reading(library) as db:
        db.execute("DELETE FROM books")
    assert len(titles(library)) == BOOKS


@pytest.mark.parametrize(
    "name", ["with spaces", "what?", "50%", "a%20b", "#1", "Knihovna Ťok", "图书", "a&mode=rw", b"caf\xe9"]
)
def test_a_library_may_have_any_name(tmp_path: Path, name: str | bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    assert len(titles(make_library(path))) == BOOKS


def test_a_library_may_be_given_relative_to_the_working_directory(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(library.parent)
    calibre = CalibreLibrary(Path(library.name))
    monkeypatch.chdir("/")
    rows = calibre.read(1, BOOKS)
    assert rows.num_rows == BOOKS
    assert all(os.path.isfile(path) for path in rows.column("path").to_pylist())


def test_a_library_may_be_a_link(library: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(library)
    assert len(titles(link)) == BOOKS


def _no_folder(library: Path) -> None:
    library.rename(library.with_name("elsewhere"))


def _no_database(library: Path) -> None:
    (library / "metadata.db").unlink()


def _folder_as_database(library: Path) -> None:
    (library / "metadata.db").unlink()
    (library / "metadata.db").mkdir()


def _empty_database(library: Path) -> None:
    (library / "metadata.db").write_bytes(b"")


def _foreign_database(library: Path) -> None:
    (library / "metadata.db").unlink()
    execute(library, "CREATE TABLE bookmarks (id INTEGER PRIMARY KEY)")


def _old_format(library: Path) -> None:
    execute(library, "PRAGMA user_version = 17")


def _not_a_database(library: Path) -> None:
    (library / "metadata.db").write_bytes(b"<html>Quota exceeded</html>" * 400)


def _truncated(library: Path) -> None:
    os.truncate(library / "metadata.db", 5 * 4096)


def _cut_in_the_header(library: Path) -> None:
    os.truncate(library / "metadata.db", 50)


def _overwritten(library: Path) -> None:
    size = (library / "metadata.db").stat().st_size
    with (library / "metadata.db").open("r+b") as database:
        database.seek(4096)
        database.write(b"\xa5" * (size - 4096))


def _missing_table(library: Path) -> None:
    execute(library, "DROP TABLE books_tags_link")


def _missing_column(library: Path) -> None:
    execute(library, "DROP TABLE identifiers", "CREATE TABLE identifiers (id INTEGER, book INTEGER, type TEXT)")


def _hot_journal(library: Path) -> None:
    code = subprocess.run([sys.executable, "-c", _KILLED_WRITER, str(library / "metadata.db")], check=False).returncode
    assert code == 9
    assert (library / "metadata.db-journal").stat().st_size > 0


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (_no_folder, ConfigError, "BOOKPIPE_CALIBRE_LIBRARY"),
        (_no_database, ConfigError, "BOOKPIPE_CALIBRE_LIBRARY"),
        (_folder_as_database, ConfigError, "BOOKPIPE_CALIBRE_LIBRARY"),
        (_empty_database, ConfigError, "BOOKPIPE_CALIBRE_LIBRARY"),
        (_foreign_database, ConfigError, "not made by Calibre"),
        (_old_format, ConfigError, "current Calibre, which upgrades it"),
        (_hot_journal, ConfigError, "Open the library once in Calibre"),
        (_not_a_database, TerminalError, "Restore database"),
        (_truncated, TerminalError, "Restore database"),
        (_cut_in_the_header, ConfigError, "cut short"),
        (_overwritten, TerminalError, "Restore database"),
        (_missing_table, TerminalError, "table books_tags_link"),
        (_missing_column, TerminalError, "columns val of table identifiers"),
    ],
)
def test_a_library_that_cannot_be_read_is_refused_with_its_path_and_a_remedy(
    library: Path, spoil: Callable[[Path], None], error: type[BookpipeError], says: str
) -> None:
    spoil(library)
    with pytest.raises(error) as caught:
        titles(library)
    assert str(library) in str(caught.value)
    assert says in str(caught.value)


def test_a_hot_journal_is_left_for_calibre_to_roll_back(library: Path) -> None:
    _hot_journal(library)
    before = snapshot(library)
    with pytest.raises(ConfigError):
        titles(library)
    assert snapshot(library) == before
    execute(library, "SELECT count(*) FROM books")  # what opening it in Calibre does
    rows = CalibreLibrary(library).read(1, BOOKS)
    assert rows.column("comments").to_pylist() == ["<p>words</p>" * 100] * BOOKS


@pytest.mark.parametrize("version", [18, 25, 27, 99])
def test_newer_formats_are_read_as_long_as_the_columns_are_there(library: Path, version: int) -> None:
    execute(library, f"PRAGMA user_version = {version}")
    assert len(titles(library)) == BOOKS


def test_a_database_locked_for_too_long_is_transient(library: Path) -> None:
    with closing(connect(library)) as calibre:
        calibre.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TransientError, match=r"metadata\.db is locked.*tries again"):
            titles(library)
    assert len(titles(library)) == BOOKS


def test_a_writer_in_the_middle_of_an_edit_does_not_stop_readers(library: Path) -> None:
    with closing(connect(library)) as calibre:
        calibre.execute("BEGIN IMMEDIATE")
        calibre.execute("DELETE FROM books WHERE id = 1")
        assert "Book 1" in titles(library)
        calibre.execute("COMMIT")
    assert "Book 1" not in titles(library)


def test_a_commit_waits_for_no_more_than_one_batch(library: Path) -> None:
    with closing(connect(library)) as calibre:
        with reading(library) as db:
            db.execute("SELECT title FROM books").fetchone()
            calibre.execute("BEGIN IMMEDIATE")
            calibre.execute("DELETE FROM books WHERE id = 1")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                calibre.execute("COMMIT")
        calibre.execute("COMMIT")
    assert len(titles(library)) == BOOKS - 1


def test_a_batch_is_one_moment_of_the_library(library: Path) -> None:
    # The first query of a batch takes the lock, so no commit comes between its queries.
    with closing(connect(library)) as calibre, reading(library) as db:
        assert db.execute("SELECT count(*) FROM books").fetchone()[0] == BOOKS
        calibre.execute("BEGIN IMMEDIATE")
        calibre.execute("DELETE FROM data WHERE book = 1")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            calibre.execute("COMMIT")
        assert db.execute("SELECT count(*) FROM data").fetchone()[0] == BOOKS
        calibre.execute("ROLLBACK")


def test_no_other_reader_in_the_process_loses_its_lock(library: Path) -> None:
    # Closing a descriptor of the file would drop the process's POSIX locks on it.
    writer = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).executescript('DROP TABLE comments')"
    command = [sys.executable, "-c", writer, str(library / "metadata.db")]
    with reading(library) as db:
        db.execute("SELECT title FROM books").fetchone()
        read_everything(library)
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "database is locked" in found.stderr
    assert subprocess.run(command, check=False).returncode == 0


@pytest.fixture
def wal_library(library: Path) -> Path:
    """As some web servers for Calibre libraries leave them."""
    execute(library, "PRAGMA journal_mode = WAL")
    assert not (library / "metadata.db-wal").exists()
    return library


def test_a_wal_library_at_rest_is_read_without_a_trace(wal_library: Path) -> None:
    before = snapshot(wal_library)
    read_everything(wal_library)
    assert snapshot(wal_library) == before


def test_a_wal_library_in_use_is_read_with_its_latest_changes(wal_library: Path) -> None:
    with closing(connect(wal_library)) as server:
        server.execute("DELETE FROM books WHERE id = 1")
        database = (wal_library / "metadata.db").read_bytes()
        assert "Book 1" not in titles(wal_library)
        assert (wal_library / "metadata.db").read_bytes() == database
    assert sorted(f.name for f in wal_library.glob("metadata.db*")) == ["metadata.db"]


@pytest.mark.parametrize("closes", [False, True])
def test_a_wal_library_that_wakes_up_while_it_is_read_is_read_again(wal_library: Path, closes: bool) -> None:
    def read_and_write() -> Iterator[None]:
        with reading(wal_library) as db:
            db.execute("SELECT title FROM books").fetchone()
            server = connect(wal_library)
            server.execute("UPDATE comments SET text = 'new'")
            if closes:
                server.close()
            yield
            server.close()

    with pytest.raises(TransientError, match="tries again"):
        list(read_and_write())
    assert len(titles(wal_library)) == BOOKS


def test_a_wal_library_of_another_user_is_refused_with_the_reason() -> None:
    with open_folder() as folder:
        library = make_library(folder / "library")
        execute(library, "PRAGMA journal_mode = WAL")
        server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, str(library / "metadata.db")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with server:
            assert server.stdout and server.stdout.readline() == "open\n"
            (library / "metadata.db-shm").chmod(0o000)
            with nobody(), pytest.raises(ConfigError) as caught:
                titles(library)
            server.communicate("close")
    assert f"{library / 'metadata.db'} is in WAL mode" in str(caught.value)


def test_a_database_that_may_not_be_read_is_a_matter_of_rights() -> None:
    with open_folder() as folder:
        library = make_library(folder / "library")
        (library / "metadata.db").chmod(0o000)
        with nobody(), pytest.raises(ConfigError, match="may read the file"):
            titles(library)


def test_a_folder_that_may_not_be_entered_is_a_matter_of_rights() -> None:
    with open_folder() as folder:
        library = make_library(folder / "closed" / "library")
        library.parent.chmod(0o000)
        with nobody(), pytest.raises(ConfigError, match="may not see it"):
            titles(library)
        library.parent.chmod(0o755)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("database is locked", TransientError),
        ("database table is locked", TransientError),
        ("disk I/O error", TransientError),
        ("locking protocol", TransientError),
        ("attempt to write a readonly database", ConfigError),
        ("unable to open database file", ConfigError),
        ("file is not a database", TerminalError),
        ("database disk image is malformed", TerminalError),
        ("no such column: title", TerminalError),
    ],
)
def test_what_sqlite_says_is_sorted_by_what_helps(tmp_path: Path, message: str, kind: type[BookpipeError]) -> None:
    error = translate(sqlite3.OperationalError(message), tmp_path / "metadata.db")
    assert type(error) is kind
    assert str(tmp_path / "metadata.db") in str(error)
