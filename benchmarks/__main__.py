"""`make bench`: run all benchmarks, or those named, print a table and keep benchmarks/results.json."""

import os
import sys

from rich.console import Console
from rich.table import Table

from benchmarks import audio, calibre, covers, metadata, scrobbles, tars
from benchmarks.measure import save

BENCHMARKS = {
    "calibre": calibre.run,
    "curve": calibre.run_curve,
    "tars": tars.run,
    "covers": covers.run,
    "metadata": metadata.run,
    "scrobbles": scrobbles.run,
    "audio": audio.run,
}


def main() -> int:
    console = Console()
    names = sys.argv[1:] or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        console.print(f"No benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}.")
        return 2
    console.print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    table = Table()
    for column in ("benchmark", "ours", "limit", "ratio", "goal", "peak memory", ""):
        table.add_column(column, justify="left" if column in ("benchmark", "") else "right")
    for name in names:
        results = BENCHMARKS[name](console)
        save(results)
        for key, r in results.items():
            memory = "" if r.peak_rss_mb is None else f"{r.peak_rss_mb:,.0f} MB"
            mark = " [red]missed[/]" if r.missed else ""
            row = (
                f"{r.ours_s:.2f} s",
                f"{r.limit_s:.2f} s",
                f"{r.ratio:.2f}",
                f"{r.goal:.2f}",
                memory,
                r.detail + mark,
            )
            table.add_row(key, *row)
    console.print(table)
    return 0


sys.exit(main())
