"""psycopg's errors become bookpipe's, with the cause, a remedy and no password; Arrow rows arrive as they were."""

import select
import traceback
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from bookpipe.demo.embedded_server import ServerInfo
from bookpipe.model.errors import BookpipeError, ConfigError, TerminalError, TransientError, UnreachableError
from bookpipe.model.secrets import Secret
from bookpipe.targets.postgres import Connection, as_array, connect, copy_table, joined, translating

PASSWORD = "hunter2"
SETTING = "BOOKPIPE_MYBOOKSHELF2_URL"


@pytest.fixture
def connection(mybookshelf2_url: str) -> Iterator[Connection]:
    with closing(connect(Secret(mybookshelf2_url), SETTING)) as connection:
        yield connection


def everything_said(error: BaseException) -> str:
    """All text a log could show of an exception and those behind it."""
    said = "".join(traceback.format_exception(error))
    seen: BaseException | None = error
    while seen is not None:
        said += f"{seen} {seen!r} {seen.args!r} {vars(seen)!r}"
        seen = seen.__cause__ or seen.__context__
    return said


def refusal(url: str) -> BookpipeError:
    with pytest.raises(BookpipeError) as caught:
        connect(Secret(url), SETTING)
    assert SETTING in str(caught.value)
    return caught.value


# Logins


@pytest.mark.parametrize(
    "password",
    [PASSWORD, f"a@{PASSWORD}", f"a@b@{PASSWORD}", f"a/{PASSWORD}", f"a?{PASSWORD}", f"a#{PASSWORD}", f"a:{PASSWORD}",
     f"a[{PASSWORD}", f"{PASSWORD}%zz", f"a {PASSWORD}", f"a%20{PASSWORD}", f"a%40{PASSWORD}"],
)  # fmt: skip
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:{}@127.0.0.1:1/books",
        "postgresql://ann:{}@127.0.0.1:x/books",
        "postgresql://ann:{}@no-such-host.invalid/books",
        "postgresql://ann@127.0.0.1:1/books?password={}",
        "postgres//ann:{}@127.0.0.1:1/books",
        "postgresql:/ann:{}@127.0.0.1:1/books",
        "ann:{}@127.0.0.1",
        "{}",
        "host=127.0.0.1 port=1 password='{}'",
        "host=127.0.0.1 port=1 password='{}",
        "host=127.0.0.1 port=1 password={} = x",
    ],
)
def test_no_password_is_ever_said(url: str, password: str) -> None:
    assert PASSWORD not in everything_said(refusal(url.format(password)))


def test_a_wrong_password_is_a_setting_to_change(postgres: ServerInfo, mybookshelf2_url: str) -> None:
    database = mybookshelf2_url.rsplit("/", 1)[1]
    error = refusal(postgres.url(database, "ebooks", PASSWORD))
    assert isinstance(error, ConfigError)
    assert not isinstance(error, TransientError)
    assert "password authentication failed" in str(error)
    assert PASSWORD not in everything_said(error)


@pytest.mark.parametrize("special", ["p@ss:w/rd?#%", "ünïcode £", "a b'\"c"])
def test_an_encoded_password_of_any_characters_is_accepted(postgres: ServerInfo, special: str) -> None:
    with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE ROLE odd LOGIN PASSWORD {}").format(sql.Literal(special)))
        try:
            url = f"postgresql://odd:{quote(special, safe='')}@127.0.0.1:{postgres.port}/postgres"
            connect(Secret(url), SETTING).close()
        finally:
            server.execute("DROP ROLE odd")


@pytest.mark.parametrize(
    ("user", "database", "said"),
    [("nobody", "postgres", "failed for user"), ("ebooks", "no_such_database", "does not exist")],
)
def test_an_unknown_role_or_database_is_a_setting_to_change(
    postgres: ServerInfo, mybookshelf2_url: str, user: str, database: str, said: str
) -> None:
    error = refusal(postgres.url(database, user, "ebooks"))
    assert isinstance(error, ConfigError)
    assert not isinstance(error, TransientError)
    assert said in str(error)


@pytest.mark.parametrize("url", ["postgresql://a:b@127.0.0.1:1/x", "postgresql:///x?host=/no/such/folder"])
def test_no_answer_may_be_a_restart_or_a_wrong_address(url: str) -> None:
    error = refusal(url)
    assert isinstance(error, UnreachableError)
    assert isinstance(error, TransientError)
    assert isinstance(error, ConfigError)


def test_a_server_without_room_for_another_session_is_asked_again(postgres: ServerInfo) -> None:
    with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
        server.execute("CREATE ROLE crowd LOGIN CONNECTION LIMIT 0 PASSWORD 'x'")
        try:
            assert isinstance(refusal(postgres.url("postgres", "crowd", "x")), TransientError)
        finally:
            server.execute("DROP ROLE crowd")


# Errors of statements


@pytest.mark.parametrize(
    ("statement", "kind", "said"),
    [
        ("SELECT * FROM no_such_table", ConfigError, "doctor"),
        ("SELECT no_such_column FROM ebook", ConfigError, "doctor"),
        ("SELECT no_such_function()", ConfigError, "doctor"),
        ("CREATE ROLE another", ConfigError, "permission denied"),
        ("SET default_transaction_read_only = on; CREATE TABLE t ()", ConfigError, "read-only"),
        ("SET statement_timeout = 1; SELECT pg_sleep(10)", TransientError, "tried again"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", TransientError, "tried again"),
        ("INSERT INTO genre VALUES (1, 1, 'x')", TransientError, "duplicate key"),
        ("INSERT INTO ebook_genres VALUES (1, 1)", TransientError, "foreign key"),
        ("SELECT 1/0", TerminalError, "22012"),
        ("INSERT INTO genre VALUES (1, NULL, 'x')", TerminalError, "23502"),
        ("DO $$ BEGIN RAISE 'of a trigger'; END $$", TerminalError, "of a trigger"),
        ("SELEC 1", TerminalError, "42601"),
    ],
)
def test_errors_are_sorted_by_what_helps(
    connection: Connection, statement: str, kind: type[BookpipeError], said: str
) -> None:
    with pytest.raises(BookpipeError, match=said) as caught, translating("trying it"):
        for part in statement.split("; ") if "$$" not in statement else [statement]:
            connection.execute(part.encode())
    assert type(caught.value) is kind
    assert "trying it" in str(caught.value)


def test_a_transaction_that_sat_idle_too_long_is_tried_again(connection: Connection) -> None:
    with pytest.raises(TransientError), translating("thinking"):
        connection.execute("SET idle_in_transaction_session_timeout = 1")
        with connection.transaction():
            connection.execute("SELECT 1")
            select.select([connection], [], [], 60)  # until the server has said something
            connection.execute("SELECT 1")


def test_a_lost_connection_is_tried_again_at_every_further_statement(connection: Connection) -> None:
    for statement in ("SELECT pg_terminate_backend(pg_backend_pid())", "SELECT 1", "SELECT 1"):
        with pytest.raises(TransientError), translating("asking"):
            connection.execute(statement.encode())


# Rows


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
        )
    )
)
def test_rows_arrive_as_they_were(
    connection: Connection, rows: list[tuple[str | None, int | None, float | None]]
) -> None:
    """Quotes, commas, line ends, backslashes, a lone \\., empty and null."""
    rows = [*rows, ("\\.", 1, None), ("", None, 0.5), (None, None, None), ('"a", \n\\N\r\n', 2, -0.0)]
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS t (a text, b bigint, c float8)")
    connection.execute("TRUNCATE t")
    texts, numbers, floats = zip(*rows, strict=True)
    copy_table(
        connection,
        "t",
        pa.table({"a": pa.array(texts, pa.string()), "b": pa.array(numbers, pa.int64()), "c": pa.array(floats)}),
    )
    assert connection.execute("SELECT a, b, c FROM t").fetchall() == rows


def test_no_rows_are_no_statement(connection: Connection) -> None:
    copy_table(connection, "no_such_table", pa.table({"a": pa.array([], pa.string())}))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)))
def test_joined_texts_arrive_as_an_array(connection: Connection, texts: list[str]) -> None:
    row = connection.execute(f"SELECT {as_array('text')}".encode(), (joined(texts),)).fetchone()
    assert row == (texts,)
