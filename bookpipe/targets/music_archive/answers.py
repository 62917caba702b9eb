"""What an archive answers, and what it means when it answers nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from bookpipe.model.errors import ConfigError, TerminalError, TransientError

LONGEST_TEXT = 500  # characters of the archive's own words
_TAGS = re.compile(r"<style.*?</style>|<script.*?</script>|<[^>]*>", re.DOTALL | re.IGNORECASE)


class TroubleError(TransientError):
    """The archive is in trouble: a 5xx, a 429, or no answer. `retry_after`: seconds that it asked to wait. `outage`:
    other requests will fare no better for a while."""

    def __init__(self, text: str, *, retry_after: float | None = None, outage: bool = False) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        self.outage = outage


class UnansweredError(TroubleError):
    """The connection was lost, or nothing came for too long.

    `delivered`: the whole request was sent, so that the archive may have done what it says, or may still do it.
    """

    def __init__(self, text: str, *, delivered: bool) -> None:
        super().__init__(text)
        self.delivered = delivered


class RedirectedError(TerminalError, ConfigError):
    """A redirect where there should be an answer. Following one would turn errors into login pages that say 200."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. `data` is its JSON object, or empty; never shown, as it may hold tokens and signed addresses."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # names in lower case
    data: Mapping[str, Any] = field(repr=False)
    text: str = field(repr=False)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_outage(self) -> bool:
        """What stands in front of the archive answered for it, or somebody asked for a pause."""
        return self.status in (429, 502, 503, 504)

    @property
    def message(self) -> str:
        """The archive's own words, for people."""
        errors = self.data.get("errors")
        parts = [self.data.get("message") or self.data.get("error")]
        parts += errors if isinstance(errors, list) else []
        words = ": ".join(str(part) for part in parts if part)
        if not words and not self.data:
            words = " ".join(_TAGS.sub(" ", self.text).split())
        return words[:LONGEST_TEXT]

    @property
    def is_applications(self) -> bool:
        """The archive itself answered, and not something in front of it: whatever it did is done."""
        return "success" in self.data or "status" in self.data

    @property
    def time(self) -> datetime | None:
        """What the archive's clock said."""
        return _http_date(self.headers.get("date", ""))

    @property
    def retry_after(self) -> float | None:
        """Seconds that the archive asks to wait, by its own clock where it names a time."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            return float(value)
        until = _http_date(value)
        if until is None:
            return None
        return max(0.0, (until - (self.time or datetime.now(timezone.utc))).total_seconds())

    def describe(self) -> str:
        return f"{self.status} {self.message}".strip()


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
