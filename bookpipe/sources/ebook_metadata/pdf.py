"""PDF: the Info dictionary, read by PDFium, and the first page, drawn by it.

No parser of PDF is safe against every file: hostile ones crash, hang and fill memory. Whoever reads files of unknown
origin does so in a process that may end. XMP is only read where Info has neither title nor author: writers that fill
it mostly fill Info too.
"""

import ctypes
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bookpipe.model.errors import TerminalError
from bookpipe.sources.ebook_metadata.fields import (
    MAX_TITLE,
    EbookMetadata,
    EncryptedError,
    UnreadableError,
    found,
    people,
    people_in_list,
    split_tags,
)
from bookpipe.sources.ebook_metadata.pdf_xmp import read_xmp
from bookpipe.sources.ebook_metadata.text_encodings import decode_mislabelled
from bookpipe.sources.plain_text import clean_text
from bookpipe.sources.zip_directory import ReadAt

_BUFFER = 64 << 10  # bytes: of a file of gigabytes some of these are read
_PAGE = (640, 904)  # pixels of a picture at most: twice what a cover needs
_MAX_TEXT = 100_000  # characters of one entry
_KEYS = ("Title", "Author", "Keywords")


def read_pdf(size: int, read_at: ReadAt) -> EbookMetadata:
    """Title, authors, keywords and language of a PDF. Not for several threads at once, and see above.

    TerminalError when PDFium is not installed.
    """
    pdfium = _pdfium()
    with _opened(pdfium, size, read_at) as document:
        return _metadata(_read(pdfium, document, size, read_at))


def draw_first_page(size: int, read_at: ReadAt) -> bytes | None:
    """The first page as a JPEG, at most twice as large as a cover; None when it is empty or cannot be drawn.

    UnreadableError and EncryptedError when it is no PDF that can be opened; else as `read_pdf`.
    """
    pdfium = _pdfium()
    with _opened(pdfium, size, read_at) as document:
        try:
            page = document[0]
            width, height = page.get_size()
            image = page.render(scale=min(_PAGE[0] / width, _PAGE[1] / height)).to_pil().convert("RGB")
        except (pdfium.PdfiumError, IndexError, ValueError, ZeroDivisionError, OverflowError, MemoryError):
            return None
        if all(low == high for low, high in image.getextrema()):
            return None
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        return buffer.getvalue()


def _pdfium() -> Any:
    try:
        import pypdfium2  # noqa: PLC0415  takes its time, and many shards have no PDF
    except ImportError as error:
        raise TerminalError(f"PDFs cannot be read: {error}; is pypdfium2 installed?") from error
    return pypdfium2


class _File(io.RawIOBase):
    """The bytes as the file that PDFium wants."""

    def __init__(self, size: int, read_at: ReadAt) -> None:
        self._size, self._read_at = size, read_at
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        try:
            piece = self._read_at(self._at, len(view))
        except OSError:  # called from C, where nothing can pass; whoever gave us `read_at` knows of it
            piece = b""
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


@contextmanager
def _opened(pdfium: Any, size: int, read_at: ReadAt) -> Iterator[Any]:
    try:
        document = pdfium.PdfDocument(io.BufferedReader(_File(size, read_at), _BUFFER))
    except pdfium.PdfiumError as error:
        if error.err_code in (pdfium.raw.FPDF_ERR_PASSWORD, pdfium.raw.FPDF_ERR_SECURITY):
            raise EncryptedError(f"the PDF needs a password or key: {error}") from error
        raise UnreadableError(str(error)) from error
    try:
        yield document
    finally:
        document.close()


def _read(pdfium: Any, document: Any, size: int, read_at: ReadAt) -> dict[str, str]:
    """The entries of Info, or those of XMP (by their names with prefix), and the language."""
    entries = {key: document.get_metadata_value(key)[:_MAX_TEXT] for key in _KEYS}
    entries["Lang"] = _language(pdfium.raw, document)
    # Of an encrypted file the stream may be, too: only PDFium could read it, and it does not.
    says = any(clean_text(entries[key], MAX_TITLE) for key in ("Title", "Author"))
    if not says and pdfium.raw.FPDF_GetSecurityHandlerRevision(document) < 0:
        entries |= {name: text[:_MAX_TEXT] for name, text in read_xmp(size, read_at).items()}
    return entries


def _language(raw: Any, document: Any) -> str:
    units = (ctypes.c_ushort * 128)()
    length = raw.FPDFCatalog_GetLanguage(document, units, ctypes.sizeof(units))  # bytes, with the NUL at the end
    return bytes(units)[: max(0, length - 2)].decode("utf-16-le", "replace") if length <= ctypes.sizeof(units) else ""


def _metadata(answer: dict[str, str]) -> EbookMetadata:
    title, author, keywords = (_info_text(answer.get(key, "")) for key in ("Title", "Author", "Keywords"))
    creators = answer.get("dc:creator", "").split("\n")  # one person each
    return found(
        title=title or answer.get("dc:title"),
        authors=people_in_list(author, joined_by_words=True) if author else people(*creators, joined_by_words=True),
        languages=[answer.get("Lang")] if answer.get("Lang") else answer.get("dc:language", "").split("\n"),
        tags=split_tags(keywords, answer.get("dc:subject")),
    )


# PDFDocEncoding (ISO 32000-1, D.2) where it is not Latin-1. Three codes have no character: PDFium gives NUL for them.
_PDF_DOC = {
    **dict(zip("•†‡…—–ƒ⁄‹›−‰„“”‘’‚™ﬁﬂŁŒŠŸŽıłœšž", range(0x80, 0x9F), strict=True)),
    "€": 0xA0,
}
# The lead bytes of UTF-8 behind which NUL was 9F, as in the Russian П, ğ and ş, and not AD, as in í and 中.
_BEFORE_9F = b"\xc4\xc5\xd0"


def _info_text(text: str) -> str:
    """An Info entry as it was meant, '' for one that says nothing.

    It ought to be in PDFDocEncoding or UTF-16; writers put UTF-8 and windows-1251 there.
    """
    if not clean_text(text, MAX_TITLE):
        return ""
    if text.isascii():
        return text
    data = bytearray()
    for character in text:
        code = _PDF_DOC.get(character, ord(character))
        if code > 0xFF:
            return text
        data.append((0x9F if data[-1:] in _BEFORE_9F else 0xAD) if character == "\0" and data else code)
    return decode_mislabelled(bytes(data)) or text
