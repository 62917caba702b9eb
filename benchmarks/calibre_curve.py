"""The writing of batch after batch, with made-up digests for books without files: how its cost grows.

python -m benchmarks.calibre_curve <library>
"""

import hashlib
import os
import sys
import time
from pathlib import Path

import pyarrow as pa

from bookpipe.model.schemas import BOOK_FILES, HASHED_FILES
from bookpipe.pipelines import books
from bookpipe.resolve.books import BookOptions
from bookpipe.settings import Settings, require
from bookpipe.sources.calibre import CalibreLibrary
from bookpipe.targets.mybookshelf2.server import MyBookshelf2


def with_digests(rows: pa.Table) -> pa.Table:
    """HASHED_FILES as if every file had been hashed."""
    items = rows.column("item").to_pylist()
    columns = {name: rows.column(name) for name in BOOK_FILES.names}
    columns["sha1"] = pa.array([hashlib.sha1(str(i).encode(), usedforsecurity=False).hexdigest() for i in items])
    columns["size"] = pa.array([16_384] * len(items), pa.int64())
    columns["format"] = rows.column("given_format")
    return pa.table(columns, schema=HASHED_FILES)


def main(library_path: str) -> None:
    settings = Settings.load()
    target = MyBookshelf2(require(settings, "mybookshelf2_url"), require(settings, "mybookshelf2_data_dir"))
    library = CalibreLibrary(Path(library_path))
    for batch in library.states(10_000):
        start = time.perf_counter()
        hashed = with_digests(library.read(batch.first, batch.last))
        known = books.look_up(target, hashed)
        result = books.bulk_insert(
            target,
            hashed,
            known,
            BookOptions(),
            pipeline="calibre",
            partition=str(batch.first),
            run_id=str(os.getpid()),
        )
        print(batch.first, round(time.perf_counter() - start, 3), result.counts.inserted, result.seconds, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
