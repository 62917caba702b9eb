"""A shard of ebooks -> MyBookshelf2, chunk by chunk: read, hash, look up, write, each chunk with its journal entry.

The next chunk is read and hashed while the last one is written, so that at most two are in memory. A chunk's books,
its outcomes and the place where reading goes on commit together: a load that dies costs one chunk, and the counts of
a shard are those of all its chunks, whichever attempt loaded them.
"""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field

import pyarrow as pa

from bookpipe.model.book_plans import Known, source_key
from bookpipe.model.counts import LoadCounts
from bookpipe.model.errors import ConfigError, TerminalError, TransientError
from bookpipe.model.rejections import Reason, Rejection
from bookpipe.pipelines import books
from bookpipe.pipelines.seconds import Phases
from bookpipe.pipelines.shard_rows import ChunkHasher, HashedChunk
from bookpipe.resolve.books import Batch, BookOptions
from bookpipe.runtime.progress import NoProgress, Progress
from bookpipe.runtime.state import State
from bookpipe.runtime.stopping import check_stop
from bookpipe.sources.shard_chunks import Chunk, Resume
from bookpipe.sources.tar_chunks import MAX_IN_MEMORY, read_chunks, walk
from bookpipe.sources.tar_headers import Member, Problem, ProblemKind
from bookpipe.sources.tar_shards import Shard
from bookpipe.targets.mybookshelf2.journal import Journal
from bookpipe.targets.mybookshelf2.lookups import look_up_names
from bookpipe.targets.mybookshelf2.server import MyBookshelf2, Session
from bookpipe.targets.mybookshelf2.shards import (
    ChunkEntry,
    Identity,
    ShardJournal,
    ShardState,
    ShardTotals,
    generation_name,
)
from bookpipe.targets.postgres import Connection

PIPELINE = "tars"
MAX_MEMBERS = 2_000
MAX_BYTES = 96 << 20


@dataclass(frozen=True)
class Limits:
    """What a chunk may have: two of them are in memory at a time, and one member more of `member` bytes each."""

    members: int = MAX_MEMBERS
    bytes: int = MAX_BYTES
    member: int = MAX_IN_MEMORY


@dataclass
class ShardResult:
    """How a shard ended. `counts` and `problems` are those of all attempts, the rest is what this one did."""

    counts: LoadCounts = field(default_factory=LoadCounts)
    problems: list[str] = field(default_factory=list)  # damage of the archive, with offsets
    members: int = 0
    bytes: int = 0  # of the members
    chunks: int = 0
    resumed_at: int = 0  # offset in the tar, number of a file in a folder; 0 = from the beginning
    from_journal: bool = False  # finished earlier and unchanged: nothing was read
    new_ebooks: int = 0
    new_authors: int = 0
    new_series: int = 0
    dropped_tags: int = 0
    retyped: int = 0
    refreshed: int = 0
    metadata: dict[str, int] = field(default_factory=dict)  # files by what their metadata was: ok, none, ...
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, chunk: Chunk, hashed: HashedChunk, loaded: books.LoadResult) -> None:
        self.chunks += 1
        self.members += len(chunk.rows)
        self.bytes += sum(row.size for row in chunk.rows)
        for name in ("new_ebooks", "new_authors", "new_series", "dropped_tags", "retyped", "refreshed"):
            setattr(self, name, getattr(self, name) + getattr(loaded, name))
        for mine, theirs in ((self.metadata, hashed.statuses), (self.seconds, loaded.seconds)):
            for key, value in theirs.items():
                mine[key] = mine.get(key, 0) + value  # type: ignore[assignment]


class DamagedShardError(TerminalError):
    """A shard was read as far as it can be. `result` tells what was loaded."""

    def __init__(self, shard: Shard, result: ShardResult, problems: list[Problem]) -> None:
        more = f" (and {len(problems) - 1} more places)" if len(problems) > 1 else ""
        what, remedy = "is damaged", "Copy or download the shard again"
        if problems[0].kind is ProblemKind.NEEDS_MEMORY:
            what, remedy = "cannot be unpacked here", "Unpack it by hand and leave the tar in its place"
        super().__init__(
            f"The shard {shard.path} {what}, {problems[0]}{more}. What could be read is loaded: "
            f"{result.counts.read} members. {remedy}; nothing is loaded twice."
        )
        self.result = result


@dataclass(frozen=True)
class ShardIndex:
    """What the headers of a shard say."""

    members: int = 0  # rows of a load: everything that is no folder
    bytes: int = 0
    problems: list[str] = field(default_factory=list)


def index_shard(shard: Shard) -> ShardIndex:
    """Count a shard's members by their headers. A packed shard has to be unpacked for that."""
    members = size = 0
    problems = []
    for event in walk(shard):
        if isinstance(event, Problem):
            problems.append(str(event))
        elif event.kind.value != "folder":
            members += 1
            size += event.size
    return ShardIndex(members, size, problems)


def identify_shard(shard: Shard) -> Identity:
    """What tells whether a shard is the one of last time: size and modification time, of a folder those of all files
    in it. ConfigError when it cannot be looked at."""
    if shard.kind != "folder":
        try:
            status = os.stat(shard.path)
        except OSError as error:
            raise ConfigError(
                f"The shard {shard.path} cannot be opened: {error.strerror}. Check the file and its rights."
            ) from error
        return Identity(shard.kind, status.st_size, status.st_mtime_ns)
    size, digest = 0, hashlib.sha1(usedforsecurity=False)
    for event in walk(shard):
        if isinstance(event, Member):
            size += event.size
            digest.update(b"%d %d %b\0" % (event.size, event.mtime, event.name))
    return Identity(shard.kind, size, int.from_bytes(digest.digest()[:8], "big") >> 1)


def load_shard(
    target: MyBookshelf2,
    shard: Shard,
    options: BookOptions,
    state: State,
    *,
    pipeline: str = PIPELINE,
    partition: str | None = None,
    run_id: str = "",
    progress: Progress | None = None,
    workers: int | None = None,
    limits: Limits | None = None,
) -> ShardResult:
    """Load what is missing of a shard and say how all of it ended. Safe to kill, repeat and run beside other loads.

    `partition` is the shard's key unless it is said. `workers`: processes that examine members, by default as
    many as there are processors. Progress is told as steps "members" and "bytes" of the shard on disk, behind every
    chunk and with those of earlier attempts.
    DamagedShardError when the archive is damaged, after everything else of it is loaded; ConfigError when it cannot
    be opened; TransientError when it changes or goes away; StoppedError behind a chunk when a stop was requested.
    """
    started = time.perf_counter()
    result = ShardResult()
    with target.session() as session:
        load = _Load(
            session, shard, options, pipeline, partition or shard.key, run_id, limits or Limits()
        )  # fmt: skip
        try:
            begun = load.begin()
            result.from_journal = begun.finished
            result.resumed_at = 0 if begun.finished else _decode(begun.resume).position
            while not begun.finished:  # several rounds when another load of this shard has come further, but not ended
                load.run(begun, result, progress or NoProgress(), workers or os.cpu_count() or 1)
                begun = load.state()
        except BaseException:
            session.close()  # its connections may be what failed
            raise
        finally:
            totals = load.totals()
            if totals is not None:
                state.replace_rejections(
                    pipeline, load.partition, [Rejection(k, Reason(r), d) for k, r, d in totals.rejections]
                )
    assert totals is not None
    # Nothing is inserted by a load that finds everything there.
    inserted, existing = totals.inserted, totals.existing
    if result.from_journal:
        inserted, existing = 0, inserted + existing
    result.counts = LoadCounts(inserted, existing, dict(Counter(reason for _, reason, _ in totals.rejections)))
    problems = [Problem(ProblemKind(p["kind"]), p["offset"], p["end"], p["detail"]) for p in totals.problems]
    result.problems = [str(problem) for problem in problems]
    result.seconds = {name: round(s, 3) for name, s in result.seconds.items()}
    result.seconds["total"] = round(time.perf_counter() - started, 3)
    if damage := [problem for problem in problems if problem.incomplete]:
        raise DamagedShardError(shard, result, damage)
    return result


def loaded_sources(target: MyBookshelf2, partition: str, *, pipeline: str = PIPELINE) -> Iterator[list[int]]:
    """The ids of the sources a shard's members are in MyBookshelf2, chunk by chunk."""
    with target.reading() as (_, journal):
        if journal is not None and (entries := ShardJournal(journal, pipeline, partition)).exists():
            yield from entries.sources()


def plan_shard_dry(
    target: MyBookshelf2,
    shard: Shard,
    options: BookOptions,
    *,
    workers: int | None = None,
    limits: Limits | None = None,
    seen: set[bytes] | None = None,
) -> LoadCounts:
    """What a first load of the shard would do. Reads all of it and touches nothing.

    `seen`: books of shards before this one; those of this one are added.
    """
    counts = LoadCounts()
    seen = set() if seen is None else seen
    limits = limits or Limits()
    workers = workers or os.cpu_count() or 1

    def no_members(_: object) -> dict[int, tuple[str, int]]:
        return {}

    with closing(ChunkHasher(shard.origin, _formats(target), no_members, workers)) as hasher:
        for chunk in _read(shard, Resume(0), limits):
            batch = Batch(hasher.hash(chunk).rows)
            known = books.find_known(target, batch)
            for key in batch.source_keys():
                if key is not None and _short(key) in seen:
                    known.sources.setdefault(key, 1)
            plan, added = books.plan_dry(batch, known, options)
            counts += added
            seen.update(_short(source_key(source.sha1, source.size)) for source in plan.sources)
    return counts


def _short(key: str) -> bytes:
    return hashlib.sha1(key.encode(), usedforsecurity=False).digest()[:12]


def _read(shard: Shard, start: Resume, limits: Limits) -> Generator[Chunk, None, None]:
    yield from read_chunks(
        shard, start, max_members=limits.members, max_bytes=limits.bytes, max_member=limits.member
    )  # fmt: skip


def _formats(target: books.Target) -> set[str]:
    """Extensions of the formats that MyBookshelf2 has."""
    known = Known()
    with target.reading() as (connection, _):
        look_up_names(connection, known)
    return set(known.formats)


def _encode(resume: Resume) -> str:
    return json.dumps([resume.position, [[name.hex(), value.hex()] for name, value in resume.records]])


def _decode(text: str) -> Resume:
    if not text:
        return Resume(0)
    position, records = json.loads(text)
    return Resume(position, tuple((bytes.fromhex(name), bytes.fromhex(value)) for name, value in records))


@dataclass
class _Prepared:
    """A chunk on its way to the writer."""

    chunk: Chunk
    hashed: HashedChunk
    batch: Batch
    seconds: dict[str, float]


class _Load:
    """One load of one shard."""

    def __init__(
        self, session: Session, shard: Shard, options: BookOptions, pipeline: str, partition: str, run_id: str,
        limits: Limits,
    ) -> None:  # fmt: skip
        self.session, self.shard, self.options = session, shard, options
        self.pipeline, self.partition, self.run_id, self.limits = pipeline, partition, run_id, limits
        self.identity = identify_shard(shard)

    def _entries(self, journal: Journal) -> ShardJournal:
        return ShardJournal(journal, self.pipeline, self.partition)

    def begin(self) -> ShardState:
        with self.session.writing() as writer:
            writer.remove_leftovers()
            return self._entries(writer.journal).begin(self.identity, writer.folder, self.shard.origin)

    def state(self) -> ShardState:
        with self.session.reading() as (_, journal):
            assert journal is not None
            return self._entries(journal).state()

    def totals(self) -> ShardTotals | None:
        """None when it was never begun."""
        with self.session.reading() as (_, journal):
            entries = self._entries(journal) if journal is not None else None
            return entries.totals() if entries is not None and entries.exists() else None

    def _find_members(self, items: Sequence[int]) -> dict[int, tuple[str, int]]:
        with self.session.reading() as (_, journal):
            assert journal is not None
            return self._entries(journal).find_members(items)

    def run(self, begun: ShardState, result: ShardResult, progress: Progress, workers: int) -> None:
        """Load the chunks from where `begun` says to the end."""
        origin = generation_name(self.shard.origin, begun.generation)
        start, earlier = begun.resume, self.totals() if begun.chunks else None
        members = earlier.inserted + earlier.existing + len(earlier.rejections) if earlier else 0
        with (
            closing(ChunkHasher(origin, _formats(self.session), self._find_members, workers)) as hasher,
            closing(_read(self.shard, _decode(begun.resume), self.limits)) as chunks,
            ThreadPoolExecutor(1, "read_chunks") as reader,
        ):
            prepared = self._prepare(chunks, hasher)
            while prepared is not None:
                last = prepared.chunk.last
                # While this chunk is written the next one is read.
                following: Future[_Prepared | None] | None = None
                if not last:
                    following = reader.submit(self._prepare, chunks, hasher)
                loaded = self._write(prepared, begun.generation, start)
                result.add(prepared.chunk, prepared.hashed, loaded)
                for phase, s in prepared.seconds.items():
                    result.seconds[phase] = result.seconds.get(phase, 0.0) + s
                members += prepared.batch.size
                start = _encode(prepared.chunk.resume)
                progress.advance("members", members, None)
                progress.advance("bytes", prepared.chunk.done, prepared.chunk.total)
                del prepared, loaded
                if following is not None:
                    check_stop(f"{members:,} members of the shard are done.")
                prepared = following.result() if following is not None else None

    def _prepare(self, chunks: Iterator[Chunk], hasher: ChunkHasher) -> _Prepared | None:
        """The next chunk, hashed; None at the end."""
        phases = Phases()
        try:
            with phases.timed("read"):
                chunk = next(chunks, None)
            if chunk is None:
                return None
            with phases.timed("hash"):
                hashed = hasher.hash(chunk)
        except OSError as error:
            raise TransientError(
                f"The shard {self.shard.path} cannot be read on: {error.strerror}. The partition is tried again."
            ) from error
        return _Prepared(chunk, hashed, Batch(hashed.rows), phases.seconds)

    def _write(self, prepared: _Prepared, generation: int, start: str) -> books.LoadResult:
        chunk = prepared.chunk
        files = {row.held.file for row in chunk.rows if row.held is not None}

        def at_commit(_: Connection, journal: Journal, outcomes: pa.Table) -> None:
            if any(file.is_changed() for file in files):
                raise TransientError(
                    f"The shard {self.shard.path} changed while it was read. The partition is tried again."
                )
            ended = {name: outcomes.column(name).to_pylist() for name in outcomes.column_names}
            entry = ChunkEntry(
                start=start,
                resume=_encode(chunk.resume),
                finished=chunk.last,
                items=ended["item"],
                sources=ended["source_id"],
                outcomes=ended["outcome"],
                rejections=[
                    (
                        f"{self.shard.origin}#{item} {name or ''}".strip(),
                        reason or Reason.BAD_RECORD.value,
                        detail or "",
                    )
                    for item, name, outcome, reason, detail in zip(
                        *(ended[n] for n in ("item", "file_name", "outcome", "reason", "detail")), strict=True
                    )
                    if outcome == "rejected"
                ],
                problems=[asdict(problem) for problem in chunk.problems],
                done=chunk.done,
                total=chunk.total,
            )
            self._entries(journal).commit(self.identity, generation, entry)

        return books.bulk_insert(
            self.session, prepared.batch, Known(), self.options, pipeline=self.pipeline,
            partition=self.partition, run_id=self.run_id, contents=prepared.hashed.contents, at_commit=at_commit,
        )  # fmt: skip
