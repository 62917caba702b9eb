"""Author names split, shortened and printed as the real application does it."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bookpipe.resolve.author_names import MAX_NAME, author_string, clean_name, full_name, initials, split_author

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
authors = st.builds(split_author, texts).filter(lambda name: bool(name[0]))


@pytest.mark.parametrize(
    ("name", "last", "first"),
    [
        ("John Doe", "Doe", "John"),
        ("Doe, John", "Doe", "John"),
        ("Plato", "Plato", None),
        ("Ursula K. Le Guin", "Guin", "Ursula K. Le"),
        ("  John   Ronald\tReuel  Tolkien ", "Tolkien", "John Ronald Reuel"),
        ("van Gogh, Vincent", "van Gogh", "Vincent"),
        ("King, Martin Luther, Jr.", "King", "Martin Luther Jr."),
        ("Иван Петров", "Петров", "Иван"),
        ("村上春樹", "村上春樹", None),
    ],
)
def test_authors_are_split_as_the_application_splits_them(name: str, last: str, first: str | None) -> None:
    assert split_author(name) == (last, first)


@pytest.mark.parametrize(
    ("name", "last", "first"),
    [
        ("Doe,", "Doe", None),  # the application's '' is a first name that it never finds again
        (",X", "X", None),  # not an author without a last name
        (" , , X ,Y", "X Y", None),
        (" Doe , John Q. , Jr.", "Doe", "John Q. Jr."),  # not " Doe "
        ("Doe, ,", "Doe", None),
    ],
)
def test_an_author_never_has_an_empty_name_or_outer_blanks(name: str, last: str, first: str | None) -> None:
    assert split_author(name) == (last, first)


@pytest.mark.parametrize("name", ["", "   ", ",", " , ,", "\r\n", "\0", "\x1f\x7f\x85"])
def test_a_name_without_letters_is_no_author(name: str) -> None:
    assert split_author(name) == ("", None)


def test_authors_keep_their_case() -> None:
    assert split_author("JOHN doe") == ("doe", "JOHN")


def test_long_names_are_cut_to_the_columns() -> None:
    assert split_author("x" * 200 + ", " + "y" * 200) == ("x" * MAX_NAME, "y" * MAX_NAME)
    assert split_author("y" * 200 + " " + "x" * 200) == ("x" * MAX_NAME, "y" * MAX_NAME)
    # A cut before a blank leaves no blank.
    assert split_author("Doe, " + "y" * (MAX_NAME - 1) + " z") == ("Doe", "y" * (MAX_NAME - 1))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (None, ""),
        ("", ""),
        ("A\r\nB", "A  B"),  # a line end in a name makes every download fail
        ("A\tB\vC\fD", "A B C D"),
        ("A\u2028B\u2029C\x85D", "A B C D"),
        ("A\0B\x1fC\x7fD\x9fE", "ABCDE"),
        ("\n A \r", "A"),
        ("A\u00a0B", "A\u00a0B"),
        ("Číslo 5", "Číslo 5"),
    ],
)
def test_names_lose_control_characters(text: str | None, clean: str) -> None:
    assert clean_name(text, 100) == clean


def test_a_cut_name_does_not_end_in_a_blank() -> None:
    assert clean_name("ab cd", 3) == "ab"


@settings(deadline=None)
@given(texts, st.integers(1, 300))
def test_a_clean_name_is_short_printable_and_stays_as_it_is(text: str, limit: int) -> None:
    clean = clean_name(text, limit)
    assert len(clean) <= limit
    assert clean == clean.strip() == clean_name(clean, limit)
    assert not any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in clean)


@settings(deadline=None)
@given(texts)
def test_a_split_author_fits_the_columns_and_is_found_again(text: str) -> None:
    last, first = split_author(text)
    for part in (last, first):
        if part is not None:
            assert part == clean_name(part, MAX_NAME)
    assert first != ""
    assert last or first is None
    if first and "," not in last + first:
        assert split_author(f"{last}, {first}") == (last, first)


@pytest.mark.parametrize(
    ("first", "short"),
    [
        ("J. R. R.", "J R R"),
        ("jean-paul", "J"),
        ("élodie marie", "É M"),
        ("  Ursula   K. ", "U K"),
        ("", ""),
        (None, ""),
    ],
)
def test_initials_are_the_first_letters_in_upper_case(first: str | None, short: str) -> None:
    assert initials(first) == short


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], "No Authors"),
        ([("Doe", "John")], "Doe John"),
        ([("Plato", None)], "Plato"),
        ([("Doe", "John"), ("Tolkien", "J. R. R.")], "Doe J, Tolkien J R R"),
        ([("Plato", None), ("Doe", "John")], "Plato, Doe J"),
        ([("A", "Xa"), ("B", "Yb Zc"), ("C", "jean-paul")], "A X, B Y Z, C J"),
        ([("A", "X"), ("B", "Y"), ("C", "Z"), ("D", "W")], "A X, B Y, C Z and others"),
        ([("A", "X"), ("B", "Y"), ("C", None), ("D", "W"), ("E", "V")], "A X, B Y, C and others"),
    ],
)
def test_paths_name_one_author_in_full_and_three_at_most(names: list[tuple[str, str | None]], text: str) -> None:
    assert author_string(names) == text


@settings(deadline=None)
@given(st.lists(authors, max_size=6))
def test_the_author_string_is_never_blank(names: list[tuple[str, str | None]]) -> None:
    text = author_string(names)
    assert text == text.strip() != ""
    assert text.endswith(" and others") or len(names) <= 3


def test_search_reads_first_names_first() -> None:
    assert full_name("Guin", "Ursula K. Le") == "Ursula K. Le Guin"
    assert full_name("Plato", None) == "Plato"
