"""Counts that add up: every row that was read ends as inserted, existing or rejected."""

from collections.abc import Mapping
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

    def __add__(self, other: "LoadCounts") -> "LoadCounts":
        reasons = dict(self.rejections)
        for reason, n in other.rejections.items():
            reasons[reason] = reasons.get(reason, 0) + n
        return LoadCounts(self.inserted + other.inserted, self.existing + other.existing, reasons)
