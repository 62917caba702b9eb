"""A whole Calibre library into MyBookshelf2 inside one process, without Dagster: the work of `calibre.load`.

    python -m benchmarks.calibre_load <library> <state file>

While one batch is written, the next is read and hashed by a thread: the same steps as in a Dagster run.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from bookpipe.model.secrets import Secret
from bookpipe.pipelines import books, calibre
from bookpipe.resolve.books import BookOptions
from bookpipe.runtime.state import State
from bookpipe.settings import Settings, require
from bookpipe.sources.calibre import BatchState, CalibreLibrary
from bookpipe.targets.mybookshelf2.server import MyBookshelf2

BATCH = 10_000


def main(library_path: str, state_path: str) -> None:
    settings = Settings.load()
    url: Secret = require(settings, "mybookshelf2_url")
    target = MyBookshelf2(url, require(settings, "mybookshelf2_data_dir"))
    library, state = CalibreLibrary(Path(library_path)), State(Path(state_path))

    def prepare(batch: BatchState) -> pa.Table:
        rows = library.read(batch.first, batch.last)
        return calibre.hash_files(library, rows, state, str(batch.first))

    batches = library.states(BATCH)
    with ThreadPoolExecutor(1) as ahead:
        prepared = ahead.submit(prepare, batches[0])
        for n, batch in enumerate(batches):
            hashed = prepared.result()
            if n + 1 < len(batches):
                prepared = ahead.submit(prepare, batches[n + 1])
            start = time.perf_counter()
            known = books.look_up(target, hashed)
            result = books.bulk_insert(
                target, hashed, known, BookOptions(), pipeline="calibre", partition=str(batch.first), run_id="bench"
            )
            print(f"{batch.first} {time.perf_counter() - start:.3f} {result.counts} {result.seconds}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
