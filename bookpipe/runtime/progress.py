"""Progress without coupling: library code reports, somebody may listen."""

from typing import Protocol


class Progress(Protocol):
    """Hears how far a step is. Must be cheap and must not raise."""

    def advance(self, step: str, done: int, total: int | None) -> None:
        """`done` of `total` rows of `step` (None: the total is not known)."""


class NoProgress:
    """Nobody listens."""

    def advance(self, step: str, done: int, total: int | None) -> None:
        """Hear nothing."""
