"""Office documents: docx, odt, rtf and doc."""

import struct

from bookpipe.demo.ebook_files.book_text import (
    XML_DECLARATION,
    BookText,
    body_paragraphs,
    clean,
    element,
    elements,
    escaped,
    joined,
    padded,
    year_text,
)
from bookpipe.demo.ebook_files.containers import filler, ole_file, ole_summary, zip_archive

_OFFICE = "http://schemas.openxmlformats.org"
_DOCX_TYPES = (
    f'{XML_DECLARATION}<Types xmlns="{_OFFICE}/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="bin" ContentType="application/octet-stream"/>'
    '<Override PartName="/word/document.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/>'
    '<Override PartName="/docProps/core.xml" '
    'ContentType="application/vnd.openxmlformats-package.core-properties+xml"/></Types>'
).encode()
_DOCX_LINKS = (
    f'{XML_DECLARATION}<Relationships xmlns="{_OFFICE}/package/2006/relationships"><Relationship Id="rId1" '
    f'Type="{_OFFICE}/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/>'
    f'<Relationship Id="rId2" Type="{_OFFICE}/package/2006/relationships/metadata/core-properties" '
    'Target="docProps/core.xml"/></Relationships>'
).encode()


_W3C_DATE = ' xsi:type="dcterms:W3CDTF"'


def _docx(book: BookText, padding: int) -> bytes:
    created = f"{year_text(book)}-01-01T00:00:00Z" if book.year else None
    core = (
        f'{XML_DECLARATION}<cp:coreProperties xmlns:cp="{_OFFICE}/package/2006/metadata/core-properties" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"{element('dc:title', book.title)}{element('dc:creator', joined(book.authors))}"
        f"{element('cp:keywords', joined(book.tags, ', '))}{element('dc:language', book.language)}"
        f"{element('dcterms:created', created, _W3C_DATE)}</cp:coreProperties>"
    )
    paragraphs = "".join(
        f'<w:p><w:r><w:t xml:space="preserve">{escaped(part)}</w:t></w:r></w:p>'
        for part in [book.title, *body_paragraphs(book)]
    )
    body = f"<w:body>{paragraphs}</w:body>"
    document = f'{XML_DECLARATION}<w:document xmlns:w="{_OFFICE}/wordprocessingml/2006/main">{body}</w:document>'
    members = [
        ("[Content_Types].xml", _DOCX_TYPES),
        ("_rels/.rels", _DOCX_LINKS),
        ("word/document.xml", document.encode()),
        ("docProps/core.xml", core.encode()),
    ]
    return zip_archive([*members, *filler("word/media/filler.bin", padding)], stored=("word/media/filler.bin",))


def make_docx(book: BookText) -> bytes:
    """Office Open XML text with docProps/core.xml."""
    return padded(_docx, book)


_ODF = "urn:oasis:names:tc:opendocument:xmlns"
_ODT_TYPE = "application/vnd.oasis.opendocument.text"


def _odt(book: BookText, padding: int) -> bytes:
    created = f"{year_text(book)}-01-01T00:00:00" if book.year else None
    meta = (
        f'{XML_DECLARATION}<office:document-meta xmlns:office="{_ODF}:office:1.0" xmlns:meta="{_ODF}:meta:1.0" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" office:version="1.2"><office:meta>'
        f"{element('dc:title', book.title)}{element('meta:initial-creator', joined(book.authors))}"
        f"{element('dc:creator', joined(book.authors))}{element('dc:language', book.language)}"
        f"{elements('meta:keyword', book.tags)}{element('meta:creation-date', created)}"
        "</office:meta></office:document-meta>"
    )
    paragraphs = elements("text:p", tuple(body_paragraphs(book)))
    content = (
        f'{XML_DECLARATION}<office:document-content xmlns:office="{_ODF}:office:1.0" xmlns:text="{_ODF}:text:1.0" '
        f'office:version="1.2"><office:body><office:text>{element("text:h", book.title)}{paragraphs}'
        "</office:text></office:body></office:document-content>"
    )
    members = [("content.xml", content.encode()), ("meta.xml", meta.encode()), *filler("filler.bin", padding)]
    listed = "".join(
        f'<manifest:file-entry manifest:full-path="{name}" manifest:media-type="{kind}"/>'
        for name, kind in [("/", _ODT_TYPE), *((name, "text/xml" if ".xml" in name else "") for name, _ in members)]
    )
    manifest = (
        f'{XML_DECLARATION}<manifest:manifest xmlns:manifest="{_ODF}:manifest:1.0" manifest:version="1.2">{listed}'
    )
    return zip_archive(
        [
            ("mimetype", _ODT_TYPE.encode()),
            *members,
            ("META-INF/manifest.xml", f"{manifest}</manifest:manifest>".encode()),
        ],
        stored=("mimetype", "filler.bin"),
    )


def make_odt(book: BookText) -> bytes:
    """OpenDocument text with meta.xml."""
    return padded(_odt, book)


class _RtfEscapes(dict[int, str]):
    """What stands for a character in RTF, by code point; grows with the characters that are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character in "\\{}":
            text = "\\" + character
        elif code < 128:
            text = character
        else:  # signed 16-bit numbers, "?" for readers without Unicode
            units = character.encode("utf-16-le")
            text = "".join(f"\\u{unit}?" for unit in struct.unpack(f"<{len(units) // 2}h", units))
        self[code] = text
        return text


_RTF_ESCAPES = _RtfEscapes({ord("\n"): "\\line ", ord("\x7f"): ""})


def _rtf_text(text: str) -> str:
    return clean(text).translate(_RTF_ESCAPES)


def make_rtf(book: BookText) -> bytes:
    """RTF 1.9 in pure ASCII with an info group."""
    created = rf"{{\creatim\yr{book.year}\mo1\dy1}}" if book.year else ""
    paragraphs = "\n".join(rf"\par {_rtf_text(part)}" for part in body_paragraphs(book))
    text = (
        rf"{{\rtf1\ansi\ansicpg1252\uc1\deff0{{\fonttbl{{\f0\froman Times New Roman;}}}}"
        rf"{{\info{{\title {_rtf_text(book.title)}}}{{\author {_rtf_text(joined(book.authors))}}}"
        rf"{{\keywords {_rtf_text(joined(book.tags, ', '))}}}{created}}}"
        f"\n\\b {_rtf_text(book.title)}\\b0\n{paragraphs}\n}}"
    )
    return text.encode("ascii").ljust(book.pad_to)


def make_doc(book: BookText) -> bytes:
    """Word 6 in an OLE file with SummaryInformation; the text itself is windows-1252 only."""
    text = "\r".join([clean(book.title), *body_paragraphs(book), ""]).encode("cp1252", "replace")
    start = 0x300  # of the text, behind the longest header a reader may look for
    # magic number, Word 6 version, product, language, flags, then where the text starts and ends and its length
    header = struct.pack("<HHHH16xII20xI", 0xA5DC, 101, 0x4019, 0x0409, start, start + len(text), len(text))
    summary = ole_summary({2: clean(book.title), 4: joined(book.authors), 5: joined(book.tags, ", ")})
    data = ole_file({"WordDocument": header.ljust(start, b"\0") + text, "\x05SummaryInformation": summary})
    return data.ljust(book.pad_to, b"\0")
