"""What an ebook says about itself: title, authors, languages, series, tags and where its cover is.

One reader per family of formats. Each takes (size, read_at), reads the few kilobytes that hold metadata, and may
raise anything on hostile bytes: `read_metadata` turns that into a status.
"""

from collections.abc import Callable
from typing import TypeVar

from bookpipe.model.errors import BookpipeError
from bookpipe.sources.ebook_metadata.covers import read_cover
from bookpipe.sources.ebook_metadata.doc import read_doc
from bookpipe.sources.ebook_metadata.epub import read_epub
from bookpipe.sources.ebook_metadata.fb2 import read_fb2
from bookpipe.sources.ebook_metadata.fields import EbookMetadata, EncryptedError, Status, UnreadableError, refused
from bookpipe.sources.ebook_metadata.html import read_html
from bookpipe.sources.ebook_metadata.mobi import read_mobi, read_pdb
from bookpipe.sources.ebook_metadata.office import read_docx, read_odt
from bookpipe.sources.ebook_metadata.pdf import draw_first_page, read_pdf
from bookpipe.sources.ebook_metadata.rtf import read_rtf
from bookpipe.sources.zip_directory import ReadAt

__all__ = ["EbookMetadata", "Status", "find_cover", "read_cover", "read_metadata"]

Reader = Callable[[int, ReadAt], EbookMetadata]
T = TypeVar("T")

# By kind, as ebook_types names it. The others say nothing: txt, djvu (a compressed chunk, rarely filled), chm, lit.
_READERS: dict[str, Reader] = {
    "epub": read_epub,
    "fb2": read_fb2,
    "fbz": read_fb2,
    "mobi": read_mobi,
    "prc": read_mobi,
    "azw3": read_mobi,
    "pdb": read_pdb,
    "pdf": read_pdf,
    "doc": read_doc,
    "docx": read_docx,
    "odt": read_odt,
    "rtf": read_rtf,
    "html": read_html,
    "htm": read_html,
}


def read_metadata(kind: str, data: bytes | bytearray | memoryview, size: int, read_at: ReadAt) -> EbookMetadata:
    """What a file of `kind` (see `ebook_types.identify`) and `size` bytes says about its book.

    `data` is the file or any beginning of it that is in memory; `read_at(offset, length)` is asked for what lies
    beyond: a few blocks of a PDF, the directory (at most 16 MB) and one member (at most 4 MB) of a zip, at most a
    megabyte of the others.

    No bytes raise: hostile and damaged files are `unreadable`. But bytes may crash the process or keep it busy for
    ever, above all those of a PDF: files of unknown origin are read in a process that may end. What does raise is the
    world around them: an OSError of `read_at`, and a BookpipeError when a library is missing. Threads may call this at
    once, but for PDFs.
    """
    reader = _READERS.get(kind)
    if reader is None:
        return EbookMetadata()
    try:
        return _noticing_failures(reader, data, size, read_at)
    except EncryptedError as error:
        return refused("encrypted", str(error))
    except UnreadableError as error:
        return refused("unreadable", str(error))


def find_cover(kind: str, data: bytes | bytearray | memoryview, size: int, read_at: ReadAt) -> bytes | None:
    """The picture that stands for the book: the one a file names as its cover, of a PDF its first page.

    As `read_metadata` otherwise.
    """
    if kind != "pdf":
        return read_cover(kind, read_metadata(kind, data, size, read_at).cover, size, read_at)
    try:
        return _noticing_failures(draw_first_page, data, size, read_at)
    except (UnreadableError, EncryptedError):
        return None


def _noticing_failures(
    read: Callable[[int, ReadAt], T], data: bytes | bytearray | memoryview, size: int, read_at: ReadAt
) -> T:
    """What a parser says of a file; UnreadableError for whatever else it raises. A failure of the source is no
    failure of the file: it is raised, whatever the parser made of it."""
    failures: list[OSError] = []

    def read_part(offset: int, length: int) -> bytes:
        length = max(0, min(length, size - offset))
        if offset + length <= len(data) or not length:
            return bytes(data[offset : offset + length])
        try:
            return read_at(offset, length)
        except OSError as error:
            failures.append(error)
            raise

    try:
        return read(size, read_part)
    except (EncryptedError, UnreadableError, BookpipeError):
        raise
    except Exception as error:  # any parser on any bytes
        raise UnreadableError(f"{type(error).__name__}: {error}") from error
    finally:
        if failures:
            raise failures[0]
