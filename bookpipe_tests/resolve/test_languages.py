"""ISO 639 codes as sources write them, and the language a book gets."""

from typing import Any

import pycountry
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bookpipe.model.book_plans import BookPlan, Known
from bookpipe.model.rejections import Reason
from bookpipe.resolve.books import Batch, BookOptions, plan_books
from bookpipe.resolve.languages import MAX_CODE, MAX_NAME, UNDETERMINED, find_language
from bookpipe_tests.factories import first_known, hashed_row, hashed_table


@pytest.mark.parametrize(
    ("code", "ours"),
    [
        ("eng", "en"),
        ("en", "en"),
        ("rus", "ru"),
        ("ces", "cs"),
        ("cze", "cs"),  # the bibliographic code
        ("slk", "sk"),
        ("deu", "de"),
        ("ger", "de"),
        ("DE", "de"),
        (" fra ", "fr"),
        ("pt-BR", "pt"),
        ("en_US", "en"),
        ("zh-Hant-TW", "zh"),
        ("grc", "grc"),  # no two-letter code
        ("mul", "mul"),
        ("und", "und"),
        ("German", "de"),
        ("ENGLISH", "en"),
        ("german (Austria)", "de"),
        ("Greek", "el"),
        ("Modern Greek (1453-)", "el"),
        ("Ancient Greek (to 1453)", "grc"),
        ("Bangla", "bn"),
        ("Serbo-Croatian", "sh"),
        ("Malay", "ms"),
    ],
)
def test_every_spelling_of_a_code_or_name_finds_its_language(code: str, ours: str) -> None:
    language = find_language(code)
    assert language is not None
    assert language.code == ours


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("en, fr", "en"),  # names of other languages: En, Ko, Hu, Ga
        ("ko,en", "ko"),
        ("hu, en", "hu"),
        ("GA , en", "ga"),
        ("ru, en", "ru"),
        ("ru; en", "ru"),
        ("cs/sk", "cs"),
        ("en (US)", "en"),
        ("en_US, fr", "en"),
        ("xx; en", "en"),
        ("; en-GB (UK)", "en"),
        ("English, French", "en"),
        ("nothing/Czech", "cs"),
        ("English, Old (ca. 450-1100)", "ang"),  # one name
        ("Greek, Modern", "el"),
    ],
)
def test_of_a_list_in_one_field_the_first_known_language_counts(text: str, ours: str) -> None:
    language = find_language(text)
    assert language is not None
    assert language.code == ours


@pytest.mark.parametrize(
    ("text", "ours"),
    [("iw", "he"), ("ji", "yi"), ("cz", "cs"), ("cz-CZ", "cs"), ("ua", "uk"), ("jp", "ja"), ("Русский", "ru")],
)
def test_former_codes_codes_of_countries_and_names_at_home_are_understood(text: str, ours: str) -> None:
    language = find_language(text)
    assert language is not None
    assert language.code == ours


@pytest.mark.parametrize("code", ["", " ", "-", "(", ",", "xx", "qqq", "englisch?", "x-klingon", "1", "n/a", "x, y"])
def test_what_is_no_language_finds_nothing(code: str) -> None:
    assert find_language(code) is None


def test_the_aliases_of_a_language_are_all_its_codes() -> None:
    czech = find_language("cs")
    assert czech is not None
    assert czech.aliases == ("cs", "ces", "cze")
    assert czech.name == "Czech"


def test_every_language_fits_the_columns_and_is_found_by_each_alias() -> None:
    for entry in pycountry.languages:
        language = find_language(entry.alpha_3)
        assert language is not None
        assert 2 <= len(language.code) <= MAX_CODE
        assert 1 <= len(language.name) <= MAX_NAME
        assert language.code == language.aliases[0]
        assert all(find_language(alias) == language for alias in language.aliases)


def test_the_undetermined_language_is_one() -> None:
    assert find_language(UNDETERMINED) is not None


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_language_or_none(text: str) -> None:
    language = find_language(text)
    assert language is None or find_language(language.code) == language


# -- in a plan ------------------------------------------------------------------------------------------------------


def plan_of(*rows: dict[str, Any], known: Known | None = None, options: BookOptions | None = None) -> BookPlan:
    return plan_books(Batch(hashed_table(rows)), known or first_known(), options or BookOptions())


@pytest.mark.parametrize(
    ("codes", "language"),
    [
        (["eng"], (2, "en")),
        (["ces"], (1, "cs")),
        (["cze"], (1, "cs")),
        (["rus"], (4, "ru")),  # the application has no such synonym and refuses Russian books
        (["ru"], (4, "ru")),
        (["RUS"], (4, "ru")),
        (["en-GB"], (2, "en")),
        (["Russian"], (4, "ru")),
        (["slk", "eng"], (3, "sk")),
        (["", "ces"], (1, "cs")),
        (["klg"], (4, "ru")),
        (["kling"], (2, "en")),
    ],
)
def test_a_language_is_found_by_code_synonym_or_name(codes: list[str], language: tuple[int, str]) -> None:
    known = first_known()
    known.language_synonyms["klg"] = 4  # category LNG
    known.language_names["kling"] = 2  # category LGN
    plan = plan_of(hashed_row(languages=codes), known=known, options=BookOptions(create_languages=False))
    assert (plan.ebooks[0].language, plan.ebooks[0].language_code) == language


@pytest.mark.parametrize(
    ("codes", "new"),
    [
        (["deu"], ("de", "German")),
        (["ger"], ("de", "German")),
        (["German"], ("de", "German")),
        (["grc"], ("grc", "Ancient Greek (to 1453)")),
        (["und"], ("und", "Undetermined")),
        ([], ("und", "Undetermined")),
        (None, ("und", "Undetermined")),
        ([" "], ("und", "Undetermined")),
        (["no language at all"], ("und", "Undetermined")),
        (["de, en"], ("de", "German")),
        (["x"], ("und", "Undetermined")),
        (["qqx"], ("qqx", "qqx")),  # for private use
    ],
)
def test_an_unknown_language_is_made_once(codes: list[str] | None, new: tuple[str, str]) -> None:
    plan = plan_of(hashed_row(item=1, languages=codes), hashed_row(item=2, languages=codes))
    assert plan.languages == [new]
    assert [(e.language, e.language_code) for e in plan.ebooks] == [(-1, new[0])] * 2


def test_the_spellings_of_a_new_language_are_one() -> None:
    plan = plan_of(
        *(hashed_row(item=n, languages=[code]) for n, code in enumerate(["deu", "ger", "de", "de-AT", "German"]))
    )
    assert plan.languages == [("de", "German")]


@pytest.mark.parametrize("codes", [[], None, [""], [" \n"]])
def test_a_book_without_a_language_gets_the_default(codes: list[str] | None) -> None:
    plan = plan_of(hashed_row(languages=codes), options=BookOptions(default_language="ces"))
    assert plan.ebooks[0].language_code == "cs"


@pytest.mark.parametrize(("codes", "detail"), [(["deu"], "deu"), ([], "und")])
def test_a_language_that_may_not_be_made_rejects_its_book(codes: list[str], detail: str) -> None:
    rows = [hashed_row(given_format=kind, languages=codes) for kind in ("epub", "pdf", "lrf")]
    plan = plan_of(*rows, options=BookOptions(create_languages=False))
    assert plan.outcomes == ["rejected"] * 3
    assert plan.reasons == [Reason.UNKNOWN_LANGUAGE.value] * 3
    assert plan.details == [detail] * 3
    assert plan.empty
    # Nothing else of the book is made either.
    assert not (plan.authors or plan.languages or plan.formats or plan.dropped_tags)
