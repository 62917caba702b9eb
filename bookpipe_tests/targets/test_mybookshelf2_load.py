"""The rows a load makes are those the application would have made, whoever the role is and whatever goes wrong."""

from contextlib import closing
from datetime import timedelta
from hashlib import sha1
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from bookpipe.demo.embedded_server import ServerInfo
from bookpipe.model.errors import BookpipeError, ConfigError, TerminalError
from bookpipe.model.secrets import Secret
from bookpipe.resolve.books import BookOptions
from bookpipe.targets.mybookshelf2.server import MyBookshelf2
from bookpipe.targets.mybookshelf2.tables import INSERT_TRIGGERS
from bookpipe_tests.factories import hashed_table, record_row
from bookpipe_tests.targets.book_rows import book_rows, many_books
from bookpipe_tests.targets.shelf import Shelf, outcomes

AUDITED = ("ebook", "source", "author", "series")
ALL_ON = dict.fromkeys(INSERT_TRIGGERS.items(), "O")


@pytest.fixture
def dune(library: Path) -> pa.Table:
    return hashed_table(
        book_rows(
            library,
            1,
            "Dune: Český překlad",
            authors=["Frank Herbert", "Plato", "O'Brien, Ann Mary", "Frank Herbert"],
            series="Dune Chronicles",
            series_index=1.5,
            languages=["ces"],
            tags=["sci-fi", "Fantasy", "to read", "FANTASY"],
            rating=9,
            files={"epub": b"the epub", "azw3": b"the azw3, longer"},
        )
    )


# Rows


def test_a_book_has_the_rows_the_application_makes(shelf: Shelf, dune: pa.Table) -> None:
    result = shelf.load(dune)
    folder = "Herbert F, Plato, O'Brien A M/Dune Chronicles/Dune Chronicles 1 - Dune Cesky preklad(cs)"
    stem = "Herbert F, Plato, O'Brien A M - Dune Chronicles 1 - Dune Cesky preklad"
    columns = "title, description, rating, rating_count, downloads, cover, base_dir, series_index, version_id"
    assert shelf.sql(f"SELECT {columns} FROM ebook") == [
        ("Dune: Český překlad", None, 90.0, None, None, None, folder, 1, 1)
    ]
    assert shelf.sql("SELECT last_name, first_name, description, version_id FROM author ORDER BY id") == [
        ("Herbert", "Frank", None, 1),
        ("Plato", None, None, 1),
        ("O'Brien", "Ann Mary", None, 1),
    ]
    assert shelf.sql("SELECT title, rating, rating_count, description, version_id FROM series") == [
        ("Dune Chronicles", None, None, None, 1)
    ]
    assert shelf.sql(
        "SELECT location, load_source, extension, size, hash, quality, quality_count, s.version_id "
        "FROM source s JOIN format f ON f.id = format_id ORDER BY extension"
    ) == [
        (f"{folder}/{stem}.{kind}", f"book 1.{kind}", kind, len(content), sha1(content).hexdigest(), None, None, 1)
        for kind, content in (("azw3", b"the azw3, longer"), ("epub", b"the epub"))
    ]
    assert shelf.sql("SELECT code FROM ebook JOIN language l ON l.id = language_id") == [("cs",)]
    assert shelf.sql("SELECT name FROM ebook_genres JOIN genre g ON g.id = genre_id ORDER BY 1") == [
        ("Fantasy",),
        ("Science Fiction",),
    ]
    assert result.dropped_tags == 1
    assert shelf.one("SELECT count(*) FROM upload") == 0


def test_hashes_are_lower_case_and_every_row_belongs_to_the_user(shelf: Shelf, library: Path) -> None:
    shelf.sql(
        'INSERT INTO "user" (id, version_id, user_name, email, password, created, modified) '
        "VALUES (70, 1, 'ann', 'ann@example.org', '', now(), now())"
    )
    shelf.load(many_books(library, 1, 30), target=shelf.using(user="ann"))
    for table in AUDITED:
        assert shelf.sql(f"SELECT DISTINCT created_by_id, modified_by_id, version_id FROM {table}") == [(70, 70, 1)]
        assert shelf.one(f"SELECT bool_and(created = modified) FROM {table}")
    assert shelf.one("SELECT bool_and(hash ~ '^[0-9a-f]{40}$') FROM source")


def test_no_two_ebooks_share_a_time_and_it_is_the_servers_time_of_day(shelf: Shelf, library: Path) -> None:
    database = sql.Identifier(shelf.url.rsplit("/", 1)[1])
    with closing(shelf.connect()) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} SET timezone = 'Asia/Kathmandu'").format(database))
    before = shelf.one("SELECT localtimestamp")
    for n in range(3):
        shelf.load(many_books(library, n * 100 + 1, 50), f"books-{n}")
    after = shelf.one("SELECT localtimestamp")
    times = [time for (time,) in shelf.sql("SELECT created FROM ebook ORDER BY id")]
    assert len(set(times)) == len(times) == 150
    assert times == sorted(times)
    assert before <= times[0] < times[-1] <= after + timedelta(milliseconds=1)


def test_the_applications_next_rows_get_ids_of_their_own(shelf: Shelf, library: Path) -> None:
    table = many_books(library, 1, 30)
    shelf.load(table, options=BookOptions(create_genres=True))
    for name, columns in {
        "author": "last_name, created, modified) VALUES (1, 'New', now(), now()",
        "series": "title, created, modified) VALUES (1, 'New', now(), now()",
        "language": "code, name) VALUES (1, 'xx', 'New'",
        "genre": "name) VALUES (1, 'New'",
        "format": "extension, mime_type, name) VALUES (1, 'new', 'x/new', 'New'",
        "ebook": "title, language_id, base_dir, created, modified) VALUES (1, 'New', 2, 'New', now(), now()",
    }.items():
        highest = shelf.one(f"SELECT max(id) FROM {name}")
        assert shelf.one(f"INSERT INTO {name} (version_id, {columns}) RETURNING id") > highest
    assert shelf.one(
        "INSERT INTO source (version_id, ebook_id, location, format_id, size, hash, created, modified) "
        "SELECT 1, max(id), 'x', 1, 1, 'x', now(), now() FROM ebook RETURNING id"
    ) > max(i for i in shelf.load(table).outcomes["source_id"].to_pylist())


@pytest.mark.parametrize("owner", [True, False], ids=["as the owner", "with rights only"])
def test_full_text_is_what_the_triggers_would_have_made(
    shelf: Shelf, library: Path, postgres: ServerInfo, owner: bool
) -> None:
    rows = [
        book_rows(library, 501, "Číslo5 don't — stop", authors=["Ann Mary Smith", "Иван Петров"], series="The Ёлка"),
        book_rows(library, 502, "No one's", authors=[]),
        book_rows(library, 503, "C:\\'\"$$ & | ! ( ) : * <-> a", authors=["de la Cruz, Sor Juana"]),
        book_rows(library, 504, "x" * 256, authors=["L" * 128], series="s" * 256, series_index=2.0),
    ]
    target = shelf.target if owner else _with_rights_only(shelf, postgres)
    shelf.load(many_books(library, 1, 60), target=target)
    shelf.load(hashed_table([row for book in rows for row in book]), target=target)
    different = shelf.sql(
        "SELECT title, full_text, to_tsvector('custom', ebook_full_title(id)) FROM ebook WHERE full_text IS NULL OR "
        "tsvector_to_array(full_text) <> tsvector_to_array(to_tsvector('custom', ebook_full_title(id)))"
    )
    assert different == []
    assert shelf.one("SELECT count(*) FROM ebook WHERE full_text @@ to_tsquery('custom', 'елка:* & smith')") == 1


def test_a_record_without_a_file_is_an_ebook_without_a_source(shelf: Shelf) -> None:
    table = hashed_table([record_row(item=1, title="Nothing to read")])
    assert outcomes(shelf.load(table)) == ["inserted"]
    assert outcomes(shelf.load(table)) == ["existing"]
    assert shelf.sql("SELECT title, (SELECT count(*) FROM source) FROM ebook") == [("Nothing to read", 0)]


# Triggers


def test_triggers_are_on_after_a_load(shelf: Shelf, library: Path) -> None:
    before = shelf.triggers()
    shelf.load(many_books(library, 1, 20))
    assert shelf.triggers() == before
    assert ALL_ON.items() <= before.items()


def test_triggers_are_on_after_a_failure_in_the_middle(shelf: Shelf, library: Path) -> None:
    before, table = shelf.triggers(), many_books(library, 1, 20)
    shelf.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$; "
        "CREATE TRIGGER refuse BEFORE INSERT ON source FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(TerminalError, match="not this one"):
        shelf.load(table)
    shelf.sql("DROP TRIGGER refuse ON source")
    assert shelf.triggers() == before
    assert shelf.one("SELECT count(*) FROM ebook") == 0
    assert shelf.placements() == 0
    assert shelf.tree() == [(name, "folder") for name in ("books", "converted", "thumbs", "uploads")]
    assert shelf.load(table).counts.inserted > 0


@pytest.mark.parametrize("owner", [True, False], ids=["as the owner", "with rights only"])
@pytest.mark.parametrize("trigger", INSERT_TRIGGERS.items(), ids=lambda trigger: trigger[0])
def test_a_trigger_the_owner_switched_off_stays_off(
    shelf: Shelf, library: Path, postgres: ServerInfo, owner: bool, trigger: tuple[str, str]
) -> None:
    shelf.sql(f"ALTER TABLE {trigger[0]} DISABLE TRIGGER {trigger[1]}")
    before = shelf.triggers()
    shelf.load(many_books(library, 1, 20), target=shelf.target if owner else _with_rights_only(shelf, postgres))
    assert shelf.triggers() == before
    assert before[trigger] == "D"


@pytest.mark.parametrize("table", ["ebook_genres", "bookpipe.book"])
def test_nobody_else_ever_sees_a_trigger_off(shelf: Shelf, library: Path, table: str) -> None:
    """Asked while the load stands still inside its transaction, after it has set them aside."""
    shelf.load(many_books(library, 1, 5))
    before = shelf.triggers()
    with shelf.holding(table) as hold, hold.before(shelf.load, many_books(library, 100, 20)) as load:
        assert shelf.one("SELECT count(*) FROM pg_locks WHERE relation = 'ebook'::regclass AND mode = "
                         "'ShareRowExclusiveLock' AND granted") == 1  # fmt: skip
        assert shelf.triggers() == before
    assert load.result().counts.inserted > 20
    assert shelf.triggers() == before


# Roles


def _with_rights_only(shelf: Shelf, postgres: ServerInfo, *, journal: str = "CREATE ON SCHEMA public") -> MyBookshelf2:
    """The shelf for a role that owns nothing and has the rights that loading takes; it is made on first use."""
    database = shelf.url.rsplit("/", 1)[1]
    with psycopg.connect(postgres.socket_url(database), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'clerk'").fetchone():
            connection.execute("CREATE ROLE clerk LOGIN PASSWORD 'clerk'")
        connection.execute(
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO clerk;"
            "GRANT INSERT, UPDATE ON author, series, ebook, source, language, genre, format, ebook_authors, "
            "ebook_genres TO clerk;"
            "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO clerk"
        )
        if journal:
            connection.execute(f"GRANT {journal.format(database=database)} TO clerk".encode())
    return MyBookshelf2(Secret(postgres.url(database, "clerk", "clerk")), shelf.data_dir)


@pytest.mark.parametrize(
    ("right", "journal"),
    [("CREATE ON SCHEMA public", "public.bookpipe_load"), ("CREATE ON DATABASE {database}", "bookpipe.load")],
)
def test_a_role_that_owns_nothing_makes_the_same_rows(
    shelf: Shelf, another_shelf: Shelf, library: Path, postgres: ServerInfo, right: str, journal: str
) -> None:
    target = _with_rights_only(shelf, postgres, journal=right)
    table = many_books(library, 1, 60)
    shelf.load(table, target=target)
    another_shelf.load(table)
    assert shelf.meaning() == another_shelf.meaning()
    assert shelf.tree() == another_shelf.tree()
    assert shelf.one(f"SELECT count(*) FROM {journal}") == 1
    assert outcomes(shelf.load(table, target=target)) == ["existing"] * table.num_rows
    assert shelf.one(f"SELECT count(*) FROM {journal}") == 1


def test_a_journal_made_by_the_owner_serves_a_role_that_may_create_nothing(
    shelf: Shelf, library: Path, postgres: ServerInfo
) -> None:
    shelf.load(many_books(library, 1, 20))
    target = _with_rights_only(shelf, postgres, journal="")
    shelf.sql(
        "GRANT USAGE ON SCHEMA bookpipe TO clerk; GRANT ALL ON ALL TABLES IN SCHEMA bookpipe TO clerk; "
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA bookpipe TO clerk"
    )
    assert shelf.load(many_books(library, 100, 20), "books-2", target=target).counts.inserted > 0
    assert shelf.one("SELECT count(*) FROM bookpipe.load") == 2


def test_without_a_place_for_the_journal_the_error_says_what_to_run(
    shelf: Shelf, library: Path, postgres: ServerInfo
) -> None:
    target = _with_rights_only(shelf, postgres, journal="")
    with pytest.raises(ConfigError, match="CREATE SCHEMA bookpipe AUTHORIZATION") as caught:
        shelf.load(many_books(library, 1, 5), target=target)
    shelf.sql("CREATE SCHEMA bookpipe AUTHORIZATION clerk")  # what it said
    assert "BOOKPIPE_MYBOOKSHELF2_URL" in str(caught.value)
    assert shelf.load(many_books(library, 1, 5), target=target).counts.inserted > 0


@pytest.mark.parametrize(
    "missing",
    ["INSERT ON author", "INSERT ON source", "INSERT ON ebook_genres", "UPDATE ON ebook", "UPDATE ON source",
     "USAGE ON SEQUENCE ebook_id_seq", "SELECT ON synonym", "INSERT ON language"],
)  # fmt: skip
def test_a_missing_right_is_named_and_nothing_is_left_behind(
    shelf: Shelf, library: Path, postgres: ServerInfo, missing: str
) -> None:
    target = _with_rights_only(shelf, postgres)
    shelf.sql(f"REVOKE {missing} FROM clerk")
    before = shelf.tree()
    with pytest.raises(ConfigError, match=missing.rsplit(" ", 1)[1]):
        shelf.load(many_books(library, 1, 10), target=target)
    assert shelf.tree() == before
    assert shelf.one("SELECT count(*) FROM ebook") == 0
    assert shelf.placements() == 0


@pytest.mark.parametrize("how", ["reads only", "a standby's transactions"])
def test_a_role_that_may_not_write_is_a_setting_to_change(
    shelf: Shelf, library: Path, postgres: ServerInfo, how: str
) -> None:
    table, url = many_books(library, 1, 5), shelf.url
    if how == "reads only":
        url = _with_rights_only(shelf, postgres).url.reveal()
        shelf.sql("REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public FROM clerk")
    else:
        url += "?options=-cdefault_transaction_read_only%3Don"
    target = MyBookshelf2(Secret(url), shelf.data_dir)
    with pytest.raises(ConfigError) as caught:
        shelf.load(table, target=target)
    assert type(caught.value) is ConfigError
    assert shelf.tree() == [(name, "folder") for name in ("books", "converted", "thumbs", "uploads")]


def test_an_unknown_user_is_told_beside_those_there_are(shelf: Shelf, library: Path) -> None:
    with pytest.raises(ConfigError, match=r"no user 'nobody'.*one of admin"):
        shelf.load(many_books(library, 1, 5), target=shelf.using(user="nobody"))


# Names that are there once


def test_names_the_application_adds_meanwhile_are_used(shelf: Shelf, library: Path) -> None:
    """A language, a genre and a format of the plan come from somebody else while the load waits."""
    rows = book_rows(library, 1, languages=["lat"], tags=["Cooking with cats"], files={"kepub": b"k"})
    shelf.load(many_books(library, 100, 3))  # makes journal and indexes
    options = BookOptions(create_genres=True)
    with (
        shelf.holding("ebook", "ROW EXCLUSIVE") as hold,
        hold.before(shelf.load, hashed_table(rows), options=options) as load,
    ):
        hold.connection.execute(
            "INSERT INTO language (version_id, code, name) VALUES (1, 'la', 'Lingua Latina');"
            "INSERT INTO genre (version_id, name) VALUES (1, 'Cooking with cats');"
            "INSERT INTO format (version_id, extension, mime_type, name) VALUES (1, 'kepub', 'x/kepub', 'Kepub')"
        )
    assert load.result().counts.inserted == 1
    assert shelf.sql(
        "SELECT l.name, f.mime_type, g.name FROM ebook e JOIN language l ON l.id = e.language_id "
        "JOIN source s ON s.ebook_id = e.id JOIN format f ON f.id = s.format_id "
        "JOIN ebook_genres x ON x.ebook_id = e.id JOIN genre g ON g.id = x.genre_id WHERE e.title = 'A Title'"
    ) == [("Lingua Latina", "x/kepub", "Cooking with cats")]
    assert shelf.sql("SELECT kind FROM bookpipe.created WHERE load_id = 2") == [("author",)]


def test_errors_of_every_kind_are_bookpipes(shelf: Shelf, library: Path) -> None:
    shelf.sql("ALTER TABLE ebook ADD CONSTRAINT short CHECK (length(title) < 3)")
    with pytest.raises(BookpipeError, match="short"):
        shelf.load(many_books(library, 1, 5))
