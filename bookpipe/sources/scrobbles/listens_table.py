"""Parsed records as LISTENS rows, with the checks that all formats share."""

import re
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa

from bookpipe.model.listens import LISTENS
from bookpipe.model.rejections import Reason
from bookpipe.sources.scrobbles.fields import Record, UnusableError, type_name
from bookpipe.sources.scrobbles.json_stream import Problem

DAY = 86_400  # seconds
MAX_DETAIL = 300  # characters

_SURROGATE = re.compile("[\ud800-\udfff]")

Outcome = tuple[Reason, str]


class ListenRows:
    """Collects the records of one range, parsed by `parse` into `columns`."""

    def __init__(self, columns: tuple[str, ...], parse: Callable[[Record], tuple[Any, ...]]) -> None:
        self._columns = columns
        self._parse = parse
        self._rows: list[tuple[Any, ...]] = []
        self._unusable: dict[int, Outcome] = {}

    def add_all(self, records: Iterable[Any]) -> None:
        """Add decoded records and Problems, in order."""
        rows, parse = self._rows, self._parse
        for record in records:
            try:
                if not isinstance(record, dict):
                    raise _unusable(record)
                rows.append(parse(record))
            except UnusableError as error:
                self._unusable[len(rows)] = (error.reason, error.detail)
                rows.append((None,) * len(self._columns))

    def table(
        self,
        *,
        origin: str,
        first_row: int,
        kind: str,
        client: str,
        after: int | None,
        before: int | None,
        now: float | None,
    ) -> pa.Table:
        """LISTENS rows. See `read_listens` for the arguments."""
        n = len(self._rows)
        columns: dict[str, Any] = dict(zip(self._columns, zip(*self._rows, strict=True), strict=True)) if n else {}
        present = int(time.time() if now is None else now)
        columns["reason"], columns["detail"] = self._outcomes(columns, after or 0, before or 0, present + DAY)
        columns["origin"] = pa.repeat(pa.scalar(origin), n)
        columns["row"] = pa.array(range(first_row, first_row + n), pa.int64())
        columns["kind"] = pa.repeat(pa.scalar(kind), n)
        columns.setdefault("client", pa.repeat(pa.scalar(client), n))
        columns.setdefault("duration", pa.repeat(pa.scalar(0, pa.int32()), n))
        columns.setdefault("listened_us", pa.repeat(pa.scalar(0, pa.int32()), n))
        arrays = [_array(columns[f.name], f.type) if f.name in columns else pa.nulls(n, f.type) for f in LISTENS]
        return pa.table(arrays, schema=LISTENS)

    def _outcomes(
        self, columns: dict[str, Any], after: int, before: int, latest: int
    ) -> tuple[list[str | None], list[str | None]]:
        reasons: list[str | None] = list(columns.get("reason", [None] * len(self._rows)))
        details: list[str | None] = [None] * len(self._rows)
        for n, (reason, detail) in self._unusable.items():
            reasons[n], details[n] = reason.value, detail[:MAX_DETAIL]
        checked = zip(*(columns.get(name, ()) for name in ("artist", "title", "listened_at")), strict=True)
        for n, (artist, title, seconds) in enumerate(checked):
            if reasons[n] is not None:
                continue
            if not (artist and title and seconds is not None and DAY <= seconds <= latest):
                reason, details[n] = _describe(artist, title, seconds)
                reasons[n] = reason.value
            elif 0 < seconds < after or seconds > before > 0:
                reasons[n] = Reason.OUTSIDE_WINDOW.value
        return reasons, details


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
