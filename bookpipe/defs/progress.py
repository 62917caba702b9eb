"""How far each pipeline is, from what the instance knows: the same numbers for the shell, JSON and people."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg

from bookpipe.defs.assets.calibre_books import FINGERPRINT
from bookpipe.defs.pipelines import PIPELINES, Pipeline
from bookpipe.defs.runs import PROGRESS_TAG
from bookpipe.model.counts import LoadCounts
from bookpipe.settings import Settings

RECENT_S = 1800.0  # the rate is that of the loads of the last half hour before the latest one


@dataclass
class Partitions:
    total: int = 0
    materialized: int = 0
    failed: int = 0
    running: int = 0
    missing: int = 0


@dataclass
class PipelineStatus:
    """One pipeline. Rates are rows a second, `eta_s` seconds until nothing is missing; None when unknown."""

    configured: bool
    partitions: Partitions = field(default_factory=Partitions)
    counts: LoadCounts = field(default_factory=LoadCounts)
    rate_rows_per_s: float | None = None
    eta_s: float | None = None
    failed_keys: list[str] = field(default_factory=list)
    running: dict[str, str] = field(default_factory=dict)  # partition -> how far its run says it is

    def to_json(self) -> dict[str, Any]:
        counts = self.counts
        return {
            "partitions": asdict(self.partitions),
            "rows": {
                "read": counts.read,
                "inserted": counts.inserted,
                "existing": counts.existing,
                "rejected": counts.rejected,
            },
            "rejections": dict(sorted(counts.rejections.items())),
            "rate_rows_per_s": self.rate_rows_per_s,
            "eta_s": self.eta_s,
            "running": self.running,
        }


def materialized_numbers(metadata: Any) -> LoadCounts:
    """The counts a materialization tells."""
    records = metadata["rejections"].records if "rejections" in metadata else []
    return LoadCounts(
        int(metadata["inserted"].value),
        int(metadata["existing"].value),
        {str(r.data["reason"]): int(r.data["rows"]) for r in records},
    )


def partition_states(instance: dg.DagsterInstance, pipeline: Pipeline) -> dict[str, str]:
    """Partition key -> materialized, failed, running or missing, in the order of registration."""
    keys = list(instance.get_dynamic_partitions(pipeline.partitions_name))
    status = instance.get_status_by_partition(pipeline.loaded_asset, keys, pipeline.partitions) or {}
    names = {"MATERIALIZED": "materialized", "FAILED": "failed", "IN_PROGRESS": "running"}
    return {key: names.get(s.value if (s := status.get(key)) else "", "missing") for key in keys}


def loaded_fingerprints(instance: dg.DagsterInstance, pipeline: Pipeline, keys: Sequence[str]) -> dict[str, str]:
    """What each partition's source looked like when it was last read."""
    found: dict[str, str] = {}
    for i in range(0, len(keys), 200):
        some = list(keys[i : i + 200])
        events = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=pipeline.source_asset, asset_partitions=some), limit=5 * len(some)
        ).records
        for event in events:  # newest first
            materialization = event.asset_materialization
            if event.partition_key and materialization and FINGERPRINT in materialization.metadata:
                found.setdefault(event.partition_key, str(materialization.metadata[FINGERPRINT].value))
    return found


def running_texts(instance: dg.DagsterInstance, pipeline: Pipeline) -> dict[str, str]:
    """Partition -> how far its run says it is, of the runs that take long enough to say so."""
    runs = instance.get_runs(dg.RunsFilter(job_name=pipeline.job_name, statuses=[dg.DagsterRunStatus.STARTED]))
    tags = ((run.tags.get("dagster/partition"), run.tags.get(PROGRESS_TAG)) for run in runs)
    return {key: text for key, text in tags if key and text}


def pipeline_status(instance: dg.DagsterInstance, pipeline: Pipeline, settings: Settings) -> PipelineStatus:
    """A pipeline's partitions, the rows of their latest loads, and how fast the last ones were."""
    status = PipelineStatus(configured=pipeline.configured(settings))
    states = partition_states(instance, pipeline)
    status.partitions.total = len(states)
    for state in states.values():
        setattr(status.partitions, state, getattr(status.partitions, state) + 1)
    status.failed_keys = [key for key, state in states.items() if state == "failed"]

    if status.partitions.running:
        status.running = running_texts(instance, pipeline)

    times: list[tuple[float, float, int]] = []  # end, seconds, rows of each latest load
    for end, metadata in _latest_loads(instance, pipeline, states):
        counts = materialized_numbers(metadata)
        status.counts += counts
        times.append((end, float(metadata["seconds"].value), counts.read))
    status.rate_rows_per_s, status.eta_s = _rate(times, status.partitions)
    return status


def _latest_loads(
    instance: dg.DagsterInstance, pipeline: Pipeline, states: dict[str, str]
) -> Iterator[tuple[float, Any]]:  # fmt: skip
    """(end, metadata) of every partition's last load. One of a damaged source is only observed: its run failed."""
    keys = list(states)
    for i in range(0, len(keys), 500):
        some = keys[i : i + 500]
        found: dict[str, tuple[float, Any]] = {}
        wanted = dg.AssetRecordsFilter(asset_key=pipeline.loaded_asset, asset_partitions=some)
        for event in instance.fetch_materializations(wanted, limit=10 * len(some)).records:  # newest first
            if event.partition_key is not None and event.asset_materialization is not None:
                found.setdefault(event.partition_key, (event.timestamp, event.asset_materialization.metadata))
        failed = [key for key in some if states[key] == "failed"]
        if failed:
            wanted = dg.AssetRecordsFilter(asset_key=pipeline.loaded_asset, asset_partitions=failed)
            for event in reversed(instance.fetch_observations(wanted, limit=10 * len(failed)).records):
                observed = event.asset_observation
                if event.partition_key is not None and observed is not None and "inserted" in observed.metadata:
                    last, _ = found.get(event.partition_key, (0.0, None))
                    if event.timestamp > last:
                        found[event.partition_key] = event.timestamp, observed.metadata
        yield from found.values()


def _rate(times: list[tuple[float, float, int]], partitions: Partitions) -> tuple[float | None, float | None]:
    if not times:
        return None, None
    last = max(end for end, _, _ in times)
    recent = [t for t in times if t[0] > last - RECENT_S]
    start = min(end - seconds for end, seconds, _ in recent)
    rows = sum(n for _, _, n in recent)
    rate = round(rows / max(last - start, 1e-3), 1)
    left = partitions.missing + partitions.running + partitions.failed
    if not left:
        return rate, 0.0
    return rate, round(left * (rows / len(recent)) / rate, 1) if rate else None


def all_statuses(instance: dg.DagsterInstance, settings: Settings) -> dict[str, PipelineStatus]:
    """Every pipeline that is configured or has partitions already."""
    found = {name: pipeline_status(instance, pipeline, settings) for name, pipeline in PIPELINES.items()}
    return {name: s for name, s in found.items() if s.configured or s.partitions.total}
