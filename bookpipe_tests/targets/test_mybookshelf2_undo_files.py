"""An undo removes the files it may, and whatever interrupts it, the next undo or load finishes it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from pyarrow import compute

from bookpipe.model.errors import ConfigError, TransientError
from bookpipe.model.secrets import Secret
from bookpipe.pipelines.books import look_up
from bookpipe.targets.mybookshelf2.storage import MODES, BookFolder
from bookpipe.targets.mybookshelf2.undo import Undone
from bookpipe_tests.factories import hashed_table
from bookpipe_tests.targets.book_rows import book_rows, many_books
from bookpipe_tests.targets.shelf import Shelf, all_at_once, outcomes
from bookpipe_tests.targets.undoing import everything, journal, put_instead, undo, use


def test_covers_and_thumbnails_go_with_their_ebook(shelf: Shelf, library: Path) -> None:
    before = everything(shelf)
    shelf.load(many_books(library, 1, 10))
    for ebook, base_dir in shelf.sql("SELECT id, base_dir FROM ebook"):
        (shelf.books / base_dir / "cover.jpg").write_bytes(b"c")
        (shelf.data_dir / "thumbs" / f"{ebook}.jpg").write_bytes(b"t")
    shelf.sql("UPDATE ebook SET cover = base_dir || '/cover.jpg', version_id = 2, description = 'edited'")
    shelf.sql("UPDATE author SET first_name = 'Corrected'")
    sources = shelf.one("SELECT count(*) FROM source")
    assert undo(shelf).files == sources + 20
    assert everything(shelf) == before


def test_a_cover_elsewhere_or_of_another_book_stays(shelf: Shelf, library: Path, tmp_path: Path) -> None:
    """The application gives two books of one folder one cover; and a cover may be any text."""
    shelf.load(hashed_table([row for n in range(1, 5) for row in book_rows(library, n, f"B{n}")]))
    folders: dict[str, str] = dict(shelf.sql("SELECT title, base_dir FROM ebook"))
    for base_dir in folders.values():
        (shelf.books / base_dir / "cover.jpg").write_bytes(b"c")
    (tmp_path / "outside.jpg").write_bytes(b"o")
    (shelf.books / "shared.jpg").write_bytes(b"s")
    for title, cover in {
        "B1": f"{folders['B1']}/cover.jpg",
        "B2": f"{folders['B2']}/../../../../outside.jpg",
        "B3": str(tmp_path / "outside.jpg"),
        "B4": "shared.jpg",
    }.items():
        shelf.sql("UPDATE ebook SET cover = %s WHERE title = %s", cover, title)
    use(shelf, "ebook", title="Theirs", language_id=2, base_dir=folders["B1"], cover=f"{folders['B1']}/cover.jpg")
    assert undo(shelf) == Undone(ebooks=4, sources=4, files=4, authors=1, changed_files=1)
    assert (tmp_path / "outside.jpg").exists()
    assert sorted(path for path, what in shelf.tree(ids=True) if what != "folder") == sorted(
        ["books/shared.jpg", *(f"books/{base_dir}/cover.jpg" for base_dir in folders.values())]
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_file_that_is_not_what_was_placed_stays(shelf: Shelf, library: Path, mode: str) -> None:
    table = many_books(library, 1, 10)
    shelf.load(table, target=shelf.using(file_mode=mode))
    locations = [location for (location,) in shelf.sql("SELECT location FROM source ORDER BY id")]
    place = put_instead(shelf, locations[0])
    missing = shelf.books / locations[1]
    missing.unlink()
    done = undo(shelf, file_mode=mode)
    assert (done.files, done.changed_files, done.sources) == (len(locations) - 2, 1, len(locations))
    assert [path for path, what in shelf.tree(ids=True) if what != "folder"] == [os.path.relpath(place, shelf.data_dir)]
    assert place.read_bytes() == b"with notes of mine"
    assert shelf.one("SELECT count(*) FROM source") == 0


@pytest.mark.parametrize("mode", MODES)
def test_the_collection_itself_is_never_touched(shelf: Shelf, library: Path, mode: str) -> None:
    table = many_books(library, 1, 20)
    content = {path: path.read_bytes() for path in library.rglob("*") if path.is_file()}
    shelf.load(table, target=shelf.using(file_mode=mode))
    undo(shelf)  # whatever mode is set by now
    assert {path: path.read_bytes() for path in library.rglob("*") if path.is_file()} == content
    assert [path for path, what in shelf.tree() if what != "folder"] == []


def test_nothing_is_removed_through_a_linked_folder(shelf: Shelf, library: Path, tmp_path: Path) -> None:
    shelf.load(hashed_table(book_rows(library, 1)))
    shelf.sql("UPDATE ebook SET cover = base_dir || '/cover.jpg'")
    (shelf.books / shelf.one("SELECT cover FROM ebook")).touch()
    (shelf.books / "Author Ann").rename(tmp_path / "elsewhere")
    (shelf.books / "Author Ann").symlink_to(tmp_path / "elsewhere")
    done = undo(shelf)
    assert (done.ebooks, done.files, done.changed_files) == (1, 0, 2)
    assert len([path for path in (tmp_path / "elsewhere").rglob("*") if not path.is_dir()]) == 2


def test_thumbnails_on_another_disk_go_too(shelf: Shelf, library: Path, tmp_path: Path) -> None:
    (shelf.data_dir / "thumbs").rename(tmp_path / "thumbs")
    (shelf.data_dir / "thumbs").symlink_to(tmp_path / "thumbs")
    shelf.load(hashed_table(book_rows(library, 1)))
    (tmp_path / "thumbs" / f"{shelf.one('SELECT id FROM ebook')}.jpg").touch()
    (tmp_path / "thumbs" / "7777.jpg").touch()
    undo(shelf)
    assert os.listdir(tmp_path / "thumbs") == ["7777.jpg"]


# Interruptions


def _ends_as_undone(shelf: Shelf, before: tuple[Any, Any], entries: dict[str, Any]) -> None:
    assert everything(shelf) == before
    assert journal(shelf) == entries


@pytest.mark.parametrize("healer", ["undo", "load"])
def test_an_undo_killed_before_its_files_went_is_finished_by_the_next(
    used_shelf: Shelf, library: Path, healer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, entries = everything(used_shelf), journal(used_shelf)
    used_shelf.load(many_books(library, 1, 30))
    with monkeypatch.context() as patch:
        patch.setattr(BookFolder, "remove_undone", _killed)
        with pytest.raises(KeyboardInterrupt):
            undo(used_shelf)
    assert used_shelf.exactly() == before[0]
    assert used_shelf.tree(ids=True) != before[1]
    if healer == "undo":
        assert undo(used_shelf) == Undone()
    else:
        used_shelf.load(hashed_table([]))
    _ends_as_undone(used_shelf, before, entries)


def _killed(*arguments: object) -> int:
    raise KeyboardInterrupt


def test_files_that_got_rows_since_an_undo_was_killed_stay(
    shelf: Shelf, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application makes a book of the same name: it writes its cover over ours."""
    shelf.load(hashed_table(book_rows(library, 1)))
    base_dir = shelf.one("SELECT base_dir FROM ebook")
    shelf.sql("UPDATE ebook SET cover = base_dir || '/cover.jpg'")
    (shelf.books / base_dir / "cover.jpg").write_bytes(b"ours")
    with monkeypatch.context() as patch:
        patch.setattr(BookFolder, "remove_undone", _killed)
        with pytest.raises(KeyboardInterrupt):
            undo(shelf)
    (shelf.books / base_dir / "cover.jpg").write_bytes(b"theirs")
    use(shelf, "ebook", title="A Title", language_id=2, base_dir=base_dir, cover=f"{base_dir}/cover.jpg")
    undo(shelf)
    assert os.listdir(shelf.books / base_dir) == ["cover.jpg"]
    assert shelf.placements() == 0


@pytest.mark.parametrize("place", ["ebook", "ebook_rating", "bookpipe.book", "bookpipe.placement"])
def test_an_undo_whose_connection_is_cut_can_be_repeated(used_shelf: Shelf, library: Path, place: str) -> None:
    before, entries = everything(used_shelf), journal(used_shelf)
    used_shelf.load(many_books(library, 1, 30))
    mode = "ACCESS EXCLUSIVE" if place == "ebook_rating" else "SHARE"
    with used_shelf.holding(place, mode) as hold, hold.before(undo, used_shelf, create_indexes=False) as undoing:
        hold.kill_loaders()
        assert isinstance(undoing.exception(), TransientError)
    undo(used_shelf)
    _ends_as_undone(used_shelf, before, entries)


@pytest.mark.parametrize("place", ["bookpipe.book", "bookpipe.placement"])
def test_an_undo_whose_process_is_killed_can_be_repeated(used_shelf: Shelf, library: Path, place: str) -> None:
    before, entries, triggers = everything(used_shelf), journal(used_shelf), used_shelf.triggers()
    used_shelf.load(many_books(library, 1, 30))
    script = (
        "import sys; from pathlib import Path; from bookpipe.model.secrets import Secret;"
        "from bookpipe.targets.mybookshelf2.server import MyBookshelf2;"
        "from bookpipe.targets.mybookshelf2.undo import undo_partition;"
        "undo_partition(MyBookshelf2(Secret(sys.argv[1]), Path(sys.argv[2])), 'calibre', 'books-1')"
    )
    command = [sys.executable, "-c", script, used_shelf.url, str(used_shelf.data_dir)]
    with used_shelf.holding(place) as hold, subprocess.Popen(command) as process:
        hold.wait_for_loader()
        process.kill()
        process.wait()
    undo(used_shelf)
    _ends_as_undone(used_shelf, before, entries)
    assert used_shelf.triggers() == triggers


def test_undo_and_loads_at_once_take_turns(used_shelf: Shelf, library: Path) -> None:
    before = everything(used_shelf)
    tables = {f"books-{n}": many_books(library, n * 1_000, 40) for n in (1, 2, 3)}
    for partition, table in tables.items():
        used_shelf.load(table, partition)
    results = all_at_once(
        lambda: undo(used_shelf, "books-1"),
        lambda: undo(used_shelf, "books-2"),
        lambda: used_shelf.load(tables["books-3"], "books-3"),
        lambda: undo(used_shelf, "books-1"),
        lambda: undo(used_shelf, "books-3", dry_run=True),
    )
    assert [r for r in results if isinstance(r, BaseException)] == []
    assert outcomes(used_shelf.load(tables["books-3"], "books-3")) == ["existing"] * tables["books-3"].num_rows
    undo(used_shelf, "books-3")
    assert everything(used_shelf) == before


# Roles


def test_a_role_without_the_right_to_delete_is_told_so(shelf: Shelf, library: Path) -> None:
    table: pa.Table = many_books(library, 1, 10)
    shelf.load(table)
    with psycopg.connect(shelf.superuser_url, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'keeper'").fetchone():
            connection.execute("CREATE ROLE keeper LOGIN PASSWORD 'keeper'")
        connection.execute(
            "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO keeper; GRANT USAGE ON SCHEMA bookpipe TO "
            "keeper; GRANT ALL ON ALL TABLES IN SCHEMA bookpipe TO keeper; "
            "GRANT USAGE ON ALL SEQUENCES IN SCHEMA bookpipe TO keeper"
        )
    before, entries = everything(shelf), journal(shelf)
    keeper = Secret(shelf.url.replace("ebooks:ebooks", "keeper:keeper"))
    with pytest.raises(ConfigError, match="permission denied"):
        undo(shelf, url=keeper)
    assert (everything(shelf), journal(shelf)) == (before, entries)
    shelf.sql("GRANT DELETE ON ALL TABLES IN SCHEMA public TO keeper")
    assert undo(shelf, url=keeper).ebooks > 0
    assert look_up(shelf.target, table).filter(compute.field("kind") == "sources").num_rows == 0
    assert shelf.one("SELECT count(*) FROM ebook") == 0
