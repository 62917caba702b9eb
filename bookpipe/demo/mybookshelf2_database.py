"""A MyBookshelf2 database (version 2) as the application's own set-up makes it: role, text search, tables, first rows.

What the superuser makes: the role, the database, the extension `unaccent`, the text search configuration `custom` and
the right to create in `public`. What the role makes, and owns: everything in mybookshelf2_schema.sql and
mybookshelf2_seed.sql. The role is no superuser: it may disable its own triggers but not the foreign keys.
"""

from importlib import resources

import psycopg
from psycopg import sql

from bookpipe.demo.database_owner import owned_database


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
    with owned_database(superuser_url, database, owner, password, owns_it=False, fresh=fresh) as (connection, url):
        # The application's set-up grants this; it is also what allows the role to make a schema of its own.
        names = sql.Identifier(database), sql.Identifier(owner)
        connection.execute(sql.SQL("GRANT ALL PRIVILEGES ON DATABASE {} TO {}").format(*names))
        _ensure_text_search(connection, owner)
        _ensure_tables(connection, owner)
    return url


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
