"""Parsed records as LISTENS rows, with the checks that all formats share."""

import re
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from bookpipe.model.listens import LISTENS
from bookpipe.model.rejections import Reason
from bookpipe.sources.scrobbles.arrow_records import numbers, read_records
from bookpipe.sources.scrobbles.fields import Record, UnusableError, type_name
from bookpipe.sources.scrobbles.json_blocks import Block
from bookpipe.sources.scrobbles.json_lines import decode_block
from bookpipe.sources.scrobbles.json_stream import Problem

DAY = 86_400  # seconds
MAX_DETAIL = 300  # characters
AT_ONCE = 1 << 19  # bytes of blocks parsed together

_SURROGATE = re.compile("[\ud800-\udfff]")

_NOT_PARSED = ("origin", "row", "kind")
_SCHEMA = pa.schema([field for field in LISTENS if field.name not in _NOT_PARSED])

Outcome = tuple[Reason, str]


class Parser(Protocol):
    """What a format makes of records: one by one, and, the same, of whole columns of usual ones."""

    @property
    def KIND(self) -> str: ...  # noqa: N802

    @property
    def CLIENT(self) -> str: ...  # noqa: N802

    @property
    def COLUMNS(self) -> tuple[str, ...]: ...  # noqa: N802

    @property
    def FIELDS(self) -> pa.StructType | None: ...  # noqa: N802

    def parse(self, record: Record) -> tuple[Any, ...]:
        """COLUMNS of a record. Raises UnusableError."""

    def parse_columns(self, records: pa.StructArray) -> dict[str, pa.Array] | None:
        """COLUMNS of records with FIELDS, without the null ones; None when one needs to be looked at by `parse`."""


class ListenRows:
    """Collects the records of one range."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._tables: list[pa.Table] = []
        # What came behind these tables: records parsed one by one, or blocks.
        self._rows: list[tuple[Any, ...]] = []
        self._unusable: dict[int, Outcome] = {}
        self._blocks: list[Block] = []
        self._size = 0  # of the blocks, in bytes

    def add_all(self, records: Iterable[Any]) -> None:
        """Add decoded records, Problems and Blocks, in order."""
        for record in records:
            if isinstance(record, Block):
                self._end_rows()
                self._blocks.append(record)
                self._size += len(record.text)
                if self._size >= AT_ONCE:
                    self._end_blocks()
            else:
                if self._blocks:
                    self._end_blocks()
                self._add(record)

    def table(
        self, *, origin: str, first_row: int, after: int | None, before: int | None, now: float | None
    ) -> pa.Table:
        """LISTENS rows. See `read_listens` for the arguments."""
        self._end_blocks()
        self._end_rows()
        rows = pa.concat_tables([_SCHEMA.empty_table(), *self._tables]).combine_chunks()
        n = rows.num_rows
        columns = {name: _only_chunk(rows[name]) for name in rows.column_names}
        for name in ("duration", "listened_us"):
            if name not in self._parser.COLUMNS:
                columns[name] = pa.repeat(pa.scalar(0, pa.int32()), n)
        present = int(time.time() if now is None else now)
        columns["reason"], columns["detail"] = _outcomes(columns, after or 0, before or 0, present + DAY)
        columns["origin"] = pa.repeat(pa.scalar(origin), n)
        columns["row"] = numbers(first_row, n)
        columns["kind"] = pa.repeat(pa.scalar(self._parser.KIND), n)
        if "client" not in self._parser.COLUMNS:
            columns["client"] = pa.repeat(pa.scalar(self._parser.CLIENT), n)
        return pa.table([columns[name] for name in LISTENS.names], schema=LISTENS)

    def _add(self, record: Any) -> None:
        try:
            if not isinstance(record, dict):
                raise _unusable(record)
            self._rows.append(self._parser.parse(record))
        except UnusableError as error:
            self._unusable[len(self._rows)] = (error.reason, error.detail)
            self._rows.append((None,) * len(self._parser.COLUMNS))

    def _end_rows(self) -> None:
        n = len(self._rows)
        if not n:
            return
        columns: dict[str, Any] = dict(zip(self._parser.COLUMNS, zip(*self._rows, strict=True), strict=True))
        reasons: list[str | None] = list(columns.get("reason", [None] * n))
        details: list[str | None] = [None] * n
        for row, (reason, detail) in self._unusable.items():
            reasons[row], details[row] = reason.value, detail[:MAX_DETAIL]
        self._add_table({**columns, "reason": reasons, "detail": details}, n)
        self._rows, self._unusable = [], {}

    def _end_blocks(self) -> None:
        blocks, self._blocks, self._size = self._blocks, [], 0
        if blocks:
            self._parse_blocks(blocks)

    def _parse_blocks(self, blocks: list[Block]) -> None:
        columns = self._parse_columns(blocks)
        if columns is not None:
            self._add_table(columns, sum(block.rows for block in blocks))
        elif len(blocks) > 1:
            for block in blocks:
                self._parse_blocks([block])
        else:
            for record in decode_block(blocks[0]):
                self._add(record)
            self._end_rows()

    def _parse_columns(self, blocks: list[Block]) -> dict[str, pa.Array] | None:
        if self._parser.FIELDS is None:
            return None
        records = read_records(blocks, self._parser.FIELDS)
        return None if records is None else self._parser.parse_columns(records)

    def _add_table(self, columns: dict[str, Any], n: int) -> None:
        arrays = [_array(columns[f.name], f.type) if f.name in columns else pa.nulls(n, f.type) for f in _SCHEMA]
        self._tables.append(pa.table(arrays, schema=_SCHEMA))


def _outcomes(columns: dict[str, pa.Array], after: int, before: int, latest: int) -> tuple[pa.Array, pa.Array]:
    """(reasons, details): what is no listen, or outside of the window, has one, too."""
    artist, title, seconds = columns["artist"], columns["title"], columns["listened_at"]
    in_time = pc.and_(pc.greater_equal(seconds, DAY), pc.less_equal(seconds, latest))
    named = pc.and_(pc.greater(pc.binary_length(artist), 0), pc.greater(pc.binary_length(title), 0))
    good = pc.fill_null(pc.and_(in_time, named), False)
    undecided = pc.is_null(columns["reason"])
    bad = pc.indices_nonzero(pc.and_not(undecided, good)).to_pylist()
    inside = pc.greater_equal(seconds, after)
    if before > 0:
        at_most = pc.and_(pc.equal(seconds, before), pc.equal(columns["listened_us"], 0))
        inside = pc.and_(inside, pc.or_(pc.less(seconds, before), at_most))
    outside = pc.indices_nonzero(pc.and_not(pc.and_(undecided, good), pc.fill_null(inside, False))).to_pylist()
    if not bad and not outside:
        return columns["reason"], columns["detail"]
    reasons, details = columns["reason"].to_pylist(), columns["detail"].to_pylist()
    for row in bad:
        reason, details[row] = _describe(artist[row].as_py(), title[row].as_py(), seconds[row].as_py())
        reasons[row] = reason.value
    for row in outside:
        reasons[row] = Reason.OUTSIDE_WINDOW.value
    return pa.array(reasons, pa.string()), pa.array(details, pa.string())


def _unusable(record: Any) -> UnusableError:
    if isinstance(record, Problem):
        return UnusableError(record.reason, record.detail)
    return UnusableError(Reason.BAD_RECORD, f"it is {type_name(record)}, not an object")


def _describe(artist: str, title: str, seconds: int | None) -> Outcome:
    """What is wrong with a listen that has no artist, no title, or a time of long ago or of the future."""
    if not artist:
        return Reason.EMPTY_ARTIST, "the record names no artist"
    if not title:
        return Reason.EMPTY_TITLE, "the record names no track"
    if seconds is None:
        return Reason.BAD_TIME, "the record's time is missing or cannot be read"
    if seconds < DAY:
        return Reason.BAD_TIME, f"{seconds} seconds after 1970 is no time a listen can have"
    if seconds >= 10**11:
        return Reason.FUTURE_TIME, f"{seconds} seconds after 1970 is far away; these may be milliseconds"
    return Reason.FUTURE_TIME, f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def _only_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        return pa.array(_replace_surrogates(values), kind)


def _replace_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list | tuple):
        return [_replace_surrogates(item) for item in value]
    return value
