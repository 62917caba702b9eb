"""Ebooks that are pages: PDF, DjVu and comic archives, and the headers of CHM and LIT."""

import re
import struct
import zlib

from bookpipe.demo.ebook_files.book_text import (
    XML_DECLARATION,
    BookText,
    body_paragraphs,
    clean,
    element,
    identifier,
    joined,
    padded,
    series_number,
    year_text,
)
from bookpipe.demo.ebook_files.containers import filler, pdf_file, zip_archive

_LINES_PER_PAGE = 48
_LINE = 85  # characters
_PDF_SPECIAL = re.compile(rb"[\\()\r]")


def _pdf_literal(data: bytes) -> bytes:
    return b"(%b)" % _PDF_SPECIAL.sub(lambda match: b"\\%03o" % match[0][0], data)


def _pdf_text(text: str) -> bytes:
    """A text string: ASCII as it is, anything else in UTF-16BE with its mark."""
    return _pdf_literal(text.encode()) if text.isascii() else b"<FEFF%b>" % text.encode("utf-16-be").hex().encode()


def _wrapped(text: str) -> list[str]:
    """Lines of whole words. Not textwrap: it took most of the time of making a PDF."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= _LINE:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".lstrip()
    return lines


def _pdf(book: BookText, padding: int) -> bytes:
    lines = [clean(book.title), joined(book.authors, ", ")]
    for part in body_paragraphs(book):
        lines += ["", *_wrapped(part)]
    pages = [lines[at : at + _LINES_PER_PAGE] for at in range(0, len(lines), _LINES_PER_PAGE)]

    entries = [(b"Title", clean(book.title)), (b"Author", joined(book.authors)), (b"Keywords", joined(book.tags, ", "))]
    info = b" ".join(b"/%b %b" % (key, _pdf_text(value)) for key, value in entries if value)
    created = b"/CreationDate (D:%b0101000000Z)" % year_text(book).encode() if book.year else b""
    first_page = 5
    kids = b" ".join(b"%d 0 R" % (first_page + 2 * number) for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, len(pages)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< %b /Producer (bookpipe) %b >>" % (info, created),
    ]
    for page in pages:
        shown = b"\n".join(_pdf_literal(line.encode("cp1252", "replace")) + b" '" for line in page)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "
            b"/Resources << /Font << /F1 3 0 R >> >> /Contents %d 0 R >>" % (len(objects) + 2)
        )
        objects.append(_pdf_stream(b"BT /F1 11 Tf 15 TL 60 790 Td\n%b\nET" % shown))
    if padding:
        objects.append(_pdf_stream(b" " * padding))
    return pdf_file(objects, root=1, info=4)


def _pdf_stream(data: bytes) -> bytes:
    return b"<< /Length %d >>\nstream\n%b\nendstream" % (len(data), data)


def make_pdf(book: BookText) -> bytes:
    """PDF 1.4 with an Info dictionary; pages show windows-1252 only, metadata any script."""
    return padded(_pdf, book)


def _djvu(book: BookText, padding: int) -> bytes:
    # width, height, version 24 (low byte first), 100 dpi (little-endian), gamma 2.2, upright
    info = struct.pack(">HHBBHBB", 850, 1100, 24, 0, 0x6400, 22, 1)
    fields = [("title", clean(book.title)), ("author", joined(book.authors)), ("year", year_text(book))]
    pairs = [(key, value.replace("\\", "\\\\").replace('"', '\\"')) for key, value in fields if value]
    metadata = " ".join(f'({key} "{value}")' for key, value in pairs)
    # A page has no text of its own without a compressed layer: the identifier makes the bytes the book's.
    annotation = f'(metadata {metadata} (note "{identifier(book)}"))'.encode() + b" " * padding
    chunks = b"DJVU" + _iff_chunk(b"INFO", info) + _iff_chunk(b"ANTa", annotation)
    return b"AT&T" + _iff_chunk(b"FORM", chunks)


def _iff_chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)


def make_djvu(book: BookText) -> bytes:
    """One empty DjVu page with a plain (not compressed) annotation that holds the metadata."""
    return padded(_djvu, book)


def _comic_page(shade: int) -> bytes:
    """A grey PNG of 40 x 60 pixels."""
    width, height = 40, 60
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),  # 8 bits, grey
        (b"IDAT", zlib.compress((b"\0" + bytes([shade]) * width) * height)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _cbz(book: BookText, padding: int) -> bytes:
    fields = [
        ("Title", book.title),
        ("Series", book.series),
        ("Number", series_number(book) if book.series else None),
        ("Year", year_text(book)),
        ("Writer", joined(book.authors, ", ")),
        ("Genre", joined(book.tags, ", ")),
        ("LanguageISO", book.language),
    ]
    about = f"{XML_DECLARATION}<ComicInfo>{''.join(element(name, value) for name, value in fields)}</ComicInfo>"
    pages = [(f"page{number:03d}.png", _comic_page(60 * number)) for number in range(1, 4)]
    return zip_archive(
        [*pages, ("ComicInfo.xml", about.encode()), *filler("filler.bin", padding)], stored=("filler.bin",)
    )


def make_cbz(book: BookText) -> bytes:
    """A comic of three grey pages with ComicInfo.xml."""
    return padded(_cbz, book)


def _stub_contents(book: BookText) -> bytes:
    return "\0".join([clean(book.title), joined(book.authors), clean(book.body)]).encode()


def make_chm(book: BookText) -> bytes:
    """The header of a compiled HTML help file; its LZX contents are not written."""
    sections = struct.pack("<QQQQQ", 0x60, 0x18, 0x78, 0x54, 0xCC)  # offset and length of two sections, data offset
    guids = bytes.fromhex("10FD017CAA7BD0119E0C00A0C922E6EC11FD017CAA7BD0119E0C00A0C922E6EC")
    header = struct.pack("<4sIIIII", b"ITSF", 3, 0x60, 1, 0, 0x0409) + guids + sections
    data = header + struct.pack("<QQQ", 0x01FE, 0, 0).ljust(0x18, b"\0") + b"ITSP".ljust(0x54, b"\0")
    return (data + _stub_contents(book)).ljust(book.pad_to, b"\0")


def make_lit(book: BookText) -> bytes:
    """The header of a Microsoft Reader book; its LZX contents are not written."""
    header = struct.pack("<8sIIII", b"ITOLITLS", 1, 0x28, 5, 0xE8).ljust(0x110, b"\0")
    return (header + _stub_contents(book)).ljust(book.pad_to, b"\0")
