"""The role that owns a demo database, and its URL."""

from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from bookpipe.model.errors import ConfigError


def ensure_role(server: psycopg.Connection, owner: str, password: str) -> None:
    """Make the role, which may log in and nothing else, or set its password. ConfigError for a superuser."""
    found = server.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", (owner,)).fetchone()
    if found is not None and found[0]:
        raise ConfigError(f"the role {owner} is a superuser, which no application's is: choose another name")
    verb = sql.SQL("CREATE" if found is None else "ALTER")
    server.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(owner), sql.Literal(password)))


def owner_url(server: psycopg.Connection, superuser_url: str, database: str, owner: str, password: str) -> str:
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
