"""The demo's Koito databases are as the application's own first start makes them."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bookpipe.demo.embedded_server import ServerInfo
from bookpipe.demo.koito_database import create_koito_postgres, create_koito_sqlite
from bookpipe.model.errors import ConfigError, UnreachableError


def test_a_sqlite_file_has_everything_and_is_in_wal_mode(tmp_path: Path) -> None:
    url = create_koito_sqlite(tmp_path / "koito.db")
    assert url == f"sqlite:///{tmp_path}/koito.db"
    with closing(sqlite3.connect(tmp_path / "koito.db")) as connection:
        kinds = dict(connection.execute("SELECT type, count(*) FROM sqlite_master WHERE sql IS NOT NULL GROUP BY 1"))
        assert kinds == {"table": 13 + 1, "view": 3, "trigger": 1, "index": 13}  # one table is SQLite's own
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT version_id FROM goose_db_version").fetchall() == [(0,), (1,), (2,)]
        assert connection.execute("SELECT id, username, role FROM users").fetchall() == [(1, "admin", "admin")]


def test_a_postgresql_database_has_everything_and_belongs_to_its_role(postgres: ServerInfo) -> None:
    url = create_koito_postgres(postgres.superuser_url, "koito_demo", owner="koito_demo", password="p@ss/word")
    with psycopg.connect(url) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner = 'koito_demo'"
        ).fetchone() == (13,)
        assert connection.execute("SELECT count(*) FROM pg_views WHERE schemaname = 'public'").fetchone() == (3,)
        assert connection.execute("SELECT count(*) FROM pg_indexes WHERE indexname LIKE '%trgm'").fetchone() == (3,)
        assert connection.execute("SELECT max(version_id) FROM goose_db_version WHERE is_applied").fetchone() == (5,)
        assert connection.execute("SELECT id, username, role::text FROM users").fetchone() == (1, "admin", "admin")


def test_making_it_again_changes_nothing(tmp_path: Path, postgres: ServerInfo) -> None:
    for _ in range(2):
        create_koito_sqlite(tmp_path / "koito.db")
        create_koito_postgres(postgres.superuser_url, "koito_again")
    with closing(sqlite3.connect(tmp_path / "koito.db")) as connection:
        assert connection.execute("SELECT count(*) FROM goose_db_version").fetchone() == (3,)
    create_koito_postgres(postgres.superuser_url, "koito_again", fresh=True)


@pytest.mark.parametrize("flavour", ["sqlite", "postgresql"])
def test_a_release_goes_with_its_last_artist(tmp_path: Path, postgres: ServerInfo, flavour: str) -> None:
    statements = [
        "INSERT INTO artists (musicbrainz_id) VALUES (NULL)", "INSERT INTO artists (musicbrainz_id) VALUES (NULL)",
        "INSERT INTO releases (musicbrainz_id) VALUES (NULL)", "INSERT INTO artist_releases VALUES (1, 1, true)",
        "INSERT INTO artist_releases VALUES (2, 1, false)", "INSERT INTO tracks (release_id) VALUES (1)",
        "DELETE FROM artists WHERE id = 1",
    ]  # fmt: skip
    if flavour == "sqlite":
        create_koito_sqlite(tmp_path / "koito.db")
        connection: Any = sqlite3.connect(tmp_path / "koito.db")
        connection.execute("PRAGMA foreign_keys = on")
    else:
        connection = psycopg.connect(create_koito_postgres(postgres.superuser_url, "koito_trigger", fresh=True))
    with closing(connection):
        for statement in statements:
            connection.execute(statement)
        assert connection.execute("SELECT count(*) FROM tracks").fetchone() == (1,)
        connection.execute("DELETE FROM artists WHERE id = 2")
        assert connection.execute("SELECT count(*) FROM releases").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM tracks").fetchone() == (0,)


def test_what_cannot_be_made_is_said(tmp_path: Path, postgres: ServerInfo) -> None:
    with pytest.raises(ConfigError):
        create_koito_sqlite(tmp_path / "no folder" / "koito.db")
    with pytest.raises(ConfigError):
        create_koito_postgres(postgres.superuser_url, owner="postgres")
    with pytest.raises(UnreachableError):
        create_koito_postgres("postgresql://postgres@127.0.0.1:1/postgres")
