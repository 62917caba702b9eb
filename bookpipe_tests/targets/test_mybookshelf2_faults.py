"""Whatever is killed, stopped, in the way or written meanwhile: run again, the end is that of one clean run."""

import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bookpipe.demo.embedded_server import ServerInfo, restart_server
from bookpipe.model.errors import TransientError
from bookpipe.pipelines.books import look_up
from bookpipe.resolve.books import BookOptions
from bookpipe.targets import postgres
from bookpipe.targets.mybookshelf2 import tables
from bookpipe.targets.mybookshelf2.load import ChangedMeanwhileError, Writer
from bookpipe.targets.mybookshelf2.storage import BookFolder
from bookpipe_tests.factories import hashed_table
from bookpipe_tests.targets.book_rows import book_rows, many_books
from bookpipe_tests.targets.shelf import Connection, Shelf, all_at_once, outcomes

EMPTY = [(name, "folder") for name in ("books", "converted", "thumbs", "uploads")]
# Where a load can be made to stand still: at its own table locks, and at its writes from the middle to the end.
PLACES = ("author", "ebook_genres", "bookpipe.load", "bookpipe.book", "bookpipe.file")
ROOT = Path(__file__).parents[2]  # where the packages are
CREATED = "SELECT kind, sum(cardinality(ids)) FROM bookpipe.created GROUP BY 1 ORDER BY 1"


def assert_ends_as(shelf: Shelf, clean: Shelf) -> None:
    assert shelf.meaning() == clean.meaning()
    assert shelf.tree() == clean.tree()
    assert shelf.placements() == 0
    assert shelf.sql(CREATED) == clean.sql(CREATED)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for each time a plan is about to be written."""
    found: list[int] = []
    insert = Writer.insert

    def counted(writer: Writer, **arguments: Any) -> None:
        found.append(1)
        insert(writer, **arguments)

    monkeypatch.setattr(Writer, "insert", counted)
    return found


# The connection and the server


@pytest.mark.parametrize("mode", ["symlink", "hardlink", "copy"])
@pytest.mark.parametrize("place", PLACES)
def test_a_connection_cut_in_mid_batch_heals(
    shelf: Shelf, another_shelf: Shelf, library: Path, place: str, mode: str
) -> None:
    first, table = many_books(library, 1, 30), many_books(library, 31, 60)
    target, clean = shelf.using(file_mode=mode), another_shelf.using(file_mode=mode)
    shelf.load(first, "books-1", target=target)
    with shelf.holding(place) as hold, hold.before(shelf.load, table, "books-2", target=target) as load:
        hold.kill_loaders()
        assert isinstance(load.exception(), TransientError)
    shelf.load(table, "books-2", target=target)
    another_shelf.load(first, "books-1", target=clean)
    another_shelf.load(table, "books-2", target=clean)
    assert_ends_as(shelf, another_shelf)


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_server_restarted_in_mid_batch_heals(
    own_server: ServerInfo, lonely_shelf: Shelf, another_shelf: Shelf, library: Path, how: str
) -> None:
    shelf, first, table = lonely_shelf, many_books(library, 1, 30), many_books(library, 31, 60)
    shelf.load(first, "books-1")
    with shelf.holding("bookpipe.book") as hold, hold.before(shelf.load, table, "books-2") as load:
        restart_server(own_server.directory, mode=how)
        assert isinstance(load.exception(), TransientError)
    shelf.load(table, "books-2")
    another_shelf.load(first, "books-1")
    another_shelf.load(table, "books-2")
    assert_ends_as(shelf, another_shelf)


def test_files_stay_when_only_the_answer_to_the_commit_is_lost(
    own_server: ServerInfo, lonely_shelf: Shelf, another_shelf: Shelf, library: Path
) -> None:
    """A server that waits for its standby has committed already when the connection is cut."""
    shelf, first, table = lonely_shelf, many_books(library, 1001, 5), many_books(library, 1, 40)
    shelf.load(first, "books-1")
    with closing(shelf.connect()) as admin:
        with shelf.holding("bookpipe.book") as hold, hold.before(shelf.load, table, "books-2") as load:
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            admin.execute("SELECT pg_reload_conf()")
            with closing(shelf.connect(application_name="probe")) as probe, ThreadPoolExecutor(1) as pool:
                asked = pool.submit(probe.execute, "SELECT pg_current_xact_id()")
                while not _waits_for_standby(admin, "probe"):  # the server reads its settings when it comes to it
                    if asked.done():
                        asked = pool.submit(probe.execute, "SELECT pg_current_xact_id()")
                admin.execute("SELECT pg_cancel_backend(%s)", (probe.info.backend_pid,))
            hold.connection.rollback()
            while not _waits_for_standby(admin, "bookpipe"):
                assert not load.done()
            hold.kill_loaders()
            assert isinstance(load.exception(), TransientError)
        admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
        admin.execute("SELECT pg_reload_conf()")
    rows = shelf.sql("SELECT location, size FROM source")
    assert len(rows) > 40
    for location, size in rows:
        assert (shelf.books / location).stat().st_size == size
    assert outcomes(shelf.load(table, "books-2")) == ["existing"] * table.num_rows
    another_shelf.load(first, "books-1")
    another_shelf.load(table, "books-2")
    assert_ends_as(shelf, another_shelf)


def _waits_for_standby(connection: Connection, name: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND wait_event = 'SyncRep'", (name,)
    ).fetchone()
    return found is not None


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc/locks")
@pytest.mark.parametrize("mode", ["symlink", "copy"])
def test_a_loader_that_lost_its_lock_spoils_nothing_for_the_next(
    shelf: Shelf, another_shelf: Shelf, library: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Its connection is cut while it places files: the next loader of the same books has the database at once."""
    first, table, target = many_books(library, 1001, 5), many_books(library, 1, 40), shelf.using(file_mode=mode)
    shelf.load(first, "books-0", target=target)
    stopped, go_on, place_one = threading.Event(), threading.Event(), BookFolder._place_one
    numbers = iter(range(10_000))

    def stop_at_the_twentieth(folder: BookFolder, *arguments: Any) -> None:
        if next(numbers) == 20:
            stopped.set()
            assert go_on.wait(60)
        place_one(folder, *arguments)

    monkeypatch.setattr(BookFolder, "_place_one", stop_at_the_twentieth)
    with (
        shelf.holding("bookpipe.book") as hold,
        ThreadPoolExecutor(1) as pool,
        hold.before(shelf.load, table, "a", target=target) as cut,
    ):
        assert stopped.wait(60)
        hold.kill_loaders()
        hold.commit()
        other = pool.submit(shelf.load, table, "b", target=target)
        while not other.done() and not _somebody_waits_for(shelf.books):
            hold.watcher.execute("SELECT pg_sleep(0.01)")
        go_on.set()
        assert isinstance(cut.exception(), TransientError)
        assert other.result().counts.read == table.num_rows
    another_shelf.load(first, "books-0", target=another_shelf.using(file_mode=mode))
    another_shelf.load(table, "b", target=another_shelf.using(file_mode=mode))
    assert_ends_as(shelf, another_shelf)


def _somebody_waits_for(folder: Path) -> bool:
    """Whether /proc/locks has a line such as "1: -> FLOCK ADVISORY WRITE 123 fe:00:4711 0 EOF" for it."""
    ending = f":{folder.stat().st_ino}"
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return any(line[1] == "->" and line[-3].endswith(ending) for line in lines)


# The application, at the same moment

_ADDED = {
    "author": "INSERT INTO author (version_id, last_name, first_name, created, modified) "
    "VALUES (1, 'Author', 'Ann', now(), now())",
    "series": "INSERT INTO series (version_id, title, created, modified) VALUES (1, 'A sERIES', now(), now())",
    "source": "INSERT INTO source (version_id, ebook_id, location, format_id, size, hash, created, modified) "
    "SELECT 1, min(id), 'theirs.epub', 8, {size}, '{sha1}', now(), now() FROM ebook",
}


@pytest.mark.parametrize("kind", _ADDED)
def test_what_the_application_adds_between_look_and_write_is_not_added_again(
    shelf: Shelf, library: Path, attempts: list[int], kind: str
) -> None:
    shelf.load(hashed_table(book_rows(library, 99, "Other", authors=["Someone Else"])), "books-0")
    rows = book_rows(library, 1, series="A Series", files={"epub": b"one", "pdf": b"two"})
    attempts.clear()
    with (
        shelf.transaction(_ADDED[kind].format(**rows[0])) as app,
        app.before(shelf.load, hashed_table(rows), "books-1") as load,
    ):
        pass
    result = load.result()
    assert len(attempts) == 2
    assert shelf.one("SELECT count(*) FROM author WHERE (last_name, first_name) = ('Author', 'Ann')") == 1
    assert shelf.one("SELECT count(*) FROM series") == 1
    assert shelf.one("SELECT count(*) FROM source") == shelf.one("SELECT count(DISTINCT (hash, size)) FROM source") == 3
    assert outcomes(result) == ["existing" if kind == "source" else "inserted", "inserted"]
    assert result.counts.read == 2
    assert shelf.placements() == 0


_DELETED = {
    "author": "DELETE FROM author WHERE last_name = 'Author'",
    "series": "UPDATE ebook SET series_id = NULL; DELETE FROM series",
    "source": "DELETE FROM source",
    "ebook": "DELETE FROM ebook",
    "format": "DELETE FROM source; DELETE FROM format WHERE extension = 'kepub'",
    "language": "UPDATE ebook SET language_id = 2; DELETE FROM language WHERE code = 'la'",
}


@pytest.mark.parametrize("kind", _DELETED)
def test_what_the_application_deletes_after_the_look_is_made_again(shelf: Shelf, library: Path, kind: str) -> None:
    """`known` is handed from op to op; by the time the load has its turn it may be hours old."""
    options = {"series": "A Series", "languages": ["lat"]}
    old = book_rows(library, 1, "One", files={"kepub": b"old"}, **options)  # type: ignore[arg-type]
    new = book_rows(library, 2, "Two", files={"kepub": b"new"}, **options)  # type: ignore[arg-type]
    more = book_rows(library, 1, "One", files={"kepub": b"old", "epub": b"more"}, **options)  # type: ignore[arg-type]
    table = hashed_table([*more, *new])
    shelf.load(hashed_table(old), "books-1")
    known = look_up(shelf.target, table)
    shelf.sql(_DELETED[kind])
    result = shelf.load(table, "books-1", known=known)
    assert result.counts.read == result.counts.inserted + result.counts.existing == 3
    for source in result.outcomes["source_id"].to_pylist():
        assert shelf.one("SELECT count(*) FROM source WHERE id = %s", source) == 1
    assert shelf.one("SELECT count(*) FROM source") == 3
    assert shelf.one("SELECT count(*) FROM author") == 1
    for (location,) in shelf.sql("SELECT location FROM source"):
        assert (shelf.books / location).exists()


def test_formats_languages_and_genres_are_made_once_by_loads_at_once(shelf: Shelf, library: Path) -> None:
    """Also beside the application, which makes the same in a moment of its own."""
    tables_at_once = [
        hashed_table(book_rows(library, n, f"B{n}", languages=["lat"], tags=["Own tag"], files={"kepub": b"%d" % n}))
        for n in range(1, 6)
    ]
    options = BookOptions(create_genres=True)

    def app() -> None:
        with closing(shelf.connect()) as connection:
            connection.execute("INSERT INTO genre (version_id, name) VALUES (1, 'Own tag') ON CONFLICT DO NOTHING")

    results = all_at_once(*(lambda t=t: shelf.load(t, options=options) for t in tables_at_once), app)
    assert [r for r in results if isinstance(r, BaseException)] == []
    for question in ("genre WHERE name = 'Own tag'", "language WHERE code = 'la'", "format WHERE extension = 'kepub'",
                     "author"):  # fmt: skip
        assert shelf.one(f"SELECT count(*) FROM {question}") == 1
    assert shelf.one("SELECT count(*) FROM ebook_genres") == shelf.one("SELECT count(*) FROM source") == 5


def test_a_row_deleted_while_the_load_waits_is_made_again(shelf: Shelf, library: Path, attempts: list[int]) -> None:
    shelf.load(hashed_table(book_rows(library, 1, "One")), "books-1")
    attempts.clear()
    table = hashed_table(book_rows(library, 2, "Two"))
    with (
        shelf.transaction("DELETE FROM ebook", "DELETE FROM author") as app,
        app.before(shelf.load, table, "books-2") as load,
    ):
        pass
    assert load.result().counts.inserted == 1
    assert len(attempts) == 2
    assert shelf.sql("SELECT last_name FROM author JOIN ebook_authors ON author_id = id") == [("Author",)]


def test_an_application_that_never_stops_changing_is_left_alone_for_now(
    shelf: Shelf, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few attempts the load gives up, for the retries to try again, and leaves nothing."""
    check = Writer._check_unchanged

    def changed(writer: Writer, plan: Any) -> None:
        with closing(shelf.connect()) as app:  # what it adds in the moment before our locks
            app.execute("SELECT 1")
        check(writer, plan)
        raise ChangedMeanwhileError("again")

    monkeypatch.setattr(Writer, "_check_unchanged", changed)
    with pytest.raises(TransientError):
        shelf.load(many_books(library, 1, 10))
    assert shelf.tree() == EMPTY
    assert shelf.placements() == 0


def test_a_lock_held_too_long_is_tried_again_later(
    shelf: Shelf, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.load(many_books(library, 1, 5), "books-0")
    monkeypatch.setattr(postgres, "LOCK_ATTEMPTS", 2)
    before, table = shelf.tree(), many_books(library, 101, 10)
    with shelf.holding("source", "ROW EXCLUSIVE"), pytest.raises(TransientError, match="lock timeout"):
        shelf.load(table)
    assert shelf.tree() == before
    assert shelf.placements() == 0
    assert shelf.load(table).counts.inserted > 10


@pytest.mark.parametrize("held", ["ebook_authors", "source"])
def test_the_application_is_never_the_victim_of_a_deadlock(shelf: Shelf, library: Path, held: str) -> None:
    """It holds one table that a load locks late, and then wants one that the load has locked already."""
    shelf.load(many_books(library, 1, 10), "books-0")
    with (
        shelf.holding(held, "ROW EXCLUSIVE") as app,
        app.before(shelf.load, many_books(library, 101, 10), "books-1") as load,
    ):
        app.connection.execute("SET lock_timeout = '30s'")
        app.connection.execute("UPDATE ebook SET description = 'edited'")
        app.connection.execute("UPDATE author SET description = 'edited'")
    assert load.result().counts.inserted > 10
    assert shelf.one("SELECT count(*) FROM ebook WHERE description = 'edited'") == 10


def test_a_deadlock_that_comes_all_the_same_is_tried_again(shelf: Shelf, library: Path) -> None:
    """Somebody holds a genre of ours, not committed, and wants a table that the load has locked."""
    table = hashed_table(book_rows(library, 1, languages=["lat"]))
    shelf.load(many_books(library, 101, 3), "books-0")
    with (
        shelf.transaction(
            "SET deadlock_timeout = '60s'", "INSERT INTO language (version_id, code, name) VALUES (1, 'la', 'Latin')"
        ) as app,
        ThreadPoolExecutor(1) as pool,
    ):
        load = pool.submit(shelf.load, table, "books-1")
        waiting: Any = ()
        while not waiting and not load.done():
            waiting = app.watcher.execute(
                "SELECT pg_sleep(0.01) FROM pg_stat_activity WHERE application_name = 'bookpipe' "
                "AND wait_event = 'transactionid'"
            ).fetchall()
        app.connection.execute("UPDATE ebook SET description = 'edited'")
        app.commit()
        assert isinstance(load.exception(), TransientError)
    assert shelf.load(table, "books-1").counts.inserted == 1
    assert shelf.one("SELECT count(*) FROM language WHERE code = 'la'") == 1


def test_a_load_does_not_wait_for_a_backup_to_make_its_indexes(
    shelf: Shelf, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "INDEX_WAIT", "100ms")
    indexes = "SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'bookpipe%%' AND schemaname = 'public'"
    with shelf.transaction("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM ebook"):
        shelf.load(many_books(library, 1, 10), "books-1")
    shelf.load(many_books(library, 101, 10), "books-2")
    assert shelf.sql(f"{indexes} AND %s", True) == [(len(tables.INDEXES),)]
    assert shelf.one("SELECT bool_and(indisvalid) FROM pg_index")


# The process


def kill_loads(shelf: Shelf, tables_by_partition: dict[str, pa.Table], mode: str, folder: Path, seed: int) -> None:
    """Load each partition in a process that is killed at a random moment, then again in this one."""
    print(f"seed {seed}, {mode}")
    chance = random.Random(seed)
    span = 0.5  # seconds; follows the time that loads which were not killed took
    for partition, table in tables_by_partition.items():
        hashed = folder / f"{partition}.parquet"
        pq.write_table(table, hashed)
        command = [sys.executable, "-m", "bookpipe_tests.targets.load_partition", shelf.url, str(shelf.data_dir), mode,
                   partition, str(hashed)]  # fmt: skip
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "loading\n"
            started = time.monotonic()
            delay = chance.uniform(0, span)
            try:
                process.wait(delay)
                span = time.monotonic() - started
            except subprocess.TimeoutExpired:
                process.kill()
        print(f"{partition}: killed after {delay:.3f} s, {shelf.one('SELECT count(*) FROM ebook')} books")
        shelf.load(table, partition, target=shelf.using(file_mode=mode))
        assert shelf.placements() == 0


@pytest.mark.parametrize(
    ("mode", "kills"),
    [
        ("symlink", 4),
        ("copy", 2),
        pytest.param("symlink", 20, marks=pytest.mark.slow),
        pytest.param("hardlink", 10, marks=pytest.mark.slow),
        pytest.param("copy", 10, marks=pytest.mark.slow),
    ],
)
def test_loads_killed_at_any_moment_heal(
    shelf: Shelf, another_shelf: Shelf, library: Path, tmp_path: Path, mode: str, kills: int
) -> None:
    partitions = {f"books-{n}": many_books(library, n * 1_000, 150) for n in range(1, kills + 1)}
    triggers = shelf.triggers()
    kill_loads(shelf, partitions, mode, tmp_path, seed=random.randrange(2**32))
    for partition, table in partitions.items():
        another_shelf.load(table, partition, target=another_shelf.using(file_mode=mode))
    assert_ends_as(shelf, another_shelf)
    assert shelf.triggers() == triggers
    assert shelf.one("SELECT count(*) FROM bookpipe.load") == kills


def test_a_load_killed_in_its_transaction_leaves_triggers_on_and_files_for_the_next(
    shelf: Shelf, another_shelf: Shelf, library: Path, tmp_path: Path
) -> None:
    first, table = many_books(library, 1, 10), many_books(library, 101, 30)
    shelf.load(first, "books-1")
    before, triggers = shelf.tree(), shelf.triggers()
    hashed = tmp_path / "books-2.parquet"
    pq.write_table(table, hashed)
    command = [sys.executable, "-m", "bookpipe_tests.targets.load_partition", shelf.url, str(shelf.data_dir), "symlink",
               "books-2", str(hashed)]  # fmt: skip
    with (
        shelf.holding("bookpipe.file") as hold,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process,
    ):
        hold.wait_for_loader()
        process.kill()
        process.wait()
        hold.bury_loaders()
    assert shelf.triggers() == triggers
    assert shelf.placements() == 1
    assert len(shelf.tree()) > len(before)
    shelf.load(hashed_table([]), "nothing")  # any load clears up
    assert shelf.tree() == before
    assert shelf.placements() == 0
    shelf.load(table, "books-2")
    another_shelf.load(first, "books-1")
    another_shelf.load(table, "books-2")
    assert_ends_as(shelf, another_shelf)
