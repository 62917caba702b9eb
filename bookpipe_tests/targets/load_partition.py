"""Loads one partition in a process of its own, for tests that kill it.

    python -m bookpipe_tests.targets.load_partition URL DATA_DIR FILE_MODE PARTITION HASHED.parquet

Says "loading" before it opens anything of the target, and "done" at the end.
"""

import sys
from pathlib import Path

import pyarrow.parquet as pq

from bookpipe.model.schemas import HASHED_FILES
from bookpipe.model.secrets import Secret
from bookpipe.pipelines.books import bulk_insert, look_up
from bookpipe.resolve.books import BookOptions
from bookpipe.targets.mybookshelf2.server import MyBookshelf2


def main(url: str, data_dir: str, file_mode: str, partition: str, hashed: str) -> None:
    target = MyBookshelf2(Secret(url), Path(data_dir), file_mode=file_mode)
    table = pq.read_table(hashed, schema=HASHED_FILES)
    print("loading", flush=True)
    known = look_up(target, table)
    bulk_insert(target, table, known, BookOptions(), pipeline="calibre", partition=partition, run_id="killed")
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
