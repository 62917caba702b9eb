"""Bombs, lies, loops and rubbish: no bytes raise, nothing outside the file is read, work and answers are bounded."""

import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bookpipe.demo.ebook_files import MAKERS, BookText, make_doc, make_epub, make_mobi
from bookpipe.sources.ebook_metadata import EbookMetadata, read_cover, read_metadata
from bookpipe.sources.ebook_metadata.fields import MAX_AUTHOR, MAX_AUTHORS, MAX_DETAIL, MAX_TAG, MAX_TAGS, MAX_TITLE
from bookpipe_tests.sources.ebook_metadata.reading import CountingSource, read, without_member, zip_of
from bookpipe_tests.sources.ebook_metadata.test_epub import container, epub, opf
from bookpipe_tests.sources.ebook_metadata.test_fb2 import fb2

# The guard against what takes for ever; every single case here takes milliseconds.
pytestmark = pytest.mark.timeout(120)

BOOK = BookText("Vojna a mír", ("Lev Tolstoj",), "cs", "Série", 2.5, ("Román",), 1869, "První.\n\nDruhý.")
FILES = {extension: make(BOOK) for extension, make in MAKERS.items()}
KINDS = ["epub", "fb2", "fbz", "mobi", "azw3", "pdb", "doc", "docx", "odt", "rtf", "html"]


def check(found: EbookMetadata) -> None:
    """What holds for every answer."""
    assert found.status in ("ok", "none", "encrypted", "unreadable")
    texts = [found.title, found.series, found.detail, *found.authors, *found.languages, *found.tags]
    for text in texts:
        assert text is None or ("\0" not in text and text == text.strip())
        (text or "").encode("utf-8")
    assert len(found.title or "") <= MAX_TITLE
    assert len(found.authors) <= MAX_AUTHORS
    assert len(found.tags) <= MAX_TAGS
    assert all(len(author) <= MAX_AUTHOR for author in found.authors)
    assert all(len(tag) <= MAX_TAG for tag in found.tags)
    assert len(found.detail) <= MAX_DETAIL


# -- XML ----------------------------------------------------------------------------------------------------------

_LAUGHS = '<!DOCTYPE x [<!ENTITY l0 "lol">' + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
_QUADRATIC = f'<!DOCTYPE x [<!ENTITY a "{"a" * 50_000}">]>'


def xml_files(prolog: str, title: str) -> dict[str, bytes]:
    """The same title behind the same prolog in every format that is XML."""
    core = f'{prolog}<cp:coreProperties xmlns:cp="c" xmlns:dc="d"><dc:title>{title}</dc:title></cp:coreProperties>'
    meta = (
        f'{prolog}<o:document-meta xmlns:o="o" xmlns:dc="d"><o:meta><dc:title>{title}</dc:title></o:meta>'
        "</o:document-meta>"
    )
    package = opf(f"<dc:title>{title}</dc:title>", declaration=prolog)
    return {
        "epub": zip_of(container("content.opf"), ("content.opf", package)),
        "fb2": fb2(f"<book-title>{title}</book-title>", prolog).encode(),
        "docx": without_member(FILES["docx"], "docProps/core.xml", more=(("docProps/core.xml", core),)),
        "odt": without_member(FILES["odt"], "meta.xml", more=(("meta.xml", meta),)),
    }


@pytest.mark.parametrize("kind", ["epub", "fb2", "docx", "odt"])
@pytest.mark.parametrize(
    ("prolog", "title"),
    [
        (_LAUGHS + "]>", "&l11;"),
        (_LAUGHS + '<!ATTLIST title x CDATA "&l11;">]>', "y"),
        (_QUADRATIC, "&a;" * 50_000),
        ("<!DOCTYPE x [<!ENTITY % p \"<!ENTITY q '&#37;p;'>\"> %p;]>", "&q;"),
    ],
    ids=["laughs", "laughs in a default", "quadratic", "parameter"],
)
def test_entity_bombs_do_not_go_off(kind: str, prolog: str, title: str) -> None:
    data = xml_files(prolog, title)[kind]
    tracemalloc.start()
    try:
        found = read(kind, data)
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()
    check(found)
    assert "lollol" not in (found.title or "")


@pytest.mark.parametrize("kind", ["epub", "fb2", "docx", "odt"])
def test_external_entities_are_not_read(kind: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    (tmp_path / "secret.dtd").write_text('<!ENTITY x "the secret">')
    for prolog in (
        f'<!DOCTYPE x [<!ENTITY x SYSTEM "file://{secret}">]>',
        f'<!DOCTYPE x SYSTEM "file://{secret}.dtd">',
        f'<!DOCTYPE x [<!ENTITY % p SYSTEM "file://{secret}.dtd"> %p;]>',
    ):
        found = read(kind, xml_files(prolog, "a &x; b")[kind])
        check(found)
        assert "secret" not in (found.title or "")


@pytest.mark.parametrize("kind", ["epub", "fb2", "docx", "odt"])
@pytest.mark.parametrize(
    "title",
    [
        "<a>" * 200_000,
        "<a>" * 200_000 + "x" + "</a>" * 200_000,
        "<a/>" * 300_000,
        "x" * 3_900_000,
        "<a " + " ".join(f'b{n}="c"' for n in range(100_000)) + "/>",
        "".join(f'<a xmlns:n{n}="u{n}">' for n in range(30_000)),
        "&amp;" * 500_000,
        "&" * 1_000_000,
        "&a" * 500_000,
        " " * 3_000_000,
        "]]>" * 300_000,
        "<![CDATA[" * 100_000,
        "<!--" * 100_000,
    ],
    ids=lambda title: title[:12],
)
def test_nested_and_endless_xml_is_survived(kind: str, title: str) -> None:
    check(read(kind, xml_files("", title)[kind]))


def test_a_million_authors_are_a_hundred() -> None:
    creators = "".join(f"<dc:creator>Name {n}</dc:creator>" for n in range(50_000))
    subjects = "<dc:subject>" + ", ".join(f"tag {n}" for n in range(50_000)) + "</dc:subject>"
    found = read("epub", epub(creators + subjects))
    check(found)
    assert len(found.authors) == MAX_AUTHORS
    found = read("epub", epub(subjects))
    assert len(found.tags) == MAX_TAGS


@pytest.mark.parametrize("text", [";" * 1_000_000, " " * 1_000_000, "& " * 500_000, ", " * 500_000, "a, " * 300_000])
def test_separators_without_end_are_survived(text: str) -> None:
    escaped = text.replace("&", "&amp;")
    check(read("epub", epub(f"<dc:creator>{escaped}</dc:creator><dc:subject>{escaped}</dc:subject>")))
    core = f'<c xmlns:dc="d"><dc:creator>{escaped}</dc:creator></c>'
    check(read("docx", without_member(FILES["docx"], "docProps/core.xml", more=(("docProps/core.xml", core),))))


def test_lone_surrogates_and_nuls_are_gone() -> None:
    data = fb2("<book-title>a\ud800b\0c</book-title>").encode("utf-16-le", "surrogatepass")
    check(read("fb2", data))
    check(read("fb2", fb2("<book-title>a&#xD800;b&#0;c</book-title>").encode()))


# -- zips ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["content.opf", "META-INF/container.xml", "META-INF/encryption.xml", "docProps/core.xml", "meta.xml"]
)
def test_a_member_of_gigabytes_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in (container("content.opf"), ("content.opf", opf("<dc:title>T</dc:title>"))):
            if member != name:
                archive.writestr(member, content)
        with archive.open(name, "w", force_zip64=True) as bomb:
            for _ in range(200):
                bomb.write(b" " * (1 << 20))
    data = path.read_bytes()
    for kind in ("epub", "docx", "odt"):
        source = CountingSource(data)
        tracemalloc.start()
        try:
            found = read_metadata(kind, b"", len(data), source.read_at)
            assert tracemalloc.get_traced_memory()[1] < 30 << 20
        finally:
            tracemalloc.stop()
        check(found)
        if (kind, name) in (("epub", "content.opf"), ("docx", "docProps/core.xml"), ("odt", "meta.xml")):
            assert found.status == "unreadable"
            assert "is longer than" in found.detail
        if kind == "epub" and name == "META-INF/container.xml":  # the package document is found without it
            assert found.title == "T"


def test_a_bomb_in_a_zipped_fb2_is_read_no_further_than_its_head() -> None:
    data = zip_of(("a.fb2", fb2("<book-title>T</book-title>").encode() + b" " * (50 << 20)))
    tracemalloc.start()
    try:
        assert read("fbz", data).title == "T"
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("field", ["packed", "size", "offset", "name length", "extra length", "method", "flags"])
@pytest.mark.parametrize("value", [0, 1, 0xFFFF, 0xFFFFFFFF])
def test_directories_that_lie_are_survived(field: str, value: int) -> None:
    offset, layout = {
        "packed": (20, "<I"), "size": (24, "<I"), "offset": (42, "<I"), "name length": (28, "<H"),
        "extra length": (30, "<H"), "method": (10, "<H"), "flags": (8, "<H"),
    }[field]  # fmt: skip
    for kind in ("epub", "docx", "odt", "fbz"):
        data = bytearray(FILES[kind])
        at = data.find(b"PK\x01\x02")
        while at >= 0:
            struct.pack_into(layout, data, at + offset, value & (0xFFFF if layout == "<H" else 0xFFFFFFFF))
            at = data.find(b"PK\x01\x02", at + 4)
        found = read(kind, bytes(data))
        check(found)
        if field == "size":  # the size it unpacks to is a claim nobody believes
            assert found.status == "ok"


def test_a_zip_of_sixty_thousand_members_is_unreadable() -> None:
    entry = struct.pack("<4s42x", b"PK\x01\x02")
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, 60_000 * len(entry), 0, 0)
    assert read("epub", b"PK\x03\x04" + b"\0" * 100 + entry * 60_000 + end).status == "unreadable"


def test_names_that_lead_out_of_the_zip_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "x.opf").write_text(opf("<dc:title>outside</dc:title>"))
    for path in (f"{tmp_path}/x.opf", f"../../../../../../{tmp_path}/x.opf", f"file://{tmp_path}/x.opf", "%00", "\\"):
        check(found := read("epub", zip_of(container(path))))
        assert found.status == "unreadable"


# -- OLE ----------------------------------------------------------------------------------------------------------


def test_an_ole_directory_in_a_circle_ends() -> None:
    data = bytearray(make_doc(BOOK))
    (directory,) = struct.unpack_from("<I", data, 48)
    struct.pack_into("<I", data, 512 + 4 * directory, directory)
    source = CountingSource(bytes(data))
    assert read_metadata("doc", b"", 1 << 31, source.read_at).title == BOOK.title
    assert source.asked < 3 << 20


def test_an_ole_tree_in_a_circle_ends() -> None:
    data = bytearray(make_doc(BOOK))
    root = data.index("Root Entry".encode("utf-16-le"))
    for entry in (1, 2):
        struct.pack_into("<III", data, root + 128 * entry + 68, 1, 2, 1)
    check(read("doc", bytes(data)))


def test_an_ole_list_of_tables_in_a_circle_ends() -> None:
    data = bytearray(make_doc(BOOK) + bytes(512))
    last = len(data) // 512 - 2
    struct.pack_into("<I", data, 508 + 512 * (last + 1), last)  # its last number leads to itself
    struct.pack_into("<II", data, 68, last, 0xFFFFFFFF)
    struct.pack_into("<I", data, 48, 110 * 128)  # the directory is in a sector those tables describe
    source = CountingSource(bytes(data))
    check(read_metadata("doc", b"", 1 << 31, source.read_at))
    assert source.asked < 2 << 20


def test_an_ole_directory_of_very_many_entries_is_cut_off() -> None:
    def entry(number: int, kind: int, left: int, right: int, child: int) -> bytes:
        raw = f"{number}".encode("utf-16-le") + b"\0\0"
        return struct.pack("<64sHBBIII16xI16xIQ", raw, len(raw), kind, 1, left, right, child, 0, number, 5000)

    count = 60_000
    none = 0xFFFFFFFF
    entries = [entry(0, 5, none, none, 1)]
    entries += [entry(n, 2, 2 * n if 2 * n < count else none, 2 * n + 1 if 2 * n + 1 < count else none, none)
                for n in range(1, count)]  # fmt: skip
    directory = b"".join(entries).ljust(-(-count * 128 // 512) * 512, b"\0")
    sectors = len(directory) // 512
    tables = -(-(sectors + 200) // 128)
    fat = [*range(tables + 1, tables + sectors), 0xFFFFFFFE]
    fat = [0xFFFFFFFD] * tables + fat + [none] * (128 * tables - tables - len(fat))
    header = bytearray(make_doc(BOOK)[:76])
    struct.pack_into("<II", header, 44, tables, tables)
    listed = [*range(min(tables, 109)), *[none] * (109 - tables)][:109]
    data = bytes(header) + struct.pack("<109I", *listed) + struct.pack(f"<{len(fat)}I", *fat) + directory
    source = CountingSource(data)
    check(read_metadata("doc", b"", len(data), source.read_at))
    assert source.asked < 3 << 20


# -- text formats -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"<meta " * 12_000,
        b"<meta name='" * 6_000,
        b"<title>" * 10_000,
        b"<title" + b" x" * 32_000,
        b"<!--" * 16_000,
        b"<html " + b'a="' * 21_000,
        b"<meta " + b"a=" * 32_000,
        b"<meta " + b"a" * 64_000,
        b"<title>" + b"&#" * 30_000,
        b"<title>" + b"&amp" * 16_000,
        b"<?xml " * 10_000,
        b"<meta charset=" * 5_000,
        b"\xff\xfe" + b"<\0" * 30_000,
        b"<title>" + b" " * 60_000,
    ],
    ids=lambda data: repr(data[:12]),
)
def test_html_that_makes_patterns_backtrack_is_survived(data: bytes) -> None:
    check(read("html", data))


@pytest.mark.parametrize(
    "data",
    [
        b"{" * 200_000,
        b"{\\info" * 30_000,
        b"{\\info" + b"{\\title " * 20_000,
        b"{\\info{\\title " + b"\\u1042?" * 100_000,
        b"{\\info{\\title " + b"\\'" * 100_000,
        b"{\\info{\\title " + b"\\uc999999999\\u1 " + b"x" * 100_000,
        b"{\\info{\\title " + b"\\u999999999?" * 1000,
        b"{\\info{\\title " + b"x" * 2_000_000,
        b"{\\info{\\title \\ansicpg99999" + b"\\" * 100_000,
        b"{\\info" + b"}" * 100_000,
        b"{\\info{\\title {\\upr{a}" + b"{\\*\\ud{b}}" * 10_000,
    ],
    ids=lambda data: repr(data[:24]),
)
def test_rtf_that_never_ends_is_survived(data: bytes) -> None:
    check(read("rtf", b"{\\rtf1\\ansi\\ansicpg99999" + data))


# -- rubbish ------------------------------------------------------------------------------------------------------

_STARTS = [data[:length] for data in FILES.values() for length in (4, 12, 60, 90, 300)]


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=500), st.sampled_from([b"", *_STARTS]), st.sampled_from(KINDS))
def test_arbitrary_bytes_are_survived(rest: bytes, start: bytes, kind: str) -> None:
    check(read(kind, start + rest))


@settings(deadline=None, max_examples=300)
@given(st.data(), st.sampled_from(KINDS))
def test_damaged_files_are_survived_within_the_limit(data: st.DataObject, kind: str) -> None:
    content = damaged(data, FILES[kind])
    source = CountingSource(content)
    check(read_metadata(kind, b"", len(content), source.read_at))
    assert source.asked <= 10 * len(content) + 600_000


def damaged(data: st.DataObject, original: bytes) -> bytes:
    content = bytearray(original)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        part = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(part)] = part
    del content[data.draw(st.integers(0, len(content))) :]
    return bytes(content)


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from(["content.opf", "META-INF/container.xml", "META-INF/encryption.xml"]))
def test_damaged_xml_inside_a_sound_epub_is_survived(data: st.DataObject, name: str) -> None:
    sound = {
        "content.opf": opf("<dc:title>T</dc:title><dc:creator>A &amp; B</dc:creator>").encode(),
        "META-INF/container.xml": container("content.opf")[1].encode(),
        "META-INF/encryption.xml": b'<e><EncryptionMethod Algorithm="x"/></e>',
    }
    members = {**sound, name: damaged(data, sound[name])}
    check(read("epub", zip_of(*members.items())))


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 1 << 50), st.binary(max_size=100), st.sampled_from([b"", *_STARTS]), st.sampled_from(KINDS))
def test_a_size_that_lies_is_survived(size: int, rest: bytes, start: bytes, kind: str) -> None:
    source = CountingSource(start + rest)
    check(read_metadata(kind, start[:size], size, source.read_at))
    assert source.asked <= 600_000


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.sampled_from(list(FILES)), st.text(max_size=5) | st.integers(-5, 1 << 40))
def test_no_bytes_and_no_cover_raise(rest: bytes, kind: str, cover: str | int) -> None:
    for data in (FILES[kind][: 3 * len(rest)] + rest, FILES[kind]):
        assert read_cover(kind, cover, len(data), CountingSource(data).read_at) in (None, b"")


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_of_a_file_is_survived(kind: str) -> None:
    data = FILES[kind]
    for length in range(0, len(data), max(1, len(data) // 300)):
        check(read(kind, data[:length]))


def test_another_kind_s_reader_survives_every_file() -> None:
    for kind in KINDS:
        for data in (*FILES.values(), make_epub(BOOK)[::-1], make_mobi(BOOK)[::-1]):
            check(read(kind, data))
