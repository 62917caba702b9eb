"""The demo's MyBookshelf2 database behaves as the application's own: rights, first rows, full text."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql

from bookpipe.demo.embedded_server import ServerInfo
from bookpipe.demo.mybookshelf2_database import create_mybookshelf2
from bookpipe.model.errors import ConfigError, UnreachableError

Row = tuple[object, ...]


class Shelf:
    """A MyBookshelf2 database, filled with single rows in plain SQL."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self.connection = connection

    def one(self, query: str, *values: object) -> object:
        row = self.connection.execute(query.encode(), values or None).fetchone()
        return row and row[0]

    def run(self, statement: str, *values: object) -> None:
        self.connection.execute(statement.encode(), values or None)

    def audited(self, table: str, **columns: object) -> int:
        """Insert one row into a table with version_id, created and modified; return its id."""
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        places = sql.SQL(", ").join(sql.Placeholder() * len(columns))
        statement = sql.SQL(
            "INSERT INTO {} (version_id, created, modified, {}) VALUES (1, localtimestamp, localtimestamp, {})"
            " RETURNING id"
        ).format(sql.Identifier(table), names, places)
        row = self.connection.execute(statement, list(columns.values())).fetchone()
        assert row is not None
        assert isinstance(row[0], int)
        return row[0]

    def author(self, first: str | None, last: str) -> int:
        return self.audited("author", first_name=first, last_name=last)

    def ebook(
        self, title: str, series: int | None = None, index: int | None = None, authors: tuple[int, ...] = ()
    ) -> int:
        ebook = self.audited(
            "ebook", title=title, series_id=series, series_index=index, language_id=2, base_dir=f"{title}(en)"
        )
        for author in authors:
            self.run("INSERT INTO ebook_authors (ebook_id, author_id) VALUES (%s, %s)", ebook, author)
        return ebook

    def has_text(self, ebook: int, text: str) -> bool:
        return bool(self.one("SELECT full_text = to_tsvector('custom', %s) FROM ebook WHERE id = %s", text, ebook))


@pytest.fixture
def shelf(mybookshelf2_url: str) -> Shelf:
    return Shelf(psycopg.connect(mybookshelf2_url, autocommit=True))


# --- the set-up ---


def test_the_role_is_no_superuser_and_owns_every_table(shelf: Shelf) -> None:
    assert shelf.one("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    owners = shelf.connection.execute(
        "SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public'"
    ).fetchall()
    assert owners == [("ebooks",)]


def test_the_role_disables_its_own_triggers_but_no_foreign_keys(shelf: Shelf) -> None:
    shelf.run("ALTER TABLE ebook DISABLE TRIGGER ebook_ts_insert")
    shelf.run("ALTER TABLE ebook_authors DISABLE TRIGGER USER")
    for refused in ("ALTER TABLE ebook DISABLE TRIGGER ALL", "SET session_replication_role = replica"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            shelf.run(refused)


def test_the_role_may_make_a_schema_of_its_own(shelf: Shelf) -> None:
    shelf.run("CREATE SCHEMA bookpipe")


def test_the_password_is_checked(postgres: ServerInfo, mybookshelf2_template: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url(mybookshelf2_template, "ebooks", "wrong"))


def test_an_existing_database_is_kept_unless_a_fresh_one_is_wanted(postgres: ServerInfo) -> None:
    url = create_mybookshelf2(postgres.superuser_url, "kept")
    try:
        with psycopg.connect(url) as connection:
            connection.execute("DELETE FROM synonym")
        for fresh, versions, synonyms in ((False, 1, 0), (True, 1, 5)):
            assert create_mybookshelf2(postgres.superuser_url, "kept", fresh=fresh) == url
            with psycopg.connect(url) as connection:
                counts = connection.execute("SELECT (SELECT count(*) FROM version), (SELECT count(*) FROM synonym)")
                assert counts.fetchone() == (versions, synonyms)
    finally:
        with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
            server.execute("DROP DATABASE kept WITH (FORCE)")


def test_two_set_ups_at_once_make_one_database(postgres: ServerInfo) -> None:
    with ThreadPoolExecutor(2) as pool:
        urls = list(pool.map(lambda _: create_mybookshelf2(postgres.superuser_url, "shared"), range(2)))
    with psycopg.connect(urls[0]) as connection:
        assert connection.execute("SELECT version FROM version").fetchall() == [(2,)]
    with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
        server.execute("DROP DATABASE shared WITH (FORCE)")


def test_a_set_up_that_died_half_way_is_finished(postgres: ServerInfo) -> None:
    with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
        server.execute("CREATE DATABASE half_made")
        try:
            with psycopg.connect(create_mybookshelf2(postgres.superuser_url, "half_made")) as connection:
                assert connection.execute("SELECT version FROM version").fetchall() == [(2,)]
        finally:
            server.execute("DROP DATABASE half_made WITH (FORCE)")


def test_names_and_passwords_may_hold_any_character(postgres: ServerInfo) -> None:
    name, role, password = 'my "books"', "o'brien @home", "p%40ss: /?'\\"
    url = create_mybookshelf2(postgres.superuser_url, name, owner=role, password=password)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT current_user::text, current_database()::text").fetchone() == (role, name)
    with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        server.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_a_superuser_is_refused_as_the_role(postgres: ServerInfo) -> None:
    with pytest.raises(ConfigError, match="superuser"):
        create_mybookshelf2(postgres.superuser_url, "never", owner="postgres")


def test_a_silent_server_is_unreachable() -> None:
    with pytest.raises(UnreachableError, match="running"):
        create_mybookshelf2("postgresql://postgres@127.0.0.1:1/postgres")


# --- the first rows ---


@pytest.mark.parametrize(
    ("table", "count", "last"),
    [
        ("format", 17, 17),
        ("language", 4, 4),
        ("genre", 57, 58),
        ("role", 5, 5),
        ('"user"', 1, 1),
        ("synonym", 5, 5),
        ("version", 1, 1),
        ("ebook", 0, None),
    ],
)
def test_the_first_rows_are_there(shelf: Shelf, table: str, count: int, last: int | None) -> None:
    row = shelf.connection.execute(f"SELECT count(*), max(id) FROM {table}".encode()).fetchone()
    assert row == (count, last)


@pytest.mark.parametrize(
    ("extension", "formats_mime"), [("prc", "application/vnd.palm "), ("epub", "application/epub+zip")]
)
def test_mime_types_keep_their_trailing_blank(shelf: Shelf, extension: str, formats_mime: str) -> None:
    assert shelf.one("SELECT mime_type FROM format WHERE extension = %s", extension) == formats_mime
    assert shelf.one("SELECT count(*) FROM format WHERE mime_type LIKE '%% '") == 3


def test_there_is_no_genre_33(shelf: Shelf) -> None:
    assert shelf.one("SELECT name FROM genre WHERE id = 33") is None
    assert shelf.one("SELECT name FROM genre WHERE id = 34") == "Educational"


def test_sequences_stand_behind_the_first_rows(shelf: Shelf) -> None:
    assert (
        shelf.one("INSERT INTO format (version_id, mime_type, name, extension) VALUES (1, '', '', 'cbz') RETURNING id")
        == 18
    )
    assert shelf.one("INSERT INTO genre (version_id, name) VALUES (1, 'Essays') RETURNING id") == 59
    assert shelf.one("INSERT INTO language (version_id, code, name) VALUES (1, 'de', 'German') RETURNING id") == 5
    assert shelf.one("INSERT INTO role (version_id, name) VALUES (1, 'robot') RETURNING id") == 6
    assert shelf.audited("user", user_name="eva", email="eva@example.com", password="x") == 2


def test_an_admin_holds_every_role(shelf: Shelf) -> None:
    roles = shelf.connection.execute("SELECT role FROM user_roles(1)").fetchall()
    assert sorted(roles) == [("admin",), ("guest",), ("superuser",), ("trusted_user",), ("user",)]
    assert shelf.one("SELECT user_has_roles(1, ARRAY['superuser', 'nothing'])") == 1
    assert shelf.one("SELECT user_has_roles(1, ARRAY['nothing'])") is None


# --- the schema ---


@pytest.mark.parametrize("missing", ["version_id", "created", "modified", "base_dir"])
def test_nothing_but_the_id_has_a_default(shelf: Shelf, missing: str) -> None:
    values = {
        "version_id": "1",
        "created": "now()",
        "modified": "now()",
        "base_dir": "'x'",
        "title": "'x'",
        "language_id": "2",
    }
    del values[missing]
    with pytest.raises(psycopg.errors.NotNullViolation, match=missing):
        shelf.run(f"INSERT INTO ebook ({', '.join(values)}) VALUES ({', '.join(values.values())})")


def test_ids_are_bigint_from_sequences_named_after_their_table(shelf: Shelf) -> None:
    rows = shelf.connection.execute(
        "SELECT table_name::text, column_name::text, column_default, data_type FROM information_schema.columns"
        " WHERE table_schema = 'public' AND column_default IS NOT NULL"
    ).fetchall()
    assert len(rows) == 20
    for table, column, default, kind in rows:
        quoted = '"user"' if table == "user" else table
        assert (column, kind) == ("id", "bigint")
        assert default == f"nextval('{table}_id_seq'::regclass)"
        assert shelf.one("SELECT pg_get_serial_sequence(%s, 'id')", quoted) == f"public.{table}_id_seq"


def test_only_the_applications_indexes_exist(shelf: Shelf) -> None:
    rows = shelf.connection.execute(
        "SELECT tablename::text, indexname::text FROM pg_indexes WHERE schemaname = 'public' AND tablename IN"
        " ('ebook', 'source', 'author', 'series', 'ebook_authors')"
    ).fetchall()
    assert sorted(rows) == [
        ("author", "author_pkey"),
        ("author", "ix_author_modified"),
        ("ebook", "ebook_pkey"),
        ("ebook", "full_text_search_idx"),
        ("ebook", "ix_ebook_modified"),
        ("ebook", "ix_ebook_series_id"),
        ("ebook", "ix_ebook_title"),
        ("ebook_authors", "ebook_authors_pkey"),
        ("ebook_authors", "ix_ebook_authors_author_id"),
        ("ebook_authors", "ix_ebook_authors_ebook_id"),
        ("series", "ix_series_modified"),
        ("series", "ix_series_title"),
        ("series", "series_pkey"),
        ("source", "ix_source_modified"),
        ("source", "source_pkey"),
    ]


def test_enums_are_the_applications(shelf: Shelf) -> None:
    assert shelf.one('SELECT enum_range(NULL::"BOOKSHELF_ITEM_TYPE")::text') == "{EBOOK,SERIES}"
    assert (
        shelf.one('SELECT enum_range(NULL::"CONVERSION_BATCH_ENTITY")::text')
        == "{SERIES,AUTHOR,EBOOK,SOURCE,BOOKSHELF}"
    )


def test_deleting_a_book_takes_its_links_and_sources_but_not_when_it_was_rated(shelf: Shelf) -> None:
    book = shelf.ebook("Dune", authors=(shelf.author("Frank", "Herbert"),))
    shelf.run("INSERT INTO ebook_genres (ebook_id, genre_id) VALUES (%s, 25)", book)
    shelf.audited("source", ebook_id=book, location="x", format_id=8, size=1, hash="0" * 40)
    rating = shelf.audited("ebook_rating", ebook_id=book, rating=80)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        shelf.run("DELETE FROM ebook WHERE id = %s", book)
    shelf.run("DELETE FROM ebook_rating WHERE id = %s", rating)
    shelf.run("DELETE FROM ebook WHERE id = %s", book)
    for table in ("ebook_authors", "ebook_genres", "source"):
        assert shelf.one(f"SELECT count(*) FROM {table}") == 0
    assert shelf.one("SELECT count(*) FROM author") == 1


def test_a_size_beyond_four_bytes_is_out_of_range(shelf: Shelf) -> None:
    book = shelf.ebook("Big")
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        shelf.audited("source", ebook_id=book, location="x", format_id=8, size=2**31, hash="0" * 40)


# --- full text ---


@pytest.mark.parametrize(
    ("authors", "title", "in_series", "text"),
    [
        ([("Frank", "Herbert")], "Dune", None, "Frank Herbert: Dune"),
        ([("Frank", "Herbert")], "Dune", (None, 3), "Frank Herbert: Dune"),
        ([("Frank", "Herbert")], "Dune Messiah", ("Chronicles", 2), "Frank Herbert: Dune Messiah (Chronicles 2)"),
        ([("Frank", "Herbert")], "Dune", ("Chronicles", None), "Frank Herbert: Dune (Chronicles 0)"),
        ([], "Beowulf", None, ": Beowulf"),
        ([], "Beowulf", ("Epics", 0), ": Beowulf (Epics 0)"),
        ([(None, "Voltaire")], "Candide", None, "Voltaire: Candide"),
        ([("Ann", "One"), ("Bob", "Two")], "Picnic", None, "Ann One, Bob Two: Picnic"),
    ],
)
def test_the_text_is_authors_title_and_series(
    shelf: Shelf,
    authors: list[tuple[str | None, str]],
    title: str,
    in_series: tuple[str | None, int | None] | None,
    text: str,
) -> None:
    name, index = in_series or (None, None)
    series = shelf.audited("series", title=name) if name else None
    book = shelf.ebook(title, series, index, tuple(shelf.author(*author) for author in authors))
    assert shelf.one("SELECT ebook_full_title(%s)", book) == text
    assert shelf.has_text(book, text)


def test_the_stored_text_holds_stems_without_accents(shelf: Shelf) -> None:
    book = shelf.ebook("Žluťoučký kůň", authors=(shelf.author("Karel", "Čapek"),))
    stored = shelf.one("SELECT full_text::text FROM ebook WHERE id = %s", book)
    assert stored == "'capek':2 'karel':1 'kun':4 'zlutoucki':3"


@pytest.mark.parametrize(
    ("text", "vector"),
    [
        ("Foundations", "'foundat':1"),
        ("Élève", "'elev':1"),
        ("the of and", ""),
        ("Ёлка", "'елка':1"),
        ("Кони", "'кони':1"),
        ("Číslo5", "'číslo5':1"),
        ("über-groß", "'gross':3 'uber':2 'uber-gross':1"),
    ],
)
def test_the_configuration_takes_accents_off_and_stems_english(shelf: Shelf, text: str, vector: str) -> None:
    assert shelf.one("SELECT to_tsvector('custom', %s)::text", text) == vector


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("UPDATE ebook SET title = 'Diuna'", "Frank Herbert: Diuna (Chronicles 1)"),
        ("UPDATE ebook SET series_id = NULL", "Frank Herbert: Dune"),
        ("UPDATE ebook SET series_index = 9", "Frank Herbert: Dune (Chronicles 1)"),
        ("UPDATE author SET first_name = 'F.'", "F. Herbert: Dune (Chronicles 1)"),
        ("UPDATE series SET title = 'Kroniky'", "Frank Herbert: Dune (Kroniky 1)"),
        ("DELETE FROM ebook_authors", ": Dune (Chronicles 1)"),
    ],
)
def test_a_change_refreshes_the_text_except_of_the_index_alone(shelf: Shelf, change: str, text: str) -> None:
    series = shelf.audited("series", title="Chronicles")
    book = shelf.ebook("Dune", series, 1, (shelf.author("Frank", "Herbert"),))
    shelf.run(change)
    assert shelf.has_text(book, text)


def test_moving_an_author_link_refreshes_both_books(shelf: Shelf) -> None:
    author = shelf.author("Frank", "Herbert")
    left, right = shelf.ebook("Dune", authors=(author,)), shelf.ebook("Destination Void")
    shelf.run("UPDATE ebook_authors SET ebook_id = %s", right)
    assert shelf.has_text(left, ": Dune")
    assert shelf.has_text(right, "Frank Herbert: Destination Void")


def test_each_inserted_book_sends_a_notice(shelf: Shelf) -> None:
    notices: list[str] = []
    shelf.connection.add_notice_handler(lambda notice: notices.append(notice.severity_nonlocalized or ""))
    shelf.ebook("Dune")
    assert notices == ["NOTICE"]
    shelf.run("SET client_min_messages TO warning")
    shelf.ebook("Dune again")
    assert notices == ["NOTICE"]


def test_without_public_on_the_search_path_the_insert_trigger_fails(shelf: Shelf) -> None:
    shelf.run("SET search_path TO pg_catalog")
    with pytest.raises(psycopg.errors.UndefinedTable, match="ebook"):
        shelf.run(
            "INSERT INTO public.ebook (version_id, created, modified, title, language_id, base_dir)"
            " VALUES (1, now(), now(), 'x', 2, 'x')"
        )


def test_triggers_are_enabled_and_named_as_in_the_application(shelf: Shelf) -> None:
    rows = shelf.connection.execute(
        "SELECT tgrelid::regclass::text, tgname::text, tgfoid::regproc::text, tgenabled::text"
        " FROM pg_trigger WHERE NOT tgisinternal"
    ).fetchall()
    assert sorted(rows) == [
        ("author", "ebook_ts_update", "update_ebook_full_text4", "O"),
        ("ebook", "ebook_ts_insert", "update_ebook_full_text", "O"),
        ("ebook", "ebook_ts_update", "update_ebook_full_text", "O"),
        ("ebook_authors", "ebook_ts_update", "update_ebook_full_text2", "O"),
        ("series", "ebook_ts_update", "update_ebook_full_text3", "O"),
    ]
