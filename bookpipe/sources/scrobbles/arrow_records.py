"""Records of regular blocks as Arrow columns, without an object of Python for each value.

Arrow's JSON reader is as strict as Python's, and refuses what a format's type does not say: other types, numbers out of
range, repeated keys, lone surrogates. Where it reads on and Python's does not (numbers of thousands of digits, deep
nesting, "Inf"), and where keys would match in another case only, a block is not regular. Functions return None for
what they do not read: then records are read one by one.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from bookpipe.sources.scrobbles.fields import MAX_TEXT, NIL_MBID
from bookpipe.sources.scrobbles.json_blocks import Block, is_regular

TEXT = pa.string()
TEXTS = pa.list_(pa.string())
INTEGER = pa.int64()

MAX_LIST = 20  # entries of a list

_MBID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_TIME = "^[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"
_INT32 = 1 << 31


def struct(**fields: pa.DataType) -> pa.StructType:
    return pa.struct(list(fields.items()))


def read_records(blocks: Sequence[Block], kind: pa.StructType) -> pa.StructArray | None:
    """The fields that `kind` has of all records of these blocks, null where they are missing."""
    lines = [block.text for block in blocks if block.lines]
    if lines:
        text = b"\n".join(lines)
        if len(lines) < len(blocks) or not is_regular(text, b"\n"):
            return None
        text = text.replace(b"\n", b",")
    elif all(block.regular for block in blocks):
        text = b",".join(block.text for block in blocks)
    else:
        return None
    if not (text.isascii() or _is_utf8(text)):
        return None
    document = b'{"records":[' + text + b"]}"
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(document),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(document) + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=pa.schema([("records", pa.list_(kind))]), unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowException:
        return None
    records = table["records"].combine_chunks().flatten()
    return records if len(records) == sum(block.rows for block in blocks) and not records.null_count else None


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def are_texts(*columns: pa.StringArray) -> bool:
    """Whether none has a NUL or is longer than any name."""
    for column in columns:
        data = column.buffers()[2]
        if data is not None and b"\0" in data.to_pybytes():
            return False
        if (pc.max(pc.binary_length(column)).as_py() or 0) > MAX_TEXT:
            return False
    return True


def are_short(lists: pa.ListArray) -> bool:
    """Whether all lists have texts only, and no more than a careful reader would look at twice."""
    return lists.values.null_count == 0 and (pc.max(pc.list_value_length(lists)).as_py() or 0) <= MAX_LIST


def texts(column: pa.StringArray) -> pa.StringArray:
    """The texts, "" for null."""
    return pc.fill_null(column, "") if column.null_count else column


def lists(column: pa.ListArray, values: pa.Array | None = None) -> pa.ListArray:
    """The lists, empty for null; of other values if given, one for each of its own."""
    return pa.ListArray.from_arrays(column.offsets, column.values if values is None else values)


def lists_of_one(column: pa.Array) -> pa.ListArray:
    """A list of each value, empty for null."""
    ends = pc.cumulative_sum(pc.cast(pc.is_valid(column), pa.int32()))
    return pa.ListArray.from_arrays(pa.concat_arrays([pa.array([0], pa.int32()), ends]), pc.drop_null(column))


def mbids(column: pa.StringArray) -> pa.StringArray | None:
    """The MBIDs, null for empty texts; None when there are odd ones or the nil one."""
    column = pc.if_else(pc.equal(pc.binary_length(column), 0), None, column)
    if pc.all(pc.match_substring_regex(column, _MBID)).as_py() is False:
        return None
    return None if pc.any(pc.equal(column, NIL_MBID)).as_py() else column


def seconds_in_utc(column: pa.StringArray) -> pa.Int64Array | None:
    """Seconds since 1970 of times like 2020-02-29T23:59:59Z; None when one is something else."""
    if column.null_count or not pc.all(pc.match_substring_regex(column, _TIME)).as_py():
        return None
    try:
        return pc.cast(pc.cast(column, pa.timestamp("s", "UTC")), pa.int64())
    except pa.ArrowInvalid:
        return None


def whole_numbers(column: pa.Int64Array) -> pa.Int32Array:
    """32-bit numbers, 0 for null and for larger ones."""
    column = pc.fill_null(column, 0)
    fits = pc.and_(pc.less(column, _INT32), pc.greater_equal(column, -_INT32))
    return pc.cast(pc.if_else(fits, column, 0), pa.int32())


def numbers(first: int, n: int) -> pa.Int64Array:
    """`n` whole numbers from `first` on."""
    return pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), n), start=first - 1)


def replaced(column: pa.Array, mask: pa.BooleanArray, values: list[Any]) -> pa.Array:
    """The column with other values in the rows that the mask selects."""
    if not values:
        return column
    nth = pc.cumulative_sum(pc.cast(mask, pa.int64()), start=len(column) - 1)
    places = pc.if_else(mask, nth, numbers(0, len(column)))
    return pa.concat_arrays([column, pa.array(values, column.type)]).take(places)
