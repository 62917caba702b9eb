"""PostgreSQL for targets: connections, COPY from Arrow, and psycopg's errors as bookpipe's."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any, TypeVar

import psycopg
import pyarrow as pa
from psycopg import errors, sql
from pyarrow import csv

from bookpipe.model.errors import BookpipeError, ConfigError, TerminalError, TransientError, UnreachableError
from bookpipe.model.secrets import Secret, redact

Connection = psycopg.Connection[tuple[Any, ...]]
T = TypeVar("T")

CONNECT_TIMEOUT_S = 10

# What the server says when a person has to change something before a login can work.
_LOGIN_REFUSED = re.compile(
    r"password authentication failed|no password supplied|no pg_hba\.conf entry|role .* does not exist|"
    r"database .* does not exist|permission denied for database|not permitted to log in|invalid (URI|connection|dsn)|"
    r"missing \"=\"|certificate|SSL",
    re.IGNORECASE,
)
_URL = re.compile(r"postgres(ql)?://([^:@/?#\s]*(:[^:@/?#\s]*)?@)?[^@\s]*", re.IGNORECASE)
# SQLSTATE classes and codes after which the same work may succeed: lost connections, deadlocks and
# serialization failures, no resources (a full disk), a server that stops or starts, lock timeouts; and
# rows that the application deleted or added between our look and our write.
_TRANSIENT = ("08", "25P03", "25P04", "40", "53", "57P", "58", "55P03", "57014", "23503", "23505")
_CONFIG = ("28", "3D", "3F", "42501", "42P01", "42703", "42883", "42704", "25006", "0LP")


def translate(error: psycopg.Error, doing: str) -> BookpipeError:
    """The bookpipe error for what psycopg raised while `doing` something. Passwords are struck out."""
    code = error.sqlstate or ""
    text = redact(str(error).strip().split("\n")[0])
    if code.startswith(_CONFIG):
        return ConfigError(f"PostgreSQL refused {doing}: {text}. {_remedy(code)}")
    if code.startswith(_TRANSIENT):
        return TransientError(f"PostgreSQL interrupted {doing}: {text}. The work is tried again.")
    if isinstance(error, errors.OperationalError | errors.InterfaceError):
        return TransientError(f"The connection to PostgreSQL was lost while {doing}: {text}. The work is tried again.")
    return TerminalError(f"PostgreSQL could not do {doing}: {text} (SQLSTATE {code or 'none'}).")


def _remedy(code: str) -> str:
    if code == "42501":
        return "Give the role the right that is named, or use the role that owns the tables; `bookpipe doctor` checks."
    if code in ("42P01", "42703", "42704", "42883"):
        return "The database is not the application's, or of another version; `bookpipe doctor` checks."
    if code == "25006":
        return "The server is read-only (a standby?): use the primary."
    return "Check the address, user and database in the URL; `bookpipe doctor` checks."


@contextmanager
def translating(doing: str) -> Iterator[None]:
    """psycopg's errors leave the block as bookpipe errors."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, doing) from error


def connect(url: Secret, setting: str) -> Connection:
    """An autocommit connection. `setting` is the setting's name, for messages.

    Raises ConfigError when the login is refused, UnreachableError when no server answers.
    """
    password = _password(url.reveal(), setting)
    failure = None
    try:
        connection = psycopg.connect(
            url.reveal(),
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name="bookpipe",
        )
    except psycopg.Error as error:
        failure = redact(" ".join(str(error).split()))
    if failure is not None:  # raised out here, so that psycopg's error with its text does not hang on ours
        if password:
            failure = failure.replace(password, "****")
        if _LOGIN_REFUSED.search(failure):
            raise ConfigError(f"PostgreSQL refused the login: {failure}. Check {setting}.")
        raise UnreachableError(
            f"PostgreSQL does not answer: {failure}. Is the server running, and is {setting} its address?"
        )
    with translating("preparing the session"):
        # Each insert sends a notice otherwise, and the application's functions use unqualified names.
        connection.execute("SET client_min_messages = warning")
        connection.execute("SET search_path = public")
    return connection


_BETWEEN = "\x1e"  # no name that reaches a target has control characters


def as_array(kind: str) -> str:
    """SQL for a parameter made by `joined`: an array of this type. Much cheaper than psycopg's own arrays, which
    are quoted element by element."""
    # None as Python prints it, which no number looks like.
    null = "" if kind == "text" else ", 'None'"
    return f"string_to_array(%s, E'\\x1e'{null})::{kind}[]"


def joined(values: Iterable[object]) -> str:
    """Texts or numbers as one parameter for `as_array`. No text may be None or ''; a number may be None."""
    return _BETWEEN.join(map(str, values))


def _password(url: str, setting: str) -> str:
    """The password in a URL; '' without one.

    The ConfigError for a URL that cannot be read quotes nothing of it: the part that PostgreSQL's library stumbles
    over may be the password.
    """
    wellformed = _URL.fullmatch(url) or "://" not in url
    if wellformed:
        with suppress(psycopg.Error):
            return str(psycopg.conninfo.conninfo_to_dict(url).get("password") or "")
    raise ConfigError(
        f"{setting} is no address of a PostgreSQL database. It must read postgresql://user:password@host:port/name, "
        "with @ : / ? # % in the password written as %40 %3A %2F %3F %23 %25."
    )


SHORT_WAIT = "500ms"  # shorter than the second after which PostgreSQL looks for deadlocks and ends one of the waiting
LOCK_TIMEOUT = "60s"
LOCK_ATTEMPTS = 120  # short waits


def lock_tables(connection: Connection, names: Collection[str]) -> None:
    """Keep everybody else from writing into these tables until the transaction ends; reading goes on."""
    statement = f"LOCK TABLE {', '.join(names)} IN SHARE ROW EXCLUSIVE MODE".encode()
    lock_patiently(connection, lambda: connection.execute(statement))


def lock_patiently(connection: Connection, lock: Callable[[], T]) -> T:
    """What `lock` returns, which takes locks until the transaction ends.

    The application takes its locks in orders of its own, so that it may come to wait for one of ours while
    we wait for one of its. Then we let go and try again, before PostgreSQL ends one of the two.
    """
    connection.execute(f"SET LOCAL lock_timeout = '{SHORT_WAIT}'".encode())
    for attempt in count(1):
        try:
            with connection.transaction():
                locked = lock()
            break
        except errors.LockNotAvailable:
            if attempt == LOCK_ATTEMPTS:
                raise
    connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'".encode())
    return locked


def copy_table(connection: Connection, table: str, rows: pa.Table) -> None:
    """COPY all rows of an Arrow table into columns of the same names. `table` may be qualified ("schema.table").

    Values travel as CSV, which Arrow writes and PostgreSQL reads in C; null and '' stay different.
    """
    if rows.num_rows == 0:
        return
    statement = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT csv)").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, rows.column_names))
    )
    sink = pa.BufferOutputStream()
    csv.write_csv(rows, sink, csv.WriteOptions(include_header=False))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(memoryview(sink.getvalue()))
