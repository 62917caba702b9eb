"""How far each pipeline is, from what the instance knows: the same numbers for the shell, JSON and people."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg

from bookpipe.defs.metadata import FINGERPRINT, ROWS_DONE
from bookpipe.defs.partitions import partition_states
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


def rows_done(metadata: Any) -> int:
    """How many of a materialization's rows its own run has done: not those of an attempt before it."""
    if ROWS_DONE in metadata:
        return int(metadata[ROWS_DONE].value)
    return materialized_numbers(metadata).read


def loaded_fingerprints(instance: dg.DagsterInstance, pipeline: Pipeline, keys: Sequence[str]) -> dict[str, str]:
    """What each partition's source looked like when it was last read."""
    return _fingerprints(instance.fetch_materializations, pipeline.source_asset, keys)


def damaged_fingerprints(instance: dg.DagsterInstance, pipeline: Pipeline, keys: Sequence[str]) -> dict[str, str]:
    """What the source of failed partitions looked like when it was found damaged."""
    return _fingerprints(instance.fetch_observations, pipeline.loaded_asset, keys)


def _fingerprints(
    fetch: Callable[..., dg.EventRecordsResult], asset: dg.AssetKey, keys: Sequence[str]
) -> dict[str, str]:  # fmt: skip
    found: dict[str, str] = {}
    for i in range(0, len(keys), 200):
        some = list(keys[i : i + 200])
        events = fetch(dg.AssetRecordsFilter(asset_key=asset, asset_partitions=some), limit=5 * len(some)).records
        for event in events:  # newest first
            told = event.asset_materialization or event.asset_observation
            if event.partition_key and told and FINGERPRINT in told.metadata:
                found.setdefault(event.partition_key, str(told.metadata[FINGERPRINT].value))
    return found


def running_texts(instance: dg.DagsterInstance, pipeline: Pipeline) -> dict[str, str]:
    """Partition -> how far its run says it is, of the runs that take long enough to say so."""
    runs = instance.get_runs(dg.RunsFilter(job_name=pipeline.job_name, statuses=[dg.DagsterRunStatus.STARTED]))
    tags = ((run.tags.get("dagster/partition"), run.tags.get(PROGRESS_TAG)) for run in runs)
    return {key: text for key, text in tags if key and text}


def pipeline_status(instance: dg.DagsterInstance, pipeline: Pipeline, settings: Settings) -> PipelineStatus:
    """A pipeline's partitions, the rows of their latest loads, and how fast the last ones were."""
    status = PipelineStatus(configured=pipeline.configured(settings))
    states = partition_states(instance, pipeline.loaded_asset, pipeline.partitions)
    status.partitions.total = len(states)
    for state in states.values():
        setattr(status.partitions, state, getattr(status.partitions, state) + 1)
    status.failed_keys = [key for key, state in states.items() if state == "failed"]

    if status.partitions.running:
        status.running = running_texts(instance, pipeline)

    times: list[_Load] = []
    for end, metadata in _latest_loads(instance, pipeline, states):
        counts = materialized_numbers(metadata)
        status.counts += counts
        times.append(_Load(end, float(metadata["seconds"].value), rows_done(metadata), counts.read))
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


@dataclass(frozen=True)
class _Load:
    """The latest load of a partition: when it ended, how long it took, the rows of it and of the whole partition."""

    end: float
    seconds: float
    done: int
    rows: int


def _rate(loads: list[_Load], partitions: Partitions) -> tuple[float | None, float | None]:
    left = partitions.missing + partitions.running + partitions.failed
    working = [load for load in loads if load.done]  # one that found all of it done does not tell how fast loads are
    if not working:
        return None, 0.0 if loads and not left else None
    last = max(load.end for load in working)
    recent = [load for load in working if load.end > last - RECENT_S]
    start = min(load.end - load.seconds for load in recent)
    rate = round(sum(load.done for load in recent) / max(last - start, 1e-3), 1)
    if not left:
        return rate, 0.0
    return rate, round(left * (sum(load.rows for load in recent) / len(recent)) / rate, 1) if rate else None


def all_statuses(instance: dg.DagsterInstance, settings: Settings) -> dict[str, PipelineStatus]:
    """Every pipeline that is configured or has partitions already."""
    found = {name: pipeline_status(instance, pipeline, settings) for name, pipeline in PIPELINES.items()}
    return {name: s for name, s in found.items() if s.configured or s.partitions.total}
