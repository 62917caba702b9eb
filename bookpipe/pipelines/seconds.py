"""Seconds by phase travel with the table, in its schema's metadata, so that the last step can tell them all."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

_KEY = b"bookpipe.seconds"


@dataclass
class Phases:
    """Seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


@dataclass
class Timed:
    """The block's result: set `table` in it."""

    table: pa.Table = field(init=False)


def seconds_of(table: pa.Table) -> dict[str, float]:
    """Seconds by phase of the steps behind a table."""
    found = (table.schema.metadata or {}).get(_KEY)
    return {phase: float(s) for phase, s in json.loads(found).items()} if found else {}


@contextmanager
def timed_table(phase: str, before: pa.Table | None = None) -> Iterator[Timed]:
    """The block's `table` gets the seconds of the table it was made from, if any, and its own under `phase`."""
    start = time.perf_counter()
    timed = Timed()
    yield timed
    earlier = seconds_of(before) if before is not None else {}
    seconds = {**earlier, phase: round(time.perf_counter() - start, 4)}
    timed.table = timed.table.replace_schema_metadata({_KEY: json.dumps(seconds).encode()})
