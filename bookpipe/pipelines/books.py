"""Hashed book files -> MyBookshelf2: look up, resolve, place and insert. Shared by every source of books."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import pyarrow as pa

from bookpipe.model.book_plans import BookPlan, Content, KeptSource, Known, Placement, missing, source_key
from bookpipe.model.counts import LoadCounts
from bookpipe.model.errors import TerminalError
from bookpipe.model.rejections import Rejection, rejected_rows
from bookpipe.model.schemas import OUTCOMES
from bookpipe.pipelines.seconds import Phases
from bookpipe.resolve.book_paths import BookPath, book_path, free_location, settle_path
from bookpipe.resolve.books import Batch, BookOptions, joinable_keys, plan_books
from bookpipe.runtime.garbage import collector_paused
from bookpipe.targets.mybookshelf2 import lookups
from bookpipe.targets.mybookshelf2.files import NameTakenError
from bookpipe.targets.mybookshelf2.journal import Journal
from bookpipe.targets.mybookshelf2.load import ChangedMeanwhileError, Ids, Writer
from bookpipe.targets.mybookshelf2.server import MyBookshelf2, Session
from bookpipe.targets.postgres import Connection, translating

Target = MyBookshelf2 | Session
Contents = Sequence[Content | None]  # one for each row of a batch: bytes that are no file of their own
AtCommit = Callable[[Connection, Journal, pa.Table], None]  # with the batch's OUTCOMES, in its transaction

ATTEMPTS = 5  # at a batch whose names or rows the application takes while it is written


@dataclass(frozen=True)
class LoadResult:
    """How a batch ended: OUTCOMES rows, counts, and what people ask about it."""

    outcomes: pa.Table
    counts: LoadCounts
    new_ebooks: int = 0
    new_authors: int = 0
    new_series: int = 0
    dropped_tags: int = 0
    retyped: int = 0
    refreshed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def rejections(self) -> list[Rejection]:
        return rejected_rows(self.outcomes, "file_name")


def look_up(target: Target, hashed: pa.Table) -> pa.Table:
    """KNOWN rows: what MyBookshelf2 has of this batch. Writes nothing."""
    return find_known(target, Batch(hashed)).to_arrow()


def find_known(target: Target, batch: Batch) -> Known:
    """What MyBookshelf2 has of this batch. Writes nothing."""
    with target.reading() as (connection, journal):
        return _look_up(connection, journal, batch, Known())


def _look_up(connection: Connection, journal: Journal | None, batch: Batch, known: Known) -> Known:
    """What is missing in `known` of what the batch can touch, asked again and added."""
    with translating("looking up what MyBookshelf2 has"):
        keys = batch.source_keys()
        sha1s, sizes = batch.columns["sha1"], batch.columns["size"]
        files = {key: (sha1s[i], sizes[i]) for i, key in enumerate(keys) if key is not None}
        lookups.look_up_sources(connection, known, [files[key] for key in missing(files, known.sources)])
        wanted = [i for i, key in enumerate(keys) if key is None or key not in known.sources]
        names = batch.author_keys(wanted)
        lookups.look_up_authors(connection, known, [names[key] for key in missing(names, known.authors)])
        # Every spelling: which of them are one is for the database to say, whose lower() is not Python's.
        titles = dict.fromkeys(batch.series[i] for i in wanted if batch.series[i])
        lookups.look_up_series(connection, known, [title for title in titles if title.lower() not in known.series])
        lookups.look_up_names(connection, known)
        if journal is not None:
            for origin, (first, last) in batch.items().items():
                lookups.look_up_journal(connection, journal, known, origin, first, last)
                lookups.look_up_joinable(connection, journal, known, origin, joinable_keys(batch, known, origin))
    return known


def plan_dry(batch: Batch, known: Known, options: BookOptions) -> tuple[BookPlan, LoadCounts]:
    """What a load would do, from what is known without a lock. Touches nothing."""
    plan = plan_books(batch, known, options)
    return plan, LoadCounts.of(plan.outcomes, plan.reasons)


@collector_paused()
def bulk_insert(
    target: Target,
    hashed: pa.Table | Batch,
    known: pa.Table | Known,
    options: BookOptions,
    *,
    pipeline: str,
    partition: str,
    run_id: str,
    contents: Contents | None = None,
    at_commit: AtCommit | None = None,
) -> LoadResult:
    """Write what is missing of the batch and say how every row ended. Safe to repeat, and beside other loads.

    Rows with `contents` get real files of these bytes. `at_commit` is called inside the transaction that writes the
    rows, when all files are in their places, and in one of its own when there are none to write.
    """
    phases = Phases()
    with phases.timed("prepare"):
        batch = hashed if isinstance(hashed, Batch) else Batch(hashed)
        found = known if isinstance(known, Known) else Known.from_arrow(known)
    with ExitStack() as stack:
        with phases.timed("wait_for_lock"):
            writer = stack.enter_context(target.writing())
        with phases.timed("remove_leftovers"):
            writer.remove_leftovers()
        for attempt in range(ATTEMPTS):
            try:
                return _write(
                    writer, batch, found, options, phases, pipeline, partition, run_id, contents, at_commit
                )  # fmt: skip
            except (ChangedMeanwhileError, NameTakenError):
                if attempt == ATTEMPTS - 1:
                    raise
                found = Known()  # what was found may be what has changed
    raise AssertionError("unreachable")


def _write(
    writer: Writer, batch: Batch, known: Known, options: BookOptions, phases: Phases, pipeline: str, partition: str,
    run_id: str, contents: Contents | None, at_commit: AtCommit | None,
) -> LoadResult:  # fmt: skip
    with phases.timed("look_up_again"):
        if not lookups.still_there(writer.connection, known):
            known = Known()
        known = _look_up(writer.connection, writer.journal, batch, known)
    with phases.timed("resolve"):
        plan = plan_books(batch, known, options)
        counts = LoadCounts.of(plan.outcomes, plan.reasons)
    ids = Ids()
    locations: list[str] = []
    with phases.timed("repair_files"):
        repaired = _repair_kept(writer, plan, contents) + _mend_links(writer, batch, plan)
    if not plan.empty:
        with phases.timed("draw_ids"):
            ids = writer.draw_ids(plan)
        with phases.timed("settle_paths"):
            base_dirs, locations = _settle(writer, plan, known, ids)
        placements = [
            Placement(n, location, source.path, source.size, contents[source.row] if contents else None)
            for n, (location, source) in enumerate(zip(locations, plan.sources, strict=True))
        ]
        if contents and not all(placement.content for placement in placements):
            raise ChangedMeanwhileError("MyBookshelf2 deleted a file that a hard link of the shard leads to.")
        with (
            phases.timed("place_and_insert"),
            writer.placing(pipeline, partition, placements) as finish_files,
        ):
            outcomes = _outcomes(batch, plan, ids, locations)

            def finish() -> None:
                finish_files()
                if at_commit:
                    at_commit(writer.connection, writer.journal, outcomes)

            writer.insert(
                plan=plan, ids=ids, base_dirs=base_dirs, locations=locations, finish_files=finish,
                counts=counts, pipeline=pipeline, partition=partition, run_id=run_id,
            )  # fmt: skip
    else:
        outcomes = _outcomes(batch, plan, ids, locations)
        if at_commit:
            with translating("writing the journal"), writer.connection.transaction():
                at_commit(writer.connection, writer.journal, outcomes)
    return LoadResult(
        outcomes=outcomes,
        counts=counts,
        new_ebooks=len(plan.ebooks),
        new_authors=len(plan.authors),
        new_series=len(plan.series),
        dropped_tags=plan.dropped_tags,
        retyped=plan.retyped,
        refreshed=repaired,
        seconds={phase: round(s, 4) for phase, s in phases.seconds.items()},
    )


def _repair_kept(writer: Writer, plan: BookPlan, contents: Contents | None) -> int:
    """Files of earlier loads that stand for something else now (the library moved or rewrote them) are renewed.

    What somebody else put in such a file's place is left alone, and so is the source's row.
    """
    folder = writer.folder

    def is_stale(kept: KeptSource) -> bool:
        if contents:
            return kept.changed or not folder.has_file(kept.location, kept.size)
        return (kept.changed and folder.mode == "copy") or not folder.stands_for(kept.location, kept.path, kept.size)

    stale = [kept for kept in plan.kept if is_stale(kept)]
    refreshed = sum(kept.changed for kept in plan.kept) - sum(kept.changed for kept in stale)
    recorded = lookups.look_up_files(writer.connection, [kept.source for kept in stale])
    for kept in stale:
        new = kept.sha1, kept.size  # a load may have been killed between the file and its row
        if folder.may_replace(kept.location, {recorded.get(kept.source, new)[:2], new}):
            folder.replace(kept.location, kept.path, contents[kept.row] if contents else None)
            refreshed += 1
        else:
            kept.changed = False
    return refreshed


def _mend_links(writer: Writer, batch: Batch, plan: BookPlan) -> int:
    """Links of other books to a file that is where this batch's book has it now: Calibre moves files between books."""
    if writer.folder.mode != "symlink":
        return 0
    kept = {source.source for source in plan.kept}
    paths = {
        source: batch.columns["path"][row]
        for row, source in enumerate(plan.existing_ids)
        if source is not None and source not in kept and batch.columns["path"][row]
    }
    mended = 0
    for source, (_, _, location) in lookups.look_up_files(writer.connection, list(paths)).items():
        if writer.folder.is_dangling(location):
            writer.folder.replace(location, paths[source])
            mended += 1
    return mended


def _settle(writer: Writer, plan: BookPlan, known: Known, ids: Ids) -> tuple[list[str], list[str]]:
    """The folder of every new ebook and the location of every new source, none of which anybody has."""
    on_disk = writer.folder.is_taken()
    wished = [book_path(b.author_string, b.title, b.language_code, b.series_title, b.series_index) for b in plan.ebooks]
    used = lookups.taken_base_dirs(writer.connection, list({p.base_dir for p in wished}))

    def folder_taken(base_dir: str) -> bool:
        return base_dir in used or on_disk(base_dir)

    paths: list[BookPath] = []
    for wish, ebook_id in zip(wished, ids.ebooks, strict=True):
        path = settle_path(wish, ebook_id, folder_taken)
        used.add(path.base_dir)
        paths.append(path)

    existing = known.by_id("base_dirs")
    taken = set(known.by_id("locations").values())  # a file may be missing while its row lives
    ours = taken.__contains__
    locations: list[str] = []
    for source in plan.sources:
        if source.ebook < 0:
            path = paths[-source.ebook - 1]
        else:
            path = book_path(source.author_string, source.title, "", source.series_title, source.series_index)
            path = path.inside(existing[source.ebook], source.ebook)
        # A folder nobody had holds nothing; only names this batch gives twice have to differ.
        name_taken = ours if source.ebook < 0 else lambda where: ours(where) or on_disk(where)
        try:
            location = free_location(path, source.extension, name_taken)
        except TerminalError:  # the ebook's folder has become a link, or is below one
            location = free_location(path.apart(Ids.of(source.ebook, ids.ebooks)), source.extension, name_taken)
        taken.add(location)
        locations.append(location)
    return [p.base_dir for p in paths], locations


def _outcomes(batch: Batch, plan: BookPlan, ids: Ids, locations: list[str]) -> pa.Table:
    ebooks: list[int | None] = [None] * batch.size
    sources = list(plan.existing_ids)
    where: list[str | None] = [None] * batch.size
    made: dict[str, int] = {}
    for n, source in enumerate(plan.sources):
        ebooks[source.row] = Ids.of(source.ebook, ids.ebooks)
        sources[source.row] = ids.sources[n]
        where[source.row] = locations[n]
        made[source_key(source.sha1, source.size)] = ids.sources[n]
    for row, key in enumerate(batch.source_keys()):
        if sources[row] is None and key in made:  # the same bytes twice in one batch
            sources[row] = made[key]
    return pa.table(
        {
            "origin": pa.array(batch.columns["origin"], pa.string()),
            "item": pa.array(batch.columns["item"], pa.int64()),
            "file_name": pa.array(batch.columns["file_name"], pa.string()),
            "outcome": pa.array(plan.outcomes, pa.string()),
            "reason": pa.array(plan.reasons, pa.string()),
            "detail": pa.array(plan.details, pa.string()),
            "ebook_id": pa.array(ebooks, pa.int64()),
            "source_id": pa.array(sources, pa.int64()),
            "location": pa.array(where, pa.string()),
        },
        schema=OUTCOMES,
    )
