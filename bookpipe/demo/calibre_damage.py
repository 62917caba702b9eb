"""The ways in which records of a library are broken in real life, and how to break one so.

A kind of damage is done in two steps: some of it is in the book before it is written (`prepared`),
the rest is done to its row and files afterwards (`inflict`).
"""

from dataclasses import replace
from enum import Enum

from bookpipe.demo.calibre_writer import CalibreWriter, SampleBook
from bookpipe.demo.ebook_files import MAKERS, BookText

LONG_TITLE = 10_000


class Damage(str, Enum):
    """What is wrong with a book. Every damaged book has exactly one kind and, but for NO_FORMATS, one file."""

    NO_FORMATS = "no_formats"
    MISSING_FILE = "missing_file"
    MISSING_FOLDER = "missing_folder"
    DANGLING_SYMLINK = "dangling_symlink"
    FOLDER_AS_FILE = "folder_as_file"
    EMPTY_FILE = "empty_file"
    PATH_OUTSIDE = "path_outside"  # ../outside/Author/Title (id): leads out of the library
    PATH_WITH_DOTS = "path_with_dots"  # Author/../Author/Title (id): leads to the file all the same
    OTHER_CASE_EXTENSION = "other_case_extension"  # Title - Author.EPUB
    OTHER_CASE_NAME = "other_case_name"  # tITLE - aUTHOR.epub
    WRONG_SIZE = "wrong_size"
    PDF_NAMED_EPUB = "pdf_named_epub"
    AZW3_NAMED_MOBI = "azw3_named_mobi"
    DUPLICATE = "duplicate"  # an earlier book added once more: same record, same bytes, new id
    CONTROL_CHARACTERS = "control_characters"  # NUL, bell and escape in the title
    LONG_TITLE = "long_title"
    INVALID_UTF8 = "invalid_utf8"
    BLOB_SERIES_INDEX = "blob_series_index"
    UNKNOWN_LANGUAGE = "unknown_language"
    MISSING_COVER = "missing_cover"  # has_cover without a cover.jpg

    def __str__(self) -> str:
        return self.value


UNREADABLE = frozenset(
    {
        Damage.MISSING_FILE,
        Damage.MISSING_FOLDER,
        Damage.DANGLING_SYMLINK,
        Damage.FOLDER_AS_FILE,
        Damage.EMPTY_FILE,
        Damage.PATH_OUTSIDE,
        Damage.PATH_WITH_DOTS,
    }
)
"""Damage that leaves the book without a file that may be loaded."""

_WITHOUT_COVER = frozenset({Damage.MISSING_FOLDER, Damage.PATH_OUTSIDE, Damage.PATH_WITH_DOTS})

# The text function `char` and `CAST` write what no honest program would.
_ROW_DAMAGE = {
    Damage.PATH_OUTSIDE: "UPDATE books SET path = '../outside/' || path WHERE id = ?",
    Damage.PATH_WITH_DOTS: "UPDATE books SET path = substr(path, 1, instr(path, '/')) || '../' || path WHERE id = ?",
    Damage.WRONG_SIZE: "UPDATE data SET uncompressed_size = uncompressed_size + 10 WHERE book = ?",
    Damage.CONTROL_CHARACTERS: "UPDATE books SET title = substr(title, 1, 2) || char(0, 7, 27) || substr(title, 3)"
    " WHERE id = ?",
    Damage.INVALID_UTF8: "UPDATE books SET title = title || CAST(x'20e9ffc328' AS TEXT) WHERE id = ?",
    Damage.BLOB_SERIES_INDEX: "UPDATE books SET series_index = x'0001fe' WHERE id = ?",
}


def prepared(kind: Damage, book: SampleBook, text: BookText, earlier: SampleBook) -> SampleBook:
    """The book as it has to be written for this damage; `text` is what its files hold, `earlier` an intact book."""
    if kind is Damage.DUPLICATE:
        return replace(earlier, id=book.id, formats=earlier.formats[:1], cover=None)
    book = replace(book, formats=(("EPUB", MAKERS["epub"](text)),))
    if kind in _WITHOUT_COVER:
        book = replace(book, cover=None)
    if kind is Damage.MISSING_COVER:
        return replace(book, cover=book.cover or b"\xff\xd8\xff")
    if kind is Damage.BLOB_SERIES_INDEX:
        return replace(book, series=book.series or book.title)
    if kind is Damage.NO_FORMATS:
        return replace(book, formats=())
    if kind is Damage.EMPTY_FILE:
        return replace(book, formats=(("EPUB", b""),))
    if kind is Damage.PDF_NAMED_EPUB:
        return replace(book, formats=(("EPUB", MAKERS["pdf"](text)),))
    if kind is Damage.AZW3_NAMED_MOBI:
        return replace(book, formats=(("MOBI", MAKERS["azw3"](text)),))
    if kind is Damage.LONG_TITLE:
        return replace(book, title=(f"{book.title} " * LONG_TITLE)[: LONG_TITLE - 1] + "!")
    if kind is Damage.UNKNOWN_LANGUAGE:
        return replace(book, languages=("zzz",))
    return book


def inflict(kind: Damage, writer: CalibreWriter, book_id: int) -> None:
    """Break the rows and files of a book that is written.

    The triggers have to be set aside: Calibre's own title_sort cannot be called with invalid UTF-8.
    """
    for file in writer.files(book_id).values():
        if kind is Damage.MISSING_FILE:
            file.unlink()
        elif kind is Damage.MISSING_FOLDER:
            file.unlink()
            file.parent.rmdir()
        elif kind is Damage.DANGLING_SYMLINK:
            file.unlink()
            file.symlink_to("moved-to-another-disk.epub")
        elif kind is Damage.FOLDER_AS_FILE:
            file.unlink()
            file.mkdir()
        elif kind is Damage.OTHER_CASE_EXTENSION:
            file.rename(file.with_suffix(file.suffix.upper()))
        elif kind is Damage.OTHER_CASE_NAME:
            file.rename(file.with_name(file.stem.swapcase() + file.suffix))
        elif kind is Damage.MISSING_COVER:
            (file.parent / "cover.jpg").unlink()
    if kind in _ROW_DAMAGE:
        writer.connection.execute(_ROW_DAMAGE[kind], (book_id,))
