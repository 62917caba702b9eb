"""A Koito of either flavour for each test."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from bookpipe.demo.embedded_server import ServerInfo
from bookpipe.demo.koito_database import create_koito_postgres, create_koito_sqlite
from bookpipe_tests.targets.koito.music import Music

_TEMPLATE = "koito_template"
_numbers = count(1)


@pytest.fixture(scope="session")
def koito_template(postgres: ServerInfo) -> str:
    create_koito_postgres(postgres.superuser_url, _TEMPLATE)
    return _TEMPLATE


@pytest.fixture
def sqlite_music(tmp_path: Path) -> Iterator[Music]:
    """An empty Koito of the SQLite flavour."""
    folder = tmp_path / "koito"
    folder.mkdir()
    music = Music(create_koito_sqlite(folder / "koito.db"))
    yield music
    music.close()


@pytest.fixture
def postgres_music(postgres: ServerInfo, koito_template: str) -> Iterator[Music]:
    """An empty Koito of the PostgreSQL flavour."""
    database = f"koito_{next(_numbers)}"
    names = {"database": sql.Identifier(database), "template": sql.Identifier(koito_template)}
    with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
        server.execute(
            sql.SQL("CREATE DATABASE {database} OWNER koito TEMPLATE {template} STRATEGY FILE_COPY").format(**names)
        )
    music = Music(postgres.url(database, "koito", "koito"), postgres.socket_url(database))
    yield music
    music.close()
    with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {database} WITH (FORCE)").format(**names))


@pytest.fixture(params=["sqlite", "postgres"])
def music(request: pytest.FixtureRequest) -> Music:
    """An empty Koito, once of each flavour."""
    found: Music = request.getfixturevalue(f"{request.param}_music")
    return found
