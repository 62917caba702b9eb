"""Plans: what a batch adds to MyBookshelf2, how each of its rows ends, and that planning again adds nothing."""

from typing import Any

import pytest

from bookpipe.model.book_plans import SEPARATOR, BookPlan, Known, author_key, book_key, file_key, source_key
from bookpipe.model.rejections import Reason
from bookpipe.resolve.books import MAX_INT4, MAX_TITLE, Batch, BookOptions, joinable_keys, plan_books, series_number
from bookpipe_tests.factories import applied, first_known, hashed_row, hashed_table, record_row

NOTHING_NEW = BookOptions(create_languages=False, create_formats=False, create_genres=False)
EVERYTHING_NEW = BookOptions(create_genres=True)


def plan_of(*rows: dict[str, Any], known: Known | None = None, options: BookOptions | None = None) -> BookPlan:
    return plan_books(Batch(hashed_table(rows)), known or first_known(), options or BookOptions())


def key_of(row: dict[str, Any]) -> str:
    return source_key(row["sha1"], row["size"])


def with_earlier_ebook(row: dict[str, Any], title: str, last_names: list[str]) -> Known:
    """A target whose application made ebook 70 with source 700, which has the bytes of `row`."""
    known = first_known()
    known.sources[key_of(row)] = 700
    known.source_ebooks[key_of(row)] = 70
    known.book_titles[f"70{SEPARATOR}{title}"] = 70
    known.base_dirs[f"70{SEPARATOR}Somebody/Some Book(en)"] = 70
    for last in last_names:
        known.book_authors[f"70{SEPARATOR}{last}"] = 70
    return known


def test_only_a_new_book_with_known_and_unknown_files_may_join_an_ebook() -> None:
    """So a load of what is all there asks nothing about it, however large the collection is."""
    old, new = hashed_row(item=1, given_format="epub"), hashed_row(item=1, given_format="pdf")
    known = first_known()
    known.sources[key_of(old)] = 700
    assert joinable_keys(Batch(hashed_table([old, new])), known, "calibre:test") == [key_of(old)]
    assert joinable_keys(Batch(hashed_table([old, new])), known, "calibre:other") == []
    assert joinable_keys(Batch(hashed_table([new])), known, "calibre:test") == []
    assert joinable_keys(Batch(hashed_table([old])), known, "calibre:test") == []
    assert joinable_keys(Batch(hashed_table([old, {**new, "item": 2}])), known, "calibre:test") == []
    known.books[book_key("calibre:test", 1)] = 70
    assert joinable_keys(Batch(hashed_table([old, new])), known, "calibre:test") == []


# -- one book -------------------------------------------------------------------------------------------------------


def test_a_new_book_becomes_an_ebook_with_a_source() -> None:
    row = hashed_row(
        item=7, title="Dune", authors=["Frank Herbert"], series="Dune Chronicles", series_index=1.0, rating=9,
        tags=["Sci-Fi"], file_name="Dune - Frank Herbert.epub", size=12345,
    )  # fmt: skip
    plan = plan_of(row)
    assert plan.outcomes == ["inserted"]
    assert plan.authors == [("Herbert", "Frank")]
    assert plan.series == ["Dune Chronicles"]
    assert (plan.languages, plan.genres, plan.formats) == ([], [], [])
    (ebook,) = plan.ebooks
    assert (ebook.origin, ebook.item, ebook.title) == ("calibre:test", 7, "Dune")
    assert (ebook.language, ebook.language_code) == (2, "en")
    assert (ebook.series, ebook.series_title, ebook.series_index) == (-1, "Dune Chronicles", 1)
    assert (ebook.rating, ebook.authors, ebook.author_string, ebook.genres) == (90, [-1], "Herbert Frank", [50])
    assert ebook.full_text == "Frank Herbert: Dune (Dune Chronicles 1)"
    (source,) = plan.sources
    assert (source.row, source.ebook, source.format, source.extension) == (0, -1, 8, "epub")
    assert (source.sha1, source.size, source.path) == (row["sha1"], 12345, row["path"])
    assert source.load_source == "Dune - Frank Herbert.epub"
    assert (source.origin, source.item, source.given_format) == ("calibre:test", 7, "epub")


def test_the_formats_of_a_book_share_its_ebook() -> None:
    plan = plan_of(
        hashed_row(given_format="epub"), hashed_row(given_format="pdf"), hashed_row(item=2, given_format="pdf")
    )
    assert [e.item for e in plan.ebooks] == [1, 2]
    assert [(s.ebook, s.format) for s in plan.sources] == [(-1, 8), (-1, 1), (-2, 1)]


def test_the_same_item_of_two_origins_is_two_books() -> None:
    plan = plan_of(hashed_row(origin="calibre:a", sha1="a" * 40), hashed_row(origin="calibre:b", sha1="b" * 40))
    assert len(plan.ebooks) == 2


def test_an_empty_batch_has_an_empty_plan() -> None:
    plan = plan_of()
    assert plan.empty
    assert plan.outcomes == []


@pytest.mark.parametrize(
    ("index", "number"),
    [(1.5, 1), (0.0, 0), (0.99, 0), (12.0, 12), (None, None), (float(MAX_INT4), MAX_INT4), (2.0**31, None),
     (float("inf"), None), (float("nan"), None)],
)  # fmt: skip
def test_a_series_number_is_the_digits_before_the_dot(index: float | None, number: int | None) -> None:
    assert series_number(index) == number
    (ebook,) = plan_of(hashed_row(series="S", series_index=index)).ebooks
    assert (ebook.series_title, ebook.series_index) == ("S", number)
    assert ebook.full_text.endswith(f": Dune (S {number or 0})")


@pytest.mark.parametrize(("series", "index"), [("S", -1.0), ("S", -0.5), (None, 3.0), ("", 3.0), ("\r\n", 3.0)])
def test_a_negative_number_or_an_empty_title_is_no_series(series: str | None, index: float) -> None:
    plan = plan_of(hashed_row(series=series, series_index=index))
    (ebook,) = plan.ebooks
    assert (ebook.series, ebook.series_title, ebook.series_index) == (None, None, None)
    assert (plan.sources[0].series_title, plan.sources[0].series_index) == (None, None)
    assert plan.series == []
    assert ebook.full_text == "Frank Herbert: Dune"


@pytest.mark.parametrize(
    ("authors", "text"),
    [
        ([], ": Dune"),
        (None, ": Dune"),
        (["Plato"], "Plato: Dune"),
        (["Guin, Ursula K. Le", "Plato"], "Ursula K. Le Guin, Plato: Dune"),
        (["", " , ", "Plato"], "Plato: Dune"),
        (["A B", "C D", "E F", "G H"], "A B, C D, E F, G H: Dune"),
    ],
)
def test_search_gets_the_text_the_triggers_make(authors: list[str] | None, text: str) -> None:
    (ebook,) = plan_of(hashed_row(authors=authors)).ebooks
    assert ebook.full_text == text


def test_a_book_without_authors_stands_under_no_authors() -> None:
    plan = plan_of(hashed_row(authors=[]))
    assert (plan.ebooks[0].authors, plan.ebooks[0].author_string) == ([], "No Authors")
    assert plan.sources[0].author_string == "No Authors"


def test_texts_are_cut_to_their_columns() -> None:
    plan = plan_of(
        hashed_row(title="t" * 300, series="s" * 300, authors=["f" * 200 + " " + "l" * 200], tags=["g" * 100],
                   file_name="n" * 300 + ".epub"),
        options=EVERYTHING_NEW,
    )  # fmt: skip
    assert plan.ebooks[0].title == plan.sources[0].title == "t" * MAX_TITLE
    assert plan.series == ["s" * 256]
    assert plan.authors == [("l" * 128, "f" * 128)]
    assert plan.genres == ["g" * 64]
    assert plan.sources[0].load_source == "n" * 256


def test_control_characters_are_stripped_from_every_text() -> None:
    plan = plan_of(
        hashed_row(title="A\r\nB\0", series="S\x1f\n", authors=["Fi\x7frst\r\nLast"], tags=["G\tH\x85"],
                   file_name="a\nb.epub"),
        options=EVERYTHING_NEW,
    )  # fmt: skip
    assert plan.ebooks[0].title == "A  B"
    assert plan.series == ["S"]
    assert plan.authors == [("Last", "First")]
    assert plan.genres == ["G H"]
    assert plan.sources[0].load_source == "a b.epub"
    assert plan.ebooks[0].full_text == "First Last: A  B (S 0)"


@pytest.mark.parametrize("title", [None, "", "  ", "\0\r\n"])
def test_a_book_without_a_title_is_unknown(title: str | None) -> None:
    assert plan_of(hashed_row(title=title)).ebooks[0].title == "Unknown"


@pytest.mark.parametrize(("half_stars", "rating"), [(None, None), (0, None), (1, 10), (10, 100)])
def test_half_stars_become_percent(half_stars: int | None, rating: int | None) -> None:
    assert plan_of(hashed_row(rating=half_stars)).ebooks[0].rating == rating


def test_files_with_another_content_than_name_are_counted() -> None:
    plan = plan_of(hashed_row(given_format="epub", format="pdf"), hashed_row(given_format="mobi"))
    assert plan.retyped == 1
    assert [(s.given_format, s.extension, s.format) for s in plan.sources] == [("epub", "pdf", 1), ("mobi", "mobi", 6)]


# -- names that are shared ------------------------------------------------------------------------------------------


def test_authors_are_matched_by_case_and_series_are_not() -> None:
    known = first_known()
    known.authors[author_key("Herbert", "Frank")] = 30
    known.series["dune"] = 40
    plan = plan_of(
        hashed_row(item=1, authors=["Frank Herbert"], series="DUNE"),
        hashed_row(item=2, authors=["frank herbert"], series="Foundation"),
        hashed_row(item=3, authors=["herbert, frank"], series="foundation"),
        known=known,
    )
    assert [(e.authors, e.series) for e in plan.ebooks] == [([30], 40), ([-1], -1), ([-1], -1)]
    assert plan.authors == [("herbert", "frank")]
    assert plan.series == ["Foundation"]


def test_an_author_is_linked_once() -> None:
    plan = plan_of(hashed_row(authors=["Frank Herbert", "Herbert, Frank", "Plato", "Plato"]))
    assert plan.ebooks[0].authors == [-1, -2]
    assert plan.ebooks[0].author_string == "Herbert F, Plato"


def test_an_author_without_first_name_is_not_one_with() -> None:
    plan = plan_of(hashed_row(authors=["Plato", "Plato, X"]))
    assert plan.authors == [("Plato", None), ("Plato", "X")]


@pytest.mark.parametrize(
    ("tags", "genres", "dropped"),
    [
        (["Fiction", "FICTION", " fiction "], [21], 0),
        (["Sci-Fi", "Science Fiction"], [50], 0),  # one is the application's synonym of the other
        (["Space", "Fantasy", "Sand"], [20], 2),
        ([], [], 0),
        (None, [], 0),
    ],
)
def test_unknown_tags_are_dropped_and_counted(tags: list[str] | None, genres: list[int], dropped: int) -> None:
    plan = plan_of(hashed_row(tags=tags))
    assert plan.ebooks[0].genres == genres
    assert plan.dropped_tags == dropped
    assert plan.genres == []


def test_unknown_tags_become_genres_where_that_is_wanted() -> None:
    plan = plan_of(
        hashed_row(item=1, tags=["Space", "Fantasy", "SPACE"]),
        hashed_row(item=2, tags=["space", "\n"]),
        options=EVERYTHING_NEW,
    )
    assert plan.genres == ["Space"]
    assert [e.genres for e in plan.ebooks] == [[-1, 20], [-1]]
    assert plan.dropped_tags == 1  # the blank one


# -- formats --------------------------------------------------------------------------------------------------------


def test_an_unknown_format_is_made_once() -> None:
    plan = plan_of(hashed_row(given_format="lrf"), hashed_row(item=2, given_format="lrf"))
    assert plan.formats == ["lrf"]
    assert [s.format for s in plan.sources] == [-1, -1]


def test_a_format_that_may_not_be_made_rejects_its_file_only() -> None:
    plan = plan_of(hashed_row(given_format="lrf"), hashed_row(given_format="epub"), options=NOTHING_NEW)
    assert plan.outcomes == ["rejected", "inserted"]
    assert (plan.reasons[0], plan.details[0]) == (Reason.UNSUPPORTED_FORMAT.value, "lrf")
    assert len(plan.ebooks) == len(plan.sources) == 1


@pytest.mark.parametrize("extension", ["original_epub", "a/b", "..", "", "žip", None])
def test_a_format_that_cannot_be_made_rejects_its_file(extension: str | None) -> None:
    plan = plan_of(hashed_row(format=extension))
    assert plan.reasons == [Reason.UNSUPPORTED_FORMAT.value]
    assert plan.formats == []


def test_a_book_without_an_acceptable_file_makes_nothing() -> None:
    plan = plan_of(
        hashed_row(given_format="lrf", languages=["deu"], series="S"), options=BookOptions(create_formats=False)
    )
    assert plan.empty
    assert not (plan.authors or plan.series or plan.languages)


# -- rows that are not added ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [r.value for r in Reason])
def test_a_rejected_row_stays_rejected(reason: str) -> None:
    plan = plan_of(hashed_row(reason=reason, detail="why"), hashed_row(given_format="pdf"))
    assert plan.outcomes == ["rejected", "inserted"]
    assert (plan.reasons, plan.details) == ([reason, None], ["why", None])


def test_a_record_without_files_is_loaded_once() -> None:
    plan = plan_of(record_row(reason=Reason.NO_FORMATS.value), record_row(item=2))
    assert plan.outcomes == ["rejected", "inserted"]
    assert [e.item for e in plan.ebooks] == [2]
    assert plan.sources == []
    again = plan_of(record_row(item=2), known=applied(plan, first_known()))
    assert again.outcomes == ["existing"]
    assert again.empty


def test_the_same_bytes_in_two_books_are_one_source() -> None:
    plan = plan_of(hashed_row(item=1, sha1="a" * 40), hashed_row(item=2, sha1="a" * 40))
    assert plan.outcomes == ["inserted", "existing"]
    assert len(plan.ebooks) == len(plan.sources) == 1


def test_the_same_bytes_in_two_formats_of_a_book_are_one_source() -> None:
    rows = [hashed_row(given_format=kind, format="mobi", sha1="a" * 40) for kind in ("mobi", "azw", "prc")]
    plan = plan_of(*rows)
    assert plan.outcomes == ["inserted", "existing", "existing"]
    assert len(plan.ebooks) == len(plan.sources) == 1


def test_a_copy_of_a_refused_file_is_not_called_existing() -> None:
    rows = [hashed_row(given_format=kind, sha1="a" * 40, languages=["deu"]) for kind in ("epub", "pdf")]
    assert plan_of(*rows, options=NOTHING_NEW).outcomes == ["rejected", "rejected"]
    # Content that says nothing is what its name says: one name may be accepted and the other not.
    rows = [hashed_row(given_format=kind, sha1="a" * 40) for kind in ("lrf", "pdf")]
    assert plan_of(*rows, options=NOTHING_NEW).outcomes == ["rejected", "inserted"]


def test_the_same_hash_with_another_size_is_another_file() -> None:
    assert len(plan_of(hashed_row(item=1, sha1="a" * 40), hashed_row(item=2, sha1="a" * 40, size=1)).sources) == 2


def test_bytes_the_target_has_are_existing() -> None:
    row = hashed_row()
    known = first_known()
    known.sources[key_of(row)] = 700
    plan = plan_of(row, known=known)
    assert (plan.outcomes, plan.existing_ids) == (["existing"], [700])
    assert plan.empty
    assert plan.kept == []


# -- books that are there already -----------------------------------------------------------------------------------


def test_a_new_format_joins_the_ebook_an_earlier_load_made() -> None:
    first = hashed_row(title="Old title")
    known = applied(plan_of(first), first_known())
    ebook = known.books[f"calibre:test{SEPARATOR}1"]
    # Whatever became of its names and whatever may be made: the book is the same.
    rows = [hashed_row(title="New title", languages=["deu"]), hashed_row(given_format="pdf", languages=["deu"])]
    plan = plan_of(*rows, known=known, options=NOTHING_NEW)
    assert plan.outcomes == ["existing", "inserted"]
    assert not (plan.ebooks or plan.languages or plan.authors)
    assert [s.ebook for s in plan.sources] == [ebook]


@pytest.mark.parametrize(
    ("title", "last_names", "joins"),
    [
        ("Dune", ["Herbert"], True),
        ("Dune", ["Anderson", "Herbert"], True),
        ("Dune", ["herbert"], False),
        ("Dune", ["Frank"], False),
        ("Dune", [], False),
        ("dune", ["Herbert"], False),
        ("Dune Messiah", ["Herbert"], False),
    ],
)
def test_a_book_joins_the_applications_ebook_by_title_and_last_name(
    title: str, last_names: list[str], joins: bool
) -> None:
    there, new = hashed_row(given_format="epub"), hashed_row(given_format="pdf")
    plan = plan_of(there, new, known=with_earlier_ebook(there, title, last_names))
    assert plan.outcomes == ["existing", "inserted"]
    assert plan.existing_ids == [700, None]
    assert [s.ebook for s in plan.sources] == [70 if joins else -1]
    assert len(plan.ebooks) == (0 if joins else 1)


def test_a_book_without_a_known_file_never_joins() -> None:
    known = with_earlier_ebook(hashed_row(item=9), "Dune", ["Herbert"])
    assert [s.ebook for s in plan_of(hashed_row(), known=known).sources] == [-1]


@pytest.mark.parametrize(
    ("languages", "code"),
    [(["xx-none", "de"], "de"), (["und", "de"], "und"), (["xx-none"], "und"), ([" ", "English"], "en"), ([], "und")],
)
def test_the_first_language_that_is_one_is_the_book_s(languages: list[str], code: str) -> None:
    plan = plan_of(hashed_row(languages=languages))
    assert [ebook.language_code for ebook in plan.ebooks] == [code]


def test_a_joined_book_needs_no_language_and_makes_none() -> None:
    there, new = hashed_row(languages=["deu"]), hashed_row(given_format="pdf", languages=["deu"])
    known = with_earlier_ebook(there, "Dune", ["Herbert"])
    assert plan_of(there, new, known=known, options=NOTHING_NEW).outcomes == ["existing", "inserted"]
    assert plan_of(there, new, known=known).languages == []


def test_an_unchanged_file_is_kept() -> None:
    row = hashed_row()
    known = applied(plan_of(row), first_known())
    source = known.sources[key_of(row)]
    moved = row | {"path": b"/elsewhere/book.epub"}
    plan = plan_of(moved, known=known)
    assert (plan.outcomes, plan.existing_ids) == (["existing"], [source])
    assert plan.empty
    (kept,) = plan.kept
    assert (kept.row, kept.source, kept.location) == (0, source, f"folder/file {source}")
    assert (kept.path, kept.size, kept.sha1, kept.changed) == (b"/elsewhere/book.epub", 1000, row["sha1"], False)


def test_a_rewritten_file_changes_its_source() -> None:
    row = hashed_row()
    known = applied(plan_of(row), first_known())
    changed = row | {"sha1": "c" * 40, "size": 1001}
    plan = plan_of(changed, known=known)
    assert plan.outcomes == ["existing"]
    assert not plan.empty
    assert not (plan.ebooks or plan.sources)
    (kept,) = plan.kept
    assert (kept.size, kept.sha1, kept.changed) == (1001, "c" * 40, True)
    assert plan_of(changed, known=applied(plan, known)).empty


def test_a_rewritten_file_is_existing_when_other_sources_have_its_bytes() -> None:
    rows = [hashed_row(item=1), hashed_row(item=2)]
    known = applied(plan_of(*rows), first_known())
    plan = plan_of(rows[0], rows[1] | {"sha1": rows[0]["sha1"]}, known=known)
    assert plan.existing_ids == [known.sources[key_of(rows[0])]] * 2
    assert plan.empty


@pytest.mark.parametrize("order", [1, -1])
def test_what_a_rewritten_file_was_is_added_from_its_copy(order: int) -> None:
    rows = [hashed_row(item=1, sha1="a" * 40), hashed_row(item=2, sha1="a" * 40)]
    known = applied(plan_of(*rows), first_known())
    rows = [rows[0] | {"sha1": "c" * 40}, rows[1]][::order]
    plan = plan_of(*rows, known=known)
    assert plan.outcomes == ["existing", "inserted"][::order]
    assert [s.item for s in plan.sources] == [2]
    assert plan_of(*rows, known=applied(plan, known)).empty


def test_files_that_swap_their_bytes_stay_as_they_are() -> None:
    rows = [hashed_row(item=1, sha1="a" * 40), hashed_row(item=2, sha1="b" * 40)]
    known = applied(plan_of(*rows), first_known())
    plan = plan_of(rows[0] | {"sha1": "b" * 40}, rows[1] | {"sha1": "a" * 40}, known=known)
    assert plan.outcomes == ["existing", "existing"]
    assert plan.empty


@pytest.mark.parametrize("rewritten", [0, 1])
def test_a_rewritten_file_and_a_new_one_with_its_bytes_are_one_source(rewritten: int) -> None:
    rows = [hashed_row(item=1), hashed_row(item=2)]
    known = applied(plan_of(rows[rewritten]), first_known())
    plan = plan_of(*(row | {"sha1": "c" * 40} for row in rows), known=known)
    after = applied(plan, known)  # asserts that no two sources have the same bytes
    assert len(plan.sources) + sum(kept.changed for kept in plan.kept) == 1
    assert plan_of(*(row | {"sha1": "c" * 40} for row in rows), known=after).empty
    if rewritten == 0:
        assert plan.existing_ids == [after.files[file_key("calibre:test", 1, "epub")]] * 2


def test_planning_changes_neither_the_batch_nor_what_is_known() -> None:
    known = first_known()
    batch = Batch(hashed_table([hashed_row(languages=["deu"], tags=["Sand"], given_format="lrf")]))
    first = plan_books(batch, known, EVERYTHING_NEW)
    assert known == first_known()
    assert plan_books(batch, known, EVERYTHING_NEW) == first
