"""Records of an export of scrobbles -> Koito, chunk by chunk: look up, resolve and write under the target's lock.

A chunk is one transaction, so that Koito's own writers wait no longer than it takes; its entities, its listens, its
part of the lookup cache and its journal entry commit together. Chunks are cut at fixed places, so that a partition
that is loaded again has the same ones.
"""

import filecmp
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from bookpipe.model.counts import LoadCounts
from bookpipe.model.listen_plans import ListenPlan
from bookpipe.model.rejections import Reason, Rejection
from bookpipe.model.schemas import LISTEN_OUTCOMES
from bookpipe.pipelines.seconds import Phases
from bookpipe.resolve.listens import ListenOptions, prepare_listens, resolve_listens, wanted
from bookpipe.runtime.garbage import collector_paused
from bookpipe.sources.scrobbles import Export, count_rows, find_exports
from bookpipe.targets.koito.journal import Chunk
from bookpipe.targets.koito.server import Koito, Session

PIPELINE = "scrobbles"
CHUNK = 10_000  # listens: some 0.3 s under the write lock, and Koito's writers give up after 5 s


@dataclass
class ListenResult:
    """How a batch ended: LISTEN_OUTCOMES rows, counts, and what is new in Koito."""

    outcomes: pa.Table
    counts: LoadCounts
    new_artists: int = 0
    new_releases: int = 0
    new_tracks: int = 0
    known: int = 0  # listens that an earlier load had brought, so that nothing had to be resolved
    seconds: dict[str, float] = field(default_factory=dict)

    def rejections(self) -> list[Rejection]:
        columns = (self.outcomes.column(n).to_pylist() for n in ("origin", "row", "reason", "detail"))
        return [
            Rejection(f"{origin} record {row}", Reason(reason), detail or "")
            for origin, row, reason, detail in zip(*columns, strict=True)
            if reason
        ]


def exports_by_key(folder: Path) -> dict[str, Export]:
    """The exports of a folder in the order in which Koito would import them. Copies of one are the first of them."""
    firsts: dict[tuple[str, int, str], Export] = {}
    exports: dict[str, Export] = {}
    for export in find_exports(folder)[0]:
        first = firsts.setdefault((export.kind, export.size, export.content), export)
        # Keys of big files are of samples. What was compared before is remembered.
        if first is export or not filecmp.cmp(first.path, export.path, shallow=False):
            exports.setdefault(export.key, export)
    return exports


def count_records(exports: dict[str, Export], index_dir: Path | None) -> dict[str, int]:
    """Records by key of the export. The first time all of an export is read, and where its records are is kept."""
    return {key: count_rows(export, index_dir=index_dir) for key, export in exports.items()}


def load_listens(
    koito: Koito,
    listens: pa.Table,
    options: ListenOptions,
    *,
    partition: str,
    run_id: str = "",
) -> ListenResult:
    """Write a batch of LISTENS rows of one export."""
    phases = Phases()
    result = ListenResult(LISTEN_OUTCOMES.empty_table(), LoadCounts())
    outcomes: list[pa.Table] = []
    with koito.connect() as session, collector_paused():
        for start in range(0, listens.num_rows, CHUNK):
            chunk = listens.slice(start, CHUNK)
            outcomes.append(_load_chunk(session, chunk, options, partition, run_id, phases, result))
    result.outcomes = pa.concat_tables(outcomes) if outcomes else result.outcomes
    result.counts = count_outcomes(result.outcomes)
    result.seconds = phases.seconds
    return result


def _load_chunk(
    session: Session,
    chunk: pa.Table,
    options: ListenOptions,
    partition: str,
    run_id: str,
    phases: Phases,
    result: ListenResult,
) -> pa.Table:
    origin, first, last = chunk_range(chunk)
    with phases.timed("prepare"):
        prepared = prepare_listens(chunk, options)
        texts = wanted(prepared)
    with phases.timed("wait"), session.writing() as writer:
        with phases.timed("look_up"):
            image = writer.image(texts, origin, first, last)
        with phases.timed("resolve"):
            plan = resolve_listens(prepared, image)
        with phases.timed("write"):
            written = writer.write(plan, Chunk(PIPELINE, partition, run_id, origin, first, last))
    result.new_artists += len(plan.artists)
    result.new_releases += len(plan.releases)
    result.new_tracks += len(plan.tracks)
    result.known += len(image.loaded)
    return outcomes_of(chunk, plan, written.existing_rows)


def plan_dry(koito: Koito, listens: pa.Table, options: ListenOptions) -> ListenResult:
    """What `load_listens` would do, without writing anything. Chunks do not see what those before them would add."""
    result = ListenResult(LISTEN_OUTCOMES.empty_table(), LoadCounts())
    outcomes = []
    with koito.reading() as reader:
        for start in range(0, listens.num_rows, CHUNK):
            chunk = listens.slice(start, CHUNK)
            prepared = prepare_listens(chunk, options)
            plan = resolve_listens(prepared, reader.image(wanted(prepared), *chunk_range(chunk)))
            result.new_artists += len(plan.artists)
            result.new_releases += len(plan.releases)
            result.new_tracks += len(plan.tracks)
            outcomes.append(outcomes_of(chunk, plan, reader.existing_rows(plan)))
    result.outcomes = pa.concat_tables(outcomes) if outcomes else result.outcomes
    result.counts = count_outcomes(result.outcomes)
    return result


def chunk_range(chunk: pa.Table) -> tuple[str, int, int]:
    """Export, first and last record of some LISTENS rows, which are not none."""
    rows = chunk.column("row")
    return chunk.column("origin")[0].as_py(), rows[0].as_py(), rows[-1].as_py()


def outcomes_of(chunk: pa.Table, plan: ListenPlan, existing: Collection[int]) -> pa.Table:
    """LISTEN_OUTCOMES of a chunk. `existing`: rows of the chunk that turned out to be there when they were written."""
    outcomes = list(plan.outcomes)
    for row in existing:
        outcomes[row] = "existing"
    return pa.table(
        [
            chunk.column("origin"),
            chunk.column("row"),
            pa.array(outcomes, pa.string()),
            pa.array(plan.reasons, pa.string()),
            pa.array(plan.details, pa.string()),
            chunk.column("listened_at"),
            chunk.column("artist"),
            chunk.column("title"),
        ],
        schema=LISTEN_OUTCOMES,
    )


def count_outcomes(outcomes: pa.Table) -> LoadCounts:
    """The counts of LISTEN_OUTCOMES rows."""
    return LoadCounts.of(outcomes["outcome"].to_pylist(), outcomes["reason"].to_pylist())
