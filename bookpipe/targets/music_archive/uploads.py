"""A batch of audio files into a music archive: every row ends as inserted, existing or rejected.

Once per content, whatever happens: see `cycle` for the rules and `upload_ledger` for what is written down.
"""

import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import stamina

from bookpipe.model.counts import LoadCounts
from bookpipe.model.errors import TransientError
from bookpipe.model.rejections import Reason
from bookpipe.model.songs import SONG_OUTCOMES, is_likely_refused
from bookpipe.runtime.progress import NoProgress, Progress
from bookpipe.runtime.upload_ledger import FINAL, Content, Upload, UploadLedger, UploadState
from bookpipe.targets.music_archive.client import ArchiveClient
from bookpipe.targets.music_archive.cycle import Cycle, Ended, Job
from bookpipe.targets.music_archive.files import AudioFile
from bookpipe.targets.music_archive.schedule import Schedule, Task
from bookpipe.targets.music_archive.server import MusicArchive
from bookpipe.targets.music_archive.strategies import Song, choose_strategy
from bookpipe.targets.music_archive.window import Window

FREE = -1  # in `waits_for`: the row waits for nobody


@dataclass(frozen=True)
class UploadResult:
    """How a batch ended. `outcomes` has the rows of SONG_OUTCOMES, in the order of the batch.

    When the upload was stopped, rows that had not ended are missing from it and from the counts. `seconds` are those
    of all threads together, by phase (reserve, put, commit, settle), and `elapsed` those of the clock.
    """

    outcomes: pa.Table
    counts: LoadCounts
    stopped: bool
    sent_bytes: int
    seconds: dict[str, float]
    elapsed: float
    window: int  # uploads at a time that were best
    strategy: str  # "" when nobody had to be asked


@dataclass
class _Row:
    item: int
    path: bytes
    content: Content | None
    ended: Ended | None = None
    sent: int = 0


@dataclass
class _Batch:
    """The rows of a batch, and those of them that have the same content."""

    rows: list[_Row]
    progress: Progress
    same: dict[Content, list[_Row]] = field(default_factory=dict)
    done: int = 0

    def end(self, row: _Row, ended: Ended) -> None:
        row.ended = ended
        self.done += 1
        self.progress.advance("upload", self.done, len(self.rows))

    def job_ended(self, job: Job, ended: Ended) -> None:
        first, *others = self.same[job.content]
        first.sent = job.sent
        self.end(first, ended)
        for row in others:
            self.end(row, _as_alias(ended))


def upload_batch(
    server: MusicArchive,
    rows: pa.Table,
    root: Path,
    ledger: UploadLedger,
    *,
    waits_for: Sequence[int] = (),
    concurrency_cap: int = 16,
    skip_likely_refused: bool = False,
    look_up_remote: bool = False,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> UploadResult:
    """Upload what the archive has not got of AUDIO_FILES rows, whose paths are below `root`.

    `waits_for`: for each row, the position of the row that has to end before it begins, or FREE; an album's first
    track before the others, as the archive finds albums without a lock. Empty: nobody waits. `concurrency_cap` is the
    largest window. `look_up_remote`: ask the archive for each song that the ledger does not know. When `stop` is set,
    nothing is begun any more, and what was begun is finished.

    One bad file never stops the others. Raises ConfigError or TerminalError when the archive refuses the user, the
    address or bookpipe itself, TransientError when it stays away, always after what was begun has been finished.
    """
    began = time.monotonic()
    batch = _Batch(_rows(rows), progress or NoProgress())
    tasks = _plan(batch, rows, root, ledger, waits_for, skip_likely_refused=skip_likely_refused)
    window = Window(concurrency_cap, ledger.window())
    finished, sent, strategy = True, 0, ""
    seconds: dict[str, float] = {}
    if tasks:
        with ArchiveClient(server) as client, ledger.uploading() as uploader:
            for attempt in stamina.retry_context(on=TransientError, attempts=5, wait_initial=server.backoff):
                with attempt:
                    strategy = choose_strategy(client)
            inside = os.path.realpath(os.fsencode(root))
            cycle = Cycle(client, uploader, strategy, inside, look_up_remote)  # type: ignore[arg-type]
            schedule = Schedule(server, window, cycle.run, batch.job_ended, stop or threading.Event())
            finished = schedule.run(tasks)
            ledger.keep_window(window.best)
            sent, seconds = client.transport.sent, cycle.seconds
    outcomes = _outcomes(batch.rows)
    return UploadResult(
        outcomes,
        LoadCounts.of(outcomes["outcome"].to_pylist(), outcomes["reason"].to_pylist()),
        not finished,
        sent,
        seconds,
        time.monotonic() - began,
        window.best,
        strategy,
    )


def _rows(table: pa.Table) -> list[_Row]:
    columns = (table.column(name).to_pylist() for name in ("item", "path", "md5", "size"))
    return [
        _Row(item, path, Content(md5, size) if md5 is not None and size is not None else None)
        for item, path, md5, size in zip(*columns, strict=True)
    ]


def _plan(
    batch: _Batch,
    table: pa.Table,
    root: Path,
    ledger: UploadLedger,
    waits_for: Sequence[int],
    *,
    skip_likely_refused: bool,
) -> list[Task]:
    """The tasks that wait for nobody; the others hang on them. Rows that need no task have ended."""
    known = ledger.load({row.content for row in batch.rows if row.content is not None})
    top = os.fsencode(root)
    tasks: dict[int, Task] = {}
    first_row: dict[Content, int] = {}
    free: list[Task] = []
    aliases = []
    for i, values in enumerate(_values(table)):
        row = batch.rows[i]
        ended = _ended_before(values, row, skip_likely_refused=skip_likely_refused)
        if ended is None and row.content is not None:
            aliases.append((row.path, row.content))
            upload = known.get(row.content)
            ended = _known(upload) if upload is not None and upload.state in FINAL else None
        if ended is not None or row.content is None:
            batch.end(row, ended or Ended("rejected", Reason.UNREADABLE_FILE, "the file was not hashed"))
            continue
        batch.same.setdefault(row.content, []).append(row)
        if first_row.setdefault(row.content, i) != i:
            continue
        file = AudioFile(os.path.join(top, row.path), row.content, values["mtime_ns"])
        tasks[i] = Task(Job(file, _song(values, row.content)))
    ledger.add_aliases(aliases)
    leaders = dict(tasks)
    for i, task in tasks.items():
        leader = _leader_of(i, waits_for, batch, first_row)
        if leader is None or leader >= i:
            free.append(task)
        elif leader in leaders:
            leaders[leader].followers.append(task)
        else:
            free.append(task)
            ended = batch.rows[leader].ended
            if ended is None or ended.outcome == "rejected":
                leaders[leader] = task  # the first of those that would have followed now leads them
    return free


def _leader_of(i: int, waits_for: Sequence[int], batch: _Batch, first_row: dict[Content, int]) -> int | None:
    """The row that a row waits for: the first with the same content, when the leader itself is a copy."""
    position = waits_for[i] if waits_for else FREE
    if position == FREE:
        return None
    content = batch.rows[position].content
    return position if content is None else first_row.get(content, position)


def _values(table: pa.Table) -> Iterable[dict[str, Any]]:
    for part in table.to_batches(max_chunksize=1_000):
        yield from part.to_pylist()


def _ended_before(values: dict[str, Any], row: _Row, *, skip_likely_refused: bool) -> Ended | None:
    if values["reason"] is not None:
        return Ended("rejected", Reason(values["reason"]), values["detail"] or "")
    if row.content is not None and row.content.size == 0:
        return Ended("rejected", Reason.EMPTY_FILE)
    sniffed = values["sniffed_type"]
    if skip_likely_refused and sniffed is not None and is_likely_refused(sniffed):
        return Ended("rejected", Reason.LIKELY_REFUSED, f"the archive would take it for {sniffed}")
    return None


def _known(upload: Upload) -> Ended:
    if upload.state is UploadState.CREATED:
        return Ended("existing", song_id=upload.song_id, processing_error=upload.processing_error)
    return Ended("rejected", Reason.REFUSED, upload.last_error)


def _song(values: dict[str, Any], content: Content) -> Song:
    fields = ("filename", "content_type", "title", "artist", "album", "genre", "track_number", "duration")
    return Song(content, *(values[name] for name in fields))


def _as_alias(ended: Ended) -> Ended:
    """What the fate of a content means for a second file with it."""
    if ended.outcome != "inserted":
        return ended
    return Ended("existing", song_id=ended.song_id, processing_error=ended.processing_error)


def _outcomes(rows: list[_Row]) -> pa.Table:
    ended = [(row, row.ended) for row in rows if row.ended is not None]
    columns = {
        "item": [row.item for row, _ in ended],
        "path": [row.path for row, _ in ended],
        "outcome": [end.outcome for _, end in ended],
        "reason": [end.reason and end.reason.value for _, end in ended],
        "detail": [end.detail or None for _, end in ended],
        "song_id": [end.song_id for _, end in ended],
        "size": [row.content and row.content.size for row, _ in ended],
        "md5": [row.content and row.content.md5 for row, _ in ended],
        "sent_bytes": [row.sent for row, _ in ended],
        "processing_error": [end.processing_error or None for _, end in ended],
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in SONG_OUTCOMES], schema=SONG_OUTCOMES)
