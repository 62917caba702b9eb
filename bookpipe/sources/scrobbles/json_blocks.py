"""Blocks: many records of a JSON document at once, told apart without decoding them.

A block is proven to be what it is taken for by one pass of a regular expression over its bytes: each record is an
object with balanced brackets outside of strings, and nothing but a separator is between two of them. So a block has
as many records as there would be if they were read one by one, also when some of them are no JSON. Whatever cannot be
proven is no block, and is read one by one.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# Bytes of which each such part of a regular block has an end of a record: so no number has more digits than Python
# converts (4,300).
_PART = 2_100

_DEPTH = 5  # of brackets, which the formats' own fields need
_MARK = b"\xff"  # in no UTF-8

_HEAD = re.compile(rb'\{[ \t\r\n]*"[^"\\]{1,40}"')  # of a record, with its first key
_BETWEEN = re.compile(rb"\}([ \t\r\n]*,[ \t\r\n]*)\Z")
_FEW = 100  # bytes at most between two records
_LAST = 8 << 10  # bytes in which the last record of an array is looked for

Decode = Callable[[str, int], tuple[Any, int]]


@dataclass
class Quota:
    """How many records are wanted next, at most: a block has no more."""

    rows: int


@dataclass(frozen=True, slots=True)
class Block:
    """Records in a row, `rows` of them: what is inside of a JSON array or, for `lines`, JSON lines.

    `regular`: their keys have no capitals, no escapes and nothing but ASCII, so that they match in no other case, and
    outside of strings there is only what JSON has. None is unknown; of lines it is `rows` that is certain.
    """

    text: bytes
    rows: int
    regular: bool | None = None
    lines: bool = False


def cut_block(data: bytes, at: int, end: int, quota: Quota, decode: Decode, *, pages: bool) -> Block | None:
    """The block that begins with the record at `at` and ends before `end`; None for none.

    Records are looked for by the first key, which they share nearly always. With `pages`, other arrays of records may
    come behind the one at hand. `decode` decodes a value inside of a text.
    """
    found = _HEAD.match(data, at)
    if found is None:
        return None
    head = found[0]
    opening = _opening(head).search(data, at + 1, end) if pages else None
    last = data.rfind(head, at + 1, opening.start() if opening else end)
    found = _BETWEEN.search(data, max(at, last - _FEW), max(at, last))
    if found is None:
        return None
    separator = found[1]
    body = data[at : _behind(data, last, end, decode) or found.start(1)]
    if separator.count(b"\n") == 1 and b"\n" not in head:
        mark, between = b"\n", separator
    elif _MARK in body:
        return None
    else:
        mark = between = _MARK
        body = body.replace(separator + head, mark + head)
    rows = body.count(mark) + 1
    if rows > quota.rows:
        rows = quota.rows
        rest = body.split(mark, rows)[-1]
        body = body[: len(body) - len(rest) - len(mark) - between.index(mark)]
    regular = is_regular(body, between)
    if not regular and not _matches(body, between, strict=False):
        return None
    return Block(body.replace(mark, separator) if mark == _MARK else body, rows, regular)


def _behind(data: bytes, at: int, end: int, decode: Decode) -> int | None:
    """The index behind the record at `at` when it is the last one of an array or another one comes."""
    text = data[at : min(end, at + _LAST)].decode("utf-8", "surrogateescape")
    try:
        _, behind = decode(text, 0)
    except (ValueError, RecursionError):
        return None
    if text[behind : behind + _FEW].lstrip(" \t\r\n")[:1] not in (",", "]"):
        return None
    return at + len(text[:behind].encode("utf-8", "surrogateescape"))


def is_regular(body: bytes, between: bytes) -> bool:
    """Whether these are records with `between` between each two, as Block has it."""
    mark = b"\n" if b"\n" in between else _MARK
    parts = range(_PART, len(body), _PART)
    ends = map(body.find, repeat(mark), range(0, len(body), _PART), parts)
    return -1 not in ends and _matches(body, between, strict=True)


def _matches(body: bytes, between: bytes, *, strict: bool) -> bool:
    data = body + between
    buffers = [None, pa.py_buffer(struct.pack("=ii", 0, len(data))), pa.py_buffer(data)]  # without a copy
    text = pa.Array.from_buffers(pa.binary(), 1, buffers)
    found: bool = pc.match_substring_regex(text, _pattern(between, strict))[0].as_py()
    return found


@lru_cache(maxsize=64)
def _pattern(between: bytes, strict: bool) -> str:
    """Records with `between` behind each, in the syntax of RE2, which looks at each byte once."""
    mark = r"\n" if b"\n" in between else r"\xff"
    text = rf'"(?:[^"\\{mark}]|\\[^{mark}])*"'
    if strict:
        blank = " \\t\\r" + ("" if mark == r"\n" else r"\n")
        inner = rf'[{blank},0-9a-zE.+-]|"[^"\\A-Z\x80-\xff{mark}]*"[{blank}]*:|{text}'
    else:
        inner = rf'[^"{{}}\[\]\\{mark}]|{text}'
    value = inner
    for _ in range(_DEPTH - 1):
        value = rf"{inner}|[{{\[](?:{value})*[}}\]]"
    escaped = "".join(f"\\x{byte:02x}" for byte in between)
    return rf"^(?:\{{(?:{value})*\}}{escaped})*$"


@lru_cache(maxsize=64)
def _opening(head: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\[[ \t\r\n]*" + re.escape(head))
