"""Ebooks that are markup: EPUB, FictionBook, HTML and plain text."""

import base64

from bookpipe.demo.ebook_files.book_text import (
    XML_DECLARATION,
    BookText,
    body_paragraphs,
    clean,
    element,
    elements,
    escaped,
    html_paragraphs,
    identifier,
    joined,
    padded,
    series_number,
    year_text,
)
from bookpipe.demo.ebook_files.containers import filler, zip_archive

_CONTAINER = (
    XML_DECLARATION + '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
).encode()
_XHTML = (
    XML_DECLARATION
    + '<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops">\n'
)


def _epub(book: BookText, padding: int) -> bytes:
    title = escaped(book.title)
    creators = "".join(
        f'<dc:creator id="author{number}">{escaped(author)}</dc:creator>\n'
        f'<meta refines="#author{number}" property="role" scheme="marc:relators">aut</meta>\n'
        for number, author in enumerate(book.authors)
    )
    series = (
        f'<meta name="calibre:series" content="{escaped(book.series)}"/>\n'
        f'<meta name="calibre:series_index" content="{series_number(book)}"/>\n'
        if book.series
        else ""
    )
    listed = '<item id="filler" href="filler.css" media-type="text/css"/>' if padding else ""
    if book.cover:
        listed += '<item id="cover" href="cover.jpg" media-type="image/jpeg" properties="cover-image"/>'
    package = (
        f'{XML_DECLARATION}<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="uid">\n'
        f'<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">\n'
        f'<dc:identifier id="uid">urn:uuid:{identifier(book)}</dc:identifier>\n'
        f"<dc:title>{title or 'Untitled'}</dc:title>\n{creators}"
        f"<dc:language>{escaped(book.language)}</dc:language>\n"
        f"{elements('dc:subject', book.tags)}{element('dc:date', year_text(book))}\n"
        f'<meta property="dcterms:modified">2000-01-01T00:00:00Z</meta>\n{series}</metadata>\n'
        f'<manifest><item id="text" href="text.xhtml" media-type="application/xhtml+xml"/>'
        f'<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>{listed}</manifest>\n'
        f'<spine><itemref idref="text"/></spine></package>'
    )
    head = f"{_XHTML}<head><title>{title or 'Untitled'}</title></head>\n"
    text = f"{head}<body>{html_paragraphs(book)}</body></html>"
    link = f'<li><a href="text.xhtml">{title or "Untitled"}</a></li>'
    nav = f'{head}<body><nav epub:type="toc"><ol>{link}</ol></nav></body></html>'
    members = [
        ("mimetype", b"application/epub+zip"),
        ("META-INF/container.xml", _CONTAINER),
        ("OEBPS/content.opf", package.encode()),
        ("OEBPS/nav.xhtml", nav.encode()),
        ("OEBPS/text.xhtml", text.encode()),
        *([("OEBPS/cover.jpg", book.cover)] if book.cover else []),
        *filler("OEBPS/filler.css", padding),
    ]
    return zip_archive(members, stored=("mimetype", "OEBPS/cover.jpg", "OEBPS/filler.css"))


def make_epub(book: BookText) -> bytes:
    """EPUB 3.3 with one chapter; series as Calibre writes it."""
    return padded(_epub, book)


_CODECS_WITH_MARK = {"utf-16": ("utf-16-le", b"\xff\xfe"), "utf-8-sig": ("utf-8", b"\xef\xbb\xbf")}


def _fb2_author(name: str) -> str:
    *first, last = clean(name).split() or ["Unknown"]
    parts = element("first-name", " ".join(first[:1])) + element("middle-name", " ".join(first[1:]))
    return f"<author>{parts}<last-name>{escaped(last)}</last-name></author>"


def make_fb2(book: BookText, encoding: str = "utf-8") -> bytes:
    """FictionBook 2.0 in any Python codec; characters it lacks become references, "utf-16" gets its mark."""
    codec, mark = _CODECS_WITH_MARK.get(encoding, (encoding, b""))
    name = "UTF-8" if encoding == "utf-8-sig" else encoding.upper()
    authors = "".join(map(_fb2_author, book.authors)) or _fb2_author("")
    sequence = f'<sequence name="{escaped(book.series)}" number="{series_number(book)}"/>' if book.series else ""
    paragraphs = "\n".join(f"<p>{escaped(part)}</p>" for part in body_paragraphs(book)) or "<empty-line/>"
    links, page, picture = "", "", ""
    if book.cover:
        links = ' xmlns:l="http://www.w3.org/1999/xlink"'
        page = '<coverpage><image l:href="#cover.jpg"/></coverpage>'
        encoded = base64.b64encode(book.cover).decode()
        picture = f'<binary id="cover.jpg" content-type="image/jpeg">{encoded}</binary>'
    text = (
        f'<?xml version="1.0" encoding="{name}"?>\n'
        f'<FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0"{links}>\n'
        f"<description><title-info>{elements('genre', book.tags) or '<genre>other</genre>'}{authors}"
        f"<book-title>{escaped(book.title)}</book-title>{element('date', year_text(book))}{page}"
        f"<lang>{escaped(book.language)}</lang>{sequence}</title-info>\n"
        f"<document-info>{_fb2_author('bookpipe')}<date>2000</date><id>{identifier(book)}</id>"
        f"<version>1.0</version></document-info></description>\n"
        f"<body><section>{paragraphs}</section></body>{picture}</FictionBook>\n"
    )
    data = mark + text.encode(codec, "xmlcharrefreplace")
    return data + "".ljust(max(0, book.pad_to - len(data))).encode(codec)


def make_fb2_zip(book: BookText) -> bytes:
    """An FB2 zipped as libraries hand it out (.fb2.zip, .fbz)."""
    return zip_archive([("book.fb2", make_fb2(book))], stored=("book.fb2",) if book.pad_to else ())


def make_html(book: BookText) -> bytes:
    """HTML 5 with the author and the keywords in meta elements."""
    authors, tags = escaped(joined(book.authors, ", ")), escaped(joined(book.tags, ", "))
    text = (
        f'<!DOCTYPE html>\n<html lang="{escaped(book.language)}"><head><meta charset="utf-8">'
        f"<title>{escaped(book.title)}</title>\n"
        f'<meta name="author" content="{authors}"><meta name="keywords" content="{tags}"></head>\n'
        f"<body>{html_paragraphs(book)}</body></html>\n"
    )
    return text.encode().ljust(book.pad_to)


def make_txt(book: BookText) -> bytes:
    """Plain text in UTF-8: title, authors, body."""
    text = f"{clean(book.title)}\n\nby {joined(book.authors, ', ')}\n\n{clean(book.body)}\n"
    return text.encode().ljust(book.pad_to)
