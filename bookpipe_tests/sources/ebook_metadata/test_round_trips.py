"""Whatever Unicode a title and its authors are made of, a file of them says the same."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bookpipe.demo.ebook_files import MAKERS, BookText
from bookpipe.sources.ebook_metadata.fields import MAX_AUTHOR, MAX_TAG, MAX_TITLE, people
from bookpipe.sources.plain_text import clean_text
from bookpipe_tests.sources.ebook_metadata.reading import read

# Controls, halves of pairs and unassigned code points are no text: no format's makers write them.
_CHARACTERS = st.characters(exclude_categories=("Cc", "Cs", "Cn"))
_TEXTS = st.text(_CHARACTERS, min_size=1, max_size=60).filter(lambda text: clean_text(text, MAX_TITLE) != "")
# Separators separate, so they are tested elsewhere; a name has a letter or a digit.
_WORDS = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cn", "Zs", "Zl", "Zp"), exclude_characters=",;&\ufeff"),
    min_size=1,
    max_size=12,
).filter(lambda word: any(map(str.isalnum, word)))
_NAMES = st.builds("{} {}".format, _WORDS, _WORDS)
_TAGS = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cn"), exclude_characters=",;"), min_size=1, max_size=20
).filter(lambda text: clean_text(text, MAX_TAG) != "")

BOOKS = st.builds(
    BookText,
    title=_TEXTS,
    authors=st.lists(_NAMES, min_size=1, max_size=4, unique=True).map(tuple),
    language=st.sampled_from(["cs", "en", "ru", "zh"]),
    series=_TEXTS,
    series_index=st.none() | st.floats(-1000, 1000).map(lambda number: round(number, 1)),
    tags=st.lists(_TAGS, min_size=1, max_size=4).map(tuple),
    year=st.none(),
    body=st.just("Text."),
)


@pytest.mark.parametrize("extension", ["epub", "fb2", "fbz", "mobi", "azw3", "docx", "odt", "doc", "rtf", "html"])
@settings(deadline=None, max_examples=60)
@given(book=BOOKS)
def test_a_book_of_any_letters_comes_back(extension: str, book: BookText) -> None:
    assume([*people(*book.authors)] == [*book.authors])  # "unknown author" is nobody
    found = read(extension, MAKERS[extension](book))
    assert found.title == clean_text(book.title, MAX_TITLE)
    assert found.authors == tuple(clean_text(author, MAX_AUTHOR) for author in book.authors)
    assert found.tags == tuple(dict.fromkeys(clean_text(tag, MAX_TAG) for tag in book.tags))
    if extension not in ("doc", "rtf"):
        assert found.languages == (book.language,)
    if extension in ("epub", "fb2", "fbz"):
        assert found.series == clean_text(book.series, MAX_TITLE)
        assert found.series_index == (1.0 if book.series_index is None else book.series_index)


@pytest.mark.parametrize("encoding", ["windows-1251", "koi8-r", "utf-16", "utf-8-sig", "windows-1252", "cp932"])
@settings(deadline=None, max_examples=30)
@given(book=BOOKS)
def test_an_fb2_in_any_encoding_comes_back(encoding: str, book: BookText) -> None:
    from bookpipe.demo.ebook_files import make_fb2  # noqa: PLC0415

    # Shift JIS has one byte for the yen sign and the backslash: which of them it was cannot come back.
    assume(book.title.encode(encoding, "xmlcharrefreplace").decode(encoding).count("\\") == book.title.count("\\"))
    # An encoding of 256 characters whose bytes happen to be UTF-8 is taken for that: real texts are longer.
    data = make_fb2(replace(book, body="Žluťoučký kůň. Жёлтый конь. " * 20), encoding)
    assert read("fb2", data).title == clean_text(book.title, MAX_TITLE)
