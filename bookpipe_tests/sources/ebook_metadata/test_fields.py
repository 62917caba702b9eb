"""Cleaning and caps, people's names, tags, numbers, and titles out of file names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.sources.ebook_metadata.fields import (
    MAX_AUTHOR,
    MAX_AUTHORS,
    MAX_TAGS,
    MAX_TITLE,
    found,
    parse_number,
    people,
    people_in_list,
    split_tags,
)
from bookpipe.sources.file_names import title_from_name
from bookpipe.sources.plain_text import clean_text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (None, ""),
        ("  a\t b\r\nc  ", "a b c"),
        ("nul\0 bell\a del\x7f c1\x9f", "nul bell del c1"),
        ("lone \ud800 surrogates \udfff", "lone surrogates"),
        ("\ufeffmark", "mark"),
        ("no\xa0break", "no break"),
        ("line\u2028separator\x85next", "line separator next"),
        ("soft\xadhyphen 😀 שלום", "soft\xadhyphen 😀 שלום"),
        ("\ud83d\ude00", ""),  # two lone halves are no character
    ],
)
def test_texts_are_cleaned(text: str | None, cleaned: str) -> None:
    assert clean_text(text, 100) == cleaned


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=())), st.integers(1, 20))
def test_a_cleaned_text_is_short_clean_and_stays_as_it_is(text: str, limit: int) -> None:
    cleaned = clean_text(text, limit)
    assert len(cleaned) <= limit
    assert cleaned == cleaned.strip()
    assert "\0" not in cleaned
    cleaned.encode("utf-8")  # no lone surrogates
    assert clean_text(cleaned, limit) == cleaned


def test_everything_is_capped() -> None:
    many = [f"Name {n}" for n in range(10_000)]
    metadata = found(
        title="t" * 100_000, authors=["x" * 10_000, *many], languages=many, series="s" * 100_000, tags=many
    )
    assert len(metadata.title or "") == len(metadata.series or "") == MAX_TITLE == 2_000
    assert len(metadata.authors) == MAX_AUTHORS == 100
    assert len(metadata.authors[0]) == MAX_AUTHOR
    assert len(metadata.tags) == MAX_TAGS == 500
    assert len(metadata.languages) == 100


def test_nothing_is_none_and_anything_is_ok() -> None:
    assert found(title=" ", authors=["\0"], languages=[None, ""], tags=[" "], cover="x").status == "none"
    assert found(tags=["x"]).status == "ok"


@pytest.mark.parametrize(
    ("series", "said", "index"),
    [("S", 2.5, 2.5), ("S", None, 1.0), ("S", 0.0, 0.0), ("S", -1.0, -1.0), (None, 2.0, None), (" ", None, None)],
)
def test_a_book_of_a_series_without_a_number_is_the_first(
    series: str | None, said: float | None, index: float | None
) -> None:
    assert found(series=series, series_index=said).series_index == index


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A B", ["A B"]),
        ("A B;C D ; E", ["A B", "C D", "E"]),
        ("\n  Jo\n  Smith\r\n", ["Jo Smith"]),
        ("A & B&C &D& E", ["A", "B", "C", "D", "E"]),
        ("Simon && Schuster", ["Simon & Schuster"]),
        ("AT&&T&B", ["AT&T", "B"]),
        ("A&&&B", ["A&", "B"]),
        ("A and B with C", ["A and B with C"]),
        ("Müller, Jürgen", ["Jürgen Müller"]),
        ("Müller,Jürgen", ["Jürgen Müller"]),
        ("van Gogh, Vincent", ["van Gogh, Vincent"]),
        ("King, Jr.", ["King, Jr."]),
        ("A, B, C", ["A, B, C"]),
        (",A", [",A"]),
        ("unknown; A; UNKNOWN AUTHOR", ["A"]),
        ("???", []),
        (None, []),
    ],
)
def test_fields_of_one_author_may_hold_several(text: str | None, names: list[str]) -> None:
    assert list(people(text)) == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A B and C D", ["A B", "C D"]),
        ("A B, AND C D", ["A B", "C D"]),
        ("A B\n with\tC D", ["A B", "C D"]),
        ("Doe, Jane and Roe, Richard", ["Jane Doe", "Richard Roe"]),
        ("A & B and C; D", ["A", "B", "C", "D"]),
        ("Anderson Withers", ["Anderson Withers"]),
        ("Band and", ["Band and"]),
        ("Simon && Schuster and B", ["Simon & Schuster", "B"]),
    ],
)
def test_words_join_authors_where_calibre_says_so(text: str, names: list[str]) -> None:
    assert list(people(text, joined_by_words=True)) == names
    assert list(people_in_list(text, joined_by_words=True))[:1] == names[:1]


def test_the_lines_of_a_list_are_authors() -> None:
    assert list(people_in_list("A B\nC D\r\n")) == ["A B", "C D"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A B, C D", ["A B", "C D"]),
        ("A B, C D, Jr., E F", ["A B", "C D, Jr.", "E F"]),
        ("Doe, Jane", ["Jane Doe"]),
        ("van Gogh, Vincent", ["van Gogh, Vincent"]),
        ("John Smith, Ph.D.", ["John Smith, Ph.D."]),
        ("A,,B,", ["A", "B"]),
    ],
)
def test_fields_of_all_authors_are_split_at_commas_too(text: str, names: list[str]) -> None:
    if text == "A,,B,":
        assert sorted(people_in_list(text)) == ["A,,B,"]  # two parts: one person, in an order nobody knows
    else:
        assert list(people_in_list(text)) == names


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2", 2.0),
        (" 2.5 ", 2.5),
        ("2,5", 2.5),
        ("-1.25", -1.25),
        ("3 of 7", 3.0),
        ("1.2.3", 1.2),
        ("07", 7.0),
        ("٣", 3.0),
        ("nan", None),
        ("inf", None),
        ("two", None),
        ("", None),
        (None, None),
        ("9" * 100_000, 999999999999999.0),
    ],
)
def test_numbers(text: str | None, number: float | None) -> None:
    assert parse_number(text) == number


def test_tags_are_split_at_commas_semicolons_and_lines() -> None:
    assert found(tags=split_tags("a b, c;d\ne", None, "", "c")).tags == ("a b", "c", "d", "e")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("War_and_Peace.epub", "War and Peace"),
        ("dir/sub/War and Peace.FB2.ZIP", "War and Peace"),
        ("dir\\book.pdf", "book"),
        ("16470000", "16470000"),
        ("dir/16470000", "16470000"),
        ("16470000.mobi", "16470000"),
        ("Dr. Strange", "Dr. Strange"),
        ("Vol. 2.5", "Vol. 2.5"),
        ("Vol. 2.5.epub", "Vol. 2.5"),
        (".epub", ".epub"),
        ("_.epub", ".epub"),
        ("a.b.c.txt", "a.b.c"),
        ("dir/", "dir"),
        ("", "Untitled"),
        ("/", "Untitled"),
        ("_", "_"),
        ("\udcff\udcfe", "Untitled"),
        ("caf\udce9.txt", "caf"),
        ("nul\0.txt", "nul"),
        ("x" * 5000, "x" * 2000),
    ],
)
def test_a_title_from_a_name(name: str, title: str) -> None:
    assert title_from_name(name) == title


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=())))
def test_a_title_from_any_name_is_never_empty(name: str) -> None:
    title = title_from_name(name)
    assert title == clean_text(title, MAX_TITLE) != ""
