"""Seconds by phase travel with the table, in its schema's metadata, so that the last step can tell them all."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

_KEY = b"bookpipe.seconds"


@dataclass
class Timed:
    """The block's result: set `table` in it."""

    table: pa.Table


def seconds_of(table: pa.Table) -> dict[str, float]:
    """Seconds by phase of the steps behind a table."""
    found = (table.schema.metadata or {}).get(_KEY)
    return {phase: float(s) for phase, s in json.loads(found).items()} if found else {}


@contextmanager
def timed_table(phase: str, before: pa.Table) -> Iterator[Timed]:
    """The block's `table` gets the seconds of the table it was made from, and its own under `phase`."""
    start = time.perf_counter()
    timed = Timed(before)
    yield timed
    seconds = {**seconds_of(before), phase: round(time.perf_counter() - start, 4)}
    timed.table = timed.table.replace_schema_metadata({_KEY: json.dumps(seconds).encode()})
