"""Look up, resolve, place, insert: what comes out of the steps together, and how every row of a batch ends."""

import os
from hashlib import sha1
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bookpipe.model.rejections import Reason
from bookpipe.model.schemas import KNOWN, OUTCOMES
from bookpipe.pipelines.books import bulk_insert, find_known, look_up, plan_dry
from bookpipe.pipelines.seconds import Phases
from bookpipe.resolve.books import Batch, BookOptions
from bookpipe_tests.factories import hashed_row, hashed_table, record_row
from bookpipe_tests.targets.book_rows import ORIGIN, book_rows, many_books
from bookpipe_tests.targets.shelf import Shelf, outcomes

NO_KNOWN = KNOWN.empty_table()


def column(table: pa.Table, name: str) -> list[object]:
    return table.column(name).to_pylist()  # type: ignore[no-any-return]


def test_outcomes_name_the_rows_and_files_that_were_made(shelf: Shelf, library: Path) -> None:
    table = many_books(library, 1, 30)
    result = shelf.load(table)
    assert result.outcomes.schema == OUTCOMES
    for name in ("origin", "item", "file_name"):
        assert result.outcomes.column(name) == table.column(name)
    rows = {i: (ebook, location) for i, ebook, location in shelf.sql("SELECT id, ebook_id, location FROM source")}
    for outcome, source, ebook, location in zip(
        *(column(result.outcomes, name) for name in ("outcome", "source_id", "ebook_id", "location")), strict=True
    ):
        if outcome == "inserted":
            assert rows.pop(source) == (ebook, location)
        else:
            assert (ebook, location) == (None, None)
            assert source is not None, "a file that is there already is named"
    assert rows == {}


def test_counts_tell_what_was_made(shelf: Shelf, library: Path) -> None:
    rows = [*book_rows(library, 1, tags=["Fantasy", "nonsense"]), *book_rows(library, 2, series="S"),
            *book_rows(library, 3, files={"epub": b"3", "pdf": b"3p"})]  # fmt: skip
    rows[-1]["format"] = "epub"
    result = shelf.load(hashed_table(rows))
    assert (result.new_ebooks, result.new_authors, result.new_series) == (3, 1, 1)
    assert (result.dropped_tags, result.retyped, result.refreshed) == (1, 1, 0)
    assert {"wait_for_lock", "look_up_again", "resolve"} <= result.seconds.keys()


@pytest.mark.parametrize(
    ("there", "spellings"), [("\u03b1\u03c3", ["\u0391\u03a3", "\u03b1\u03c2"]), ("i\u0307x", ["i\u0307x", "\u0130x"])]
)
def test_a_series_is_found_by_every_spelling(shelf: Shelf, library: Path, there: str, spellings: list[str]) -> None:
    """Python and PostgreSQL disagree about the lower case of some letters: a Greek sigma at the end, a Turkish I."""
    shelf.sql("INSERT INTO series (title, version_id, created, modified) VALUES (%s, 1, now(), now())", there)
    rows = [row for n, series in enumerate(spellings, 1) for row in book_rows(library, n, f"T{n}", series=series)]
    assert outcomes(shelf.load(hashed_table(rows))) == ["inserted", "inserted"]
    assert outcomes(shelf.load(hashed_table(rows))) == ["existing", "existing"]


def test_rejected_rows_keep_their_reason_and_stop_nobody(shelf: Shelf, library: Path) -> None:
    rows = [
        *book_rows(library, 1, "Good"),
        hashed_row(origin=ORIGIN, item=2, reason=Reason.MISSING_FILE.value, detail="gone"),
        *book_rows(library, 3, "Of no language", languages=["xyz!"]),
        *book_rows(library, 4, "Of no format", files={"epub": b"4", "averylongone": b"4b"}),
    ]
    options = BookOptions(create_languages=False, create_formats=False)
    result = shelf.load(hashed_table(rows), options=options)
    assert outcomes(result) == ["inserted", "rejected", "rejected", "inserted", "rejected"]
    assert column(result.outcomes, "reason") == [None, "missing_file", "unknown_language", None, "unsupported_format"]
    assert [(r.key, r.reason, r.detail) for r in result.rejections()] == [
        (f"{ORIGIN}#2 book.epub", Reason.MISSING_FILE, "gone"),
        (f"{ORIGIN}#3 book 3.epub", Reason.UNKNOWN_LANGUAGE, "xyz!"),
        (f"{ORIGIN}#4 book 4.averylongone", Reason.UNSUPPORTED_FORMAT, "averylongone"),
    ]
    assert result.counts.read == 5
    assert result.counts.rejections == {"missing_file": 1, "unknown_language": 1, "unsupported_format": 1}
    assert shelf.one("SELECT count(*) FROM ebook") == 2


def test_a_dry_run_says_what_the_load_then_does(shelf: Shelf, library: Path) -> None:
    first, table = many_books(library, 1, 20), many_books(library, 11, 40)
    shelf.load(first)
    before = shelf.exactly()
    batch = Batch(table)
    plan, counts = plan_dry(batch, find_known(shelf.target, batch), BookOptions())
    assert shelf.exactly() == before
    result = shelf.load(table)
    assert counts == result.counts
    assert plan.outcomes == outcomes(result)
    assert len(plan.ebooks) == result.new_ebooks > 0


def test_what_was_looked_up_is_not_needed_only_quicker(shelf: Shelf, another_shelf: Shelf, library: Path) -> None:
    first, table = many_books(library, 1, 20), many_books(library, 11, 40)
    for each in (shelf, another_shelf):
        each.load(first, "books-1")
    shelf.load(table, "books-2")
    another_shelf.load(table, "books-2", known=NO_KNOWN)
    assert shelf.meaning() == another_shelf.meaning()
    assert shelf.tree() == another_shelf.tree()


def test_an_empty_batch_is_loaded_at_once(shelf: Shelf) -> None:
    result = shelf.load(hashed_table([]))
    assert result.counts.read == result.outcomes.num_rows == 0
    assert shelf.one("SELECT count(*) FROM bookpipe.load") == 0


def test_a_batch_in_slices_and_chunks_is_the_same_batch(shelf: Shelf, another_shelf: Shelf, library: Path) -> None:
    """Tables come out of Parquet files in several chunks, and sliced."""
    table = many_books(library, 1, 30)
    shelf.load(table)
    another_shelf.load(pa.concat_tables([table.slice(0, 7), table.slice(7, 20), table.slice(27)]))
    assert shelf.meaning() == another_shelf.meaning()


def test_records_without_files_and_books_with_files_mix(shelf: Shelf, library: Path) -> None:
    rows = [record_row(origin=ORIGIN, item=1, title="Only a record"), *book_rows(library, 2, "With a file")]
    assert outcomes(shelf.load(hashed_table(rows))) == ["inserted", "inserted"]
    assert outcomes(shelf.load(hashed_table(rows))) == ["existing", "existing"]
    later = [*book_rows(library, 1, "Only a record"), *rows[1:]]
    result = shelf.load(hashed_table(later))
    assert (outcomes(result), result.new_ebooks) == (["inserted", "existing"], 0)
    assert shelf.one("SELECT count(*) FROM ebook") == 2


def test_every_user_visible_number_comes_from_one_run(shelf: Shelf, library: Path) -> None:
    """Attempts that were redone are counted once."""
    table = many_books(library, 1, 10)
    with (
        shelf.transaction("INSERT INTO author (version_id, last_name, first_name, created, modified) "
                          "VALUES (1, 'Last1', 'First1', now(), now())") as app,
        app.before(_load_without_indexes, shelf, table) as load,
    ):  # fmt: skip
        pass
    result = load.result()
    assert result.new_authors == shelf.one("SELECT count(*) FROM author") - 1
    assert result.counts.inserted == shelf.one("SELECT count(*) FROM source")


def _load_without_indexes(shelf: Shelf, table: pa.Table) -> object:
    """Making indexes waits for the open transaction of the test."""
    return shelf.load(table, target=shelf.using(create_indexes=False))


def test_phases_are_summed_and_kept_when_one_fails() -> None:
    phases = Phases()
    with phases.timed("a"):
        pass
    first = phases.seconds["a"]
    with pytest.raises(ZeroDivisionError), phases.timed("a"):
        raise ZeroDivisionError
    assert phases.seconds["a"] >= first
    assert phases.seconds.keys() == {"a"}


# Any names at all

_TEXT = st.text(max_size=300) | st.text('ab /.\\:*%|"<>?\0\n\rñЖ冬／℀ß\u202e', max_size=40)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    books=st.lists(
        st.tuples(
            _TEXT,
            st.lists(_TEXT, max_size=5),
            st.none() | _TEXT,
            st.none() | st.floats(allow_nan=True),
            st.lists(st.sampled_from(["eng", "deu", "und", "x", "", "zz-ZZ"]) | _TEXT, max_size=2),
            st.lists(_TEXT, max_size=3),
            st.none() | st.integers(0, 10),
            st.sampled_from(["epub", "pdf", "kepub", "x", ""]) | _TEXT,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_names_end_in_rows_and_files_inside_the_folder(shelf: Shelf, library: Path, books: list[tuple]) -> None:  # type: ignore[type-arg]
    """Twice: every row ends, nothing leaves the book folder, the second run changes nothing."""
    start = 1 + int(shelf.one("SELECT coalesce(max(id), 0) FROM source") or 0) * 10
    rows = []
    for item, (title, authors, series, index, languages, tags, rating, kind) in enumerate(books, start):
        path = library / str(item)
        path.write_bytes(b"%d" % item)
        rows.append(
            hashed_row(
                origin=ORIGIN, item=item, title=title.encode("utf-8", "replace").decode(),
                authors=[a.encode("utf-8", "replace").decode() for a in authors],
                series=series and series.encode("utf-8", "replace").decode(), series_index=index,
                languages=[c.encode("utf-8", "replace").decode() for c in languages],
                tags=[t.encode("utf-8", "replace").decode() for t in tags], rating=rating or None,
                path=os.fsencode(path), file_name=title.encode("utf-8", "replace").decode(),
                given_format=kind.encode("utf-8", "replace").decode(), size=len(b"%d" % item),
                format=kind.encode("utf-8", "replace").decode(), sha1=sha1(b"%d" % item).hexdigest(),
            )
        )  # fmt: skip
    table = hashed_table(rows)
    for options in (BookOptions(create_genres=True), BookOptions()):
        result = bulk_insert(
            shelf.target, table, look_up(shelf.target, table), options, pipeline="c", partition="p", run_id="r"
        )
        assert result.counts.read == len(rows)
    assert result.counts.inserted == 0
    for source, location in zip(column(result.outcomes, "source_id"), column(result.outcomes, "location"), strict=True):
        assert location is None
        if source is not None:
            place = shelf.one("SELECT location FROM source WHERE id = %s", source)
            assert (shelf.books / place).parent.resolve().is_relative_to(shelf.books)
            assert (shelf.books / place).exists()
    assert shelf.placements() == 0
    assert shelf.one(
        "SELECT count(*) FROM ebook WHERE tsvector_to_array(full_text) IS DISTINCT FROM "
        "tsvector_to_array(to_tsvector('custom', ebook_full_title(id)))"
    ) == 0  # fmt: skip
