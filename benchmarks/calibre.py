"""100,000 Calibre books into MyBookshelf2: one process, through Dagster, a second time, and the curve to a million."""

import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks.calibre_limit import copy_rows, hash_all, make_links
from benchmarks.measure import DATA, Result, run_process, scaled
from bookpipe.cli.environment import make_home
from bookpipe.demo.calibre_bench import make_bench_library
from bookpipe.demo.embedded_server import start_server
from bookpipe.demo.mybookshelf2_database import create_mybookshelf2

BOOKS = 100_000
CURVE_BOOKS = 1_000_000


def make_library(books: int, files: bool, console: Console) -> Path:
    """The library, made once and kept."""
    path = DATA / f"calibre-{books}{'' if files else '-rows'}"
    if not (path / "metadata.db").exists():
        console.print(f"Making a library of {books:,} books (kept in {path}) ...")
        make_bench_library(path, books, files=files)
    return path


class Side:
    """A fresh database and fresh folders for one measurement. Nothing is deleted before another is made: making
    files after mass deletion is several times slower on some file systems."""

    def __init__(self, name: str, run: Path, superuser_url: str) -> None:
        self.directory = run / name
        (self.directory / "data" / "books").mkdir(parents=True)
        self.home = make_home(self.directory / "home")
        self.url = create_mybookshelf2(superuser_url, f"bench_{name}", fresh=True)

    @property
    def books(self) -> Path:
        return self.directory / "data" / "books"

    def environment(self, library: Path) -> dict[str, str]:
        return {
            "BOOKPIPE_CALIBRE_LIBRARY": str(library),
            "BOOKPIPE_MYBOOKSHELF2_URL": self.url,
            "BOOKPIPE_MYBOOKSHELF2_DATA_DIR": str(self.directory / "data"),
            "DAGSTER_HOME": str(self.home),
        }


def run(console: Console) -> dict[str, Result]:
    """All of `calibre.*`."""
    books = scaled(BOOKS)
    library = make_library(books, True, console)
    superuser_url = start_server(DATA / "server").superuser_url
    folder = DATA / f"run-{int(time.time())}"
    one, many, limit = (Side(name, folder, superuser_url) for name in ("load", "dagster", "limit"))

    console.print("Reading every file once, so that all sides find them in memory ...")
    hash_all(library)
    console.print("calibre.load: one process ...")
    load_s, load_mb, _ = run_process(
        [sys.executable, "-m", "benchmarks.calibre_load", str(library), str(one.home / "state.sqlite")],
        one.environment(library),
    )
    console.print("The limit: sha1sum, COPY, bare links ...")
    hash_s = hash_all(library)
    copy_s = copy_rows(one.url, limit.url)
    link_s = make_links(one.books, limit.directory / "links")
    limit_s = hash_s + copy_s + link_s
    parts = f"limit: sha1sum {hash_s:.1f} s + COPY {copy_s:.1f} s + links {link_s:.1f} s"

    bookpipe = str(Path(sys.executable).with_name("bookpipe"))
    console.print("calibre.dagster: bookpipe load calibre ...")
    dagster_s, dagster_mb, _ = run_process([bookpipe, "load", "calibre"], many.environment(library), many.directory)
    console.print("calibre.rerun: the same again ...")
    rerun_s, rerun_mb, _ = run_process([bookpipe, "load", "calibre"], many.environment(library), many.directory)
    again_s, again_mb, _ = run_process(
        [bookpipe, "load", "calibre", "--again"], many.environment(library), many.directory
    )
    return {
        "calibre.load": Result(load_s, limit_s, 1.5, load_mb, parts),
        "calibre.dagster": Result(dagster_s, limit_s, 2.0, dagster_mb, "start-up included"),
        "calibre.rerun": Result(rerun_s, dagster_s, 0.1, rerun_mb, "against the first load through Dagster"),
        "calibre.again": Result(again_s, dagster_s, 1.0, again_mb, "every partition run and verified once more"),
    }


def run_curve(console: Console) -> dict[str, Result]:
    """`calibre.curve`: seconds of each batch while the database grows to a million books, the last tenth against the
    first. Rows without files, their digests made up."""
    books = scaled(CURVE_BOOKS)
    library = make_library(books, False, console)
    superuser_url = start_server(DATA / "server").superuser_url
    side = Side("curve", DATA / f"run-{int(time.time())}", superuser_url)
    console.print(f"calibre.curve: {books:,} rows ...")
    _, peak, output = run_process(
        [sys.executable, "-m", "benchmarks.calibre_curve", str(library)], side.environment(library)
    )
    seconds = [float(line.split()[1]) for line in output.splitlines() if line[:1].isdigit()]
    for n in range(0, len(seconds), max(1, len(seconds) // 10)):
        console.print(f"  batch {n + 1:4d}: {seconds[n]:.2f} s")
    tenth = max(1, len(seconds) // 10)
    first, last = seconds[1 : 1 + tenth], seconds[-tenth:]
    detail = f"{len(seconds)} batches; last tenth against first"
    return {"calibre.curve": Result(sum(last) / len(last), sum(first) / len(first), 1.2, peak, detail)}
