"""Exports of every kind end in Koito as Koito's own importer would leave them, however they are cut and repeated."""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from bookpipe.demo import scrobble_exports
from bookpipe.demo.embedded_server import ServerInfo
from bookpipe.demo.koito_database import create_koito_postgres, create_koito_sqlite
from bookpipe.model.counts import LoadCounts
from bookpipe.pipelines import scrobbles
from bookpipe.pipelines.listen_summary import TOP, listens_by_month, top_artists
from bookpipe.pipelines.scrobbles import ListenResult, exports_by_key, load_listens, plan_dry
from bookpipe.resolve.listens import ListenOptions
from bookpipe.sources.scrobbles import Export, count_rows, find_exports, open_export, read_listens
from bookpipe.targets.koito.server import Koito, open_koito
from bookpipe_tests.koito_dump import Dump, dump_koito, find_faults
from bookpipe_tests.koito_reference import KoitoReference, connect

MAKERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "maloja": ("maloja.json", scrobble_exports.make_maloja),
    "spotify": ("my_spotify_data.zip", scrobble_exports.make_spotify),
    "lastfm": ("recenttracks.json", scrobble_exports.make_lastfm),
    "listenbrainz": ("listenbrainz.zip", scrobble_exports.make_listenbrainz),
    "koito": ("koito_export.json", scrobble_exports.make_koito),
}
TABLES = ("artists", "releases", "tracks", "artist_releases", "artist_tracks", "listens")
_databases = count(1)


@dataclass(frozen=True)
class Target:
    """An empty Koito and what can be asked of it."""

    koito: Koito
    url: str

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        if self.koito.path is not None:
            with closing(sqlite3.connect(self.koito.path)) as connection:
                return connection.execute(sql).fetchall()
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql.encode()).fetchall()

    def dump(self) -> Dump:
        return dump_koito(self.query, postgres=self.koito.path is None)

    def faults(self) -> list[str]:
        return find_faults(self.query, postgres=self.koito.path is None)


@pytest.fixture
def empty_koito(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Target]:
    def make(flavour: str) -> Target:
        n = next(_databases)
        if flavour == "sqlite":
            url = create_koito_sqlite(tmp_path / f"koito{n}.db")
        else:
            server: ServerInfo = request.getfixturevalue("postgres")
            url = create_koito_postgres(server.superuser_url, f"koito_pipeline_{n}", fresh=True)
        return Target(open_koito(url), url)

    return make


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Export]:
    """A small export of each kind, with everything odd that real ones have."""
    folder = tmp_path_factory.mktemp("exports")
    for name, make in MAKERS.values():
        make(folder / name, 900, 90, 60)
    return {kind: open_export(folder / name) for kind, (name, _) in MAKERS.items()}


def rows_of(export: Export) -> pa.Table:
    return read_listens(export, 1, count_rows(export), now=time.time())


def load(target: Target, rows: pa.Table, *, batch: int = 0, cache: bool = True) -> list[ListenResult]:
    batch = batch or max(1, rows.num_rows)
    koito = open_koito(target.url, lookup_cache=cache)
    return [
        load_listens(koito, rows.slice(start, batch), ListenOptions(lookup_cache=cache), partition=f"part-{start}")
        for start in range(0, rows.num_rows, batch)
    ]


def total(results: list[ListenResult]) -> LoadCounts:
    return sum((result.counts for result in results), LoadCounts())


@pytest.fixture
def reference() -> Iterator[sqlite3.Connection]:
    with closing(connect()) as connection:
        yield connection


def submit(connection: sqlite3.Connection, rows: pa.Table) -> list[str]:
    reference = KoitoReference(connection)
    return [reference.submit(row) for row in rows.to_pylist()]


@pytest.mark.parametrize("kind", MAKERS)
def test_an_export_leaves_the_tables_that_koito_leaves_with_the_same_ids(
    kind: str, exports: dict[str, Export], empty_koito: Callable[[str], Target], reference: sqlite3.Connection
) -> None:
    target, rows = empty_koito("sqlite"), rows_of(exports[kind])
    ends = submit(reference, rows)
    results = load(target, rows, batch=250)
    for table in TABLES:
        columns = "id, musicbrainz_id" if table in ("artists", "releases", "tracks") else "*"
        sql = f"SELECT {columns} FROM {table} ORDER BY 1, 2"
        assert target.query(sql) == reference.execute(sql).fetchall(), table
    for kind_of in ("artist", "release", "track"):
        sql = f"SELECT * FROM {kind_of}_aliases ORDER BY rowid"
        assert target.query(sql) == reference.execute(sql).fetchall()
    assert total(results).inserted == ends.count("inserted") > 500
    assert total(results).read == rows.num_rows
    assert not target.faults()


@pytest.mark.parametrize("kind", MAKERS)
def test_both_flavours_end_alike_however_the_export_is_cut(
    kind: str,
    exports: dict[str, Export],
    empty_koito: Callable[[str], Target],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = rows_of(exports[kind])
    whole = empty_koito("sqlite")
    load(whole, rows)
    monkeypatch.setattr(scrobbles, "CHUNK", 70)
    cut, postgres = empty_koito("sqlite"), empty_koito("postgresql")
    load(cut, rows, batch=200)
    load(postgres, rows, batch=300)
    if kind == "koito":  # its export has parts of seconds, which only PostgreSQL keeps
        assert {**cut.dump(), "listens": []} == {**whole.dump(), "listens": []}
    else:
        assert cut.dump() == whole.dump() == postgres.dump()
    assert not cut.faults()
    assert not postgres.faults()


@pytest.mark.parametrize("flavour", ["sqlite", "postgresql"])
def test_loading_everything_again_inserts_nothing(
    flavour: str, exports: dict[str, Export], empty_koito: Callable[[str], Target]
) -> None:
    target = empty_koito(flavour)
    first = {kind: total(load(target, rows_of(export), batch=300)) for kind, export in exports.items()}
    before = target.dump()
    for kind, export in exports.items():
        results = load(target, rows_of(export), batch=300)
        again = total(results)
        assert (again.inserted, again.existing) == (0, first[kind].inserted + first[kind].existing)
        assert again.rejections == first[kind].rejections
        assert sum(result.known for result in results) == again.existing
    assert target.dump() == before


@pytest.mark.parametrize("flavour", ["sqlite", "postgresql"])
def test_batches_in_any_order_load_every_listen_once(
    flavour: str, exports: dict[str, Export], empty_koito: Callable[[str], Target]
) -> None:
    target, rows = empty_koito(flavour), rows_of(exports["maloja"])
    ordered = total(load(target, rows, batch=300))
    other = empty_koito(flavour)
    backwards = LoadCounts()
    for start in (600, 300, 0, 900):
        backwards += total(load(other, rows.slice(start, 300)))
    assert backwards.read == ordered.read
    assert other.query("SELECT count(*) FROM listens") == [(backwards.inserted,)]
    assert not other.faults()


@pytest.mark.parametrize("flavour", ["sqlite", "postgresql"])
def test_a_dry_run_tells_what_a_load_does_and_writes_nothing(
    flavour: str, exports: dict[str, Export], empty_koito: Callable[[str], Target]
) -> None:
    target, rows = empty_koito(flavour), rows_of(exports["lastfm"])
    planned = plan_dry(target.koito, rows, ListenOptions(lookup_cache=True))
    assert target.query("SELECT count(*) FROM artists") == [(0,)]
    (done,) = load(target, rows)
    assert planned.counts == done.counts
    assert (planned.new_artists, planned.new_tracks) == (done.new_artists, done.new_tracks)
    assert plan_dry(target.koito, rows, ListenOptions(lookup_cache=True)).counts.inserted == 0


def test_a_batch_is_summed_up_by_month_and_artist(
    exports: dict[str, Export], empty_koito: Callable[[str], Target]
) -> None:
    target = empty_koito("sqlite")
    (result,) = load(target, rows_of(exports["maloja"]))
    months = dict(listens_by_month(result.outcomes))
    assert sum(months.values()) == result.counts.inserted + result.counts.existing
    by_month = target.query("SELECT strftime('%Y-%m', listened_at, 'unixepoch'), count(*) FROM listens GROUP BY 1")
    assert months == dict(by_month) or result.counts.existing
    counts = [listens for _, listens in top_artists(result.outcomes)]
    assert len(counts) == TOP
    assert counts == sorted(counts, reverse=True) and counts[-1] > 0


def test_an_edited_copy_of_a_big_export_is_not_taken_for_a_copy(tmp_path: Path) -> None:
    scrobble_exports.make_maloja(tmp_path / "a.json", 12_000, 900, 600)
    data = bytearray((tmp_path / "a.json").read_bytes())
    between_samples = 3 * ((len(data) - (64 << 10)) // 15) + (80 << 10)
    at = re.compile(rb'"title": *"[A-Za-z]').search(data, between_samples).end() - 1  # type: ignore[union-attr]
    data[at] ^= 1
    (tmp_path / "b.json").write_bytes(data)
    assert len({export.content for export in find_exports(tmp_path)[0]}) == 1
    assert len(exports_by_key(tmp_path)) == 2


def test_copies_of_an_export_are_loaded_once_whatever_they_are_called(tmp_path: Path) -> None:
    for name, n in (("b.json", 30), ("a.json", 30), ("a (1).json", 30), ("c.json", 31)):
        scrobble_exports.make_maloja(tmp_path / name, n, 9, 6)
    for name in ("Streaming_History_Audio.json", "recenttracks.json"):  # the same, but of different kinds
        (tmp_path / name).write_bytes(b"[]")
    found = exports_by_key(tmp_path)
    names = ["Streaming_History_Audio.json", "a (1).json", "c.json", "recenttracks.json"]
    assert [export.path.name for export in found.values()] == names
    assert list(found) == [export.key for export in found.values()]
