"""Sensors: new partitions are registered and loaded, failed ones come back."""

import json
import time

import dagster as dg

from bookpipe.defs.jobs import load_jobs
from bookpipe.defs.partitions import partition_states
from bookpipe.defs.pipelines import PIPELINES
from bookpipe.defs.progress import damaged_fingerprints, loaded_fingerprints
from bookpipe.defs.retries import RetryPlan, plan_retries
from bookpipe.defs.runs import fail_dead_runs
from bookpipe.model.errors import BookpipeError
from bookpipe.settings import Settings

MAX_NEW = 100  # partitions asked for in one tick


@dg.sensor(
    jobs=list(load_jobs.values()),
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=(
        "Registers new partitions of every configured source and loads them; loads a partition again when its rows "
        "changed (the last batch of a growing library). Off until you switch it on."
    ),
)
def discover_partitions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    settings = Settings.load()
    asked: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
    requests: list[dg.RunRequest] = []
    additions = []
    problems = []
    for pipeline in PIPELINES.values():
        if not pipeline.configured(settings):
            continue
        try:
            found = pipeline.find(settings, context.instance, context.log.warning)
        except BookpipeError as error:
            problems.append(f"{pipeline.name}: {error}")
            continue
        have = partition_states(context.instance, pipeline.loaded_asset, pipeline.partitions)
        new = [key for key in found if key not in have]
        # Running partitions are left alone, and failed ones to the other sensor; but that gives up at once where the
        # source was damaged, and somebody may have put a sound one in its place.
        idle = [k for k in found if have.get(k) in ("missing", "materialized")]
        failed = [k for k in found if have.get(k) == "failed"]
        loaded = loaded_fingerprints(context.instance, pipeline, idle)
        damaged = damaged_fingerprints(context.instance, pipeline, failed)
        # What comes from the target is new when books came, however it ended before.
        renewed = failed if pipeline.follows else [k for k in damaged if damaged[k] != found[k]]
        due = sorted([k for k in idle if loaded.get(k) != found[k]] + renewed)
        wanted = [k for k in new + due if asked.get(f"{pipeline.name}|{k}") != found[k]][: MAX_NEW - len(requests)]
        for key in wanted:
            asked[f"{pipeline.name}|{key}"] = found[key]
            requests.append(
                dg.RunRequest(
                    run_key=f"{pipeline.name}|{key}|{found[key]}", job_name=pipeline.job_name, partition_key=key
                )
            )
        first = [key for key in wanted if key not in have]
        if first:
            additions.append(pipeline.partitions.build_add_request(first))
    if problems and not requests:
        return dg.SkipReason("; ".join(problems))
    if not requests:
        return dg.SkipReason("Nothing new.")
    return dg.SensorResult(run_requests=requests, dynamic_partitions_requests=additions, cursor=json.dumps(asked))


@dg.sensor(
    jobs=list(load_jobs.values()),
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Brings failed partitions back, minutes apart and ever later, from wherever they were launched; gives up after "
        "a few attempts and says so. Never repeats an error that cannot go away by itself."
    ),
)
def retry_failed_partitions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    dead = fail_dead_runs(context.instance)
    requests: list[dg.RunRequest] = []
    plans: dict[str, RetryPlan] = {}
    for pipeline in PIPELINES.values():
        plan = plans[pipeline.name] = plan_retries(
            context.instance, pipeline.loaded_asset, pipeline.partitions, time.time()
        )
        for key, attempt, run_id in plan.due:
            requests.append(
                dg.RunRequest(
                    run_key=f"{pipeline.name}|{key}|{run_id}",  # names the cause: a tick may be repeated
                    job_name=pipeline.job_name,
                    partition_key=key,
                    tags={"bookpipe/attempt": str(attempt)},
                )
            )
        if plan.exhausted or plan.terminal:
            context.log.warning(
                f"{pipeline.name}: {len(plan.exhausted)} partitions given up after repeated failures, "
                f"{len(plan.terminal)} failed for a reason that will not go away; look at their last runs."
            )
    text = "; ".join(
        f"{name}: {len(plan.due)} due, {len(plan.waiting)} waiting, {len(plan.exhausted)} given up, "
        f"{len(plan.terminal)} terminal"
        for name, plan in plans.items()
    )
    if dead:
        text += f"; {len(dead)} runs whose process was gone marked as failed"
    report = {
        name: {
            "due": len(plan.due),
            "waiting": len(plan.waiting),
            "given_up": plan.exhausted[:100],
            "terminal": plan.terminal[:100],
        }
        for name, plan in plans.items()
    }
    context.update_cursor(json.dumps(report))
    return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason(text)
