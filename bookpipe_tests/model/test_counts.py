"""Counts add up: read is always inserted + existing + rejected."""

from functools import reduce
from operator import add

from hypothesis import given
from hypothesis import strategies as st

from bookpipe.model.counts import LoadCounts

counts = st.builds(
    LoadCounts,
    inserted=st.integers(0, 10**9),
    existing=st.integers(0, 10**9),
    rejections=st.dictionaries(st.sampled_from(["missing_file", "bad_path", "no_formats"]), st.integers(0, 10**6)),
)


def test_nothing_loaded_is_nothing_read() -> None:
    assert LoadCounts().read == 0


def test_rejections_are_counted_by_reason() -> None:
    total = LoadCounts(1, 2, {"bad_path": 3}) + LoadCounts(10, 20, {"bad_path": 30, "no_formats": 5})
    assert total == LoadCounts(11, 22, {"bad_path": 33, "no_formats": 5})
    assert (total.rejected, total.read) == (38, 71)


def test_rows_are_counted_by_outcome_and_by_reason() -> None:
    outcomes = ["inserted", "rejected", "existing", "rejected", "inserted", "rejected"]
    reasons = [None, "bad_path", None, "no_formats", None, "bad_path"]
    assert LoadCounts.of(outcomes, reasons) == LoadCounts(2, 1, {"bad_path": 2, "no_formats": 1})
    assert LoadCounts.of([], []) == LoadCounts()


@given(counts)
def test_read_is_the_sum_of_the_outcomes(one: LoadCounts) -> None:
    assert one.read == one.inserted + one.existing + sum(one.rejections.values())


@given(counts)
def test_adding_nothing_changes_nothing(one: LoadCounts) -> None:
    assert one + LoadCounts() == LoadCounts() + one == one


@given(st.lists(counts, min_size=1))
def test_the_sum_of_partitions_does_not_depend_on_their_order(several: list[LoadCounts]) -> None:
    total = reduce(add, several)
    assert total == reduce(add, reversed(several))
    assert total.read == sum(one.read for one in several)


@given(counts, counts)
def test_adding_leaves_the_terms_alone(one: LoadCounts, other: LoadCounts) -> None:
    before = dict(one.rejections), dict(other.rejections)
    _ = one + other
    assert (dict(one.rejections), dict(other.rejections)) == before
