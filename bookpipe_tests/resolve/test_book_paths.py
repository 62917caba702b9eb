"""Folders and files named by the application's own rule where it is safe, and safely where it is not."""

import os
import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bookpipe.model.errors import TerminalError
from bookpipe.resolve.book_paths import (
    MAX_ATTEMPTS,
    MAX_FILE_NAME,
    MAX_LOCATION,
    BookPath,
    book_path,
    clean_part,
    fold,
    free_location,
    settle_path,
)
from bookpipe.resolve.books import MAX_EXTENSION
from bookpipe.targets.mybookshelf2.storage import PART

# -- the application's rule, written down once more, as slow and plain as can be ----------------------------------

SPELLINGS = "ÆAE æae ÐD ðd ØO øo ÞTh þth ßs ĐD đd ĦH ħh ıi ĸk ŁL łl ŊN ŋn ŒOe œoe ŦT ŧt"
LETTERS = {spelling[0]: spelling[1:] for spelling in SPELLINGS.split()}
NINE = [":", "*", "%", "|", '"', "<", ">", "?", "\\"]


def application_cleans(path: str) -> str:
    kept = [char for char in unicodedata.normalize("NFKD", path) if unicodedata.category(char) != "Mn"]
    ascii_only = "".join(char if ord(char) < 128 else LETTERS.get(char, " ") for char in kept)
    for char in NINE:
        ascii_only = ascii_only.replace(char, "")
    return ascii_only


def application_path(author: str, title: str, language: str, series: str | None, index: int | None) -> tuple[str, str]:
    """(base_dir, file name without extension) as the application makes them."""
    a, t, s = author.replace("/", "-"), title.replace("/", "-"), (series or "").replace("/", "-")
    if series:
        n = index or 0
        return (
            application_cleans(f"{a}/{s}/{s} {n} - {t}({language})"),
            application_cleans(f"{a} - {s} {n} - {t}"),
        )
    return application_cleans(f"{a}/{t}({language})"), application_cleans(f"{a} - {t}")


def trimmed(name: str) -> str:
    """Our one deviation for ordinary names: what would end up as a blank at either end goes."""
    while application_cleans(name).startswith(" "):
        name = name[1:]
    while application_cleans(name).endswith(" "):
        name = name[:-1]
    return name


# -- strategies ---------------------------------------------------------------------------------------------------

latin = st.sampled_from(
    [chr(c) for c in [*range(0xC0, 0x180), *range(0x1EA0, 0x1EFA)] if chr(c).isalpha()]
    + list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    + list(" !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«»¿¡–—…“”")
    + ["e\u0301", "u\u0308", "\u0327"]  # decomposed, as macOS writes names
)
latin_names = st.lists(latin, min_size=1, max_size=20).map("".join).filter(lambda name: any(map(str.isalnum, name)))
any_text = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text(st.sampled_from(" ./\\:?\0\n\t／．…℀⁄..aé中ﷺ(1)"), max_size=40),
    st.text(st.sampled_from("./ a中ﷺ"), max_size=3).map(lambda text: text * 200),
)
languages = st.sampled_from(["en", "cs", "grc", "pt-BR", "a/b", "..", "", "ﷺ" * 6, "中文"])
indexes = st.none() | st.integers(0, 2**31 - 1)
paths = st.builds(book_path, any_text, any_text, languages, st.none() | any_text, indexes)
ids = st.integers(1, 10**15)
LONG_EXTENSION = "x" * MAX_EXTENSION


def assert_safe(path: str) -> None:
    assert len(path) <= MAX_LOCATION
    assert path.isascii()
    assert path.isprintable()
    for part in path.split("/"):
        assert part not in ("", ".", "..")
        assert not set(part) & set(NINE)
        assert len(part) <= MAX_FILE_NAME


# -- the rule -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("author", "title", "series", "index", "base_dir", "stem"),
    [
        ("Herbert Frank", "Dune", None, None, "Herbert Frank/Dune(en)", "Herbert Frank - Dune"),
        ("No Authors", "Beowulf", None, None, "No Authors/Beowulf(en)", "No Authors - Beowulf"),
        # A series without an index is number 0, and an index without a series nothing.
        ("A", "T", "S", None, "A/S/S 0 - T(en)", "A - S 0 - T"),
        ("A", "T", "S", 0, "A/S/S 0 - T(en)", "A - S 0 - T"),
        ("A", "T", "S", 12, "A/S/S 12 - T(en)", "A - S 12 - T"),
        ("A", "T", None, 12, "A/T(en)", "A - T"),
        ("A", "T", "", 12, "A/T(en)", "A - T"),
        # "/" becomes "-" in all three.
        ("A/B", "T/U", "R/S", 1, "A-B/R-S/R-S 1 - T-U(en)", "A-B - R-S 1 - T-U"),
        # The nine characters go, the rest of ASCII stays.
        ("A", 'a:b*c%d|e"f<g>h?i\\j', None, None, "A/abcdefghij(en)", "A - abcdefghij"),
        ("A", "!#$&'()+,-.;=@[]^_`{}~", None, None, "A/!#$&'()+,-.;=@[]^_`{}~(en)", "A - !#$&'()+,-.;=@[]^_`{}~"),
        # Diacritics and the letters that do not decompose.
        ("Čapek Karel", "Válka s mloky", None, None, "Capek Karel/Valka s mloky(en)", "Capek Karel - Valka s mloky"),
        ("Łęcki Đuro", "Straße", None, None, "Lecki Duro/Strase(en)", "Lecki Duro - Strase"),
        ("A", "e\u0301", None, None, "A/e(en)", "A - e"),
        ("A", "½ ﬁn ² …", None, None, "A/1 2 fin 2 ...(en)", "A - 1 2 fin 2 ..."),
        # One blank for each letter the application does not know.
        ("A", "Əli və Nino", None, None, "A/li v  Nino(en)", "A - li v  Nino"),
        # Single dots and leading dots are names like any other.
        ("A.", ".hidden", None, None, "A./.hidden(en)", "A. - .hidden"),
    ],
)
def test_paths_follow_the_application_pattern(
    author: str, title: str, series: str | None, index: int | None, base_dir: str, stem: str
) -> None:
    assert book_path(author, title, "en", series, index) == BookPath(base_dir, stem, True)


@pytest.mark.parametrize(("letter", "ours"), LETTERS.items())
def test_letters_that_do_not_decompose_have_a_spelling(letter: str, ours: str) -> None:
    assert fold(f"a{letter}b") == f"a{ours}b" == application_cleans(f"a{letter}b")


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/")))
def test_folding_is_the_applications_diacritics_step(text: str) -> None:
    # Slashes that decomposition makes are the difference that is wanted.
    assert fold(text) == application_cleans(text).replace("/", "-")


@settings(max_examples=300, deadline=None)
@given(latin_names, latin_names, st.sampled_from(["en", "cs", "grc"]), st.none() | latin_names, indexes)
def test_names_in_latin_letters_get_the_applications_own_path(
    author: str, title: str, language: str, series: str | None, index: int | None
) -> None:
    author, title, series = trimmed(author), trimmed(title), trimmed(series) if series else None
    for name in (author, title, series):
        assume(name is None or clean_part(name)[1])
    path = book_path(author, title, language, series, index)
    assert (path.base_dir, path.stem) == application_path(author, title, language, series, index)
    assert path.unique


def test_outer_blanks_go() -> None:
    assert book_path(" ?A ", "T? ", "en", " S:", 1) == book_path("A", "T", "en", "S", 1)


# -- names the rule cannot hold -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("author", "title", "base_dir"),
    [
        ("Петров Иван", "Зима", "Petrov Ivan/Zima(ru)"),
        ("Сидров Олег", "Лето", "Sidrov Oleg/Leto(ru)"),
        ("村上春樹", "1Q84", "CunShangChunShu/1Q84(ru)"),
        ("Platon Πλάτων", "Πολιτεία", "Platon/Politeia(ru)"),
        ("نجيب محفوظ", "A", "njyb mhfwdh/A(ru)"),
    ],
)
def test_names_that_lose_their_letters_are_transliterated(author: str, title: str, base_dir: str) -> None:
    path = book_path(author, title, "ru")
    assert path.base_dir == base_dir
    assert not path.unique


@pytest.mark.parametrize("series", ["Война", "???"])
def test_a_series_that_says_nothing_makes_the_path_ambiguous(series: str) -> None:
    assert not book_path("A", "T", "en", series, 1).unique


def test_half_of_the_letters_is_enough() -> None:
    assert clean_part("abc где") == ("abc", True)
    assert clean_part("ab где") == ("ab gde", False)


@pytest.mark.parametrize(
    ("name", "part"),
    [("..", "__"), ("．．", "__"), ("‥", "__"), (":.?.", "__"), (".", "_"), ("", "_"), ("???", "_"), ("\0\n", "_")],
)
def test_a_name_without_anything_to_read_becomes_underscores(name: str, part: str) -> None:
    assert clean_part(name) == (part, False)
    assert book_path(name, name, "en", name or "?", 1).base_dir == f"{part}/{part}/{part} 1 - {part}(en)"


@pytest.mark.parametrize(
    ("name", "part"),
    [("AC／DC", "AC-DC"), ("℀", "a-c"), ("1⁄2", "1 2"), ("a／..／b", "a-..-b"), ("../../etc", "..-..-etc")],
)
def test_decomposition_makes_no_separators(name: str, part: str) -> None:
    assert clean_part(name) == (part, True)
    assert book_path(name, name, "en").base_dir == f"{part}/{part}(en)"


def test_control_characters_reach_no_path() -> None:
    assert book_path("A\r\nB", "T\tU\0", "en", "S\x7f\x85", 1) == BookPath("AB/S/S 1 - TU(en)", "AB - S 1 - TU", True)


def test_long_names_are_cut_part_by_part() -> None:
    path = book_path("A" * 100, "T" * 250, "en")
    assert path.base_dir.startswith("A" * 100 + "/TTT")
    assert path.base_dir.endswith("T(en)")
    assert path.stem.startswith("A" * 100 + " - TTT") or path.stem.startswith("A" * 75 + " - TTT")
    path = book_path("A" * 250, "T" * 250, "en", "S" * 250, 2**31 - 1)
    author, series, title = path.base_dir.split("/")
    assert set(author) == {"A"}
    assert set(series) == {"S"}
    assert title.startswith("SSS")
    assert f" {2**31 - 1} - T" in title
    assert_safe(path.with_id(10**15).location(LONG_EXTENSION, MAX_ATTEMPTS - 1))


def test_a_cut_part_ends_neither_in_a_blank_nor_in_a_dot() -> None:
    author = book_path("A" * 200 + " ." * 100, "T", "en").base_dir.split("/")[0]
    assert author == "A" * 200


# -- whatever the names ---------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(paths, ids, st.integers(0, MAX_ATTEMPTS - 1))
def test_no_name_leads_out_of_the_book_folder_or_breaks_a_limit(path: BookPath, ebook_id: int, attempt: int) -> None:
    for candidate in (
        path,
        path.with_id(ebook_id),
        settle_path(path, ebook_id, lambda _: False),
        settle_path(path, ebook_id, lambda _: True),
    ):
        assert_safe(candidate.base_dir)
        assert_safe(candidate.base_dir + "/cover.jpg")
        assert_safe(candidate.location("epub", attempt))
        longest = candidate.location(LONG_EXTENSION, MAX_ATTEMPTS - 1)
        assert_safe(longest)
        assert len(os.path.basename(longest) + PART) <= MAX_FILE_NAME  # a copy that is not complete yet
        assert os.path.dirname(candidate.location("epub", attempt)) == candidate.base_dir


@settings(deadline=None)
@given(any_text, any_text, languages, st.none() | any_text, indexes)
def test_the_same_names_give_the_same_path(
    author: str, title: str, language: str, series: str | None, index: int | None
) -> None:
    first = book_path(author, title, language, series, index)
    clean_part.cache_clear()
    assert book_path(author, title, language, series, index) == first


@settings(deadline=None)
@given(any_text)
def test_a_clean_part_stays_as_it_is(name: str) -> None:
    part, _ = clean_part(name)
    assert clean_part(part)[0] == part


@settings(deadline=None)
@given(st.lists(paths, min_size=1, max_size=8), st.lists(ids, min_size=8, max_size=8, unique=True), st.data())
def test_settled_folders_are_distinct(wished: list[BookPath], ebook_ids: list[int], data: st.DataObject) -> None:
    wished += data.draw(st.lists(st.sampled_from(wished), max_size=8 - len(wished)))
    used: set[str] = set()
    for path, ebook_id in zip(wished, ebook_ids, strict=False):
        settled = settle_path(path, ebook_id, used.__contains__)
        assert settled.base_dir not in used
        assert settled.unique
        assert settled.stem == path.stem
        used.add(settled.base_dir)


@settings(deadline=None)
@given(st.lists(paths, min_size=2, max_size=6), st.lists(ids, min_size=6, max_size=6, unique=True))
def test_folders_are_distinct_even_where_everything_is_taken(wished: list[BookPath], ebook_ids: list[int]) -> None:
    settled = [settle_path(p, i, lambda _: True).base_dir for p, i in zip(wished, ebook_ids, strict=False)]
    assert len(set(settled)) == len(settled)


@settings(deadline=None)
@given(paths)
def test_every_attempt_at_a_location_is_another_one(path: BookPath) -> None:
    locations = [path.location("epub", attempt) for attempt in range(100)]
    assert len(set(locations)) == 100


# -- taken names ----------------------------------------------------------------------------------------------------


def test_a_folder_that_nobody_has_is_used_as_it_is() -> None:
    path = book_path("A", "T", "en")
    assert settle_path(path, 7, lambda _: False) is path


def test_a_folder_of_another_book_gets_the_id() -> None:
    assert settle_path(book_path("A", "T", "en"), 7, {"A/T(en)"}.__contains__).base_dir == "A/T(en) 7"


def test_an_ambiguous_folder_gets_the_id_always() -> None:
    settled = settle_path(book_path("Петров", "Зима", "ru"), 7, lambda _: False)
    assert settled == BookPath("Petrov/Zima(ru) 7", "Petrov - Zima", True)


def test_a_book_moves_to_the_top_when_its_authors_folder_is_in_the_way() -> None:
    settled = settle_path(book_path("A", "T", "en", "S", 1), 7, lambda folder: folder.startswith("A/"))
    assert settled.base_dir == "_ 7/S 1 - T(en) 7"


def test_taken_files_are_numbered_before_the_extension() -> None:
    path = book_path("A", "T", "en")
    locations = ["A/T(en)/A - T.epub", "A/T(en)/A - T(1).epub", "A/T(en)/A - T(2).epub"]
    for n, expected in enumerate(locations):
        assert free_location(path, "epub", set(locations[:n]).__contains__) == expected
    assert [path.location("epub", n) for n in range(3)] == locations


def test_a_folder_without_a_free_name_is_an_error_that_names_it() -> None:
    with pytest.raises(TerminalError, match=r"A/T\(en\)/A - T\.epub"):
        free_location(book_path("A", "T", "en"), "epub", lambda _: True)


# -- the folder an ebook has already ----------------------------------------------------------------------------------


@pytest.mark.parametrize("base_dir", ["X/Y(cs)", "X", "Žižek/中", "..X/Y..", "X/ /Y"])
def test_new_files_join_the_folder_of_their_ebook(base_dir: str) -> None:
    assert book_path("A", "T", "").inside(base_dir, 7).location("epub") == f"{base_dir}/A - T.epub"


@pytest.mark.parametrize(
    "base_dir",
    ["../Y", "X/../../Y", "/etc", "", "X//Y", "X/", "./X", "..", "X/" + "y" * 256, "X/" + "中" * 100, "x/" * 300],
)
def test_new_files_keep_out_of_a_folder_that_leads_astray_or_cannot_be(base_dir: str) -> None:
    assert book_path("A", "T", "").inside(base_dir, 7).location("epub") == "A/T() 7/A - T.epub"


@settings(deadline=None)
@given(paths, any_text, ids)
def test_files_beside_others_stay_inside_too(path: BookPath, base_dir: str, ebook_id: int) -> None:
    location = path.inside(base_dir, ebook_id).location(LONG_EXTENSION, MAX_ATTEMPTS - 1)
    assert len(location) <= MAX_LOCATION
    for part in location.split("/"):
        assert part not in ("", ".", "..")
        assert len(part.encode()) <= MAX_FILE_NAME
