"""`bookpipe status` for people."""

from rich.console import Console
from rich.table import Table

from bookpipe.cli.load_command import duration
from bookpipe.defs.progress import PipelineStatus


def print_statuses(statuses: dict[str, PipelineStatus], console: Console) -> None:
    """One row for each pipeline."""
    if not statuses:
        console.print("No pipeline is configured: set a source in .env (see .env.example), then `bookpipe doctor`.")
        return
    table = Table()
    for column in ("pipeline", "partitions", "read", "inserted", "existing", "rejected", "rate", "left"):
        table.add_column(column, justify="left" if column in ("pipeline", "partitions") else "right")
    for name, status in statuses.items():
        p, c = status.partitions, status.counts
        parts = [f"{p.materialized}/{p.total} done"]
        parts += [
            f"{n} {word}" for n, word in ((p.running, "running"), (p.failed, "failed"), (p.missing, "missing")) if n
        ]
        rate = "" if status.rate_rows_per_s is None else f"{status.rate_rows_per_s:,.0f} rows/s"
        table.add_row(
            name, ", ".join(parts), f"{c.read:,}", f"{c.inserted:,}", f"{c.existing:,}", f"{c.rejected:,}", rate,
            duration(status.eta_s),
        )  # fmt: skip
    console.print(table)
    for name, status in statuses.items():
        for key, text in status.running.items():
            console.print(f"{name}: {key}: {text}", highlight=False)
        if status.failed_keys:
            shown = ", ".join(status.failed_keys[:5]) + (" ..." if len(status.failed_keys) > 5 else "")
            console.print(f"{name}: failed: {shown}", highlight=False)
