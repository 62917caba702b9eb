"""What a file is, decided by its content: our own signature table, a few hundred bytes and rarely more.

Names of files lie (RTF called .doc, EPUB called .zip, error pages called .pdf), so the name a file was given
only decides between kinds whose bytes are the same: mobi and prc, html and htm, cbr and rar, cb7 and 7z,
plain text and the many formats that are plain text. An archive among ebooks is a comic until its name denies it.

The table exists because libmagic calls azw3 mobi, FB2 xml or text, PalmDoc octet-stream, and every EPUB whose
mimetype is not the first member a zip (measured with libmagic 5.44: 58 of 94 labelled files right, at 4,000-6,000
files per second; this table takes 0.5-10 us for a file in memory). Libmagic only labels what the table does not know.
"""

import codecs
import re
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from bookpipe.sources.zip_directory import ReadAt, ZipEntry, read_entries, read_member

HEAD_BYTES = 4096

Test = Callable[[bytes, int, ReadAt, str | None], str | None]


def identify(head: bytes, size: int, read_at: ReadAt, given: str | None = None) -> str | None:
    """The kind of a file as a lower-case extension, or None for what the table does not know.

    `head` is at least the first min(size, 4096) bytes, `size` the bytes of the whole file, `given` the extension
    its name claims (lower case, no dot). `read_at(offset, length)` is asked for parts beyond the head: nothing
    for most kinds, 40 bytes for a long mobi, the directory (at most 16 MB) of a zip or an OLE file. An empty file
    has no kind. Content never raises, whatever it claims; an OSError of `read_at` passes through.

    Ebooks: pdf txt pdb rtf doc mobi prc epub odt djvu html htm chm lit fb2 docx azw3. Kinds that are told apart
    from these: zip fbz cbz htmlz txtz cbr rar cb7 7z kfx azw1 lrf tcr snb, xls ppt msg ole, xlsx pptx, ott odm oth
    ods odp odg, ibooks idml mxl, opf ncx svg xml ps, jpg png gif gz.
    """

    def read(offset: int, length: int) -> bytes:
        end = min(offset + length, size)
        if end <= len(head) or end <= offset:
            return head[offset:end]
        return read_at(offset, end - offset)

    test = _BY_FIRST_BYTES.get(head[:4])
    kind = test(head, size, read, given) if test else None
    if kind is None:
        test = _BY_PALM_TYPE.get(head[60:68])
        kind = test(head, size, read, given) if test else None
    return kind or _text_or_pdf(head, given)


def label_unknown(head: bytes) -> str | None:
    """Libmagic's MIME type for a file the table does not know; None without python-magic or libmagic."""
    magic = _magic_module()
    if magic is None:
        return None
    try:
        # A Magic object holds a lock and is only fast inside one thread.
        reader = getattr(_per_thread, "reader", None)
        if reader is None:
            reader = _per_thread.reader = magic.Magic(mime=True)
        label = reader.from_buffer(head)
    except Exception:  # a label is a courtesy: no state of a system library may stop a load
        return None
    return str(label) if label else None


_per_thread = threading.local()


@cache  # a failed search for the library starts processes: once is enough
def _magic_module() -> Any:
    try:
        import magic  # noqa: PLC0415  raises ImportError when there is no libmagic
    except Exception:
        return None
    return magic


def _u16le(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _u32le(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


# -- signatures at the start --------------------------------------------------------------------------------------


def _starts(signature: bytes, kind: str, *, same_bytes: str | None = None) -> Test:
    """A kind known by its first bytes. `same_bytes`: what it is called when the name says so."""

    def test(head: bytes, _size: int, _read: ReadAt, given: str | None) -> str | None:
        if not head.startswith(signature):
            return None
        return same_bytes if same_bytes and given == same_bytes else kind

    return test


def _djvu(head: bytes, _size: int, _read: ReadAt, _given: str | None) -> str | None:
    return "djvu" if head.startswith(b"AT&TFORM") and head[12:16] in (b"DJVU", b"DJVM") else None


def _chm(head: bytes, _size: int, _read: ReadAt, _given: str | None) -> str | None:
    return "chm" if head[5:8] == b"\0\0\0" else None  # the version: 2 to 4


def _kfx(head: bytes, _size: int, _read: ReadAt, _given: str | None) -> str | None:
    return "kfx" if head[4:6] in (b"\1\0", b"\2\0") else None  # the version; also the first letters of CONTENTS


# -- OLE ----------------------------------------------------------------------------------------------------------

_OLE_STREAMS = {
    name.encode("utf-16-le"): kind
    for name, kind in {
        "WordDocument": "doc",
        "Workbook": "xls",
        "Book": "xls",
        "PowerPoint Document": "ppt",
        "__properties_version1.0": "msg",
    }.items()
}
_MAX_OLE_DIRECTORY_SECTORS = 16
_OLE_HEADER_FAT_SECTORS = 109  # those the header lists itself; they cover the first 7 MB


def _ole(head: bytes, _size: int, read: ReadAt, _given: str | None) -> str | None:
    """Which program wrote an OLE compound file ([MS-CFB]): the first stream of a known name in its directory.

    Streams of embedded objects come later in the directory than those of the document around them.
    """
    shift = _u16le(head, 30)
    if head[4:8] != b"\xa1\xb1\x1a\xe1":
        return None
    if shift not in (9, 12):
        return "ole"
    sector = _u32le(head, 48)
    for _ in range(_MAX_OLE_DIRECTORY_SECTORS):
        directory = read((sector + 1) << shift, 1 << shift)
        for at in range(0, len(directory), 128):
            name_bytes = min(_u16le(directory, at + 64), 64)
            kind = _OLE_STREAMS.get(directory[at : at + name_bytes - 2]) if name_bytes > 2 else None
            if kind:
                return kind
        fat, entry = divmod(sector, 1 << (shift - 2))
        if not directory or fat >= _OLE_HEADER_FAT_SECTORS:
            break
        link = read(((_u32le(head, 76 + 4 * fat) + 1) << shift) + 4 * entry, 4)
        if len(link) < 4:
            break
        sector = _u32le(link, 0)
    return "ole"


# -- zip ----------------------------------------------------------------------------------------------------------

_MIMETYPES = {
    b"application/epub+zip": "epub",
    b"application/vnd.oasis.opendocument.text": "odt",
    b"application/vnd.oasis.opendocument.text-template": "ott",
    b"application/vnd.oasis.opendocument.text-master": "odm",
    b"application/vnd.oasis.opendocument.text-web": "oth",
    b"application/vnd.oasis.opendocument.spreadsheet": "ods",
    b"application/vnd.oasis.opendocument.presentation": "odp",
    b"application/vnd.oasis.opendocument.graphics": "odg",
    b"application/x-ibooks+zip": "ibooks",
    b"application/vnd.adobe.indesign-idml-package": "idml",
    b"application/vnd.recordare.musicxml": "mxl",
}
_MIMETYPE_BYTES = 80
_IMAGES = (b".jpg", b".jpeg", b".png", b".gif", b".webp", b".bmp", b".tif", b".tiff", b".avif", b".jxl")
_LITTER = (b"__macosx/", b".ds_store", b"thumbs.db", b"desktop.ini")


def _zip(head: bytes, size: int, read: ReadAt, _given: str | None) -> str | None:
    # A stored first member named mimetype, as EPUB and OpenDocument ask for: no need to look further.
    if head[8:10] == b"\0\0" and head[26:28] == b"\x08\0" and head[30:38] == b"mimetype":
        start = 38 + _u16le(head, 28)
        # Where the length is only written behind the data it is 0 here: then the next record ends the value.
        length = _u32le(head, 18) or _MIMETYPE_BYTES
        value = head[start : start + min(length, _MIMETYPE_BYTES)].partition(b"PK")[0]
        kind = _MIMETYPES.get(value.strip())
        if kind:
            return kind
    entries = read_entries(size, read)
    return "zip" if entries is None else _kind_of_members(entries, size, read)


def _part_of_zip(head: bytes, size: int, read: ReadAt, given: str | None) -> str | None:
    """The first part of several, or the only one: then it is a whole zip behind that mark (APPNOTE 8.5.3, 8.5.4)."""
    return _zip(head[4:], size, read, given) if head.startswith(b"PK\x03\x04", 4) else None


def _kind_of_members(entries: list[ZipEntry], size: int, read: ReadAt) -> str:
    members = {entry.name.replace(b"\\", b"/").lower(): entry for entry in entries}
    files = [name for name in members if not name.endswith(b"/") and not name.startswith(_LITTER)]

    mimetype = members.get(b"mimetype")
    declared = read_member(mimetype, size, read, _MIMETYPE_BYTES) if mimetype else None
    manifest = members.get(b"meta-inf/manifest.xml") if b"content.xml" in members else None
    kind = _MIMETYPES.get(declared.strip()) if declared else None
    if kind is None and b"meta-inf/container.xml" in members:
        kind = "epub"
    if kind is None and manifest:
        kind = _kind_of_manifest(read_member(manifest, size, read, HEAD_BYTES) or b"")
    return kind or _kind_of_names(files)


def _kind_of_manifest(manifest: bytes) -> str | None:
    """An OpenDocument file without a mimetype still names its type in the manifest, in quotes."""
    for quoted in manifest.replace(b"'", b'"').split(b'"')[1::2]:
        if quoted in _MIMETYPES:
            return _MIMETYPES[quoted]
    return None


_BY_MEMBER_START = ((b"word/document", "docx"), (b"xl/workbook.", "xlsx"), (b"ppt/presentation.", "pptx"))


def _kind_of_names(files: list[bytes]) -> str:
    """Zips known by the names of their members. Word's main part is mostly, not always, word/document.xml."""
    for start, kind in _BY_MEMBER_START:
        if any(name.startswith(start) and name.endswith((b".xml", b".bin")) for name in files):
            return kind
    if len(files) <= 3 and sum(name.endswith(b".fb2") for name in files) == 1:
        return "fbz"
    if any(name.endswith(b".opf") for name in files):
        for index, kind in ((b"index.html", "htmlz"), (b"index.txt", "txtz")):
            if index in files:
                return kind
    images = sum(name.endswith(_IMAGES) for name in files)
    return "cbz" if b"comicinfo.xml" in files or images * 5 >= len(files) * 4 > 0 else "zip"


# -- Palm databases: type and creator at 60, records listed from 78 -----------------------------------------------


def _mobi(head: bytes, _size: int, read: ReadAt, given: str | None) -> str | None:
    # Record 0 lies behind the list of records: beyond the head in a book of more than about 2 MB of text.
    record = read(int.from_bytes(head[78:82], "big"), 40)
    if len(record) < 40 or record[16:20] != b"MOBI":
        return None
    # A file with both a MOBI 6 and a KF8 book (EXTH 121) has version 6 here and is read as the former.
    if int.from_bytes(record[36:40], "big") >= 8:
        return "azw3"
    return "prc" if given == "prc" else "mobi"


def _pdb(head: bytes, size: int, _read: ReadAt, _given: str | None) -> str | None:
    records = int.from_bytes(head[76:78], "big")
    first = int.from_bytes(head[78:82], "big")
    return "pdb" if records and 78 + 8 * records <= first < size and b"\0" in head[:32] else None


_BY_PALM_TYPE: dict[bytes, Test] = {
    b"BOOKMOBI": _mobi,
    b"TEXtREAd": _pdb,  # PalmDoc
    b"PNRdPPrs": _pdb,  # eReader
    b"PNPdPPrs": _pdb,
    b"zTXTGPlm": _pdb,  # zTXT
    b"DataPlkr": _pdb,  # Plucker
    b"BOOKMTIT": _pdb,  # Haodoo
    b"BOOKMTIU": _pdb,
    b"TEXtTlDc": _pdb,  # TealDoc
    b"ToGoToGo": _pdb,  # iSilo
    b"SDocSilX": _pdb,  # iSilo 3
    b".pdfADBE": _pdb,  # Adobe Reader for Palm
}

_BY_FIRST_BYTES: dict[bytes, Test] = {
    b"%PDF": _starts(b"%PDF-", "pdf"),
    b"PK\x03\x04": _zip,
    b"PK\x05\x06": _starts(b"PK\x05\x06", "zip"),  # without members
    b"PK\x07\x08": _part_of_zip,
    b"PK00": _part_of_zip,
    b"AT&T": _djvu,
    b"ITSF": _chm,
    b"ITOL": _starts(b"ITOLITLS", "lit"),
    b"{\\rt": _starts(b"{\\rtf", "rtf"),
    b"\xd0\xcf\x11\xe0": _ole,
    b"Rar!": _starts(b"Rar!\x1a\x07", "cbr", same_bytes="rar"),
    b"7z\xbc\xaf": _starts(b"7z\xbc\xaf\x27\x1c", "cb7", same_bytes="7z"),
    b"CONT": _kfx,
    b"\xeaDRM": _starts(b"\xeaDRMION\xee", "kfx"),
    b"TPZ0": _starts(b"TPZ0", "azw1"),
    b"L\0R\0": _starts(b"L\0R\0F\0", "lrf"),
    b"!!8-": _starts(b"!!8-Bit!!", "tcr"),
    b"SNBP": _starts(b"SNBP000B", "snb"),
    b"%!PS": _starts(b"%!PS", "ps"),
    b"\x89PNG": _starts(b"\x89PNG\r\n\x1a\n", "png"),
    b"GIF8": _starts(b"GIF8", "gif"),
    **{b"\xff\xd8\xff" + bytes([marker]): _starts(b"\xff\xd8\xff", "jpg") for marker in range(0xC0, 0xFF)},
    **{b"\x1f\x8b\x08" + bytes([flags]): _starts(b"\x1f\x8b\x08", "gz") for flags in range(32)},
}


# -- text, and PDF behind other bytes -----------------------------------------------------------------------------

_UTF16 = {b"\xff\xfe": codecs.utf_16_le_decode, b"\xfe\xff": codecs.utf_16_be_decode}
_UTF16_MARKUP = {b"<\0": codecs.utf_16_le_decode, b"\0<": codecs.utf_16_be_decode}
_PDF_HEADER_WITHIN = 1024  # Adobe's readers accept the header anywhere in these bytes
_PDF_HEADER = re.compile(rb"%PDF-(?:\d\.\d)?(?P<end>[ \t]{0,8}[\r\n])?")
_PDF_OBJECT = re.compile(rb"\d\s+\d+\s+obj\b")
_CONTROL = bytes(code for code in range(32) if code not in b"\t\n\v\f\r\x1a") + b"\x7f"  # 1A ends a DOS file
_TEXT_FORMATS = frozenset(("md", "rst", "tex", "csv", "json", "ini", "log", "nfo", "srt", "css", "js", "eml", "mht"))


def _text_or_pdf(head: bytes, given: str | None) -> str | None:
    text, is_utf16 = _as_ascii(head[:HEAD_BYTES])
    start = text.lstrip()
    kind = _markup(start, given) if start.startswith(b"<") else None
    if kind is None and start.startswith(b"{\\rtf"):
        kind = "rtf"
    if kind is None:
        header = _PDF_HEADER.search(head, 0, _PDF_HEADER_WITHIN + len(b"%PDF-1.4 \r"))
        if header and header.start() <= _PDF_HEADER_WITHIN - len(b"%PDF-"):
            # A text that mentions the header within a line has no object behind it.
            mentioned = header["end"] is None and not _PDF_OBJECT.search(head, header.end(), HEAD_BYTES)
            kind = None if mentioned and _is_text(text if is_utf16 else head[:HEAD_BYTES]) else "pdf"
    # Markup in UTF-16 without its mark was tried above; as text, its NULs would make it binary.
    if kind is None and _is_text(text if is_utf16 else head[:HEAD_BYTES]):
        kind = _text_format(text, given)
    return kind


def _as_ascii(head: bytes) -> tuple[bytes, bool]:
    """(the text with its ASCII characters as single bytes, whether a mark says it is UTF-16)"""
    first = head[:2]
    marked = first in _UTF16
    decode = _UTF16.get(first) or _UTF16_MARKUP.get(first)
    if decode is None:
        while head.startswith(codecs.BOM_UTF8):  # programs that add one do not look whether there is one
            head = head[3:]
        return head, False
    try:
        decoded, _ = decode(head[2:] if marked else head, "strict", False)  # the head may cut a character
    except UnicodeDecodeError:
        return head, False
    return decoded.lstrip("\ufeff").encode("latin-1", "replace"), marked


def _is_text(text: bytes) -> bool:
    """No NUL and fewer than 2 % control bytes."""
    return bool(text) and b"\0" not in text and (len(text) - len(text.translate(None, _CONTROL))) * 50 < len(text)


def _text_format(text: bytes, given: str | None) -> str:
    if given in _HTML_NAMES and b"</" in text:
        return _HTML_NAMES[given]
    return given if given in _TEXT_FORMATS else "txt"


_TAG = re.compile(rb"<(?:[\w.-]+:)?([A-Za-z][\w.-]*)")
_HTML_NAMES = {"html": "html", "htm": "htm", "xhtml": "html"}
_is_html_tag = re.compile(rb"html|head|body|title|meta|link|style|script|table|div|p|center|font|h[1-6]|pre").fullmatch
_XML_ROOTS = {b"fictionbook": "fb2", b"package": "opf", b"ncx": "ncx", b"svg": "svg"}


def _markup(text: bytes, given: str | None) -> str | None:
    """The kind of what starts with `<`: its first element decides; a prolog longer than the head leaves it open."""
    html = _HTML_NAMES.get(given or "", "html")
    declared = text.startswith(b"<?xml")
    at = 0
    while text.startswith((b"<?", b"<!"), at):
        if text[at : at + 9].lower() == b"<!doctype" and text[at + 9 : at + 40].lower().lstrip().startswith(b"html"):
            return html
        end = _end_of_prolog_part(text, at)
        if end < 0:
            return "fb2" if declared and given == "fb2" else _HTML_NAMES.get(given or "", "xml" if declared else None)
        at = len(text) - len(text[end:].lstrip())
    tag = _TAG.match(text, at)
    root = tag[1].lower() if tag else b""
    if _is_html_tag(root):
        return html
    return _XML_ROOTS.get(root, "xml" if declared else None)


def _end_of_prolog_part(text: bytes, at: int) -> int:
    """Where the declaration, comment or document type at `at` ends; -1 when that is beyond `text`."""
    if text.startswith(b"<!--", at):
        close, start = b"-->", at + 4
    elif text.startswith(b"<?", at):
        close, start = b"?>", at + 2
    else:
        close, start = b">", at + 2
        subset = text.find(b"[", at)
        if 0 <= subset < text.find(b">", at):
            start = text.find(b"]", subset)
    end = text.find(close, start) if start >= 0 else -1
    return end + len(close) if end >= 0 else -1
