"""Where records are in an export, so that a partition in its middle is read without what comes before it.

One pass over the file counts the records and notes a place in every thousand. The index of a file can be kept on disk
under the export's key; losing it costs that pass. As a big file's key is of samples, one that is kept also names the
size and time of the file that it is of.
"""

import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from bookpipe.model.rejections import Reason
from bookpipe.runtime.garbage import collector_paused
from bookpipe.sources.scrobbles.export_file import Export, MemberStream, OpenFile, reopen
from bookpipe.sources.scrobbles.json_blocks import Block, Quota
from bookpipe.sources.scrobbles.json_stream import ByteStream, Problem, Records, StreamDamageError

STEP = 1_000  # records from one mark to the next

RecordsOf = Callable[[ByteStream, int], Records]


class Mark(NamedTuple):
    """Behind the first `rows` records of the export, reading goes on at `offset` of a member."""

    rows: int
    member: int
    offset: int  # bytes, unpacked


@dataclass(frozen=True, slots=True)
class RowIndex:
    """Number of records, and marks in order; the first one is the beginning."""

    rows: int
    marks: tuple[Mark, ...]

    def before(self, row: int) -> Mark:
        """The last mark from which reading comes to `row`, counted from 1."""
        return self.marks[bisect_right(self.marks, row - 1, key=attrgetter("rows")) - 1]


START = Mark(0, 0, 0)
_END = object()


class _MemberRecords:
    """The records of one member from an offset, and a last Problem when its bytes are damaged."""

    def __init__(self, stream: MemberStream, records_of: RecordsOf, offset: int, quota: Quota | None) -> None:
        self._stream = stream
        self._quota = quota
        self._records = records_of(stream, offset)
        self._damaged = False

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._records.in_blocks(self._quota)
            self._stream.finish()
        except StreamDamageError as damage:
            self._damaged = True
            yield Problem(Reason.DAMAGED_FILE, str(damage))

    def resume_offset(self) -> int | None:
        return None if self._damaged else self._records.resume_offset()


def rows_of(record: Any) -> int:
    """How many records one item of `each_record` stands for."""
    return record.rows if isinstance(record, Block) else 1


def record_range(records: Iterator[Any], quota: Quota, skipped: int, rows: int) -> Iterator[Any]:
    """`rows` records behind `skipped` ones, of an iterator that looks at this quota."""
    quota.rows = skipped or rows
    while rows and (record := next(records, _END)) is not _END:
        if skipped:
            skipped -= rows_of(record)
        else:
            yield record
            rows -= rows_of(record)
        quota.rows = skipped or rows


def each_record(
    opened: OpenFile, export: Export, records_of: RecordsOf, mark: Mark = START, quota: Quota | None = None
) -> Iterator[Any]:
    """The records of all members from a mark on, and Problems in the places of those that cannot be read.

    With a quota there are Blocks of records, too.
    """
    offset = mark.offset
    for member in export.members[mark.member :]:
        yield from _MemberRecords(opened.stream(member, offset), records_of, offset, quota)
        offset = 0


@lru_cache(maxsize=32)
def scan(export: Export, records_of: RecordsOf) -> RowIndex:
    """The index of an export, from one pass over it."""
    rows = 0
    marks = [START]
    with collector_paused(), reopen(export) as opened:
        for n, member in enumerate(export.members):
            marks.append(Mark(rows, n, 0))
            due = rows + STEP
            quota = Quota(STEP)
            records = _MemberRecords(opened.stream(member), records_of, 0, quota)
            for record in records:
                rows += rows_of(record)
                if rows >= due and (offset := records.resume_offset()) is not None:
                    marks.append(Mark(rows, n, offset))
                    due = rows + STEP
                quota.rows = max(1, due - rows)
    return RowIndex(rows, tuple(marks))


def find_index(export: Export, records_of: RecordsOf, index_dir: Path | None) -> RowIndex:
    """The index of an export: kept in `index_dir`, or made and kept there now."""
    path = index_dir and index_dir / f"{export.key}.json"
    if path is not None and (kept := _load(path, export)) is not None:
        return kept
    index = scan(export, records_of)
    if path is not None:
        with suppress(OSError):  # it only saves work
            _save(path, index, export)
    return index


def _load(path: Path, export: Export) -> RowIndex | None:
    try:
        kept = json.loads(path.read_bytes())
        if (kept["size"], kept["mtime_ns"]) != (export.size, export.mtime_ns):
            return None
        return RowIndex(int(kept["rows"]), tuple(Mark(*map(int, mark)) for mark in kept["marks"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _save(path: Path, index: RowIndex, export: Export) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    kept = {"size": export.size, "mtime_ns": export.mtime_ns, "rows": index.rows, "marks": index.marks}
    new.write_text(json.dumps(kept))
    new.replace(path)
