"""The files the demo makes are what they say: read back here by independent means, byte by byte where need be."""

import io
import re
import struct
import zipfile
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bookpipe.demo.ebook_files import (
    MAKERS,
    BookText,
    make_azw3,
    make_cbz,
    make_cover_jpeg,
    make_djvu,
    make_doc,
    make_docx,
    make_epub,
    make_fb2,
    make_fb2_zip,
    make_html,
    make_mobi,
    make_odt,
    make_pdb,
    make_pdf,
    make_prc,
    make_rtf,
    make_txt,
)
from bookpipe.demo.ebook_files.containers import ole_file
from bookpipe.sources.ebook_types import identify

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
BOOKS = [PLAIN, RICH]
BOTH = pytest.mark.parametrize("book", BOOKS, ids=["plain", "rich"])

_DC = "{http://purl.org/dc/elements/1.1/}"


def _texts(root: ElementTree.Element, name: str) -> list[str | None]:
    return [element.text for element in root.iter(name)]


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("extension", MAKERS)
@BOTH
def test_a_file_depends_on_its_book_only(extension: str, book: BookText) -> None:
    assert MAKERS[extension](book) == MAKERS[extension](replace(book))
    assert MAKERS[extension](book) != MAKERS[extension](replace(book, title="Another"))


@pytest.mark.parametrize("extension", MAKERS)
@pytest.mark.parametrize("pad_to", [5_000, 100_001])
def test_a_padded_file_has_at_least_that_many_bytes_and_little_more(extension: str, pad_to: int) -> None:
    plain = len(MAKERS[extension](PLAIN))
    padded = MAKERS[extension](replace(PLAIN, pad_to=pad_to))
    assert max(plain, pad_to) <= len(padded) <= max(plain, pad_to) + 400
    assert identify(padded[:4096], len(padded), lambda at, n: padded[at : at + n], extension) == extension


# -- markup -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pad_to", [0, 200_000])
@BOTH
def test_an_epub_names_its_book_and_its_parts(book: BookText, pad_to: int) -> None:
    data = make_epub(replace(book, pad_to=pad_to))
    assert data[30:58] == b"mimetypeapplication/epub+zip"
    members = _members(data)
    container = ElementTree.fromstring(members["META-INF/container.xml"])
    package_name = next(element.get("full-path") for element in container.iter() if element.get("full-path"))
    package = ElementTree.fromstring(members[package_name or ""])
    assert _texts(package, f"{_DC}title") == [book.title]
    assert _texts(package, f"{_DC}creator") == list(book.authors)
    assert _texts(package, f"{_DC}language") == [book.language]
    assert _texts(package, f"{_DC}subject") == list(book.tags)
    metas = {
        element.get("name"): element.get("content") for element in package.iter("{http://www.idpf.org/2007/opf}meta")
    }
    assert metas.get("calibre:series") == book.series
    assert metas.get("calibre:series_index") == ("2.5" if book.series else None)
    listed = {f"OEBPS/{element.get('href')}" for element in package.iter("{http://www.idpf.org/2007/opf}item")}
    assert listed == set(members) - {"mimetype", "META-INF/container.xml", package_name}
    for name in listed - {"OEBPS/filler.css"}:
        ElementTree.fromstring(members[name])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "windows-1251", "ascii"])
@BOTH
def test_an_fb2_reads_the_same_in_every_encoding(book: BookText, encoding: str) -> None:
    namespace = "{http://www.gribuser.ru/xml/fictionbook/2.0}"
    root = ElementTree.fromstring(make_fb2(book, encoding))
    info = next(root.iter(f"{namespace}title-info"))
    assert _texts(info, f"{namespace}book-title") == [book.title]
    authors = [" ".join(part.text or "" for part in author) for author in info.iter(f"{namespace}author")]
    assert authors == list(book.authors)
    assert _texts(info, f"{namespace}lang") == [book.language]
    sequences = [(part.get("name"), part.get("number")) for part in info.iter(f"{namespace}sequence")]
    assert sequences == ([(book.series, "2.5")] if book.series else [])


def test_a_zipped_fb2_holds_the_fb2() -> None:
    assert _members(make_fb2_zip(RICH)) == {"book.fb2": make_fb2(RICH)}


@BOTH
def test_html_and_text_name_the_title_and_the_authors(book: BookText) -> None:
    page, text = make_html(book).decode(), make_txt(book).decode()
    assert "<title>Kůň &amp; &quot;Vojna&quot; &lt;мир&gt; 😀</title>" in make_html(RICH).decode()
    assert all(author in page and author in text for author in book.authors)
    assert text.startswith(book.title + "\n")


# -- office documents ---------------------------------------------------------------------------------------------


@BOTH
def test_a_docx_has_core_properties_and_a_type_for_every_part(book: BookText) -> None:
    members = _members(make_docx(book))
    core = ElementTree.fromstring(members["docProps/core.xml"])
    assert _texts(core, f"{_DC}title") == [book.title]
    assert _texts(core, f"{_DC}creator") == ["; ".join(book.authors)]
    text = ElementTree.fromstring(members["word/document.xml"])
    assert book.title in list(text.itertext())
    typed = {element.get("PartName") for element in ElementTree.fromstring(members["[Content_Types].xml"])}
    assert {"/word/document.xml", "/docProps/core.xml"} <= typed


@BOTH
def test_an_odt_has_meta_and_a_manifest_of_every_part(book: BookText) -> None:
    data = make_odt(book)
    assert data[30:77] == b"mimetypeapplication/vnd.oasis.opendocument.text"
    members = _members(data)
    meta = ElementTree.fromstring(members["meta.xml"])
    assert _texts(meta, f"{_DC}title") == [book.title]
    assert _texts(meta, f"{_DC}creator") == ["; ".join(book.authors)]
    manifest = ElementTree.fromstring(members["META-INF/manifest.xml"])
    listed = {value for element in manifest for key, value in element.items() if key.endswith("full-path")}
    assert listed == {"/", *members} - {"mimetype", "META-INF/manifest.xml"}
    ElementTree.fromstring(members["content.xml"])


def _rtf_to_text(rtf: str) -> str:
    units = re.sub(r"\\u(-?\d+)\?", lambda match: chr(int(match[1]) % 65536), rtf)
    return re.sub(r"\\([\\{}])", r"\1", units).encode("utf-16-le", "surrogatepass").decode("utf-16-le")


@BOTH
def test_an_rtf_is_balanced_ascii_with_an_info_group(book: BookText) -> None:
    rtf = make_rtf(book).decode("ascii")
    bare = re.sub(r"\\[\\{}]", "", rtf)
    assert bare.count("{") == bare.count("}") > 3
    title = re.search(r"\{\\title ((?:[^{}]|\\[{}])*)\}", rtf)
    author = re.search(r"\{\\author ((?:[^{}]|\\[{}])*)\}", rtf)
    assert title
    assert author
    assert (_rtf_to_text(title[1]), _rtf_to_text(author[1])) == (book.title, "; ".join(book.authors))


def _ole_streams(data: bytes) -> dict[str, bytes]:
    """The streams of a compound file, found as a reader does: header, allocation table, directory, chains."""
    assert data.startswith(bytes.fromhex("D0CF11E0A1B11AE1"))
    tables, directory = struct.unpack_from("<II", data, 44)
    sectors = struct.unpack_from(f"<{tables}I", data, 76)
    fat = [entry for sector in sectors for entry in struct.unpack_from("<128I", data, (sector + 1) * 512)]

    def chain(sector: int) -> bytes:
        parts = []
        while sector < 0xFFFFFFFA:
            parts.append(data[(sector + 1) * 512 : (sector + 2) * 512])
            sector = fat[sector]
        return b"".join(parts)

    entries = chain(directory)
    streams = {}

    def visit(number: int) -> None:
        if number == 0xFFFFFFFF:
            return
        name, length = struct.unpack_from("<64sH", entries, 128 * number)
        left, right, child = struct.unpack_from("<III", entries, 128 * number + 68)
        start, size = struct.unpack_from("<IQ", entries, 128 * number + 116)
        visit(left)
        if number:
            streams[name[: length - 2].decode("utf-16-le")] = chain(start)[:size]
        visit(right)
        visit(child)

    visit(0)
    return streams


@BOTH
def test_a_doc_holds_text_and_summary_in_an_ole_file(book: BookText) -> None:
    streams = _ole_streams(make_doc(book))
    assert list(streams) == ["WordDocument", "\x05SummaryInformation"]
    word = streams["WordDocument"]
    start, end = struct.unpack_from("<II", word, 24)
    assert word[start:end].startswith(book.title.encode("cp1252", "replace") + b"\r")
    summary = streams["\x05SummaryInformation"]
    section = struct.unpack_from("<I", summary, 44)[0]
    count = struct.unpack_from("<I", summary, section + 4)[0]
    found = {}
    for number in range(count):
        key, offset = struct.unpack_from("<II", summary, section + 8 + 8 * number)
        kind, length = struct.unpack_from("<II", summary, section + offset)
        if kind == 30:
            found[key] = summary[section + offset + 8 : section + offset + 8 + length - 1].decode()
    assert found == {2: book.title, 4: "; ".join(book.authors), 5: ", ".join(book.tags)}


@pytest.mark.parametrize("size", [0, 4096, 4097, 300_000])
def test_an_ole_file_gives_its_streams_back(size: int) -> None:
    streams = {"B": b"x" * size, "A": b"y" * 5000, "LongName": b"z"}
    found = _ole_streams(ole_file(streams))
    assert list(found) == ["A", "B", "LongName"]
    assert all(found[name].rstrip(b"\0") == content for name, content in streams.items())


def test_an_ole_file_too_large_for_one_list_of_tables_is_refused() -> None:
    with pytest.raises(ValueError, match="7 MB"):
        ole_file({"A": bytes(8_000_000)})


# -- Palm databases -----------------------------------------------------------------------------------------------


def _palm_records(data: bytes) -> list[bytes]:
    count = struct.unpack_from(">H", data, 76)[0]
    starts = [struct.unpack_from(">I", data, 78 + 8 * number)[0] for number in range(count)]
    assert starts == sorted(starts)
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


@pytest.mark.parametrize("pad_to", [0, 100_000])
@pytest.mark.parametrize(("make", "version"), [(make_mobi, 6), (make_prc, 6), (make_azw3, 8)])
@BOTH
def test_a_mobi_holds_its_text_and_metadata(book: BookText, make: object, version: int, pad_to: int) -> None:
    assert callable(make)
    first, *records = _palm_records(make(replace(book, pad_to=pad_to)))
    compression, text_length, text_records = struct.unpack_from(">HxxIH", first)
    assert compression == 1
    text = b"".join(records[:text_records])
    assert len(text) == text_length
    assert "<title>" in text.decode()
    assert records[-1] == bytes.fromhex("E98E0D0A")

    length, _, encoding, _, found_version = struct.unpack_from(">IIIII", first, 20)
    assert (first[16:20], encoding, found_version) == (b"MOBI", 65001, version)
    name_at, name_length = struct.unpack_from(">II", first, 84)
    assert first[name_at : name_at + name_length].decode() == book.title
    assert [records[struct.unpack_from(">I", first, at)[0] - 1][:4] for at in (200, 208)] == [b"FCIS", b"FLIS"]

    at = 16 + length
    mark, _, count = struct.unpack_from(">4sII", first, at)
    assert mark == b"EXTH"
    at += 12
    fields: dict[int, list[str]] = {}
    for _ in range(count):
        key, size = struct.unpack_from(">II", first, at)
        fields.setdefault(key, []).append(first[at + 8 : at + size].decode())
        at += size
    assert fields[100] == list(book.authors)
    assert fields.get(105, []) == list(book.tags)
    assert (fields[503], fields[524]) == ([book.title], [book.language])
    assert at <= name_at


@BOTH
def test_a_palmdoc_has_its_title_as_name_and_its_text_in_records(book: BookText) -> None:
    data = make_pdb(book)
    assert data[:32].rstrip(b"\0") == book.title.encode("cp1252", "replace")[:31]
    first, *records = _palm_records(data)
    _, length, count, size = struct.unpack(">HxxIHHxxxx", first)
    assert (len(b"".join(records)), len(records), size) == (length, count, 4096)


# -- pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pad_to", [0, 100_000])
@BOTH
def test_every_object_of_a_pdf_is_where_its_table_says(book: BookText, pad_to: int) -> None:
    data = make_pdf(replace(book, pad_to=pad_to))
    start = int(data.rsplit(b"startxref\n", 1)[1].split()[0])
    assert data[start:].startswith(b"xref\n0 ")
    offsets = [int(entry) for entry in re.findall(rb"(\d{10}) 00000 n \n", data[start:])]
    assert len(offsets) + 1 == int(data[start:].split()[2])
    for number, offset in enumerate(offsets, 1):
        assert data[offset:].startswith(b"%d 0 obj\n" % number)
    for stream in re.finditer(rb"/Length (\d+) >>\nstream\n", data):
        assert data[stream.end() + int(stream[1]) :].startswith(b"\nendstream")


def test_a_pdf_s_metadata_is_ascii_or_utf_16() -> None:
    assert b"/Title (A Plain Title) /Author (Jane Doe)" in make_pdf(PLAIN)
    found = re.search(rb"/Title <FEFF([0-9a-f]+)>", make_pdf(RICH))
    assert found
    assert bytes.fromhex(found[1].decode()).decode("utf-16-be") == RICH.title


@BOTH
def test_the_chunks_of_a_djvu_fill_its_form(book: BookText) -> None:
    data = make_djvu(book)
    assert data[:8] == b"AT&TFORM"
    assert struct.unpack_from(">I", data, 8)[0] in (len(data) - 12, len(data) - 13)
    at, chunks = 16, {}
    while at < len(data):
        name, length = struct.unpack_from(">4sI", data, at)
        chunks[name] = data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    assert list(chunks) == [b"INFO", b"ANTa"]
    assert f'(title "{book.title}")'.replace('"V', '\\"V').replace('a" <', 'a\\" <') in chunks[b"ANTa"].decode()


def test_a_comic_has_pages_that_open_and_says_what_it_is() -> None:
    members = _members(make_cbz(RICH))
    about = ElementTree.fromstring(members.pop("ComicInfo.xml"))
    assert {part.tag: part.text for part in about}["Number"] == "2.5"
    for page in members.values():
        with Image.open(io.BytesIO(page)) as image:
            image.load()
            assert image.size == (40, 60)


# -- anything as a book -------------------------------------------------------------------------------------------

_ANY = st.text(max_size=60)  # with control characters and lone surrogates
_ANY_BOOK = st.builds(
    BookText,
    title=_ANY,
    authors=st.lists(_ANY, max_size=3).map(tuple),
    language=st.sampled_from(["en", "cs", "ru", "xx"]),
    series=st.none() | _ANY,
    series_index=st.none() | st.floats(0, 1000),
    tags=st.lists(_ANY, max_size=3).map(tuple),
    year=st.none() | st.integers(0, 9999),
    body=_ANY,
    pad_to=st.sampled_from([0, 9000]),
)


@given(_ANY_BOOK, st.sampled_from([extension for extension in MAKERS if extension != "txt"]))
def test_any_book_gives_a_file_of_the_right_kind(book: BookText, extension: str) -> None:
    data = MAKERS[extension](book)
    assert len(data) >= book.pad_to
    assert identify(data[:4096], len(data), lambda at, n: data[at : at + n], extension) == extension


@given(_ANY_BOOK)
def test_any_book_gives_well_formed_markup(book: BookText) -> None:
    ElementTree.fromstring(make_fb2(book))
    for make in (make_epub, make_docx, make_odt, make_cbz):
        for name, data in _members(make(book)).items():
            if name.endswith((".xml", ".opf", ".xhtml", ".rels")):
                ElementTree.fromstring(data)
    make_txt(book).decode()


# -- covers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(600, 900), (60, 90), (8, 8)])
def test_a_cover_is_a_jpeg_of_the_size_asked(size: tuple[int, int]) -> None:
    data = make_cover_jpeg("A Title of Several Words, Long Enough to Wrap", "Лев Толстой", 7, size)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert (image.format, image.size, image.mode) == ("JPEG", size, "RGB")
    assert len(data) < 60_000


def test_a_cover_depends_on_its_arguments_only() -> None:
    assert make_cover_jpeg("Title", "Author", 1) == make_cover_jpeg("Title", "Author", 1)
    others = [("Other", "Author", 1), ("Title", "Other", 1), ("Title", "Author", 2)]
    assert make_cover_jpeg("Title", "Author", 1) not in [make_cover_jpeg(*other) for other in others]
