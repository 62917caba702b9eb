"""Artist strings are taken apart as Koito takes them apart, oddities included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.model.errors import ConfigError
from bookpipe.model.listens import trim
from bookpipe.resolve.artist_names import DEFAULT_SEPARATORS, compile_separators, parse_artists
from bookpipe_tests.koito_reference import parse

OWN = compile_separators(DEFAULT_SEPARATORS)


@pytest.mark.parametrize(
    ("artist", "title", "names"),
    [
        # Without features
        ("Nirvana", "Lithium", ["Nirvana"]),
        ("  Nirvana\u3000", "Lithium", ["Nirvana"]),
        ("\x1fNirvana", "Lithium", ["\x1fNirvana"]),  # no white space in Go
        ("\ufeffNirvana", "Lithium", ["\ufeffNirvana"]),
        (" ", "Lithium", []),
        ("", "", []),
        # Features of the artist come before the artist
        ("Mimi (feat. HATSUNE MIKU & KAFU)", "x", ["HATSUNE MIKU", "KAFU", "Mimi"]),
        ("Carly Rae Jepsen feat. Rufus Wainwright", "x", ["Rufus Wainwright", "Carly Rae Jepsen"]),
        ("A [feat. B]", "x", ["B", "A"]),
        ("A (FEAT. B, C · D)", "x", ["B", "C", "D", "A"]),
        ("A [feat. B] (feat. C)", "x", ["C", "B", "A"]),
        ("A (feat. B) [feat. C] feat. D", "x", ["B", "C", "D", "A"]),
        ("A (feat. B) (feat. C)", "x", ["B", "A  (feat. C)"]),  # the first of a kind only
        ("(feat. B) A", "x", ["B", "A"]),
        ("(feat. B)", "x", ["B"]),
        ("(feat. )", "x", []),
        ("A (feat. )", "x", ["A"]),
        ("A (feat. B", "x", ["B", "A ("]),
        ("A (feat. B (C) D", "x", ["B (C", "A  D"]),
        ("A feat. B (live)", "x", ["A feat. B (live)"]),  # no bracket may follow
        ("A (live) feat. B", "x", ["B", "A (live)"]),
        ("A feat. B feat. C", "x", ["B feat. C", "A"]),
        ("A feat. B (live) feat. B", "x", ["B", "A  (live) feat. B"]),  # cut where the same words stand first
        ("A feat. ", "x", ["A feat."]),
        ("A feat.  ", "x", ["A"]),
        ("A feat. B\n", "x", ["B", "A"]),
        ("feat. B", "x", ["B"]),
        ("Defeat. Me", "x", ["Me", "De"]),  # no word boundary
        ("A feat. A", "x", ["A"]),
        ("A feat. a", "x", ["a", "A"]),  # repeats go by exact spelling
        # "and" splits featured text without word boundaries
        ("Orchestra feat. Sandra and Brandy", "x", ["S", "ra", "Br", "y", "Orchestra"]),
        ("X feat. AND", "x", ["X"]),
        ("X feat. , &,A", "x", ["A", "X"]),
        # What does not split
        ("A ft. B", "x", ["A ft. B"]),
        ("A feat B", "x", ["A feat B"]),
        ("A feat.B", "x", ["A feat.B"]),
        ("A featuring B", "x", ["A featuring B"]),
        ("A & B, C; D • E / F and G", "x", ["A & B, C; D • E / F and G"]),
        ("A (ft. B)", "x", ["A (ft. B)"]),
        # The separator
        ("Magnify Tokyo · Kanade Ishihara", "x", ["Magnify Tokyo", "Kanade Ishihara"]),
        ("A\t·\nB", "x", ["A", "B"]),
        ("A\v·\vB", "x", ["A\v·\vB"]),  # Go's \s has no vertical tab
        ("A\u00a0·\u00a0B", "x", ["A\u00a0·\u00a0B"]),
        ("A·B", "x", ["A·B"]),
        ("A · ", "x", ["A"]),
        ("A · · B", "x", ["A", "· B"]),
        ("A · A", "x", ["A"]),
        ("A · B feat. C", "x", ["C", "A", "B"]),
        ("A · B feat. A & B", "x", ["A", "B", "A · B"]),  # nothing new came of splitting
        # Features of the title come last, and nothing is cut out of it
        (
            "Daft Punk feat. Julian Casablancas",
            "Instant Crush (feat. Julian Casablancas)",
            ["Julian Casablancas", "Daft Punk"],
        ),
        ("A", "t (feat. B & C) [feat. D] feat. E", ["A", "B", "C", "D", "E"]),
        ("A", "t feat. C (feat. B)", ["A", "B"]),
        ("A feat. B", "t feat. C", ["B", "A", "C"]),
        (" ", "t (feat. B)", ["B"]),
        ("A", "t · u", ["A"]),
    ],
)
def test_artist_strings_are_parsed_as_koito_parses_them(artist: str, title: str, names: list[str]) -> None:
    assert parse_artists(artist, title, OWN) == names
    assert parse(artist, title) == names  # of the reference


texts = st.lists(
    st.sampled_from(
        ["A", "B", "feat. ", "Feat.", " ", "(", ")", "[", "]", "(feat. ", "[FEAT. ", "·", " · ", "and", "&", ",", "\n",
         "\v", "\u00a0", "\x1f", "İ", "\t"]
    ),
    max_size=10,
).map("".join)  # fmt: skip


@given(texts, texts)
def test_any_text_is_parsed_as_the_naive_parser_does(artist: str, title: str) -> None:
    assert parse_artists(artist, title, OWN) == parse(artist, title)


@given(texts, texts, st.sampled_from([DEFAULT_SEPARATORS, r"\s*[;/]\s*;;&", r"x*", r"\b"]))
def test_names_are_trimmed_distinct_and_not_blank(artist: str, title: str, separators: str) -> None:
    names = parse_artists(artist, title, compile_separators(separators))
    assert all(names) and len(set(names)) == len(names) and list(map(trim, names)) == names
    assert names or not trim(artist) or "feat. " in artist.lower()


@pytest.mark.parametrize(
    ("separators", "artist", "names"),
    [
        ("", "A · B", ["A", "B"]),  # Koito's own
        (r"\s*;\s*", "A; B · C", ["A", "B · C"]),
        (r"\s+·\s+;;\s*;\s*", "A · B", ["A", "B"]),
        # Each separator splits the whole, and what one leaves whole is passed over.
        (r"\s+·\s+;;\s*;\s*", "A · B; C", ["A", "B; C", "A · B", "C"]),
        (r"(\s)*(/|;)", "A / B;C", ["A", "B", "C"]),  # groups are no pieces
        (r"(?i)\s+x\s+", "A X B", ["A", "B"]),
        (r"(?i)\s+и\s+", "А И Б", ["А", "Б"]),
        (r"\s\x26\s", "A & B", ["A", "B"]),
        (r"\s&\s", "A\u00a0&\u00a0B", ["A\u00a0&\u00a0B"]),  # ASCII's white space only
        (r"[\s,]+", "A\v,B", ["A", "B"]),
        (r"[\s]+", "A\vB", ["A\vB"]),
        (r"\d", "A٣B1C", ["A٣B", "C"]),
        (r"\W", "A-é", ["A"]),
        (r"\bи\b", "А и Б", ["А и Б"]),  # Cyrillic letters are no words in Go
        (r" und$", "A und", ["A"]),
        (r" und$", "A und\n", ["A und"]),  # Go's $ is the very end
        (r"(?m) und$", "A und\nB", ["A", "B"]),
        (r" und\z", "A und", ["A"]),
        (r"[]/]", "A]B/C", ["A", "B", "C"]),
        (r"[^]/A-C]", "A-B", ["A", "B"]),
        (r"[[/]", "A[B/C", ["A", "B", "C"]),
        (r"[$]", "A$B", ["A", "B"]),
        (r"\$", "A$B", ["A", "B"]),
        (r"-*", "AB--C", ["A", "B", "C"]),  # empty matches split letters, but not behind another match
    ],
)
def test_separators_mean_what_they_mean_in_go(separators: str, artist: str, names: list[str]) -> None:
    assert parse_artists(artist, "x", compile_separators(separators)) == names


@pytest.mark.parametrize(
    "separators",
    ["(", "[", "a**", r"\p{Greek}", "[[:alpha:]]", r"\Qa\E", r"[\S]", "\\", "a;;", ";;", "(?U)a", r"\x{41}"],
)
def test_separators_that_cannot_be_used_name_the_setting(separators: str) -> None:
    with pytest.raises(ConfigError, match="BOOKPIPE_KOITO_ARTIST_SEPARATORS"):
        compile_separators(separators)
