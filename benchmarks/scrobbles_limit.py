"""What no importer can beat: parse the export with the fastest parser, insert exactly the final rows, nothing else.

python -m benchmarks.scrobbles_limit <export> <URL with the final rows> <URL of an empty Koito>

Prints the seconds of the two as JSON. The final rows are read before the clock starts.
"""

import json
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import psycopg

TABLES = (
    "artists",
    "artist_aliases",
    "releases",
    "release_aliases",
    "artist_releases",
    "tracks",
    "track_aliases",
    "artist_tracks",
    "listens",
)


def _sqlite(full: str, empty: str) -> Callable[[], None]:
    with sqlite3.connect(full) as source:
        rows = {table: source.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    target = sqlite3.connect(empty, isolation_level=None)
    target.execute("PRAGMA foreign_keys=ON")

    def insert() -> None:
        target.execute("BEGIN IMMEDIATE")
        for table, values in rows.items():
            if values:
                marks = ", ".join("?" * len(values[0]))
                target.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
        target.execute("COMMIT")

    return insert


def _postgres(full: str, empty: str) -> Callable[[], None]:
    data = {}
    with psycopg.connect(full) as source:
        for table in TABLES:
            with source.cursor().copy(f"COPY {table} TO STDOUT".encode()) as copy:
                data[table] = b"".join(bytes(block) for block in copy)
    target = psycopg.connect(empty)

    def insert() -> None:
        for table, block in data.items():
            with target.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
                copy.write(block)
        target.commit()

    return insert


def main(export: str, full: str, empty: str) -> None:
    insert = (_postgres if full.startswith("postgres") else _sqlite)(
        full.removeprefix("sqlite:///"), empty.removeprefix("sqlite:///")
    )
    start = time.perf_counter()
    orjson.loads(Path(export).read_bytes())
    parsed = time.perf_counter()
    insert()
    print(json.dumps({"parse": parsed - start, "insert": time.perf_counter() - parsed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
