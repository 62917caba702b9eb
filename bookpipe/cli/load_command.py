"""What `bookpipe load` does around the worker pool: which partitions, progress, and the summary."""

import time
from collections.abc import Mapping, Sequence

import dagster as dg
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bookpipe.cli.environment import open_instance
from bookpipe.cli.loading import LoadSummary, WorkerPool
from bookpipe.cli.worker import PartitionResult
from bookpipe.defs.partitions import partition_states, register
from bookpipe.defs.pipelines import PIPELINES, Pipeline, Warn
from bookpipe.defs.progress import loaded_fingerprints, running_texts
from bookpipe.defs.runs import fail_dead_runs
from bookpipe.model.errors import PartitionError
from bookpipe.model.rejections import REASON_HELP, Reason
from bookpipe.settings import Settings
from bookpipe.targets.mybookshelf2.covers import UNFINISHED

TELL_EVERY_S = 5.0  # about partitions that take long


def duration(seconds: float | None) -> str:
    """Seconds for people."""
    if seconds is None:
        return "?"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {s:02d} s"


def choose_partitions(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    settings: Settings,
    wanted: Sequence[str],
    again: bool,
    warn: Warn,
) -> tuple[list[str], int]:
    """The partitions to run, registered if they were not, and how many others are loaded already."""
    found = pipeline.find(settings, instance, warn)
    if unknown := [key for key in wanted if key not in found]:
        raise PartitionError(f"The source of {pipeline.name} has no partition {', '.join(unknown)}.")
    register(instance, pipeline.partitions, wanted or found)
    if wanted:
        return list(wanted), 0
    states = partition_states(instance, pipeline.loaded_asset, pipeline.partitions)
    changed = _grown(instance, pipeline, found, states)
    keys = [key for key in found if again or key in changed or states.get(key) in ("missing", "failed")]
    return keys, sum(state == "materialized" for state in states.values()) - len(changed) if not again else 0


def _grown(
    instance: dg.DagsterInstance, pipeline: Pipeline, found: Mapping[str, str], states: Mapping[str, str]
) -> set[str]:
    """Partitions whose books are, or may be, more by now than those that covers were made for."""
    if pipeline.follows is None:
        return set()
    done = [key for key in found if states.get(key) == "materialized"]
    seen = loaded_fingerprints(instance, pipeline, done)
    return {key for key in done if seen.get(key) != found[key] or found[key] == UNFINISHED}


def load_pipeline(
    name: str, workers: int | None, limit: int | None, partitions: Sequence[str], again: bool, console: Console
) -> LoadSummary:
    """Run a pipeline's missing partitions in warm workers, telling how it goes."""
    settings = Settings.load()
    pipeline = PIPELINES[name]
    with open_instance() as instance:
        if dead := fail_dead_runs(instance):
            console.print(f"{len(dead)} earlier runs had died; marked as failed.")
        keys, loaded = choose_partitions(instance, pipeline, settings, partitions, again, console.print)
        keys = keys[:limit]
        if loaded:
            console.print(f"{loaded} partitions are loaded already (--again loads them, too).")
        if not keys:
            console.print(
                f"Nothing to make: all that is loaded of {pipeline.follows} was looked at."
                if pipeline.follows
                else "Nothing to load: every partition of the source is loaded."
            )
            return LoadSummary(total=0)
        at_once = 1 if pipeline.in_order else min(workers or settings.workers, len(keys))
        pool = WorkerPool(name, at_once)
        try:
            return _run(pool, keys, pipeline, instance, console)
        finally:
            pool.close()


def _run(
    pool: WorkerPool, keys: Sequence[str], pipeline: Pipeline, instance: dg.DagsterInstance, console: Console
) -> LoadSummary:
    columns = (
        SpinnerColumn(),
        TextColumn("batch {task.completed:.0f}/{task.total:.0f}"),
        BarColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("load", total=len(keys), text="starting workers")

        def on_result(summary: LoadSummary, result: PartitionResult) -> None:
            text = progress_text(summary)
            progress.update(task, completed=summary.done + len(summary.failed), text=text)
            if not result.success:
                progress.console.print(Text.assemble((f"{result.key} failed:", "red"), f" {result.message}"))
            elif not console.is_terminal:
                progress.console.print(f"batch {summary.done}/{summary.total} {result.key}: {text}", highlight=False)

        told = time.monotonic()

        def on_tick(summary: LoadSummary) -> None:
            nonlocal told
            if time.monotonic() - told < TELL_EVERY_S:
                return
            told = time.monotonic()
            running = "; ".join(f"{key}: {text}" for key, text in running_texts(instance, pipeline).items())
            if running:
                progress.update(task, text=f"{progress_text(summary)}; {running}" if summary.done else running)
                if not console.is_terminal:
                    progress.console.print(running, highlight=False)

        summary = pool.run(keys, on_result, on_tick)
    if any(not result.run_id for result in summary.failed):
        fail_dead_runs(instance)
    print_summary(summary, console)
    if summary.counts.rejected:
        console.print("`bookpipe rejections` lists every rejected row.")
    return summary


def progress_text(summary: LoadSummary) -> str:
    """Rows by outcome, rate and what is left, in one line."""
    c = summary.counts
    return (
        f"{c.read} rows: {c.inserted} inserted, {c.existing} existing, {c.rejected} rejected; "
        f"{summary.rate:,.0f} rows/s, {duration(summary.eta_s)} left"
    )


def print_summary(summary: LoadSummary, console: Console) -> None:
    """The end of a load: counts, rejections by reason, failures and where to look."""
    c = summary.counts
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("read", f"{c.read:,}")
    table.add_row("inserted", f"{c.inserted:,}")
    table.add_row("existing", f"{c.existing:,}")
    table.add_row("rejected", f"{c.rejected:,}")
    for reason, n in sorted(c.rejections.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(f"  {reason}", f"{n:,}", REASON_HELP[Reason(reason)])
    table.add_row("time", duration(summary.seconds), f"{summary.rate:,.0f} rows/s")
    console.print(table, highlight=False)
    if c.read and not c.inserted:
        console.print("Nothing was inserted: all of it was there already or is rejected.")
    if summary.failed:
        what = "1 partition" if len(summary.failed) == 1 else f"{len(summary.failed)} partitions"
        remedy = (
            " Run the same command again once the cause is mended, or leave the sensor retry_failed_partitions on; "
            "every run is in the UI."
        )
        console.print(Text.assemble((f"{what} failed.", "red"), remedy))
    if summary.stopping:
        console.print("Stopped. What is loaded is complete; run the same command again to go on.")
