"""A database that is not MyBookshelf2's, or of another version, is refused before anything is written."""

import re
from pathlib import Path

import psycopg
import pytest

from bookpipe.demo.embedded_server import ServerInfo
from bookpipe.model.errors import ConfigError
from bookpipe.model.secrets import Secret
from bookpipe.pipelines.books import look_up
from bookpipe.targets.mybookshelf2 import tables
from bookpipe.targets.mybookshelf2.server import MyBookshelf2
from bookpipe_tests.targets.book_rows import many_books
from bookpipe_tests.targets.shelf import Shelf

# Words of PostgreSQL that 9.6, which the application's own set-up still runs, or 10 does not know.
NEWER = re.compile(
    r"MATERIALIZED|starts_with\(|\bGENERATED\b|GROUPS BETWEEN|gen_random_uuid|jsonb_path|NULLS NOT DISTINCT|"
    r"plan_cache_mode|string_to_table|date_bin|MERGE INTO|\bINCLUDE\b|websearch_to_tsquery|sha256\(|"
    r"pg_sequences|EXECUTE FUNCTION"
)
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE indexname LIKE 'bookpipe%' ORDER BY 1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP TABLE ebook_genres", "no table ebook_genres"),
        ("ALTER TABLE source RENAME TO sources", "no table source"),
        ("ALTER TABLE ebook DROP COLUMN rating", "lacks the columns rating"),
        ("ALTER TABLE source RENAME COLUMN hash TO sha1", "lacks the columns hash"),
        ("UPDATE version SET version = 1", "version 1, bookpipe writes version 2"),
        ("UPDATE version SET version = 3", "version 3"),
        ("DELETE FROM version", "version None"),
    ],
)
def test_another_database_is_refused(shelf: Shelf, library: Path, change: str, said: str) -> None:
    shelf.sql(change)
    before, table = shelf.exactly(), many_books(library, 1, 5)
    for work in (lambda: look_up(shelf.target, table), lambda: shelf.target.writing().__enter__()):
        with pytest.raises(ConfigError, match=said):
            work()
    assert shelf.exactly() == before
    assert shelf.one("SELECT to_regnamespace('bookpipe') IS NULL") is True


def test_an_empty_database_is_refused(postgres: ServerInfo, shelf: Shelf, library: Path) -> None:
    with pytest.raises(ConfigError, match="create_tables"):
        look_up(MyBookshelf2(Secret(postgres.superuser_url), shelf.data_dir), many_books(library, 1, 5))


def test_more_than_one_version_row_is_what_the_applications_set_up_makes(shelf: Shelf, library: Path) -> None:
    shelf.sql("INSERT INTO version (version_id, version) VALUES (1, 2), (1, 1)")
    assert shelf.load(many_books(library, 1, 5)).counts.inserted > 0


def test_indexes_are_made_once_and_only_when_wanted(shelf: Shelf, library: Path) -> None:
    shelf.load(many_books(library, 1, 5), target=shelf.using(create_indexes=False))
    assert shelf.sql(INDEXES) == []
    shelf.load(many_books(library, 11, 5))
    made = shelf.sql(INDEXES)
    assert {name for name, _ in made} == tables.INDEXES.keys()
    identities = shelf.sql("SELECT oid FROM pg_class WHERE relname LIKE 'bookpipe%%' ORDER BY 1")
    shelf.load(many_books(library, 21, 5))
    assert shelf.sql("SELECT oid FROM pg_class WHERE relname LIKE 'bookpipe%%' ORDER BY 1") == identities


def test_an_index_whose_making_was_interrupted_is_made_anew(shelf: Shelf, library: Path) -> None:
    shelf.load(many_books(library, 1, 5))
    name = next(iter(tables.INDEXES))
    shelf.sql(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass")
    shelf.load(many_books(library, 11, 5))
    assert shelf.one(f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{name}'::regclass") is True


@pytest.mark.parametrize(
    ("question", "index"),
    [
        ("SELECT 1 FROM source WHERE size = 1 AND hash = 'x'", "bookpipe_source_size_hash"),
        ("SELECT 1 FROM author WHERE last_name = 'x' AND first_name IS NULL", "bookpipe_author_name"),
        ("SELECT 1 FROM series WHERE lower(title) = lower('x')", "bookpipe_series_title"),
        ("SELECT 1 FROM ebook WHERE hashtext(base_dir) = hashtext('x')", "bookpipe_ebook_base_dir"),
    ],
)
def test_each_index_serves_its_question(shelf: Shelf, library: Path, question: str, index: str) -> None:
    shelf.load(many_books(library, 1, 5))
    with psycopg.connect(shelf.url) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {question}".encode()))
    assert index in plan


def test_questions_without_an_index_are_planned_as_always(shelf: Shelf, library: Path) -> None:
    """Look-ups are made to use the indexes; what reads whole tables would take minutes that way."""
    shelf.load(many_books(library, 1, 5))

    def planned(connection: psycopg.Connection[tuple[str]]) -> list[str]:
        names = ("enable_hashjoin", "enable_mergejoin", "enable_seqscan")
        return [connection.execute(f"SHOW {name}".encode()).fetchall()[0][0] for name in names]

    with shelf.target.writing() as writer:
        assert "off" in planned(writer.connection)
        with tables.whole_tables(writer.connection):
            assert planned(writer.connection) == ["on", "on", "on"]
        assert "off" in planned(writer.connection)


def test_nothing_is_newer_than_the_servers_that_are_promised() -> None:
    folder = Path(tables.__file__).parent
    found = {path.name: NEWER.findall(path.read_text()) for path in folder.glob("*.py")}
    assert {name: words for name, words in found.items() if words} == {}
