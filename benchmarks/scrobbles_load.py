"""Exports of scrobbles into Koito inside one process, without Dagster: the work of `scrobbles.*`.

python -m benchmarks.scrobbles_load <export> <folder for indexes>

Prints one JSON line: seconds from opening the export to the last commit (the interpreter's start is not in it), seconds
of each batch of 10,000 records, and what was loaded.
"""

import json
import sys
import time
from pathlib import Path

from bookpipe.pipelines.configured import koito, listen_options
from bookpipe.pipelines.scrobbles import count_records, exports_by_key, load_listens
from bookpipe.settings import Settings
from bookpipe.sources.scrobbles import read_listens

BATCH = 10_000


def main(export_path: str, index_dir: str) -> None:
    settings = Settings.load()
    target, options, indexes = koito(settings), listen_options(settings), Path(index_dir)
    start = time.perf_counter()
    counts = {"inserted": 0, "existing": 0, "rejected": 0}
    batches, phases = [], {}  # type: ignore[var-annotated]
    exports = exports_by_key(Path(export_path).parent)
    export = next(e for e in exports.values() if e.path == Path(export_path))
    records = count_records({export.key: export}, indexes)[export.key]
    for first in range(1, records + 1, BATCH):
        began = time.perf_counter()
        last = min(first + BATCH - 1, records)
        listens = read_listens(export, first, last, now=time.time(), index_dir=indexes)
        parsed = time.perf_counter()
        result = load_listens(target, listens, options, partition=f"{export.key}-{first:07d}-{last:07d}")
        batches.append(time.perf_counter() - began)
        for name in counts:
            counts[name] += getattr(result.counts, name)
        for phase, s in {"parse": parsed - began, **result.seconds}.items():
            phases[phase] = round(phases.get(phase, 0.0) + s, 3)
    print(json.dumps({"seconds": time.perf_counter() - start, "batches": batches, "phases": phases, **counts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
