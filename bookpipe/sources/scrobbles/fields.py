"""Fields of decoded records, read as Go's decoder and Koito's importers read them.

A missing or null field is the zero value. A field that a listen needs and that has the wrong type makes the record
unusable (Koito would give up the file); an optional one is ignored, alone. Keys match in any case when there is none
in the expected one.
"""

import math
import re
from calendar import timegm
from functools import lru_cache
from typing import Any

from bookpipe.model.rejections import Reason

Record = dict[str, Any]

MAX_TEXT = 2_500  # bytes of one name or title: PostgreSQL cannot index longer ones. Other texts have no limit
MAX_NAMES = 500  # artists, MBIDs or aliases of one record
MAX_NAMES_TEXT = 50_000  # characters of all of these

NIL_MBID = "00000000-0000-0000-0000-000000000000"

_INT32 = 1 << 31
_INT64 = 1 << 63
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
# What google/uuid parses: hyphenated, with "urn:uuid:", between any two characters (which it takes for braces without
# a look at them), or 32 hexadecimal digits.
_UUID = re.compile(
    r"(?:urn:uuid:)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|[\x00-\x7f][0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}[\x00-\x7f]|[0-9a-f]{32}",
    re.IGNORECASE | re.ASCII,
)
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)


class UnusableError(Exception):
    """The record cannot become a listen, and why."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def type_name(value: Any) -> str:
    """What JSON calls the type of a decoded value."""
    if isinstance(value, bool):
        return "a boolean"
    names = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def field(record: Record, name: str) -> Any:
    """The value under a key, or under the last key that differs only in case; None when there is none."""
    if name in record:
        return record[name]
    value = None
    for key in record:
        if len(key) == len(name) and key.casefold() == name:
            value = record[key]
    return value


def text(record: Record, name: str) -> str:
    """A text the listen needs; "" when it is missing."""
    value = field(record, name)
    if isinstance(value, str):
        return checked(value, name)
    if value is None:
        return ""
    raise UnusableError(Reason.BAD_RECORD, f"{name} is {type_name(value)}, not a text")


def optional_text(record: Record, name: str) -> str:
    """A text of any length, without NULs, that the listen can do without; "" when it is missing or no text."""
    value = field(record, name)
    return value.replace("\0", "") if isinstance(value, str) else ""


def optional_title(record: Record, name: str) -> str:
    """A title the listen can do without; "" when it is missing or no text. UnusableError when it is too long."""
    value = field(record, name)
    return checked(value, name) if isinstance(value, str) else ""


def mapping(record: Record, name: str) -> Record:
    """An object the listen needs; empty when it is missing."""
    value = field(record, name)
    if isinstance(value, dict):
        return value
    if value is None:
        return {}
    raise UnusableError(Reason.BAD_RECORD, f"{name} is {type_name(value)}, not an object")


def optional_mapping(record: Record, name: str) -> Record:
    value = field(record, name)
    return value if isinstance(value, dict) else {}


def texts(record: Record, name: str) -> list[str]:
    """A list of texts the listen needs; empty when it is missing. Null in it is "", as in Go."""
    value = field(record, name)
    if value is None:
        return []
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):  # nearly always
        return [checked(value[0], name)]
    if not isinstance(value, list):
        raise UnusableError(Reason.BAD_RECORD, f"{name} is {type_name(value)}, not a list")
    for item in value:
        if not (item is None or isinstance(item, str)):
            raise UnusableError(Reason.BAD_RECORD, f"{name} holds {type_name(item)}, not texts only")
    return checked_all([item or "" for item in value], name)


def optional_texts(record: Record, name: str) -> list[str]:
    """A list of texts the listen can do without, unchecked; empty when it is missing or holds anything else. Null in
    it is "", as in Go."""
    value = field(record, name)
    if not isinstance(value, list) or not all(item is None or isinstance(item, str) for item in value):
        return []
    return [item or "" for item in value]


def optional_objects(record: Record, name: str) -> list[Record]:
    """The objects of a list the listen can do without; what else is in it is passed over."""
    value = field(record, name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def checked(value: str, name: str) -> str:
    """The text without NULs, which PostgreSQL cannot store. UnusableError when it is longer than any name."""
    if len(value) > MAX_TEXT // 4 and len(value.encode("utf-8", "surrogatepass")) > MAX_TEXT:
        raise UnusableError(Reason.TEXT_TOO_LONG, f"{name} has {len(value)} characters: {value[:60]}...")
    return value.replace("\0", "") if "\0" in value else value


def checked_all(values: list[str], name: str) -> list[str]:
    """A list of texts as `checked` returns them. UnusableError when there are more than any listen has."""
    check_count(values, name)
    return [checked(value, name) for value in values]


def check_count(values: list[str], name: str) -> None:
    if len(values) > MAX_NAMES or (len(values) > 20 and sum(map(len, values)) > MAX_NAMES_TEXT):
        raise UnusableError(Reason.TEXT_TOO_LONG, f"{name} has {len(values)} entries")


def unix_seconds(value: Any) -> int | None:
    """Seconds since 1970 out of a number, also a fractional one or one in a text; None for anything else."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    elif isinstance(value, float) and math.isfinite(value):
        value = math.floor(value)
    elif not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if -_INT64 <= value < _INT64 else None


def whole_number(value: Any) -> int:
    """A 32-bit number, also out of a fractional one (cut) or one in a text; 0 for anything else."""
    if (isinstance(value, str) and _INTEGER.fullmatch(value)) or (isinstance(value, float) and math.isfinite(value)):
        value = int(value)
    elif not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if -_INT32 <= value < _INT32 else 0


def rfc3339(value: Any) -> tuple[int, int] | None:
    """(seconds since 1970, microseconds) of an RFC 3339 time, rounded down; None when it is none."""
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    seconds = utc_seconds(year, month, day, hour, minute, second)
    if seconds is None:
        return None
    fraction, sign, hours, minutes = match.group(7, 8, 9, 10)
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            return None
        seconds -= (int(hours) * 3600 + int(minutes) * 60) * (1 if sign == "+" else -1)
    return seconds, int(f"{fraction[:6]:0<6}") if fraction else 0


def utc_seconds(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    """Seconds since 1970 of a date and time in UTC; None when the calendar has no such."""
    if hour > 23 or minute > 59 or second > 59 or not 1 <= year <= 9999 or not 1 <= month <= 12:
        return None
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= (29 if month == 2 and leap else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]):
        return None
    return timegm((year, month, day, hour, minute, second))


@lru_cache(maxsize=1 << 16)
def _parse_mbid(value: str) -> str | None:
    if _UUID.fullmatch(value) is None:
        return None
    plain = value[1:-1] if len(value) == 38 else value[-36:]
    digits = plain.replace("-", "").lower()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def parse_mbid(value: Any) -> str | None:
    """An MBID in lower case with hyphens, NIL_MBID among them; None when the value is none."""
    return _parse_mbid(value) if isinstance(value, str) and 32 <= len(value) <= 45 else None


def mbid(record: Record, name: str) -> str | None:
    """An MBID; None when it is missing, malformed or nil."""
    value = field(record, name)
    if not value:  # nearly all of them
        return None
    found = parse_mbid(value)
    return None if found == NIL_MBID else found
