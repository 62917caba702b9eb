"""A MyBookshelf2 database (version 2) as the application's own set-up makes it: role, text search, tables, first rows.

What the superuser makes: the role, the database, the extension `unaccent`, the text search configuration `custom` and
the right to create in `public`. What the role makes, and owns: everything in mybookshelf2_schema.sql and
mybookshelf2_seed.sql. The role is no superuser: it may disable its own triggers but not the foreign keys.
"""

from importlib import resources

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from bookpipe.demo.database_owner import ensure_role, owner_url
from bookpipe.model.errors import UnreachableError

# One lock for all databases of a server: CREATE ROLE and CREATE DATABASE have no "if not exists" that is safe at once.
_SETUP_LOCK = 0x626F6F6B


def create_mybookshelf2(
    superuser_url: str,
    database: str = "mybookshelf2",
    *,
    owner: str = "ebooks",
    password: str = "ebooks",  # noqa: S107 - the application's own default
    fresh: bool = False,
) -> str:
    """Make the database and the role `owner` that owns its tables; return the owner's URL.

    `superuser_url` leads to any database of the server. An existing database is kept as it is (and finished, if an
    earlier call died half-way) unless `fresh`, which drops it first, with its connections. The role's password is set
    in any case. The returned URL uses TCP where the server listens, so that the password counts.
    Raises ConfigError when the role exists as a superuser, UnreachableError when the server does not answer.
    """
    try:
        with psycopg.connect(superuser_url, autocommit=True) as server:
            server.execute("SELECT pg_advisory_lock(%s)", (_SETUP_LOCK,))
            ensure_role(server, owner, password)
            if fresh:
                server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
            _ensure_database(server, database, owner)
            with psycopg.connect(make_conninfo(superuser_url, dbname=database)) as connection:
                _ensure_text_search(connection, owner)
                _ensure_tables(connection, owner)
            return owner_url(server, superuser_url, database, owner, password)
    except psycopg.OperationalError as error:
        raise UnreachableError(f"cannot set up {database}: {error}; is the PostgreSQL server running?") from error


def _ensure_database(server: psycopg.Connection, database: str, owner: str) -> None:
    names = {"database": sql.Identifier(database), "owner": sql.Identifier(owner)}
    if server.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone() is None:
        server.execute(sql.SQL("CREATE DATABASE {database} TEMPLATE template0 ENCODING 'UTF8'").format(**names))
    # The application's set-up grants this; it is also what allows the role to make a schema of its own.
    server.execute(sql.SQL("GRANT ALL PRIVILEGES ON DATABASE {database} TO {owner}").format(**names))


def _ensure_text_search(connection: psycopg.Connection, owner: str) -> None:
    connection.execute("SET client_min_messages TO warning")
    connection.execute("CREATE EXTENSION IF NOT EXISTS unaccent")
    # Since PostgreSQL 15 nobody but a database's owner may create in "public".
    connection.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(sql.Identifier(owner)))
    made = connection.execute("SELECT 1 FROM pg_ts_config WHERE cfgname = 'custom'").fetchone()
    if made is None:
        connection.execute("CREATE TEXT SEARCH CONFIGURATION public.custom (COPY = pg_catalog.english)")
        connection.execute(
            "ALTER TEXT SEARCH CONFIGURATION public.custom"
            " ALTER MAPPING FOR word, hword, hword_part WITH unaccent, english_stem"
        )


def _ensure_tables(connection: psycopg.Connection, owner: str) -> None:
    """Tables and first rows in one transaction: the table `version` says that all of it is there."""
    made = connection.execute("SELECT to_regclass('public.version')").fetchone()
    if made is not None and made[0] is not None:
        return
    connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner)))
    for script in ("mybookshelf2_schema.sql", "mybookshelf2_seed.sql"):
        connection.execute((resources.files("bookpipe.demo") / script).read_bytes())
