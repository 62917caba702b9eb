"""Koito databases as the application's own first start makes them: tables, version rows, the user admin with id 1.

SQLite is Koito 0.2 and later (schema version 2), PostgreSQL is Koito 0.1 (schema version 5).
"""

import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

import psycopg
from psycopg import sql

from bookpipe.demo.database_owner import owned_database
from bookpipe.model.errors import ConfigError

_TRIGRAM_INDEXES = {
    "idx_artist_aliases_alias_trgm": "artist_aliases",
    "idx_release_aliases_alias_trgm": "release_aliases",
    "idx_track_aliases_alias_trgm": "track_aliases",
}


def create_koito_sqlite(path: Path) -> str:
    """Make the file, in WAL mode as Koito opens it; return its URL.

    An existing file is kept as it is (and finished, if an earlier call died half-way).
    Raises ConfigError when the file cannot be made.
    """
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = wal")
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'goose_db_version'").fetchone():
                for statement in _statements((resources.files("bookpipe.demo") / "koito_sqlite.sql").read_text()):
                    connection.execute(statement)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise ConfigError(f"cannot make {path}: {error}; is there a folder that this user may write in?") from error
    return f"sqlite:///{path.resolve()}"


def _statements(script: str) -> list[str]:
    """The statements of a script one by one: executescript would commit our transaction before the first."""
    statements, lines = [], []
    for line in script.splitlines():
        lines.append(line)
        if sqlite3.complete_statement("\n".join(lines)):
            statements.append("\n".join(lines))
            lines = []
    return statements


def create_koito_postgres(
    superuser_url: str,
    database: str = "koito",
    *,
    owner: str = "koito",
    password: str = "koito",  # noqa: S107 - for demos; the application has no default
    fresh: bool = False,
) -> str:
    """Make the database and the role `owner` that owns it and its tables; return the owner's URL.

    `superuser_url` leads to any database of the server. An existing database is kept as it is (and finished, if an
    earlier call died half-way) unless `fresh`, which drops it first, with its connections. The role's password is set
    in any case. The trigram indexes are left out where the server has no extension pg_trgm.
    Raises ConfigError when the role exists as a superuser, UnreachableError when the server does not answer.
    """
    with owned_database(superuser_url, database, owner, password, owns_it=True, fresh=fresh) as (connection, url):
        _ensure_tables(connection, owner)
    return url


def _ensure_tables(connection: psycopg.Connection, owner: str) -> None:
    """Everything in one transaction: the version rows say that all of it is there."""
    made = connection.execute("SELECT to_regclass('public.goose_db_version')").fetchone()
    if made is not None and made[0] is not None:
        return
    connection.execute("SET client_min_messages TO warning")
    available = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'").fetchone()
    if available:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public")
    connection.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(sql.Identifier(owner)))
    connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner)))
    connection.execute((resources.files("bookpipe.demo") / "koito_postgres.sql").read_bytes())
    if available:
        for index, table in _TRIGRAM_INDEXES.items():
            connection.execute(
                sql.SQL("CREATE INDEX {} ON {} USING gin (alias gin_trgm_ops)").format(
                    sql.Identifier(index), sql.Identifier(table)
                )
            )
