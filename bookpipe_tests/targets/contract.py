"""What every target of books promises, whatever server is behind it.

A target's tests make a subclass of BookTargetContract in a module of their own and give it a fixture `target`.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pytest

from bookpipe.pipelines.books import LoadResult
from bookpipe_tests.factories import hashed_table
from bookpipe_tests.targets.book_rows import book_rows, many_books
from bookpipe_tests.targets.shelf import all_at_once, outcomes

BOOKS = 60


class BookTarget(Protocol):
    """An installation that starts empty."""

    def load(self, table: pa.Table, partition: str = ...) -> LoadResult: ...

    def meaning(self) -> Any:
        """All that people see of the database: no ids, times or order."""

    def tree(self) -> Any:
        """All that is in the target's folders, ids struck out."""

    def placements(self) -> int:
        """Files announced but not yet vouched for by rows."""


def end_state(target: BookTarget) -> tuple[Any, Any]:
    assert target.placements() == 0
    return target.meaning(), target.tree()


class BookTargetContract:
    """Twice, in parts, at once and beside others: the end is that of one clean run."""

    @pytest.fixture
    def another(self) -> BookTarget:
        """A second, independent installation to compare with."""
        raise NotImplementedError

    def test_counts_add_up_and_every_row_has_an_outcome(self, target: BookTarget, library: Path) -> None:
        table = many_books(library, 1, BOOKS)
        result = target.load(table)
        assert result.counts.read == table.num_rows == result.outcomes.num_rows
        assert result.counts.inserted == outcomes(result).count("inserted") > BOOKS
        assert result.counts.existing == outcomes(result).count("existing") > 0

    def test_a_second_run_inserts_nothing(self, target: BookTarget, library: Path) -> None:
        table = many_books(library, 1, BOOKS)
        first = target.load(table)
        before = end_state(target)
        again = target.load(table)
        assert outcomes(again) == ["existing"] * table.num_rows
        assert again.outcomes.column("source_id") == first.outcomes.column("source_id")
        assert end_state(target) == before

    @pytest.mark.parametrize("cuts", [(1,), (17, 18, 19), (30,), tuple(range(5, 55, 5))])
    def test_any_split_of_a_batch_ends_the_same(
        self, target: BookTarget, another: BookTarget, library: Path, cuts: Sequence[int]
    ) -> None:
        table = many_books(library, 1, BOOKS)
        target.load(table)
        firsts = [0, *(table.column("item").to_pylist().index(book) for book in cuts), table.num_rows]
        for n, (first, last) in enumerate(pairwise(firsts)):
            another.load(table.slice(first, last - first), f"books-{n}")
        assert end_state(another) == end_state(target)

    def test_the_same_partition_twice_at_once_is_loaded_once(
        self, target: BookTarget, another: BookTarget, library: Path
    ) -> None:
        table = many_books(library, 1, BOOKS)
        another.load(table)
        for _ in range(2):
            results = all_at_once(*[lambda: target.load(table, "books-1")] * 3)
            assert [r for r in results if isinstance(r, BaseException)] == []
        assert end_state(target) == end_state(another)

    def test_partitions_side_by_side_share_authors_series_and_files(
        self, target: BookTarget, another: BookTarget, library: Path
    ) -> None:
        tables = [many_books(library, first, BOOKS) for first in (1, 1001, 2001, 3001)]
        for n, table in enumerate(tables):
            another.load(table, f"books-{n}")
        for _ in range(2):
            results = all_at_once(*(lambda t=t, n=n: target.load(t, f"books-{n}") for n, t in enumerate(tables)))
            assert [r for r in results if isinstance(r, BaseException)] == []
        mine, theirs = target.meaning(), another.meaning()
        # Which of two books of the same name gets the plain folder, and which the shared bytes, is a matter of order.
        for kind in mine.keys() - {"ebooks"}:
            assert mine[kind] == theirs[kind], kind
        assert len(mine["ebooks"]) == len(theirs["ebooks"])

    def test_what_two_partitions_both_have_is_there_once(self, target: BookTarget, library: Path) -> None:
        """All books of the one are also in the other, under other numbers and with a file more."""
        ours = [book_rows(library / "1", n, f"B{n}", files={"epub": b"%d" % n}) for n in range(1, 40)]
        more = [
            book_rows(library / "2", n, f"B{n}", files={"epub": b"%d" % n, "pdf": b"p%d" % n}, origin="calibre:2")
            for n in range(1, 40)
        ]
        tables = [hashed_table([row for rows in books for row in rows]) for books in (ours, more)]
        results = all_at_once(lambda: target.load(tables[0], "a"), lambda: target.load(tables[1], "b"))
        assert sum(result.counts.inserted for result in results) == 2 * 39
        assert sum(result.counts.existing for result in results) == 39
        assert sum(result.new_authors for result in results) == 1
