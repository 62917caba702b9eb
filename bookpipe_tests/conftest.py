"""One PostgreSQL server for the whole test session, and a MyBookshelf2 database for each test that wants one."""

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql

from bookpipe.demo.embedded_server import ServerInfo, delete_server, start_server
from bookpipe.demo.mybookshelf2_database import create_mybookshelf2

# The same examples in every run, so that what passed here passes elsewhere. To look for new ones:
# pytest --hypothesis-profile=default
settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")

_TEMPLATE = "mybookshelf2_template"
_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[ServerInfo]:
    """A running server, without fsync."""
    with tempfile.TemporaryDirectory(prefix="bookpipe-tests-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # the server's user passes through; pytest's own folders are closed to it
        try:
            yield start_server(directory, durable=False)
        finally:
            delete_server(directory)


@pytest.fixture(scope="session")
def mybookshelf2_template(postgres: ServerInfo) -> str:
    create_mybookshelf2(postgres.superuser_url, _TEMPLATE)
    return _TEMPLATE


@pytest.fixture
def mybookshelf2_url(postgres: ServerInfo, mybookshelf2_template: str) -> Iterator[str]:
    """The owner's URL of a MyBookshelf2 database with the first rows only; it is dropped after the test."""
    database = f"mybookshelf2_{next(_numbers)}"
    names = {"database": sql.Identifier(database), "template": sql.Identifier(mybookshelf2_template)}
    with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
        # Copying the files needs checkpoints, but those are cheap without fsync; a template's rights are not copied.
        server.execute(sql.SQL("CREATE DATABASE {database} TEMPLATE {template} STRATEGY FILE_COPY").format(**names))
        server.execute(sql.SQL("GRANT ALL PRIVILEGES ON DATABASE {database} TO ebooks").format(**names))
    yield postgres.url(database, "ebooks", "ebooks")
    # A test may have restarted the server; its socket and port stay the same.
    with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {database} WITH (FORCE)").format(**names))


@pytest.fixture
def mybookshelf2_dir(tmp_path: Path) -> Path:
    """MyBookshelf2's data folder with its four empty subfolders."""
    data = tmp_path / "data"
    for name in ("books", "thumbs", "uploads", "converted"):
        (data / name).mkdir(parents=True)
    return data
