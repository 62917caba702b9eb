"""A warm worker process: runs partitions of one job, one after the other, against the instance of its parent.

Starting a run from nothing costs seconds of imports; here they are paid once for all workers.
"""

import multiprocessing
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import dagster as dg

from bookpipe.definitions import defs
from bookpipe.defs.pipelines import PIPELINES, Pipeline
from bookpipe.defs.progress import materialized_numbers, rows_done
from bookpipe.model.counts import LoadCounts
from bookpipe.runtime.stopping import stop_requested

# The parent shows progress; every event is in the instance, where the UI and `bookpipe status` read it.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class PartitionResult:
    """How one partition's run ended."""

    key: str
    run_id: str
    success: bool
    counts: LoadCounts = field(default_factory=LoadCounts)
    rows_done: int = 0  # by this run: not those of an attempt before it, which are in the counts, too
    message: str = ""


def work(pipe: Connection, pipeline_name: str, environment: Mapping[str, str]) -> None:
    """Take partition keys from `pipe` until None comes, answering each with a PartitionResult.

    `environment` is that of the command: a forked worker has that of the time when its server was started.
    """
    os.environ.update(environment)
    # The parent decides what an interrupt means: Ctrl-C is for its process group only, not for us or for what Dagster
    # starts. It sends TERM when no more is wanted: a partition that takes seconds is finished, a longer one ends in
    # good order where it is.
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop_requested.set())
    _die_with_parent()
    # In the main thread Dagster would take over the signals, and break off a step in its middle only to retry it.
    with ThreadPoolExecutor(1, "partitions") as thread:
        thread.submit(_run_partitions, pipe, PIPELINES[pipeline_name]).result()


def _run_partitions(pipe: Connection, pipeline: Pipeline) -> None:
    job = defs.resolve_job_def(pipeline.job_name)
    with dg.DagsterInstance.get() as instance, _databases_held_open(Path(instance.root_directory)):
        pipe.send("ready")
        while (key := pipe.recv()) is not None:
            result = job.execute_in_process(
                partition_key=key, instance=instance, raise_on_error=False, run_config=_QUIET
            )
            pipe.send(_summary(key, result, pipeline.loaded_asset))


@contextmanager
def _databases_held_open(home: Path) -> Iterator[None]:
    """Dagster opens its SQLite files anew for every event, and the last one to close such a file has to write its
    log back. One connection that stays open saves that, some hundred times in a run. Nothing is done with it."""
    with ExitStack() as stack:
        for path in (home / "history" / "runs" / "index.db", home / "history" / "runs.db"):
            if path.exists():
                held = stack.enter_context(closing(sqlite3.connect(path)))
                held.execute("SELECT 1 FROM sqlite_master").fetchone()
        yield


def _die_with_parent() -> None:
    """A killed command leaves no workers behind: their runs would look alive, and some go on for hours."""
    parent = multiprocessing.parent_process()  # the command; the system's idea of a parent is the fork server
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _summary(key: str, result: dg.ExecuteInProcessResult, asset: dg.AssetKey) -> PartitionResult:
    counts, done = LoadCounts(), 0
    for event in result.get_asset_materialization_events():
        if event.asset_key == asset:
            told = event.step_materialization_data.materialization.metadata
            counts, done = counts + materialized_numbers(told), done + rows_done(told)
    message = ""
    for event in result.all_events if not result.success else ():
        if event.is_step_failure:
            failure = event.step_failure_data
            user = failure.user_failure_data
            message = (user.description if user else None) or str(failure.error.message if failure.error else "")
            break
    return PartitionResult(key, result.run_id, result.success, counts, done, message.strip())
