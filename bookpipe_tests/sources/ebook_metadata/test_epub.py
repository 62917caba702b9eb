"""EPUBs as they are in the wild: package documents in odd places, old and new ways of saying things, DRM."""

import struct

import pytest

from bookpipe.demo.ebook_files import BookText, make_epub
from bookpipe.sources.ebook_metadata import EbookMetadata, read_cover
from bookpipe_tests.sources.ebook_metadata.reading import CountingSource, read, without_member, zip_of

BOOK = BookText("Vojna a mír", ("Lev Tolstoj",), "cs", "Série", 2.5, ("Román",), 1869, "První odstavec.")
MADE = make_epub(BOOK)
ALL = EbookMetadata("Vojna a mír", ("Lev Tolstoj",), ("cs",), "Série", 2.5, ("Román",), None, "ok")

_DC = 'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:opf="http://www.idpf.org/2007/opf"'


_DECLARATION = '<?xml version="1.0" encoding="utf-8"?>'


def opf(metadata: str, manifest: str = "", declaration: str = _DECLARATION, version: str = "") -> str:
    said = f' version="{version}"' if version else ""
    return (
        f'{declaration}<package xmlns="http://www.idpf.org/2007/opf"{said}><metadata {_DC}>{metadata}</metadata>'
        f"<manifest>{manifest}</manifest></package>"
    )


def container(path: str) -> tuple[str, str]:
    return (
        "META-INF/container.xml",
        f'<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile full-path="{path}" '
        'media-type="application/oebps-package+xml"/></rootfiles></container>',
    )


def epub(metadata: str, manifest: str = "", *more: tuple[str, bytes | str], version: str = "") -> bytes:
    return zip_of(container("content.opf"), ("content.opf", opf(metadata, manifest, version=version)), *more)


TITLE = "<dc:title>T</dc:title>"


# -- where the package document is --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "member"),
    [
        ("content.opf", "content.opf"),
        ("OEBPS/My%20Book.opf", "OEBPS/My Book.opf"),
        ("/OEBPS/content.opf", "OEBPS/content.opf"),
        ("./OEBPS/./content.opf", "OEBPS/content.opf"),
        ("OEBPS/x/../content.opf", "OEBPS/content.opf"),
        ("../../content.opf", "content.opf"),
        ("oebps/CONTENT.opf", "OEBPS/content.opf"),
        ("OEBPS/content.opf", "OEBPS\\content.opf"),
        ("Книга/содержание.opf", "Книга/содержание.opf"),
        ("nowhere.opf", "elsewhere/content.OPF"),
        ("", "content.opf"),
    ],
)
def test_the_package_document_is_found(named: str, member: str) -> None:
    assert read("epub", zip_of(container(named), (member, opf(TITLE)))).title == "T"


@pytest.mark.parametrize(
    "data",
    [
        without_member(MADE, "mimetype"),
        without_member(MADE, "META-INF/container.xml"),
        without_member(MADE, "META-INF/container.xml", more=(("META-INF/container.xml", b"\0\1 rubbish"),)),
        without_member(MADE, "META-INF/container.xml", more=(("META-INF/container.xml", b"x" * (2 << 20)),)),
        MADE + b"junk behind it",
    ],
    ids=["no mimetype", "no container", "bad container", "huge container", "junk behind"],
)
def test_an_epub_that_breaks_rules_is_read(data: bytes) -> None:
    assert read("epub", data) == ALL


def test_of_several_package_documents_the_one_highest_up_is_read() -> None:
    assert read("epub", zip_of(("a/b.opf", opf("<dc:title>Wrong</dc:title>")), ("z.opf", opf(TITLE)))).title == "T"


_PDF_TYPE, _OPF_TYPE = "application/pdf", "application/oebps-package+xml"


@pytest.mark.parametrize(
    ("files", "title"),
    [
        ([("a.pdf", _PDF_TYPE), ("t.opf", _OPF_TYPE)], "T"),
        ([("a.pdf", ""), ("t.opf", "")], "T"),
        ([("other.xml", ""), ("t.opf", "")], "T"),
        ([("u.opf", ""), ("t.opf", _OPF_TYPE)], "T"),
        ([("t.opf", _OPF_TYPE), ("u.opf", _OPF_TYPE)], "T"),
        ([("u.opf", _OPF_TYPE), ("t.opf", _OPF_TYPE)], "U"),
        ([("a.pdf", _OPF_TYPE), ("t.opf", "text/xml")], "T"),
        ([("gone.opf", _OPF_TYPE), ("t.opf", "")], "T"),
        ([("a.pdf", _PDF_TYPE)], "T"),  # the .opf highest up
        ([("a.pdf", _PDF_TYPE)] * 1000, "T"),
    ],
)
def test_the_root_file_that_is_a_package_document_is_read(files: list[tuple[str, str]], title: str) -> None:
    named = "".join(f'<rootfile full-path="{path}" media-type="{kind}"/>' for path, kind in files)
    data = zip_of(
        ("META-INF/container.xml", f"<container><rootfiles>{named}</rootfiles></container>"),
        ("a.pdf", b"%PDF-1.4\n1 0 obj"),
        ("other.xml", "<book><title>Other</title></book>"),
        ("t.opf", opf(TITLE)),
        ("u.opf", opf("<dc:title>U</dc:title>")),
    )
    assert read("epub", data).title == title


def test_an_epub_without_a_package_document_is_unreadable() -> None:
    found = read("epub", zip_of(container("content.opf"), ("text.html", "x")))
    assert (found.status, found.detail) == ("unreadable", "no package document (OPF)")


# -- titles, people, languages, tags ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "title"),
    [
        ("<dc:title> A\n  title </dc:title>", "A title"),
        ("<dc:title/><dc:title> </dc:title><dc:title>Second</dc:title>", "Second"),
        ('<dc:title id="s">Sub</dc:title><dc:title id="m">Main</dc:title>'
         '<meta refines="#s" property="title-type">subtitle</meta>'
         '<meta refines="#m" property="title-type">main</meta>', "Main: Sub"),
        ('<dc:title>First</dc:title><dc:title id="s">\n Sub </dc:title>'
         '<meta refines="#s" property="title-type">subtitle</meta>', "First: Sub"),
        ('<dc:title id="s">Only Sub</dc:title><meta refines="#s" property="title-type">subtitle</meta>', "Only Sub"),
        ('<dc:title>First</dc:title><dc:title id="s">Short</dc:title>'
         '<meta refines="#s" property="title-type">short</meta>', "First"),
        ("<dc:title>First</dc:title><dc:title>Second</dc:title>", "First"),
        ("<dc:Title>Old OEB</dc:Title>", "Old OEB"),
        ("<dc-metadata><dc:Title>Wrapped</dc:Title></dc-metadata>", "Wrapped"),
        ("<dc:title>Bold <b>word</b> inside</dc:title>", "Bold word inside"),
        ("<dc:title>Tom &amp; Jerry &#8212; &lt;x&gt; &amp;amp;</dc:title>", "Tom & Jerry — <x> &amp;"),
        ("<dc:title>Tom & Jerry</dc:title>", "Tom & Jerry"),
        ("<dc:title>non&nbsp;breaking caf&eacute; &unknown;</dc:title>", "non breaking café &unknown;"),
        ("<dc:title><![CDATA[a <b> c]]></dc:title>", "a <b> c"),
        ("<dc:title>a<!-- not this -->b</dc:title>", "ab"),
        ("<dc:title>never closed", "never closed"),
        ("<dc:title>control \x02 and nul \x00 end</dc:title>", "control and nul end"),
        ("<nope:title>undeclared prefix</nope:title>", "undeclared prefix"),
        ("<dc:language>en</dc:language>", None),
    ],
)  # fmt: skip
def test_titles(metadata: str, title: str | None) -> None:
    assert read("epub", epub(metadata)).title == title


@pytest.mark.parametrize(
    ("metadata", "authors"),
    [
        ('<dc:creator opf:role="aut">A B</dc:creator>', ["A B"]),
        ("<dc:creator>A B</dc:creator><dc:creator>C D</dc:creator>", ["A B", "C D"]),
        ('<dc:creator opf:role="aut">A B</dc:creator><dc:creator opf:role="ill">C D</dc:creator>', ["A B"]),
        ('<dc:creator role="AUT">A B</dc:creator><dc:creator role="edt">C D</dc:creator>', ["A B"]),
        ('<dc:creator opf:role="trl">C D</dc:creator>', []),
        ("<dc:creator>\n  Jo\n  Smith\n</dc:creator>", ["Jo Smith"]),
        ("<dc:creator>A B&amp;C D</dc:creator>", ["A B", "C D"]),
        ('<dc:creator opf:role="">A B</dc:creator><dc:contributor>C D</dc:contributor>', ["A B"]),
        ('<dc:creator id="a">A B</dc:creator><meta refines="#a" property="role">aut</meta>'
         '<dc:creator id="c">C D</dc:creator><meta refines="#c" property="role">edt</meta>', ["A B"]),
        ('<dc:creator id="a">A B</dc:creator><meta refines="#a" property="role">edt</meta>'
         '<meta refines="#a" property="role">aut</meta>', ["A B"]),
        ("<dc:creator>Müller, Jürgen</dc:creator>", ["Jürgen Müller"]),
        ("<dc:creator>García Márquez, Gabriel</dc:creator>", ["García Márquez, Gabriel"]),
        ("<dc:creator>A B; C D &amp; E F</dc:creator>", ["A B", "C D", "E F"]),
        ("<dc:creator>A B</dc:creator><dc:creator> A  B </dc:creator>", ["A B"]),
        ("<dc:creator>Unknown</dc:creator>", []),
        ("<dc:creator> </dc:creator>", []),
    ],
)  # fmt: skip
def test_only_creators_who_are_authors_are_authors(metadata: str, authors: list[str]) -> None:
    assert list(read("epub", epub(metadata)).authors) == authors


_EDITORS = '<dc:creator opf:role="edt">E F</dc:creator><dc:creator opf:role="EDT">G H</dc:creator>'


@pytest.mark.parametrize(
    ("metadata", "version", "authors"),
    [
        ("<dc:creator>A B and C D</dc:creator>", "", ["A B", "C D"]),
        ("<dc:creator>A B, with C D</dc:creator>", "2.0", ["A B", "C D"]),
        ("<dc:creator>A B and C D</dc:creator>", "rubbish", ["A B", "C D"]),
        ("<dc:creator>A B and C D</dc:creator>", "3.0", ["A B and C D"]),
        ("<dc:creator>A B &amp; C D</dc:creator>", "3.1", ["A B", "C D"]),
        (_EDITORS, "2.0", ["E F", "G H"]),
        (_EDITORS + '<dc:creator opf:role="aut"> </dc:creator>', "", ["E F", "G H"]),
        (_EDITORS + '<dc:creator opf:role="aut">A B</dc:creator>', "2.0", ["A B"]),
        (_EDITORS, "3.0", []),
        ('<dc:creator id="c">C D</dc:creator><dc:creator id="a">A B</dc:creator><dc:creator>E F</dc:creator>'
         '<meta refines="#a" property="display-seq">2</meta><meta refines="#c" property="display-seq">10</meta>', "3.0",
         ["E F", "A B", "C D"]),
        ('<dc:creator id="c">C D</dc:creator><dc:creator id="a">A B</dc:creator>'
         '<meta refines="#a" property="display-seq">x</meta>', "3.0", ["C D", "A B"]),
    ],
)  # fmt: skip
def test_epub_2_and_3_say_differently_who_wrote_a_book(metadata: str, version: str, authors: list[str]) -> None:
    assert list(read("epub", epub(metadata, version=version)).authors) == authors


def test_languages_are_as_written_in_lower_case() -> None:
    languages = "<dc:language> RUS </dc:language><dc:language>en-US</dc:language><dc:language>rus</dc:language>"
    assert read("epub", epub(languages + "<dc:language/>")).languages == ("rus", "en-us")


def test_tags_are_split_at_commas_and_semicolons() -> None:
    subjects = "<dc:subject>Sci-Fi, Space Opera</dc:subject><dc:subject>Robots;  AI ;;</dc:subject>"
    assert read("epub", epub(subjects)).tags == ("Sci-Fi", "Space Opera", "Robots", "AI")


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        *[(encoding, True) for encoding in ("utf-8", "utf-8-sig", "utf-16", "windows-1251", "koi8-r")],
        *[(encoding, False) for encoding in ("utf-8", "utf-8-sig", "utf-16", "windows-1251")],
    ],
)
def test_a_package_document_in_any_encoding_is_read(encoding: str, declared: bool) -> None:
    declaration = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>' if declared else ""
    data = opf("<dc:title>Война и мир, сочинение графа Льва Толстого</dc:title>", "", declaration).encode(encoding)
    found = read("epub", zip_of(container("content.opf"), ("content.opf", data)))
    assert found.title == "Война и мир, сочинение графа Льва Толстого"


# -- series -------------------------------------------------------------------------------------------------------

_CALIBRE = '<meta name="calibre:series" content="C"/>'


@pytest.mark.parametrize(
    ("metadata", "series", "index"),
    [
        (_CALIBRE + '<meta name="calibre:series_index" content="3.5"/>', "C", 3.5),
        ('<meta content="C" name="Calibre:Series"/>', "C", 1.0),
        (_CALIBRE + '<meta name="calibre:series_index" content="nan"/>', "C", 1.0),
        (_CALIBRE + '<meta name="calibre:series_index" content="two"/>', "C", 1.0),
        (_CALIBRE + '<meta name="calibre:series_index" content="0"/>', "C", 0.0),
        (_CALIBRE + '<meta name="calibre:series_index" content="-1,25"/>', "C", -1.25),
        (_CALIBRE + '<meta name="calibre:series_index" content="1e999"/>', "C", 1.0),
        ('<meta name="calibre:series_index" content="3"/>', None, None),
        ('<meta name="calibre:series" content=" "/><meta name="calibre:series_index" content="3"/>', None, None),
        ('<meta property="belongs-to-collection" id="c">S</meta>'
         '<meta refines="#c" property="collection-type">series</meta>'
         '<meta refines="#c" property="group-position">2</meta>', "S", 2.0),
        ('<meta property="belongs-to-collection">No type, no id</meta>', None, None),
        ('<meta property="belongs-to-collection" id="c">Set</meta>'
         '<meta refines="#c" property="collection-type">set</meta>', None, None),
        ('<meta property="belongs-to-collection" id="a">Untyped</meta>'
         '<meta property="belongs-to-collection" id="b">Series</meta>'
         '<meta refines="#b" property="collection-type">series</meta>'
         '<meta refines="#a" property="group-position">7</meta>', "Series", 1.0),
        (_CALIBRE + '<meta property="belongs-to-collection" id="b">S</meta>', "C", 1.0),
    ],
)  # fmt: skip
def test_series_are_calibres_or_those_of_epub_3(metadata: str, series: str | None, index: float | None) -> None:
    found = read("epub", epub(TITLE + metadata))
    assert (found.series, found.series_index) == (series, index)


@pytest.mark.parametrize(("version", "series"), [("3.0", ("S", 2.0)), ("2.0", ("C", 3.0)), ("", ("C", 3.0))])
def test_in_epub_3_a_collection_is_before_calibre_s_series(version: str, series: tuple[str, float]) -> None:
    both = (
        f'{_CALIBRE}<meta name="calibre:series_index" content="3"/>'
        '<meta property="belongs-to-collection" id="c">S</meta>'
        '<meta refines="#c" property="collection-type">series</meta>'
        '<meta refines="#c" property="group-position">2</meta>'
    )
    found = read("epub", epub(TITLE + both, version=version))
    assert (found.series, found.series_index) == series


# -- covers -------------------------------------------------------------------------------------------------------

_IMAGE = b"\xff\xd8\xff\xe0 a picture"


@pytest.mark.parametrize(
    ("metadata", "manifest", "member"),
    [
        ("", '<item id="x" href="c.jpg" media-type="image/jpeg" properties="cover-image"/>', "c.jpg"),
        ('<meta name="cover" content="x"/>', '<item id="x" href="img/c%20d.jpg" media-type="image/jpeg"/>',
         "img/c d.jpg"),
        ('<meta name="cover" content="x"/>',
         '<item id="x" href="old.jpg" media-type="image/jpeg"/>'
         '<item href="new.jpg" media-type="image/jpeg" properties="svg cover-image"/>', "new.jpg"),
        ('<meta name="cover" content="c.jpg"/>', '<item id="x" href="c.jpg" media-type="image/jpeg"/>', "c.jpg"),
        ('<meta name="cover" content="c.jpg"/>',
         '<item id="x" href="c.jpg" media-type="image/jpeg"/>'
         '<item id="c.jpg" href="named.jpg" media-type="image/jpeg"/>', "named.jpg"),
        ('<meta name="cover" content="x"/>', '<item id="x" href="c.jpg" media-type="application/octet-stream"/>',
         "c.jpg"),
        ('<meta name="cover" content="x"/>', '<item id="x" href="c.jpg" media-type="jpg"/>', "c.jpg"),
    ],
)  # fmt: skip
def test_the_cover_is_the_image_the_package_document_marks(metadata: str, manifest: str, member: str) -> None:
    data = epub(TITLE + metadata, manifest, (member, _IMAGE), ("old.jpg", b"not this"))
    found = read("epub", data)
    assert found.cover == member
    assert read_cover("epub", found.cover, len(data), CountingSource(data).read_at) == _IMAGE


@pytest.mark.parametrize(
    "manifest",
    [
        '<item id="x" href="missing.jpg" media-type="image/jpeg"/>',
        '<item id="x" href="cover.html" media-type="application/xhtml+xml"/>',
        '<item id="x" href="cover.html" media-type="text/HTML"/>',
        '<item id="x" href="cover.html" media-type="image/svg+xml" properties="cover-image"/>',
        '<item id="x" href="cover.html"/>',
        '<item id="x"/>',
        "",
    ],
)
def test_a_cover_that_is_no_image_in_the_zip_is_none(manifest: str) -> None:
    data = epub(TITLE + '<meta name="cover" content="x"/>', manifest, ("cover.html", "<html/>"))
    assert read("epub", data).cover is None


def test_a_cover_is_relative_to_the_package_document() -> None:
    manifest = '<item href="../c.jpg" media-type="image/jpeg" properties="cover-image"/>'
    data = zip_of(container("a/b/p.opf"), ("a/b/p.opf", opf(TITLE, manifest)), ("a/c.jpg", _IMAGE))
    assert read("epub", data).cover == "a/c.jpg"


# -- keys ---------------------------------------------------------------------------------------------------------


def encryption(*algorithms: str) -> tuple[str, str]:
    entries = "".join(
        f'<enc:EncryptedData><enc:EncryptionMethod Algorithm="{algorithm}"/></enc:EncryptedData>'
        for algorithm in algorithms
    )
    namespaces = 'xmlns:enc="http://www.w3.org/2001/04/xmlenc#"'
    return ("META-INF/encryption.xml", f"<encryption {namespaces}>{entries}</encryption>")


_ADOBE = "http://www.w3.org/2001/04/xmlenc#aes128-cbc"
_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


def test_an_epub_under_drm_is_encrypted_and_keeps_its_metadata() -> None:
    found = read("epub", without_member(MADE, more=(encryption(_FONTS[0], _ADOBE), ("META-INF/rights.xml", "<r/>"))))
    assert found.status == "encrypted"
    assert _ADOBE in found.detail
    assert (found.title, found.authors, found.series) == (ALL.title, ALL.authors, ALL.series)


@pytest.mark.parametrize("more", [encryption(*_FONTS), encryption(), ("META-INF/rights.xml", "<rights/>")])
def test_scrambled_fonts_are_no_encryption(more: tuple[str, str]) -> None:
    assert read("epub", without_member(MADE, more=(more,))) == ALL


def test_a_zip_with_a_password_is_encrypted() -> None:
    data = bytearray(MADE)
    at = data.rindex(b"OEBPS/content.opf") - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    flags = struct.unpack_from("<H", data, at + 8)[0]
    struct.pack_into("<H", data, at + 8, flags | 1)
    found = read("epub", bytes(data))
    assert (found.status, found.title) == ("encrypted", None)
