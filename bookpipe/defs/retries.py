"""Which failed partitions are due for another attempt. A plan from what the instance knows; launches nothing."""

import random
from dataclasses import dataclass, field

import dagster as dg

from bookpipe.defs.errors import ERROR_TAG, TERMINAL
from bookpipe.defs.partitions import partition_states

MAX_ATTEMPTS = 6  # runs of a partition that failed in a row, the first included
BASE_S = 30.0  # wait after the first failure; doubles with each further one
CAP_S = 3600.0
JITTER = 0.2  # of the wait: partitions that failed together do not all come back together
MAX_DUE = 50  # partitions asked for in one tick


@dataclass
class RetryPlan:
    """Failed partitions by what becomes of them."""

    due: list[tuple[str, int, str]] = field(default_factory=list)  # key, number of the attempt, run that failed
    waiting: dict[str, float] = field(default_factory=dict)  # key -> time it is due
    exhausted: list[str] = field(default_factory=list)  # tried often enough: for a person
    terminal: list[str] = field(default_factory=list)  # trying again cannot help: for a person


def backoff_s(streak: int, run_id: str) -> float:
    """Seconds to wait after `streak` failures in a row; the jitter is fixed by the run, so that ticks agree."""
    wait: float = min(CAP_S, BASE_S * 2 ** (streak - 1))
    return wait * (1 + JITTER * (2 * random.Random(run_id).random() - 1))  # noqa: S311


def plan_retries(
    instance: dg.DagsterInstance, asset: dg.AssetKey, partitions: dg.DynamicPartitionsDefinition, now: float
) -> RetryPlan:
    """What to do about the failed partitions of an asset, from wherever they were launched."""
    plan = RetryPlan()
    failed = [key for key, state in partition_states(instance, asset, partitions).items() if state == "failed"]
    if not failed:
        return plan
    # Newest first; planned events name the partition whether the run came from the UI, a backfill or a shell.
    planned = instance.fetch_planned_materializations(
        dg.AssetRecordsFilter(asset_key=asset, asset_partitions=failed),
        limit=min(10_000, len(failed) * (MAX_ATTEMPTS + 1)),
    ).records
    runs_of: dict[str, list[str]] = {}
    for event in planned:
        runs_of.setdefault(event.partition_key or "", []).append(event.run_id)
    wanted = sorted({run_id for ids in runs_of.values() for run_id in ids})
    records: dict[str, dg.RunRecord] = {}
    for i in range(0, len(wanted), 200):
        for record in instance.get_run_records(dg.RunsFilter(run_ids=wanted[i : i + 200])):
            records[record.dagster_run.run_id] = record
    for key in failed:
        streak: list[dg.RunRecord] = []
        for run_id in runs_of.get(key, []):
            run = records.get(run_id)
            if run is None or run.dagster_run.status != dg.DagsterRunStatus.FAILURE:
                break
            streak.append(run)
        if not streak:
            continue
        last = streak[0]
        if last.dagster_run.tags.get(ERROR_TAG) == TERMINAL:
            plan.terminal.append(key)
        elif len(streak) >= MAX_ATTEMPTS:
            plan.exhausted.append(key)
        else:
            at = (last.end_time or now) + backoff_s(len(streak), last.dagster_run.run_id)
            if now >= at and len(plan.due) < MAX_DUE:
                plan.due.append((key, len(streak) + 1, last.dagster_run.run_id))
            else:
                plan.waiting[key] = at
    return plan
