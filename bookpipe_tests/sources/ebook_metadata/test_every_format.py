"""Every format the demo makes says what it was made of, and every reader says the same however it gets the bytes."""

import pytest

from bookpipe.demo.ebook_files import MAKERS, BookText
from bookpipe.sources.ebook_metadata import EbookMetadata, read_metadata
from bookpipe.sources.ebook_types import identify
from bookpipe_tests.sources.ebook_metadata.reading import HEAD, CountingSource, read

PLAIN = BookText("A Plain Title", ("Jane Doe",), "en", None, None, (), None, "One.\n\nTwo (and a half) \\ {three}.")
RICH = BookText(
    'Kůň & "Vojna" <мир> 😀',
    ("Лев Николаевич Толстой", "Karel Čapek"),
    "cs",
    "Řada & syn",
    2.5,
    ("Román", "Sci-Fi"),
    1869,
    "Příliš žluťoučký.\n\n" + "Война и мир. " * 2000,
)
LONG = BookText(
    "Dlouhá kniha", ("Božena Němcová",), "cs", None, None, ("Pohádky",), 1855, "Babička. " * 90_000, pad_to=3_000_000
)
NO_SERIES = {"mobi", "prc", "azw3", "pdf", "doc", "docx", "odt", "rtf", "html", "htm"}
NO_LANGUAGE = {"pdf", "doc", "rtf"}
TITLE_ONLY = {"pdb"}
SILENT = {"txt", "djvu", "chm", "lit", "cbz"}


def expected(extension: str, book: BookText) -> EbookMetadata:
    if extension in SILENT:
        return EbookMetadata()
    if extension in TITLE_ONLY:
        title = book.title.encode("cp1252", "replace")[:31].decode("cp1252")
        return EbookMetadata(title=title, status="ok")
    tags = book.tags or (("other",) if extension in ("fb2", "fbz") else ())  # FB2 must have a genre
    return EbookMetadata(
        title=book.title,
        authors=book.authors,
        languages=() if extension in NO_LANGUAGE else (book.language,),
        series=None if extension in NO_SERIES else book.series,
        series_index=None if extension in NO_SERIES else book.series_index,
        tags=tags,
        status="ok",
    )


@pytest.mark.parametrize("book", [PLAIN, RICH], ids=["plain", "rich"])
@pytest.mark.parametrize("extension", MAKERS)
def test_a_file_says_what_it_was_made_of(extension: str, book: BookText) -> None:
    assert read(extension, MAKERS[extension](book)) == expected(extension, book)


@pytest.mark.parametrize("extension", MAKERS)
def test_of_a_file_of_megabytes_little_is_read(extension: str) -> None:
    data = MAKERS[extension](LONG)
    assert len(data) >= LONG.pad_to
    source = CountingSource(data)
    found = read_metadata(extension, data[:HEAD], len(data), source.read_at)
    assert found == expected(extension, LONG)
    assert source.asked <= 250_000


@pytest.mark.parametrize("extension", MAKERS)
def test_the_kind_a_file_is_identified_as_is_one_that_is_read(extension: str) -> None:
    data = MAKERS[extension](RICH)
    kind = identify(data[:HEAD], len(data), CountingSource(data).read_at)
    assert kind is not None
    assert read(kind, data) == expected(extension, RICH)


def test_a_kind_nobody_knows_is_silent() -> None:
    assert read("xyz", b"anything") == EbookMetadata()


@pytest.mark.parametrize("extension", ["epub", "fb2", "mobi", "pdb", "doc", "docx", "odt", "rtf", "html", "fbz", "pdf"])
def test_the_source_s_own_error_passes_through(extension: str) -> None:
    def read_at(offset: int, length: int) -> bytes:
        raise OSError("disk")

    data = MAKERS[extension](RICH)
    with pytest.raises(OSError, match="disk"):
        read_metadata(extension, data[:10], len(data), read_at)
    # and the next file is read
    assert read(extension, data) == expected(extension, RICH)


@pytest.mark.parametrize("extension", ["epub", "fb2", "mobi", "pdb", "doc", "docx", "odt", "rtf", "pdf", "fbz"])
@pytest.mark.parametrize("data", [b"", b"\0", b"junk that is nothing at all " * 10], ids=["empty", "nul", "junk"])
def test_what_is_not_the_format_is_unreadable(extension: str, data: bytes) -> None:
    found = read(extension, data)
    if extension == "pdb" and len(data) > 78:  # any bytes can be a database's name
        assert found.status == "ok"
        return
    assert found.status == "unreadable"
    assert found.detail
    assert found == EbookMetadata(status="unreadable", detail=found.detail)
