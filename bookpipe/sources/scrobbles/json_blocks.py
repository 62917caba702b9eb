"""Blocks: many records of a JSON document at once, told apart without decoding them.

A block is proven to be what it is taken for by one pass of a regular expression over its bytes: each record is an
object with balanced brackets outside of strings, and nothing but a separator is between two of them. So a block has
as many records as there would be if they were read one by one, also when some of them are no JSON. Whatever cannot be
proven is no block, and is read one by one.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MAX_LENGTH = 4_000  # bytes of a record in a regular block: no number has more digits than Python converts

_DEPTH = 6  # of brackets; the formats' own fields need 5
_MARK = b"\xff"  # in no UTF-8

_HEAD = re.compile(r'\{[ \t\r\n]*"[^"\\]{1,40}"')  # of a record, with its first key
_BETWEEN = re.compile(r"\}([ \t\r\n]*,[ \t\r\n]*)\Z")
_FEW = 100  # characters at most between two records

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


def cut_block(text: str, at: int, end: int, quota: Quota, decode: Decode) -> tuple[Block, int] | None:
    """The block that begins with the record at `at` and ends before `end`, and where it ends; None for none.

    Records are looked for by the first key, which they share nearly always.
    """
    found = _HEAD.match(text, at)
    if found is None:
        return None
    head = found[0]
    # The next array of records, when there is one: pages.
    opening = _opening(head).search(text, at + 1, end)
    last = text.rfind(head, at + 1, opening.start() if opening else end)
    found = _BETWEEN.search(text, max(at, last - _FEW), max(at, last))
    if found is None:
        return None
    try:
        body = text[at : _behind(text, last, end, decode) or found.start(1)].encode()
    except UnicodeEncodeError:
        return None
    separator = found[1].encode()
    if separator.count(b"\n") == 1 and "\n" not in head:
        before, mark = separator.split(b"\n")[0], b"\n"
    else:
        before, mark = b"", _MARK
        body = body.replace(separator + head.encode(), mark + head.encode())
    records = body.split(mark)
    if len(records) > quota.rows:
        records = records[: quota.rows]
        body = mark.join(records)
        body = body[: len(body) - len(before)]
    between = separator if mark == b"\n" else mark
    regular = is_regular(body, between, records)
    if not regular and not _matches(body, between, strict=False):
        return None
    if mark == _MARK:
        body = body.replace(mark, separator)
    return Block(body, len(records), regular), at + (len(body) if body.isascii() else len(body.decode()))


def _behind(text: str, at: int, end: int, decode: Decode) -> int | None:
    """The index behind the record at `at` when it is the last one of an array or another one comes."""
    try:
        _, behind = decode(text, at)
    except (ValueError, RecursionError):
        return None
    return behind if behind < end and text[behind:end].lstrip(" \t\r\n")[:1] in (",", "]") else None


def is_regular(body: bytes, between: bytes, records: list[bytes]) -> bool:
    """Whether these are records with plain keys only. See Block."""
    return max(map(len, records)) <= MAX_LENGTH and _matches(body, between, strict=True)


def _matches(body: bytes, between: bytes, *, strict: bool) -> bool:
    found: bool = pc.match_substring_regex(pa.array([body], pa.binary()), _pattern(between, strict))[0].as_py()
    return found


@lru_cache(maxsize=64)
def _pattern(between: bytes, strict: bool) -> str:
    """Records with `between` between each two, in the syntax of RE2, which never looks at a byte twice."""
    mark = r"\n" if b"\n" in between else r"\xff"
    text = rf'"(?:[^"\\{mark}]|\\[^{mark}])*"'
    if strict:
        blank = " \\t\\r" + ("" if mark == r"\n" else r"\n")
        inner = rf'[{blank},0-9a-zE.+-]|"[^"\\A-Z\x80-\xff{mark}]*"[{blank}]*:|{text}'
    else:
        inner = rf'[^"{{}}\[\]\\{mark}]|{text}'
    value = rf"[{{\[](?:{inner})*[}}\]]"
    for _ in range(_DEPTH - 2):
        value = rf"[{{\[](?:{inner}|{value})*[}}\]]"
    record = rf"\{{(?:{inner}|{value})*\}}"
    escaped = "".join(f"\\x{byte:02x}" for byte in between)
    return f"^{record}(?:{escaped}{record})*$"


@lru_cache(maxsize=64)
def _opening(head: str) -> re.Pattern[str]:
    return re.compile(r"\[[ \t\r\n]*" + re.escape(head))
