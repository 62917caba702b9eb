"""What an examination found: one line of `bookpipe doctor`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bookpipe.model.errors import BookpipeError


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    `ok` is None when it could not be looked at: not configured, or something before it failed. A `remedy` says what
    to do; with ok=True it is advice, and things work without it.
    """

    subject: str
    ok: bool | None
    detail: str
    remedy: str = ""


def failure(subject: str, error: BookpipeError) -> Finding:
    """A failed finding that says what an error says: its first sentence is the cause, the rest what to do."""
    cause, *rest = re.split(r"(?<=\.) (?=[A-Z])", str(error), maxsplit=1)
    return Finding(subject, False, cause, "".join(rest))


def skipped(subjects: Iterable[str], cause: str) -> list[Finding]:
    """Findings of what could not be looked at. `cause` failed and has to be mended first."""
    return [Finding(subject, None, f"skipped: {cause} comes first") for subject in subjects]
