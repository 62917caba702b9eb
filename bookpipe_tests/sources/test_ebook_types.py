"""What a file is: over every format the demo makes and over the odd files of real collections."""

import codecs
import io
import struct
import zipfile
import zlib

import pytest

from bookpipe.demo.ebook_files import MAKERS, BookText, make_fb2, make_mobi, make_pdf
from bookpipe.demo.ebook_files.containers import ole_file, palm_database
from bookpipe.sources.ebook_types import HEAD_BYTES, identify

BOOK = BookText("Vojna a mír", ("Lev Tolstoj",), "cs", "Série", 2.5, ("Román",), 1869, "První odstavec.\n\nDruhý.")
FILES = {extension: make(BOOK) for extension, make in MAKERS.items()}
SAME_BYTES = {"prc": "mobi", "htm": "html"}  # only the name tells these apart


class CountingReader:
    """Random access to bytes that counts what it was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.bytes_asked = 0

    def read_at(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length >= 0
        self.bytes_asked += length
        return self.data[offset : offset + length]


def kind_of(data: bytes, given_extension: str | None = None) -> str | None:
    return identify(data[:HEAD_BYTES], len(data), CountingReader(data).read_at, given_extension)


def zip_of(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def names(*members: str) -> bytes:
    return zip_of(*((name, b"x") for name in members))


def stored_first(name: str, value: bytes, *others: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, value)
        for other, data in others:
            archive.writestr(other, data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


# -- every maker --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", MAKERS)
def test_every_made_file_is_known_without_a_name(extension: str) -> None:
    assert kind_of(FILES[extension]) == SAME_BYTES.get(extension, extension)


@pytest.mark.parametrize("extension", MAKERS)
def test_every_made_file_is_known_under_its_own_name(extension: str) -> None:
    assert kind_of(FILES[extension], extension) == extension


@pytest.mark.parametrize("extension", MAKERS)
@pytest.mark.parametrize("lie", ["pdf", "epub", "doc", "txt", "fb2", "zip", "jpg", "", "no such thing"])
def test_a_wrong_name_changes_nothing(extension: str, lie: str) -> None:
    assert kind_of(FILES[extension], lie) == SAME_BYTES.get(extension, extension)


@pytest.mark.parametrize("extension", MAKERS)
def test_a_whole_file_as_head_gives_the_same_as_its_first_bytes(extension: str) -> None:
    data = MAKERS[extension](BookText("Long", ("A B",), "en", None, None, (), None, "Text. " * 3000, pad_to=50_000))
    assert len(data) > 2 * HEAD_BYTES
    whole = identify(data, len(data), lambda offset, length: pytest.fail("everything is in the head"))
    assert whole == kind_of(data) == SAME_BYTES.get(extension, extension)


# -- names that break ties ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "given_extension", "kind"),
    [
        (FILES["mobi"], "prc", "prc"),
        (FILES["mobi"], "azw", "mobi"),
        (FILES["mobi"], "azw3", "mobi"),
        (FILES["azw3"], "prc", "azw3"),
        (FILES["azw3"], "mobi", "azw3"),
        (FILES["html"], "htm", "htm"),
        (FILES["html"], "xhtml", "html"),
        (FILES["rtf"], "doc", "rtf"),
        (b"# Title\n\ntext", "md", "md"),
        (b"# Title\n\ntext", "text", "txt"),
        (b"Rar!\x1a\x07\0", "cbr", "cbr"),
        (b"Rar!\x1a\x07\x01\0", "rar", "rar"),
        (b"Rar!\x1a\x07\x01\0", None, "cbr"),
        (b"Rar!\x1a\x07\x01\0", "pdf", "cbr"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "cb7", "cb7"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "7z", "7z"),
        (b"7z\xbc\xaf\x27\x1c\0\4", None, "cb7"),
        (b"stray words <b>then</b> markup", "htm", "htm"),
        (b"stray words <b>then</b> markup", None, "txt"),
    ],
)
def test_a_name_decides_between_kinds_of_the_same_bytes(data: bytes, given_extension: str | None, kind: str) -> None:
    assert kind_of(data, given_extension) == kind


# -- zips ---------------------------------------------------------------------------------------------------------

_EPUB = b"application/epub+zip"
_CONTAINER = ("META-INF/container.xml", b"<container/>")
_ODF = b"application/vnd.oasis.opendocument."
_ODF_PARTS = (("content.xml", b"<x/>"), ("META-INF/manifest.xml", b"<x/>"))


def _streamed(name: str, value: bytes) -> bytes:
    """A first member whose sizes are only written behind it, as programs that write to a pipe do."""
    member = struct.pack("<4sHHHIIIIHH", b"PK\x03\x04", 20, 8, 0, 0, 0, 0, 0, len(name), 0) + name.encode() + value
    return member + struct.pack("<4sIII", b"PK\x07\x08", zlib.crc32(value), len(value), len(value))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (zip_of(_CONTAINER, ("book.opf", b"x")), "epub"),
        (zip_of(_CONTAINER, ("mimetype", _EPUB)), "epub"),
        (zip_of(("mimetype", _EPUB), _CONTAINER), "epub"),  # deflated
        (stored_first("mimetype", _EPUB + b"\r\n", _CONTAINER), "epub"),
        (stored_first("mimetype", _EPUB + b"\r\n"), "epub"),  # without its container
        (zip_of(("mimetype", _EPUB + b"\n")), "epub"),
        (stored_first("mimetype", b"application/octet-stream", _CONTAINER), "epub"),
        (stored_first("mimetype", _EPUB, _CONTAINER)[:-30], "epub"),  # the end is missing
        (zip_of(("META-INF\\container.xml", b"x"), ("OPS\\book.opf", b"x")), "epub"),
        (_streamed("mimetype", _EPUB) + zip_of(_CONTAINER), "epub"),
        (zip_of(("backup/META-INF/container.xml", b"x"), ("notes.txt", b"x")), "zip"),
        (stored_first("mimetype", b"application/x-ibooks+zip", _CONTAINER), "ibooks"),
        (zip_of(_CONTAINER, ("mimetype", b"application/vnd.adobe.indesign-idml-package")), "idml"),
    ],
)
def test_an_epub_is_known_by_its_mimetype_or_its_container(data: bytes, kind: str) -> None:
    assert kind_of(data) == kind


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (b"text", "odt"),
        (b"text-template", "ott"),
        (b"text-master", "odm"),
        (b"text-web", "oth"),
        (b"spreadsheet", "ods"),
        (b"presentation", "odp"),
        (b"graphics", "odg"),
        (b"spreadsheet-template", "zip"),
    ],
)
def test_an_opendocument_file_is_odt_only_when_it_is_text(family: bytes, kind: str) -> None:
    assert kind_of(stored_first("mimetype", _ODF + family, *_ODF_PARTS)) == kind
    assert kind_of(zip_of(*_ODF_PARTS, ("mimetype", _ODF + family))) == kind
    assert kind_of(_streamed("mimetype", _ODF + family) + zip_of(("a", b""))) == kind
    manifest = b'<m:file-entry m:full-path="/" m:media-type="%b"/>' % (_ODF + family)
    assert kind_of(zip_of(("content.xml", b"x"), ("META-INF/manifest.xml", manifest))) == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (names("[Content_Types].xml", "word/document.xml"), "docx"),
        (names("word/document2.xml", "[Content_Types].xml"), "docx"),
        (names("[Content_Types].xml", "xl/workbook.xml"), "xlsx"),
        (names("[Content_Types].xml", "ppt/presentation.xml"), "pptx"),
        (names("book.fb2"), "fbz"),
        (names("Книга.FB2", "cover.jpg"), "fbz"),
        (names("a.fb2", "b.fb2"), "zip"),
        (names("a.fb2", "1", "2", "3"), "zip"),
        (names("1.jpg", "2.JPG", "3.png", "4.webp", "info.txt"), "cbz"),
        (names("1.jpg", "2.jpg", "3.txt", "4.txt"), "zip"),
        (names("__MACOSX/._1.jpg", "pages/", "pages/1.jpg", "Thumbs.db"), "cbz"),
        (names("ComicInfo.xml", "a", "b", "c"), "cbz"),
        (names("index.html", "metadata.opf", "images/1.jpg"), "htmlz"),
        (names("index.txt", "metadata.opf"), "txtz"),
        (names("index.html"), "zip"),
        (names("book.pdf"), "zip"),
        (names(), "zip"),
        (names("folder/"), "zip"),
        (b"PK\x03\x04" + b"\0" * 100, "zip"),
        (names("word/document.xml")[:-10], "zip"),
    ],
)
def test_other_zips_are_known_by_the_names_of_their_members(data: bytes, kind: str) -> None:
    assert kind_of(data) == kind


@pytest.mark.parametrize("mark", [b"PK00", b"PK\x07\x08"])
@pytest.mark.parametrize("counted", [True, False])
def test_a_zip_of_one_part_is_known_behind_its_mark(mark: bytes, counted: bool) -> None:
    def marked(*members: tuple[str, bytes]) -> bytes:
        """With offsets from the mark on, as they ought to be, or from behind it."""
        buffer = io.BytesIO(mark if counted else b"")
        buffer.seek(0, io.SEEK_END)
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members:
                archive.writestr(name, data)
        return buffer.getvalue() if counted else mark + buffer.getvalue()

    assert kind_of(mark + stored_first("mimetype", _EPUB)) == "epub"
    assert kind_of(marked(_CONTAINER, ("mimetype", _EPUB))) == "epub"
    assert kind_of(marked(("book.fb2", b"x"))) == "fbz"
    assert kind_of(marked(("mimetype", _ODF + b"text"))) == ("odt" if counted else "zip")
    assert kind_of(marked(("book.txt", b"x"))) == "zip"
    assert kind_of(marked(("book.txt", b"x" * 9))[:-30]) == "zip"  # others follow
    assert kind_of(mark + b"text") == ("txt" if mark == b"PK00" else None)


def test_a_zip_with_too_many_members_is_just_a_zip() -> None:
    entry = struct.pack("<4s42x", b"PK\x01\x02")
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, 60_000 * len(entry), 0, 0)
    assert kind_of(b"PK\x03\x04" + b"\0" * 100 + entry * 60_000 + end) == "zip"


# -- FB2 and HTML -------------------------------------------------------------------------------------------------

_FB2 = '<FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0"><description>Война и мир'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "windows-1251", "koi8-r", "iso-8859-1", "utf-16"])
def test_an_fb2_is_known_in_any_encoding(encoding: str) -> None:
    assert kind_of(make_fb2(BOOK, encoding)) == "fb2"


@pytest.mark.parametrize(
    "data",
    [
        _FB2.encode(),
        ("\n\t " + _FB2).encode("cp1251"),
        codecs.BOM_UTF16_BE + _FB2.encode("utf-16-be"),
        ("\ufeff\ufeff" + _FB2).encode(),
        ("\ufeff\ufeff\ufeff\n" + _FB2).encode("utf-16-le"),
        _FB2.encode("utf-16-le"),
        _FB2.encode("utf-16-be"),
        _FB2.replace("<Fict", "<fb:Fict").encode(),
        ("<?xml version='1.0'?><!-- made by < a program > --><?xml-stylesheet a?>" + _FB2).encode(),
        ("<!DOCTYPE FictionBook SYSTEM 'a.dtd' [<!ENTITY a '>'>]>" + _FB2).encode(),
        # a head that ends in the middle of a surrogate pair
        codecs.BOM_UTF16_LE
        + _FB2.encode("utf-16-le").ljust(HEAD_BYTES - 4, b" ")[: HEAD_BYTES - 4]
        + b"\x3d\xd8\0\xde",
    ],
)
def test_an_fb2_is_known_by_its_root_element(data: bytes) -> None:
    assert kind_of(data) == "fb2"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"<!DOCTYPE html>\nJust words", "html"),
        (b"<!doctype\n  HTML PUBLIC '-//IETF//DTD HTML 2.0//EN'>Just words", "html"),
        (b"<!DOCTYPE feed>\nJust words", "txt"),
        (b"\xef\xbb\xbf  <HTML><HEAD>", "html"),
        (b"<head><title>", "html"),
        (b"<body bgcolor=white>", "html"),
        (b"<!-- saved from url --><html>", "html"),
        (b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">', "html"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "x"><html>', "html"),
        ("<html><p>Мир".encode("utf-16"), "html"),
        (b"<html><p>&lt;FictionBook <FictionBook", "html"),
        (b'<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf">', "opf"),
        (b'<?xml version="1.0"?><feed>', "xml"),
        (b'<?xml version="1.0"?><!-- ' + b"x" * 5000, "xml"),
        (b"<This is how it begins, he said.>", "txt"),
        (b"<<< scanned by hand >>>", "txt"),
    ],
)
def test_other_markup_is_known_by_its_first_element(data: bytes, kind: str) -> None:
    assert kind_of(data) == kind


def test_a_name_decides_when_the_first_element_is_beyond_the_head() -> None:
    data = b'<?xml version="1.0"?><!-- ' + b"x" * 5000 + b" --><FictionBook>"
    assert [kind_of(data, name) for name in ("fb2", "html", "htm", "epub")] == ["fb2", "html", "htm", "xml"]


# -- Palm databases -----------------------------------------------------------------------------------------------


def test_a_mobi_whose_first_record_lies_beyond_the_head_is_read_there() -> None:
    long_book = BookText("Long", ("A",), "en", None, None, (), None, "x" * 4_000_000)
    for extension in ("mobi", "azw3"):
        data = MAKERS[extension](long_book)
        assert int.from_bytes(data[78:82], "big") > HEAD_BYTES
        reader = CountingReader(data)
        assert identify(data[:HEAD_BYTES], len(data), reader.read_at) == extension
        assert reader.bytes_asked == 40


def test_a_file_with_a_mobi_and_a_kf8_book_is_a_mobi() -> None:
    data = make_mobi(BOOK)
    at = data.index(b"EXTH")
    # one more record, 121: where the KF8 part starts
    length, records = struct.unpack_from(">II", data, at + 4)
    exth = struct.pack(">4sII", b"EXTH", length + 12, records + 1) + struct.pack(">III", 121, 12, 3)
    assert kind_of(data[:at] + exth + data[at + 12 :]) == "mobi"


@pytest.mark.parametrize("offset", [0, 60, 5_000_000, 0xFFFFFFFF])
def test_a_mobi_that_lies_about_its_first_record_is_unknown(offset: int) -> None:
    data = FILES["mobi"]
    assert kind_of(data[:78] + struct.pack(">I", offset) + data[82:]) is None


@pytest.mark.parametrize(
    "palm_type",
    [
        "TEXtREAd",
        "PNRdPPrs",
        "PNPdPPrs",
        "zTXTGPlm",
        "DataPlkr",
        "BOOKMTIT",
        "BOOKMTIU",
        "TEXtTlDc",
        "ToGoToGo",
        "SDocSilX",
        ".pdfADBE",
    ],
)
def test_every_palm_book_type_is_a_pdb(palm_type: str) -> None:
    data = palm_database(b"CONTACT", palm_type.encode(), [b"record"])
    assert kind_of(data) == "pdb"
    assert kind_of(data[:78] + struct.pack(">I", 86) + data[82:86] + data[88:]) == "pdb"  # no gap behind the list
    assert kind_of(data[:78] + struct.pack(">I", 85) + data[82:]) is None
    assert kind_of(data[:78] + struct.pack(">I", len(data)) + data[82:]) is None
    assert kind_of(data[:78] + b"\xff\xff\xff\xff" + data[82:]) is None
    assert (
        kind_of(b"Forty bytes of text without any NUL then ".ljust(60) + palm_type.encode() + b" is mentioned " * 9)
        == "txt"
    )


def test_a_palm_database_of_another_program_is_unknown() -> None:
    assert kind_of(palm_database(b"Addresses", b"DATAaddr", [b"record"])) is None


# -- OLE ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        ("WordDocument", "doc"),
        ("Workbook", "xls"),
        ("Book", "xls"),
        ("PowerPoint Document", "ppt"),
        ("__properties_version1.0", "msg"),
        ("WordDocuments", "ole"),
        ("Contents", "ole"),
    ],
)
def test_an_ole_file_is_known_by_its_streams(stream: str, kind: str) -> None:
    assert kind_of(ole_file({stream: b"x", "\x05SummaryInformation": b"y"})) == kind


def _ole_with_late_stream(*, loops: bool = False) -> bytes:
    """A document whose directory has four unnamed entries first, and its next sector somewhere else."""
    data = bytearray(ole_file({"WordDocument": b"x", "\x05SummaryInformation": b"y"}))
    first = struct.unpack_from("<I", data, 48)[0]
    directory = bytes(data[(first + 1) * 512 : (first + 2) * 512])
    last = len(data) // 512 - 1
    data += directory
    data[(first + 1) * 512 : (first + 2) * 512] = bytes(512)
    struct.pack_into("<I", data, 512 + 4 * first, first if loops else last)
    return bytes(data)


def test_a_doc_whose_stream_is_named_in_a_later_sector_is_a_doc() -> None:
    assert kind_of(_ole_with_late_stream()) == "doc"


def test_an_ole_directory_in_a_circle_ends() -> None:
    assert kind_of(_ole_with_late_stream(loops=True)) == "ole"


@pytest.mark.parametrize("length", [8, 31, 60, 511, 512, 1024])
def test_a_cut_ole_file_is_just_ole(length: int) -> None:
    assert kind_of(FILES["doc"][:length]) == "ole"


# -- PDF, text and the rest ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("junk", [b"\n", b"\0" * 128, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000, bytes(range(256)) * 3])
def test_a_pdf_is_known_behind_junk(junk: bytes) -> None:
    assert kind_of(junk + make_pdf(BOOK)) == "pdf"


@pytest.mark.parametrize("junk", [b"x" * 1019, b"mail\n\n", b"", bytes(range(128, 256)) * 3], ids=len)
@pytest.mark.parametrize("header", [b"%PDF-1.4\n", b"%PDF-1.7 \r", b"%PDF-\n"])
def test_a_pdf_is_known_behind_junk_with_no_object_near(junk: bytes, header: bytes) -> None:
    assert kind_of(junk + header + b"% a comment\n" * 400 + b"1 0 obj") == "pdf"


def test_a_pdf_header_among_bytes_that_are_no_text_is_enough() -> None:
    assert kind_of(b"\x01\0" * 100 + b"%PDF-1.4 \0\0" + bytes(5000)) == "pdf"
    assert kind_of(b"\x01" * 1020 + b"%PDF-1.4\n" + bytes(5000)) is None  # not within 1,024 bytes


def test_a_text_that_mentions_the_pdf_header_is_a_text() -> None:
    assert kind_of(b"A file that starts with %PDF-1.7 is a PDF, and that is no objection.") == "txt"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("Příliš žluťoučký kůň".encode(), "txt"),
        ("Příliš žluťoučký kůň".encode("cp1250"), "txt"),
        ("Война и мир".encode("utf-16"), "txt"),
        (codecs.BOM_UTF16_BE + "Война и мир".encode("utf-16-be"), "txt"),
        (b"from DOS\r\n\x1a", "txt"),
        (b"  \n", "txt"),
        (b"page\fpage", "txt"),
        (b"CONTENTS\n1. The beginning", "txt"),
        (b"ITSF is a signature", "txt"),
        (b"AT&T was a company", "txt"),
        (b"", None),
        (b"text\0", None),
        (b"text\1\2\3", None),
        (b"x" * 50 + b"\1", "txt"),
        (b"x" * 49 + b"\1", None),  # 2 %
        (codecs.BOM_UTF16_LE + b"\0\xd8" * 50, None),  # lone surrogates
        ("no mark".encode("utf-16-le"), None),
        (bytes(range(256)), None),
        (b"\0<\0\0 binary", None),
    ],
)
def test_text_is_the_last_resort(data: bytes, kind: str | None) -> None:
    assert kind_of(data) == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"AT&TFORM\0\0\1\0DJVM", "djvu"),
        (b"AT&TFORM\0\0\1\0THUM", None),
        (b"CONT\2\0\x0c\0\0\0", "kfx"),
        (b"\xeaDRMION\xee\0\0", "kfx"),
        (b"TPZ0\1\0", "azw1"),
        (b"L\0R\0F\0\0\0", "lrf"),
        (b"!!8-Bit!!\1\2", "tcr"),
        (b"SNBP000B\0\0", "snb"),
        (b"  {\\rtf1 behind spaces}", "rtf"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "jpg"),
        (b"\x89PNG\r\n\x1a\n\0", "png"),
        (b"\x1f\x8b\x08\x00\0", "gz"),
        (b"%!PS-Adobe-3.0", "ps"),
        (b"PK\x05\x06" + bytes(18), "zip"),
        (b"\x7fELF\2\1\1\0", None),
        (b"{\\rt but not quite \0", None),
    ],
)
def test_other_signatures(data: bytes, kind: str | None) -> None:
    assert kind_of(data) == kind
