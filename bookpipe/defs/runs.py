"""Runs and the processes behind them: a run whose process is gone is failed, a slow one is left alone."""

import os
import socket

import dagster as dg
import psutil

PROCESS_TAG = "bookpipe/process"
PROGRESS_TAG = "bookpipe/progress"  # how far a long run is, in words

_UNFINISHED = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING]


def process_tag() -> str:
    """This process, so that nobody mistakes a later one with the same number for it."""
    pid = os.getpid()
    return f"{socket.gethostname()[:30]}_{pid}_{int(psutil.Process(pid).create_time())}"


def claim_run(context: dg.OpExecutionContext) -> None:
    """Note in the run which process works on it."""
    context.instance.add_run_tags(context.run_id, {PROCESS_TAG: process_tag()})


def _is_gone(tag: str) -> bool:
    host, pid, created = tag.rsplit("_", 2)
    if host != socket.gethostname()[:30]:
        return False  # only its own host can tell
    try:
        return int(psutil.Process(int(pid)).create_time()) != int(created)
    except (psutil.NoSuchProcess, ValueError):
        return True


def fail_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process on this host has died without a word. Their ids."""
    dead = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED)):
        run = record.dagster_run
        tag = run.tags.get(PROCESS_TAG)
        if tag and _is_gone(tag):
            instance.report_run_failed(
                run, "The process that worked on this run is gone (killed, or the host restarted)."
            )
            dead.append(run.run_id)
    return dead
