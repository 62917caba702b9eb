"""A demo database, the role that owns what is in it, and its URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bookpipe.model.errors import ConfigError, UnreachableError

# One lock for all databases of a server: CREATE ROLE and CREATE DATABASE have no "if not exists" that is safe at once.
_SETUP_LOCK = 0x626F6F6B


@contextmanager
def owned_database(
    superuser_url: str, database: str, owner: str, password: str, *, owns_it: bool, fresh: bool
) -> Iterator[tuple[psycopg.Connection, str]]:
    """A superuser's transaction in the database, which is made if it is not there, and the URL of the role `owner`.

    `superuser_url` leads to any database of the server. `owns_it`: the role is to own the database itself too. `fresh`
    drops it first, with its connections. Nobody else sets one up meanwhile. Raises ConfigError when the role exists as
    a superuser, UnreachableError when the server does not answer.
    """
    name = sql.Identifier(database)
    of_owner = sql.SQL("OWNER {}").format(sql.Identifier(owner)) if owns_it else sql.SQL("")
    try:
        with psycopg.connect(superuser_url, autocommit=True) as server:
            server.execute("SELECT pg_advisory_lock(%s)", (_SETUP_LOCK,))
            _ensure_role(server, owner, password)
            if fresh:
                server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            if server.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone() is None:
                server.execute(
                    sql.SQL("CREATE DATABASE {} {} TEMPLATE template0 ENCODING 'UTF8'").format(name, of_owner)
                )
            with psycopg.connect(make_conninfo(superuser_url, dbname=database)) as connection:
                yield connection, _owner_url(server, superuser_url, database, owner, password)
    except psycopg.OperationalError as error:
        raise UnreachableError(f"cannot set up {database}: {error}; is the PostgreSQL server running?") from error


def _ensure_role(server: psycopg.Connection, owner: str, password: str) -> None:
    """Make the role, which may log in and nothing else, or set its password. ConfigError for a superuser."""
    found = server.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", (owner,)).fetchone()
    if found is not None and found[0]:
        raise ConfigError(f"the role {owner} is a superuser, which no application's is: choose another name")
    verb = sql.SQL("CREATE" if found is None else "ALTER")
    server.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(owner), sql.Literal(password)))


def _owner_url(server: psycopg.Connection, superuser_url: str, database: str, owner: str, password: str) -> str:
    """Over TCP where the server listens, so that the password counts."""
    given = conninfo_to_dict(superuser_url)
    host, port = str(given.get("host") or server.info.host), server.info.port
    credentials = f"{quote(owner, safe='')}:{quote(password, safe='')}"
    path = quote(database, safe="")
    if not host.startswith("/"):
        return f"postgresql://{credentials}@{host}:{port}/{path}"
    listening = server.execute("SHOW listen_addresses").fetchone()
    if listening is not None and listening[0]:
        return f"postgresql://{credentials}@127.0.0.1:{port}/{path}"
    return f"postgresql://{credentials}@/{path}?host={quote(host, safe='')}&port={port}"
