"""Plans of any batch for any target: complete, sound, and nothing is left to plan once they are written."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bookpipe.model.book_plans import SEPARATOR, BookPlan, Known, author_key, source_key
from bookpipe.model.counts import LoadCounts
from bookpipe.model.rejections import Reason
from bookpipe.resolve.books import Batch, BookOptions, plan_books
from bookpipe_tests.factories import applied, first_known, hashed_row, hashed_table, record_row

kinds = st.sampled_from(["epub", "pdf", "mobi", "lrf", "original_epub"])
contents = st.integers(0, 12).map(lambda n: f"{n:040x}")
tables = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {
                "origin": st.sampled_from(["calibre:a", "calibre:b"]),
                "title": st.sampled_from([None, "Dune", "dune", "Dune\r\n", "Зима", "x" * 300]),
                "authors": st.none() | st.lists(
                    st.sampled_from(["Frank Herbert", "Herbert, Frank", "frank herbert", "Plato", "", ",", "Иван П."]),
                    max_size=5,
                ),
                "series": st.sampled_from([None, "", "Dune", "DUNE", "Foundation"]),
                "series_index": st.sampled_from([None, -1.0, 0.0, 1.5, 1e300]),
                "languages": st.none() | st.lists(st.sampled_from(["eng", "deu", "ger", "", "??", "rus"]), max_size=2),
                "tags": st.none() | st.lists(st.sampled_from(["Fiction", "sci-fi", "Sand", "SAND", ""]), max_size=4),
                "rating": st.none() | st.integers(0, 10),
            }
        ),
        st.lists(
            st.tuples(kinds, contents, st.none() | kinds, st.none() | st.sampled_from(list(Reason))),
            max_size=4,
            unique_by=lambda file: file[0],
        ),
        st.sampled_from([None, Reason.NO_FORMATS]),
    ),
    max_size=12,
)  # fmt: skip
Drawn = list[tuple[dict[str, Any], list[tuple[str, str, str | None, Reason | None]], Reason | None]]
options_drawn = st.builds(BookOptions, st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["und", "ces"]))


def rows_of(books: Drawn) -> list[dict[str, Any]]:
    rows = []
    for item, (fields, files, no_files) in enumerate(books):
        rows += [
            hashed_row(item=item, **fields, given_format=kind, reason=reason and reason.value,
                       **({} if reason else {"sha1": sha1, "format": content or kind}))
            for kind, sha1, content, reason in files
        ]  # fmt: skip
        if not files:
            rows.append(record_row(item=item, **fields, reason=no_files and no_files.value))
    return rows


def plan_of(rows: list[dict[str, Any]], known: Known, options: BookOptions | None = None) -> BookPlan:
    return plan_books(Batch(hashed_table(rows)), known, options or BookOptions())


def key_of(row: dict[str, Any]) -> str:
    return source_key(row["sha1"], row["size"])


@st.composite
def targets(draw: st.DrawFn) -> Known:
    """Targets with books of the application and nothing of ours."""
    known = first_known()
    for n, sha1 in enumerate(draw(st.lists(contents, max_size=5, unique=True))):
        key, ebook = source_key(sha1, 1000), draw(st.integers(70, 72))
        known.sources[key] = 700 + n
        known.source_ebooks[key] = ebook
        known.base_dirs[f"{ebook}{SEPARATOR}folder"] = ebook
        known.book_titles[f"{ebook}{SEPARATOR}{'Dune' if ebook < 72 else 'Messiah'}"] = ebook
        known.book_authors[f"{ebook}{SEPARATOR}{'Herbert' if ebook < 71 else 'Plato'}"] = ebook
    if draw(st.booleans()):
        known.authors[author_key("Herbert", "Frank")] = 30
        known.series["dune"] = 40
    return known


@settings(max_examples=300, deadline=None)
@given(tables, targets(), options_drawn)
def test_every_plan_is_sound_and_complete(books: Drawn, known: Known, options: BookOptions) -> None:
    rows = rows_of(books)
    plan = plan_of(rows, known, options)

    # Counts add up, and a row is rejected if and only if there is a reason.
    counts = LoadCounts.of(plan.outcomes, plan.reasons)
    assert counts.read == len(rows) == len(plan.outcomes) == len(plan.reasons) == len(plan.details)
    for row, outcome, reason in zip(rows, plan.outcomes, plan.reasons, strict=True):
        assert outcome in ("inserted", "existing", "rejected")
        assert (outcome == "rejected") == (reason is not None)
        assert row["reason"] in (None, reason)

    # One ebook for each book with something new, one source for each new content.
    inserted = [row for row, outcome in zip(rows, plan.outcomes, strict=True) if outcome == "inserted"]
    assert Counter(source.row for source in plan.sources) == Counter(
        n for n, outcome in enumerate(plan.outcomes) if outcome == "inserted" and rows[n]["sha1"]
    )
    made = {(e.origin, e.item) for e in plan.ebooks}
    assert len(made) == len(plan.ebooks)
    assert made <= {(row["origin"], row["item"]) for row in inserted}
    for source in plan.sources:
        assert source_key(source.sha1, source.size) not in known.sources
        if source.ebook < 0:
            ebook = plan.ebooks[-source.ebook - 1]
            assert (ebook.origin, ebook.item) == (source.origin, source.item)
        else:
            assert source.ebook in known.source_ebooks.values()
    # What is existing is in the target, or comes with this very batch.
    after = applied(plan, known)
    for row, outcome, i in zip(rows, plan.outcomes, plan.existing_ids, strict=True):
        assert outcome == "existing" or i is None
        if outcome == "existing" and row["sha1"]:
            assert after.sources[key_of(row)] == i or (i is None and key_of(row) not in known.sources)

    # Every name that is made is used, and only made where that is allowed.
    assert set(range(-len(plan.authors), 0)) == {a for e in plan.ebooks for a in e.authors if a < 0}
    assert set(range(-len(plan.series), 0)) == {e.series for e in plan.ebooks if e.series is not None and e.series < 0}
    assert set(range(-len(plan.languages), 0)) == {e.language for e in plan.ebooks if e.language < 0}
    assert set(range(-len(plan.genres), 0)) == {g for e in plan.ebooks for g in e.genres if g < 0}
    assert set(range(-len(plan.formats), 0)) == {s.format for s in plan.sources if s.format < 0}
    assert options.create_languages or not plan.languages
    assert options.create_formats or not plan.formats
    assert options.create_genres or not plan.genres
    for book in plan.ebooks:
        assert len(set(book.authors)) == len(book.authors)
        assert len(set(book.genres)) == len(book.genres)


def outcomes_again(rows: list[dict[str, Any]], plan: BookPlan, after: Known) -> list[str]:
    """What the rows of a plan are once it is written: what is there is existing, also where a row was refused
    and another one brought the same bytes."""
    return [
        "existing" if outcome == "inserted" or (row["sha1"] and key_of(row) in after.sources) else outcome
        for row, outcome in zip(rows, plan.outcomes, strict=True)
    ]


@settings(max_examples=300, deadline=None)
@given(tables, targets(), options_drawn)
def test_a_plan_that_is_written_leaves_nothing_to_plan(books: Drawn, known: Known, options: BookOptions) -> None:
    rows = rows_of(books)
    first = plan_of(rows, known, options)
    after = applied(first, known)
    second = plan_of(rows, after, options)
    assert second.empty
    assert not (second.authors or second.series or second.languages or second.genres or second.formats)
    assert not any(kept.changed for kept in second.kept)
    assert second.outcomes == outcomes_again(rows, first, after)
    assert {kept.source for kept in second.kept} == set(after.files.values())


@settings(max_examples=300, deadline=None)
@given(tables, targets(), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 14)), max_size=6), st.randoms())
def test_a_collection_that_changed_is_planned_to_an_end(
    books: Drawn, known: Known, rewrites: list[tuple[int, int]], random: Any
) -> None:
    rows = rows_of(books)
    after = applied(plan_of(rows[: random.randint(0, len(rows))], known), known)
    for n, content in rewrites:
        if rows and rows[n % len(rows)]["sha1"]:
            rows[n % len(rows)] |= {"sha1": f"{content:040x}"}
    plan = plan_of(rows, after)
    assert LoadCounts.of(plan.outcomes, plan.reasons).read == len(rows)
    end = applied(plan, after)
    again = plan_of(rows, end)
    assert again.empty
    assert again.outcomes == outcomes_again(rows, plan, end)


@settings(deadline=None)
@given(tables)
def test_the_plan_does_not_depend_on_how_known_was_handed_over(books: Drawn) -> None:
    rows = rows_of(books)
    known = applied(plan_of(rows, first_known()), first_known())
    assert plan_of(rows, Known.from_arrow(known.to_arrow())) == plan_of(rows, known)
