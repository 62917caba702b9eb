"""Undoing a partition takes away what its loads made, and nothing that was there before or somebody uses now."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from bookpipe.model.errors import ConfigError, TransientError
from bookpipe.model.secrets import Secret
from bookpipe.pipelines.books import look_up
from bookpipe.resolve.books import BookOptions
from bookpipe.targets.mybookshelf2.shards import ChunkEntry, Identity, ShardJournal
from bookpipe.targets.mybookshelf2.storage import MODES, BookFolder
from bookpipe.targets.mybookshelf2.undo import Undone, undo_partition
from bookpipe_tests.factories import hashed_table, record_row
from bookpipe_tests.targets.book_rows import ORIGIN, book_rows, many_books
from bookpipe_tests.targets.shelf import Shelf, all_at_once, outcomes

JOURNAL = ("load", "book", "file", "created", "placement", "origin")
GENRES = BookOptions(create_genres=True)


def undo(shelf: Shelf, partition: str = "books-1", *, dry_run: bool = False, **settings: Any) -> Undone:
    return undo_partition(shelf.using(**settings), "calibre", partition, dry_run=dry_run)


def journal(shelf: Shelf) -> dict[str, Any]:
    """All entries, those of a kind and load together."""
    found = {table: sorted(shelf.sql(f"SELECT * FROM bookpipe.{table}"), key=repr) for table in JOURNAL}
    found["created"] = shelf.sql(
        "SELECT load_id, kind, array_agg(i ORDER BY i) FROM bookpipe.created, unnest(ids) AS i "
        "GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return found


def everything(shelf: Shelf) -> tuple[Any, Any]:
    return shelf.exactly(), shelf.tree(ids=True)


def use(shelf: Shelf, table: str, **columns: Any) -> None:
    """A row the application adds."""
    values = {"version_id": 1, "created": "now", "modified": "now", **columns}
    marks = ", ".join(["%s"] * len(values))
    names = ", ".join(f'"{name}"' for name in values)
    shelf.sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", *values.values())


def book(shelf: Shelf, title: str) -> int:
    return int(shelf.one("SELECT id FROM ebook WHERE title = %s", title))


@pytest.fixture
def used(shelf: Shelf, library: Path) -> Shelf:
    """A shelf somebody uses already: books of the application, and of an earlier partition."""
    shelf.load(many_books(library, 9_001, 20), "books-0", options=GENRES)
    use(shelf, "author", last_name="Last1", first_name="First1")
    use(shelf, "author", last_name="Of No", first_name="Book")
    use(shelf, "series", title="Of no book")
    use(shelf, "ebook", title="Theirs", language_id=2, base_dir="Last1 First1/Theirs(en)")
    use(shelf, "source", ebook_id=book(shelf, "Theirs"), location="Last1 First1/Theirs(en)/t.epub", format_id=8,
        size=1, hash="x")  # fmt: skip
    folder = shelf.books / "Last1 First1" / "Theirs(en)"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("t.epub", "cover.jpg"):
        (folder / name).write_bytes(b"t")
    (shelf.data_dir / "thumbs" / "1000000.jpg").touch()
    return shelf


# All of it, and nothing else


@pytest.mark.parametrize("mode", MODES)
def test_an_undone_partition_was_never_there(used: Shelf, library: Path, mode: str) -> None:
    before, entries = everything(used), journal(used)
    target, table = used.using(file_mode=mode), many_books(library, 1, 60)
    rows = [*table.to_pylist(), *book_rows(library, 777, "Own", languages=["lat"], tags=["Own tag"], series="Own",
                                           authors=["Own Author"], files={"kepub": b"own"}),
            record_row(origin=ORIGIN, item=778, title="A record")]  # fmt: skip
    result = used.load(hashed_table(rows), target=target, options=GENRES)
    done = undo(used, file_mode=mode)
    assert everything(used) == before
    assert journal(used) == entries
    assert done == Undone(
        ebooks=result.new_ebooks, sources=result.counts.inserted - 1, files=result.counts.inserted - 1,
        authors=result.new_authors, series=result.new_series, languages=1, genres=1, formats=1,
    )  # fmt: skip


def test_what_is_undone_can_be_loaded_again(shelf: Shelf, another_shelf: Shelf, library: Path) -> None:
    table = many_books(library, 1, 60)
    for _ in range(2):
        shelf.load(table)
        undo(shelf)
    shelf.load(table)
    another_shelf.load(table)
    assert shelf.meaning() == another_shelf.meaning()
    assert shelf.tree() == another_shelf.tree()


def test_a_partition_loaded_in_several_runs_is_undone_whole(used: Shelf, library: Path) -> None:
    before, table = everything(used), many_books(library, 1, 60)
    for last in (10, 40, table.num_rows):
        used.load(table.slice(0, last))
    assert used.one("SELECT count(*) FROM bookpipe.load WHERE partition = 'books-1'") == 3
    undo(used)
    assert everything(used) == before


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_undoing_all_of_some_overlapping_partitions_leaves_nothing(
    shelf: Shelf, library: Path, order: tuple[int, int]
) -> None:
    """What the one made and the other uses stays with the first undo and goes with the second."""
    shelf.load(hashed_table([]), "nothing")
    before, entries = everything(shelf), journal(shelf)
    kinds = {"epub": b"e", "kepub": b"k"}
    own = book_rows(library, 500, "Own", series="S", languages=["lat"], tags=["T"], files=kinds)
    shelf.load(hashed_table([*own, *many_books(library, 1, 60).to_pylist()]), "books-1", options=GENRES)
    # Files of 30 of the books by another path, 30 more books, and one with the same names and other bytes.
    kinds = {"epub": b"E", "kepub": b"K"}
    own = book_rows(library, 501, "Own", series="S", languages=["lat"], tags=["T"], files=kinds)
    more = many_books(library / "elsewhere", 31, 60).to_pylist()
    shelf.load(hashed_table([*own, *more]), "books-2", options=GENRES)
    undo(shelf, f"books-{order[0]}")
    for kind in ("author", "series", "language", "genre", "format"):
        named = "SELECT count(*) FROM bookpipe.created, unnest(ids) AS i JOIN {0} n ON n.id = i WHERE kind = '{0}'"
        assert shelf.one(named.format(kind)) > 0
    undo(shelf, f"books-{order[1]}")
    assert everything(shelf) == before
    assert journal(shelf) == entries


@pytest.mark.parametrize("undone", [1, 2])
def test_undoing_one_of_two_overlapping_partitions_leaves_the_other(
    shelf: Shelf, another_shelf: Shelf, library: Path, undone: int
) -> None:
    """Authors, series, languages and genres are shared; files and books are not."""
    tables = {1: many_books(library, 1, 60), 2: many_books(library, 1_001, 60)}
    tables[2] = hashed_table([row | {"title": f"{row['title']} II"} for row in tables[2].to_pylist()])
    for number, table in tables.items():
        shelf.load(table, f"books-{number}", options=GENRES)
    undo(shelf, f"books-{undone}")
    left = 3 - undone
    another_shelf.load(tables[left], f"books-{left}", options=GENRES)
    assert shelf.meaning() == another_shelf.meaning()
    assert shelf.tree() == another_shelf.tree()
    assert outcomes(shelf.load(tables[left], f"books-{left}")) == ["existing"] * tables[left].num_rows


def test_a_book_that_another_partition_added_a_file_to_loses_only_ours(shelf: Shelf, library: Path) -> None:
    ours = book_rows(library, 1, "Both", files={"epub": b"e"})
    both = book_rows(library, 1, "Both", files={"epub": b"e", "pdf": b"p"})
    shelf.load(hashed_table(ours), "books-1")
    shelf.load(hashed_table(both), "books-2")
    assert undo(shelf, "books-1") == Undone(sources=1, files=1, shared=1)
    assert shelf.sql("SELECT title, extension FROM ebook e JOIN source s ON s.ebook_id = e.id "
                     "JOIN format f ON f.id = format_id") == [("Both", "pdf")]  # fmt: skip
    # The book is the other partition's now, also for a later load of ours.
    assert undo(shelf, "books-1") == Undone()
    assert shelf.load(hashed_table(both), "books-1").new_ebooks == 0
    assert undo(shelf, "books-2") == Undone(sources=1, files=1, shared=1)
    assert undo(shelf, "books-1") == Undone(ebooks=1, sources=1, files=1, authors=1)
    assert shelf.one("SELECT count(*) FROM bookpipe.load") == shelf.one("SELECT count(*) FROM author") == 0


def test_undoing_twice_is_safe(used: Shelf, library: Path) -> None:
    used.load(many_books(library, 1, 30))
    undo(used)
    before, entries = everything(used), journal(used)
    assert undo(used) == Undone()
    assert (everything(used), journal(used)) == (before, entries)


def test_a_partition_that_was_never_loaded_has_nothing_to_undo(shelf: Shelf, library: Path) -> None:
    assert undo(shelf, dry_run=True) == Undone()
    assert shelf.one("SELECT to_regnamespace('bookpipe') IS NULL") is True
    assert undo(shelf) == Undone()
    shelf.load(many_books(library, 1, 10))
    before = everything(shelf)
    assert undo(shelf, "books-10") == undo_partition(shelf.target, "tars", "books-1") == Undone()
    assert everything(shelf) == before


@pytest.mark.parametrize("in_use", [False, True])
def test_a_shard_is_loaded_from_its_beginning_after_an_undo(shelf: Shelf, library: Path, in_use: bool) -> None:
    """While a book of it is left, members keep the numbers of their generation."""
    first, later = Identity("tar", 100, 1), Identity("tar", 200, 2)
    shelf.load(hashed_table([*book_rows(library, 1, "One"), *book_rows(library, 2, "Two")]))
    if in_use:
        use(shelf, "ebook_rating", ebook_id=book(shelf, "One"), rating=80)
    with shelf.target.writing() as writer:
        shard = ShardJournal(writer.journal, "calibre", "books-1")
        shard.begin(first, writer.folder, "x")
        assert shard.begin(later, writer.folder, "x").generation == 2
        entry = ChunkEntry("", "512", False, [1], [1], ["inserted"], [], [], 512, None)
        with writer.connection.transaction():
            assert shard.commit(later, 2, entry)
    undo(shelf)
    with shelf.target.writing() as writer:
        state = ShardJournal(writer.journal, "calibre", "books-1").begin(later, writer.folder, "x")
    assert (state.generation, state.chunks, state.resume) == (2 if in_use else 1, 0, "")


# A dry run


def test_a_dry_run_says_what_an_undo_then_does_and_writes_nothing(used: Shelf, library: Path) -> None:
    used.load(many_books(library, 1, 60), options=GENRES)
    use(used, "ebook_rating", ebook_id=used.one("SELECT max(ebook_id) FROM bookpipe.book WHERE item = 7"), rating=80)
    _put_instead(used, used.one("SELECT min(location) FROM source WHERE load_source = 'book 8.epub'"))
    before, entries = everything(used), journal(used)
    relations = used.one("SELECT count(*) FROM pg_class")
    with used.holding("ebook", "SHARE ROW EXCLUSIVE"):  # it waits for nobody
        said = undo(used, dry_run=True)
    assert (everything(used), journal(used)) == (before, entries)
    assert used.one("SELECT count(*) FROM pg_class") == relations
    assert undo(used) == said
    assert said.in_use == said.changed_files == 1


# What somebody uses


def _rated(shelf: Shelf, ebook: int) -> None:
    use(shelf, "ebook_rating", ebook_id=ebook, rating=80)


def _shelved(shelf: Shelf, ebook: int) -> None:
    use(shelf, "bookshelf", name="Holidays")
    use(shelf, "bookshelf_item", type="EBOOK", bookshelf_id=shelf.one("SELECT max(id) FROM bookshelf"), ebook_id=ebook)


def _converted(shelf: Shelf, ebook: int) -> None:
    source = shelf.one("SELECT max(id) FROM source WHERE ebook_id = %s", ebook)
    use(shelf, "conversion", source_id=source, location="1/x.mobi", format_id=6)


def _judged(shelf: Shelf, ebook: int) -> None:
    source = shelf.one("SELECT max(id) FROM source WHERE ebook_id = %s", ebook)
    use(shelf, "source_quality", source_id=source, quality=50)


@pytest.mark.parametrize("touch", [_rated, _shelved, _converted, _judged])
def test_a_book_in_use_stays_whole_until_it_is_in_use_no_more(shelf: Shelf, library: Path, touch: Any) -> None:
    rows = [*book_rows(library, 1, "Used", series="S", authors=["A One"], languages=["lat"], tags=["Own tag"],
                       files={"kepub": b"k", "epub": b"e"}),
            *book_rows(library, 2, "Unused", authors=["A One", "A Two"])]  # fmt: skip
    shelf.load(hashed_table(rows), options=GENRES)
    touch(shelf, book(shelf, "Used"))
    assert undo(shelf) == Undone(ebooks=1, sources=1, files=1, authors=1, in_use=1)
    assert [row[0] for row in shelf.sql("SELECT title FROM ebook")] == ["Used"]
    for (location,) in shelf.sql("SELECT location FROM source"):
        assert (shelf.books / location).exists()
    assert shelf.one("SELECT count(*) FROM source") == 2
    assert undo(shelf) == Undone(in_use=1)
    # Loading again completes the partition without a second copy of what stayed.
    assert outcomes(shelf.load(hashed_table(rows), options=GENRES)) == ["existing", "existing", "inserted"]
    for table in ("ebook_rating", "bookshelf_item", "conversion", "source_quality"):
        shelf.sql(f"DELETE FROM {table}")
    assert undo(shelf) == Undone(
        ebooks=2, sources=3, files=3, authors=2, series=1, languages=1, genres=1, formats=1
    )  # fmt: skip
    assert shelf.one("SELECT count(*) FROM bookpipe.load") == 0


def test_a_book_somebody_added_a_file_to_stays_with_that_file(shelf: Shelf, library: Path) -> None:
    shelf.load(hashed_table(book_rows(library, 1, "Both", series="S")))
    ebook, base_dir = shelf.sql("SELECT id, base_dir FROM ebook")[0]
    use(shelf, "source", ebook_id=ebook, location=f"{base_dir}/theirs.pdf", format_id=1, size=1, hash="x")
    for name in ("theirs.pdf", "cover.jpg"):
        (shelf.books / base_dir / name).write_bytes(b"t")
    (shelf.data_dir / "thumbs" / f"{ebook}.jpg").touch()
    shelf.sql("UPDATE ebook SET cover = base_dir || '/cover.jpg'")
    text = shelf.one("SELECT full_text FROM ebook")
    assert undo(shelf) == Undone(sources=1, files=1, shared=1)
    assert sorted(os.listdir(shelf.books / base_dir)) == ["cover.jpg", "theirs.pdf"]
    assert (shelf.data_dir / "thumbs" / f"{ebook}.jpg").exists()
    assert shelf.sql("SELECT title, full_text FROM ebook JOIN ebook_authors ON ebook_id = id") == [("Both", text)]
    assert undo(shelf) == Undone(shared=1)
    shelf.sql("DELETE FROM source")
    assert undo(shelf) == Undone(ebooks=1, files=2, authors=1, series=1)


def test_our_file_of_somebody_elses_book_goes_unless_it_was_converted(shelf: Shelf, library: Path) -> None:
    rows = book_rows(library, 1, "Dune", files={"epub": b"same", "pdf": b"p", "mobi": b"m"})
    use(shelf, "author", last_name="Author", first_name="Ann")
    use(shelf, "ebook", title="Dune", language_id=2, base_dir="Theirs")
    shelf.sql("INSERT INTO ebook_authors SELECT e.id, a.id FROM ebook e, author a")
    use(shelf, "source", ebook_id=book(shelf, "Dune"), location="Theirs/d.epub", format_id=8, size=4,
        hash=rows[0]["sha1"])  # fmt: skip
    before = shelf.exactly()
    result = shelf.load(hashed_table(rows))
    assert (outcomes(result), result.new_ebooks) == (["existing", "inserted", "inserted"], 0)
    use(shelf, "conversion", source_id=result.outcomes["source_id"][2].as_py(), location="1/x", format_id=8)
    assert undo(shelf) == Undone(sources=1, files=1)
    shelf.sql("DELETE FROM conversion")
    assert undo(shelf) == Undone(sources=1, files=1)
    assert shelf.exactly() == before


_USES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a rated series": ("series", "series_rating", {"series_id": "series", "rating": 50}),
    "a format somebody converts to": ("formats", "conversion_batch", {"name": "x", "format_id": "format"}),
    "a format somebody uploads": (
        "formats", "upload", {"file": "x", "size": 1, "hash": "x", "format_id": "format"}
    ),
    "a language with a synonym": (
        "languages", "synonym", {"other_name": "lateinisch", "our_name": "la", "category": "LNG"}
    ),
    "a genre with a synonym": ("genres", "synonym", {"other_name": "x", "our_name": "Own tag", "category": "GNR"}),
    "an author of somebody's book": ("authors", "ebook_authors", {"ebook_id": "theirs", "author_id": "author"}),
    "a genre of somebody's book": ("genres", "ebook_genres", {"ebook_id": "theirs", "genre_id": "genre"}),
}  # fmt: skip


@pytest.mark.parametrize("what", _USES)
def test_a_name_that_something_else_uses_stays(shelf: Shelf, library: Path, what: str) -> None:
    count, table, columns = _USES[what]
    use(shelf, "ebook", title="Theirs", language_id=2, base_dir="Theirs")
    ids = {"theirs": book(shelf, "Theirs")}
    shelf.load(
        hashed_table(book_rows(library, 1, series="S", languages=["lat"], tags=["Own tag"], files={"kepub": b"k"})),
        options=GENRES,
    )
    for kind in ("author", "series", "language", "genre", "format"):
        ids[kind] = shelf.one("SELECT ids[1] FROM bookpipe.created WHERE kind = %s", kind)
    values = {name: ids.get(value, value) for name, value in columns.items()}
    plain = table in ("synonym", "ebook_authors", "ebook_genres")
    values |= {} if plain else {"created": "now", "modified": "now"}
    values |= {} if table.startswith("ebook_") else {"version_id": 1}
    shelf.sql(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})", *values.values())
    all_of_it = Undone(ebooks=1, sources=1, files=1, authors=1, series=1, languages=1, genres=1, formats=1)
    assert undo(shelf) == replace(all_of_it, **{count: 0})
    shelf.sql(f"DELETE FROM {table}")
    assert undo(shelf) == Undone(**{count: 1})


def test_what_somebody_adds_while_the_undo_waits_is_not_swept_away(shelf: Shelf, library: Path) -> None:
    """Deleting an ebook would delete its sources, deleting an author their links: the undo looks again first."""
    shelf.load(hashed_table([*book_rows(library, 1, "One"), *book_rows(library, 2, "Two", authors=["B Two"])]))
    with (
        shelf.transaction(
            "INSERT INTO source (version_id, ebook_id, location, format_id, size, hash, created, modified) "
            "SELECT 1, id, 'theirs', 8, 1, 'x', now(), now() FROM ebook WHERE title = 'One'",
            "WITH e AS (INSERT INTO ebook (version_id, title, language_id, base_dir, created, modified) "
            "VALUES (1, 'Theirs', 2, 'Theirs', now(), now()) RETURNING id) "
            "INSERT INTO ebook_authors SELECT e.id, a.id FROM e, author a WHERE a.last_name = 'Two'",
        ) as app,
        app.before(undo, shelf, create_indexes=False) as undoing,
    ):
        pass
    assert undoing.result() == Undone(ebooks=1, sources=2, files=2, shared=1)
    assert shelf.one("SELECT count(*) FROM source WHERE location = 'theirs'") == 1
    assert shelf.one("SELECT count(*) FROM ebook_authors") == 2


def test_a_vote_cast_in_the_last_moment_stops_the_undo(shelf: Shelf, library: Path) -> None:
    table = many_books(library, 1, 10)
    shelf.load(table)
    before = shelf.tree()
    with (
        shelf.transaction(
            "INSERT INTO ebook_rating (version_id, ebook_id, rating, created, modified) "
            "SELECT 1, min(id), 50, now(), now() FROM ebook"
        ) as app,
        app.before(undo, shelf, create_indexes=False) as undoing,
    ):
        pass
    assert isinstance(undoing.exception(), TransientError)
    assert shelf.tree() == before
    assert undo(shelf).in_use == 1


# Files


def _put_instead(shelf: Shelf, location: str) -> Path:
    """Somebody replaces a placed file by one of his own."""
    place = shelf.books / location
    place.unlink()
    place.write_bytes(b"with notes of mine")
    return place


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
    place = _put_instead(shelf, locations[0])
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
    used: Shelf, library: Path, healer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, entries = everything(used), journal(used)
    used.load(many_books(library, 1, 30))
    with monkeypatch.context() as patch:
        patch.setattr(BookFolder, "remove_undone", _killed)
        with pytest.raises(KeyboardInterrupt):
            undo(used)
    assert used.exactly() == before[0]
    assert used.tree(ids=True) != before[1]
    if healer == "undo":
        assert undo(used) == Undone()
    else:
        used.load(hashed_table([]))
    _ends_as_undone(used, before, entries)


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
def test_an_undo_whose_connection_is_cut_can_be_repeated(used: Shelf, library: Path, place: str) -> None:
    before, entries = everything(used), journal(used)
    used.load(many_books(library, 1, 30))
    mode = "ACCESS EXCLUSIVE" if place == "ebook_rating" else "SHARE"
    with used.holding(place, mode) as hold, hold.before(undo, used, create_indexes=False) as undoing:
        hold.kill_loaders()
        assert isinstance(undoing.exception(), TransientError)
    undo(used)
    _ends_as_undone(used, before, entries)


@pytest.mark.parametrize("place", ["bookpipe.book", "bookpipe.placement"])
def test_an_undo_whose_process_is_killed_can_be_repeated(used: Shelf, library: Path, place: str) -> None:
    before, entries, triggers = everything(used), journal(used), used.triggers()
    used.load(many_books(library, 1, 30))
    script = (
        "import sys; from pathlib import Path; from bookpipe.model.secrets import Secret;"
        "from bookpipe.targets.mybookshelf2.server import MyBookshelf2;"
        "from bookpipe.targets.mybookshelf2.undo import undo_partition;"
        "undo_partition(MyBookshelf2(Secret(sys.argv[1]), Path(sys.argv[2])), 'calibre', 'books-1')"
    )
    command = [sys.executable, "-c", script, used.url, str(used.data_dir)]
    with used.holding(place) as hold, subprocess.Popen(command) as process:
        hold.wait_for_loader()
        process.kill()
        process.wait()
    undo(used)
    _ends_as_undone(used, before, entries)
    assert used.triggers() == triggers


def test_undo_and_loads_at_once_take_turns(used: Shelf, library: Path) -> None:
    before = everything(used)
    tables = {f"books-{n}": many_books(library, n * 1_000, 40) for n in (1, 2, 3)}
    for partition, table in tables.items():
        used.load(table, partition)
    results = all_at_once(
        lambda: undo(used, "books-1"), lambda: undo(used, "books-2"), lambda: used.load(tables["books-3"], "books-3"),
        lambda: undo(used, "books-1"), lambda: undo(used, "books-3", dry_run=True),
    )  # fmt: skip
    assert [r for r in results if isinstance(r, BaseException)] == []
    assert outcomes(used.load(tables["books-3"], "books-3")) == ["existing"] * tables["books-3"].num_rows
    undo(used, "books-3")
    assert everything(used) == before


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
    assert look_up(shelf.target, table).filter(pa.compute.field("kind") == "sources").num_rows == 0
    assert shelf.one("SELECT count(*) FROM ebook") == 0
