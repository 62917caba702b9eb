"""Counts that add up: every row that was read ends as inserted, existing or rejected."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LoadCounts:
    """Rows of one or many partitions by outcome. Addable; `read` is always the sum of the outcomes."""

    inserted: int = 0
    existing: int = 0
    rejections: Mapping[str, int] = field(default_factory=dict)

    @property
    def rejected(self) -> int:
        return sum(self.rejections.values())

    @property
    def read(self) -> int:
        return self.inserted + self.existing + self.rejected

    @classmethod
    def of(cls, outcomes: Iterable[str], reasons: Iterable[str | None]) -> "LoadCounts":
        """The counts of rows by their outcomes; those that are rejected by their reasons, which the others lack."""
        ends = Counter(outcomes)
        return cls(
            ends["inserted"], ends["existing"], dict(Counter(reason for reason in reasons if reason is not None))
        )

    def __add__(self, other: "LoadCounts") -> "LoadCounts":
        rejections = Counter(self.rejections)
        rejections.update(other.rejections)
        return LoadCounts(self.inserted + other.inserted, self.existing + other.existing, dict(rejections))
