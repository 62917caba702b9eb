"""Small but real ebook files for the demo and the tests, one maker per format.

A maker is a pure function of its book: no clock, no randomness, so a demo collection is the same on every
machine. Every format that can hold metadata holds the book's, where its own readers look for it. CHM and LIT
are stubs: their headers are right, their compressed contents are not written.
"""

from collections.abc import Callable

from bookpipe.demo.ebook_files.book_text import BookText
from bookpipe.demo.ebook_files.covers import make_cover_jpeg
from bookpipe.demo.ebook_files.markup import make_epub, make_fb2, make_fb2_zip, make_html, make_txt
from bookpipe.demo.ebook_files.office import make_doc, make_docx, make_odt, make_rtf
from bookpipe.demo.ebook_files.pages import make_cbz, make_chm, make_djvu, make_lit, make_pdf
from bookpipe.demo.ebook_files.palm import make_azw3, make_mobi, make_pdb, make_prc

MAKERS: dict[str, Callable[[BookText], bytes]] = {
    "pdf": make_pdf,
    "txt": make_txt,
    "pdb": make_pdb,
    "rtf": make_rtf,
    "doc": make_doc,
    "mobi": make_mobi,
    "prc": make_prc,
    "epub": make_epub,
    "odt": make_odt,
    "djvu": make_djvu,
    "html": make_html,
    "htm": make_html,
    "chm": make_chm,
    "lit": make_lit,
    "fb2": make_fb2,
    "docx": make_docx,
    "azw3": make_azw3,
    "cbz": make_cbz,
    "fbz": make_fb2_zip,
}

__all__ = [
    "MAKERS",
    "BookText",
    "make_azw3",
    "make_cbz",
    "make_chm",
    "make_cover_jpeg",
    "make_djvu",
    "make_doc",
    "make_docx",
    "make_epub",
    "make_fb2",
    "make_fb2_zip",
    "make_html",
    "make_lit",
    "make_mobi",
    "make_odt",
    "make_pdb",
    "make_pdf",
    "make_prc",
    "make_rtf",
    "make_txt",
]
