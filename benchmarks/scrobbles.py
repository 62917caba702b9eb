"""49,050 Maloja scrobbles into Koito on SQLite and on PostgreSQL, again, and a million of them.

The limit parses the same JSON with the fastest parser and inserts exactly the final rows. Both sides are measured
inside of a process that is running already; `scrobbles.dagster` is the whole command, from nothing. The limit has no
lookup cache, so `scrobbles.<flavour>_uncached` has none either.
"""

import json
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.measure import DATA, Result, run_process, scaled
from bookpipe.cli.environment import make_home
from bookpipe.demo.embedded_server import start_server
from bookpipe.demo.koito_database import create_koito_postgres, create_koito_sqlite
from bookpipe.demo.scrobble_exports import make_maloja
from bookpipe_tests.koito_reference import SCHEMA, KoitoReference

LISTENS = 49_050
MANY = 1_000_000
NAIVE = 2_000  # listens that the naive reference is given
DAGSTER_S = 10.0
ROUNDS = 3


def make_export(folder: Path, listens: int) -> Path:
    """The export, alone in a folder, made once and kept."""
    path = folder / f"maloja-{listens}" / "maloja.json"
    if not path.exists():
        path.parent.mkdir(parents=True)
        share = listens / LISTENS
        make_maloja(path, listens, int(5_589 * min(share, 4)), int(2_628 * min(share, 4)), odd=False)
    return path


def load(export: Path, url: str, folder: Path, *, cache: bool = True) -> tuple[dict[str, object], float]:
    """What one process that loads the export says of itself, and its peak memory in MB."""
    home = make_home(folder / f"home-{time.time_ns()}")
    command = [sys.executable, "-m", "benchmarks.scrobbles_load", str(export), str(home / "indexes")]
    settings = {"BOOKPIPE_KOITO_URL": url, "BOOKPIPE_KOITO_LOOKUP_CACHE": str(cache), "DAGSTER_HOME": str(home)}
    _, peak, output = run_process(command, settings)
    told: dict[str, object] = json.loads(output.strip().splitlines()[-1])
    return told, peak


def limit(export: Path, full: str, empty: str) -> tuple[float, str]:
    """Seconds of the limit, and of its parts in words."""
    _, _, output = run_process([sys.executable, "-m", "benchmarks.scrobbles_limit", str(export), full, empty])
    told = json.loads(output.strip().splitlines()[-1])
    return told["parse"] + told["insert"], f"limit: JSON {told['parse']:.2f} s + rows {told['insert']:.2f} s"


def naive_rate(export: Path) -> float:
    """Listens a second of Koito's rules followed one listen and one query at a time, in memory."""
    from bookpipe.sources.scrobbles import open_export, read_listens  # noqa: PLC0415

    rows = read_listens(open_export(export), 1, NAIVE).to_pylist()
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    reference = KoitoReference(connection)
    start = time.perf_counter()
    for row in rows:
        reference.submit(row)
    return len(rows) / (time.perf_counter() - start)


def seconds(told: dict[str, object]) -> float:
    return float(str(told["seconds"]))


def measure(export: Path, make: Callable[[str], str], folder: Path) -> dict[str, Result]:
    """The first import, with the lookup cache and without, and the second one. `make`: a new Koito of a flavour."""
    flavour = make.__name__
    url = make("ours")
    told, peak = load(export, url, folder)
    limit_s, parts = limit(export, url, make("limit"))
    plain, plain_mb = load(export, make("uncached"), folder, cache=False)
    again, again_mb = load(export, url, folder)
    assert again["inserted"] == 0
    return {
        flavour: Result(seconds(told), limit_s, 3.0, peak, f"{parts}; {told['phases']}"),
        f"{flavour}_uncached": Result(seconds(plain), limit_s, 3.0, plain_mb, "the same limit"),
        f"reimport_{flavour}": Result(seconds(again), seconds(told), 0.5, again_mb, "against the first import"),
    }


def run(console: Console) -> dict[str, Result]:
    """All of `scrobbles.*`."""
    listens = scaled(LISTENS)
    export = make_export(DATA, listens)
    folder = DATA / f"run-{int(time.time())}"
    folder.mkdir(parents=True)
    server = start_server(DATA / "server").superuser_url

    def sqlite(name: str) -> str:
        return create_koito_sqlite(folder / f"{name}-{time.time_ns()}.db")

    def postgres(name: str) -> str:
        return create_koito_postgres(server, f"bench_koito_{name}", fresh=True)

    results = {}
    for make in (sqlite, postgres):
        console.print(f"scrobbles.{make.__name__}: {listens:,} listens, {ROUNDS} times ...")
        rounds = [measure(export, make, folder) for _ in range(ROUNDS)]
        for name in rounds[0]:
            # Of each, the round in the middle: the clock of a small machine jumps.
            results[f"scrobbles.{name}"] = sorted((r[name] for r in rounds), key=lambda r: r.ratio)[ROUNDS // 2]

    console.print("scrobbles.dagster: bookpipe load scrobbles ...")
    home = make_home(folder / "home")
    took, peak, _ = run_process(
        [str(Path(sys.executable).with_name("bookpipe")), "load", "scrobbles"],
        {
            "BOOKPIPE_SCROBBLE_DIR": str(export.parent),
            "BOOKPIPE_KOITO_URL": sqlite("dagster"),
            "DAGSTER_HOME": str(home),
        },
        folder,
    )
    results["scrobbles.dagster"] = Result(took, DAGSTER_S, 1.0, peak, "start-up included; limit: the time promised")

    many = scaled(MANY)
    console.print(f"scrobbles.million: {many:,} listens ...")
    told, peak = load(make_export(DATA, many), sqlite("million"), folder)
    batches = [float(str(s)) for s in told["batches"]]  # type: ignore[attr-defined]
    tenth = max(1, len(batches) // 10)
    first, last = batches[:tenth], batches[-tenth:]
    naive = naive_rate(export)
    detail = f"{many / seconds(told):,.0f} listens/s (row by row: {naive:,.0f}); last tenth against first"
    results["scrobbles.million"] = Result(sum(last) / len(last), sum(first) / len(first), 1.2, peak, detail)
    return results
