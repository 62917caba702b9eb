"""A sample library, an empty MyBookshelf2 and a Dagster instance, all real, set up in the environment."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from bookpipe.cli.environment import make_home
from bookpipe.demo.calibre_library import DemoFacts, make_demo_library
from bookpipe.demo.sandbox import DATA_FOLDERS
from bookpipe.settings import SETTINGS
from bookpipe_tests.defs.music_setups import (
    archiving,
    either_koito,
    kept_instance,
    sample_exports,
    sample_music,
    scrobbling,
)

__all__ = ["archiving", "either_koito", "kept_instance", "sample_exports", "sample_music", "scrobbling"]

BOOKS = 120
BATCH_SIZE = 50


@dataclass(frozen=True)
class Setup:
    """What a test works on."""

    library: Path
    facts: DemoFacts
    url: str
    data: Path
    home: Path

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql.encode()).fetchall()

    def count(self, table: str) -> int:
        return int(str(self.query(f"SELECT count(*) FROM {table}")[0][0]))

    def tree(self) -> dict[str, str]:
        """Every file under the book folder: location -> what the link says."""
        root = self.data / "books"
        return {str(p.relative_to(root)): str(p.readlink()) for p in root.rglob("*") if p.is_symlink()}


@pytest.fixture(scope="session")
def sample_library(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoFacts]:
    """A small library with every kind of damage. Tests only read it."""
    path = tmp_path_factory.mktemp("calibre") / "library"
    return path, make_demo_library(path, BOOKS)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for Dagster in an environment where nothing else is set."""
    for setting in SETTINGS:
        monkeypatch.setenv(setting.name, "")  # what a command sets is taken back, too
        monkeypatch.delenv(setting.name)
    found = make_home(tmp_path / "home")
    monkeypatch.setenv("DAGSTER_HOME", str(found))
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture
def setup(
    sample_library: tuple[Path, DemoFacts],
    mybookshelf2_url: str,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Setup:
    """The environment of a user with that library and an empty MyBookshelf2."""
    library, facts = sample_library
    data = tmp_path / "mbs2"
    for name in DATA_FOLDERS:
        (data / name).mkdir(parents=True)
    monkeypatch.setenv("BOOKPIPE_CALIBRE_LIBRARY", str(library))
    monkeypatch.setenv("BOOKPIPE_MYBOOKSHELF2_URL", mybookshelf2_url)
    monkeypatch.setenv("BOOKPIPE_MYBOOKSHELF2_DATA_DIR", str(data))
    monkeypatch.setenv("BOOKPIPE_BATCH_SIZE", str(BATCH_SIZE))
    return Setup(library, facts, mybookshelf2_url, data, home)


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """A persistent instance in DAGSTER_HOME."""
    with dg.DagsterInstance.get() as found:
        yield found
