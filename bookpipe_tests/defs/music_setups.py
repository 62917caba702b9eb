"""Exports and an empty Koito, or songs and an empty music archive: what the tests of music pipelines work on."""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from bookpipe.definitions import defs
from bookpipe.defs.pipelines import PIPELINES
from bookpipe.demo import scrobble_exports
from bookpipe.demo.audio_collection import AudioCollection, make_audio_collection
from bookpipe.demo.embedded_server import ServerInfo
from bookpipe.demo.koito_database import create_koito_postgres, create_koito_sqlite
from bookpipe.demo.music_archive import MODERATOR, PASSWORD, MusicArchive, serve
from bookpipe.demo.scrobble_exports import ExportFacts
from bookpipe.settings import Settings
from bookpipe_tests.koito_dump import Dump, dump_koito, find_faults

MAKERS: dict[str, Callable[..., ExportFacts]] = {
    "koito_export.json": scrobble_exports.make_koito,
    "listenbrainz.zip": scrobble_exports.make_listenbrainz,
    "maloja.json": scrobble_exports.make_maloja,
    "my_spotify_data.zip": scrobble_exports.make_spotify,
    "recenttracks.json": scrobble_exports.make_lastfm,
}
RECORDS = 150
LISTENS = 100  # in a batch: two for each export
SONGS = 30
FILES = 60
_databases = count(1)


@dataclass
class Scrobbling:
    """A folder of exports, and the Koito that they are loaded into."""

    folder: Path
    facts: Mapping[str, ExportFacts]  # by name of the export's file
    home: Path
    url: str

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        if self.url.startswith("sqlite:///"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection:
                return connection.execute(sql).fetchall()
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql.encode()).fetchall()

    def count(self, table: str) -> int:
        return int(self.query(f"SELECT count(*) FROM {table}")[0][0])

    def times(self) -> list[int]:
        return [at for (at,) in self.query("SELECT listened_at FROM listens ORDER BY 1")]

    def tables(self) -> set[str]:
        return {name for (name,) in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def dump(self) -> Dump:
        return dump_koito(self.query, postgres=not self.url.startswith("sqlite"))

    def faults(self) -> list[str]:
        return find_faults(self.query, postgres=not self.url.startswith("sqlite"))

    @property
    def read(self) -> int:
        return sum(facts.records for facts in self.facts.values())


@pytest.fixture(scope="session")
def sample_exports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, ExportFacts]]:
    """A small export of each kind, with everything odd that real ones have."""
    folder = tmp_path_factory.mktemp("exports")
    return folder, {name: make(folder / name, RECORDS, 40, 30) for name, make in MAKERS.items()}


@pytest.fixture
def scrobbling(
    sample_exports: tuple[Path, dict[str, ExportFacts]], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Scrobbling:
    """The environment of a user with these exports and an empty Koito on SQLite."""
    folder, facts = sample_exports
    shutil.copytree(folder, tmp_path / "exports")
    (tmp_path / "koito").mkdir()
    url = create_koito_sqlite(tmp_path / "koito" / "koito.db")
    monkeypatch.setenv("BOOKPIPE_SCROBBLE_DIR", str(tmp_path / "exports"))
    monkeypatch.setenv("BOOKPIPE_KOITO_URL", url)
    monkeypatch.setenv("BOOKPIPE_BATCH_SIZE", str(LISTENS))
    return Scrobbling(tmp_path / "exports", facts, home, url)


@pytest.fixture(params=["sqlite", "postgresql"])
def either_koito(
    request: pytest.FixtureRequest, scrobbling: Scrobbling, monkeypatch: pytest.MonkeyPatch
) -> Scrobbling:  # fmt: skip
    """The same with each kind of database."""
    if request.param == "postgresql":
        server: ServerInfo = request.getfixturevalue("postgres")
        scrobbling.url = create_koito_postgres(server.superuser_url, f"koito_run_{next(_databases)}", fresh=True)
        monkeypatch.setenv("BOOKPIPE_KOITO_URL", scrobbling.url)
    return scrobbling


@dataclass(frozen=True)
class Archiving:
    """A folder of audio files, and the music archive that they are uploaded to."""

    folder: Path
    facts: AudioCollection
    home: Path
    archive: MusicArchive
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def asked(self) -> dict[str, int]:
        """Requests by endpoint."""
        return dict(self.archive.counters.snapshot()["requests"])

    def contents(self) -> list[str]:
        """MD5 of the bytes of every song that the archive has, sorted."""
        return sorted(md5(self.archive.bytes_path(song)) for song in self.archive.songs())


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def sample_music(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AudioCollection]:
    """A small folder of audio files with everything odd in it. Tests only read it."""
    folder = tmp_path_factory.mktemp("music") / "collection"
    return folder, make_audio_collection(folder, files=FILES)


@pytest.fixture
def archiving(
    sample_music: tuple[Path, AudioCollection], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Archiving]:
    """The environment of a user with these files and an empty archive."""
    folder, facts = sample_music
    shutil.copytree(folder, tmp_path / "music", symlinks=True)
    archive = MusicArchive(tmp_path / "archive")
    with closing(archive), serve(archive) as url:
        monkeypatch.setenv("BOOKPIPE_MUSIC_DIR", str(tmp_path / "music"))
        monkeypatch.setenv("BOOKPIPE_ARCHIVE_URL", url)
        monkeypatch.setenv("BOOKPIPE_ARCHIVE_EMAIL", MODERATOR.email)
        monkeypatch.setenv("BOOKPIPE_ARCHIVE_PASSWORD", PASSWORD)
        monkeypatch.setenv("BOOKPIPE_BATCH_SIZE", str(SONGS))
        yield Archiving(tmp_path / "music", facts, home, archive, url)


@pytest.fixture
def kept_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """An instance in DAGSTER_HOME, which is slower than one in memory, and which sensors need."""
    with dg.DagsterInstance.get() as found:
        yield found


def find(instance: dg.DagsterInstance, pipeline: str) -> list[str]:
    """The keys of all partitions that the source has, in order."""
    return list(PIPELINES[pipeline].find(Settings.load(), instance, print))


def run(instance: dg.DagsterInstance, pipeline: str, key: str) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def(PIPELINES[pipeline].job_name).execute_in_process(
        tags={"dagster/partition": key}, instance=instance, raise_on_error=False
    )


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """What the materialization of a run says, as plain values."""
    [event] = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()}


def table_of(result: dg.ExecuteInProcessResult, name: str) -> list[tuple[str, int]]:
    """A table of names and numbers of the materialization."""
    [event] = result.get_asset_materialization_events()
    table = event.step_materialization_data.materialization.metadata[name]
    assert isinstance(table, dg.TableMetadataValue)
    rows = [list(record.data.values()) for record in table.records]
    return [(str(first), int(str(second))) for first, second, *_ in rows]


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


def retried(result: dg.ExecuteInProcessResult) -> bool:
    return any(event.is_step_up_for_retry for event in result.all_events)


def error_kind(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> str | None:
    found = instance.get_run_by_id(result.run_id)
    assert found
    return found.tags.get("bookpipe/error")
