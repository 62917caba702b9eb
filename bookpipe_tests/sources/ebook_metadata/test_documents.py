"""Office documents and web pages: docx, odt, doc, rtf and html, in their code pages and with their oddities."""

import struct

import pytest

from bookpipe.demo.ebook_files import BookText, make_doc, make_docx, make_odt, make_rtf
from bookpipe.demo.ebook_files.containers import ole_file, ole_summary
from bookpipe.sources.ebook_metadata import EbookMetadata, read_cover
from bookpipe_tests.sources.ebook_metadata.reading import CountingSource, read, without_member

BOOK = BookText("Vojna a mír", ("Lev Tolstoj",), "cs", None, None, ("Román",), 1869, "Text.")

# -- docx and odt -------------------------------------------------------------------------------------------------


def docx(fields: str) -> bytes:
    core = (
        '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/">{fields}</cp:coreProperties>'
    )
    return without_member(make_docx(BOOK), "docProps/core.xml", more=(("docProps/core.xml", core),))


@pytest.mark.parametrize(
    ("creator", "authors"),
    [
        ("A B; C D", ("A B", "C D")),
        ("A B, C D", ("A B", "C D")),
        ("A B & C D", ("A B", "C D")),
        ("A B&C D", ("A B", "C D")),
        ("\n  Jo\n  Smith\n", ("Jo Smith",)),
        ("A B and C D", ("A B", "C D")),
        ("A B, C D, with E F", ("A B", "C D", "E F")),
        ("Müller, Jürgen", ("Jürgen Müller",)),
        ("García Márquez, Gabriel", ("García Márquez, Gabriel",)),
        ("Müller, Jürgen; Doe, Jane", ("Jürgen Müller", "Jane Doe")),
        ("A B, C D, PhD, E F", ("A B", "C D, PhD", "E F")),
        ("Plato, Homer, Ovid", ("Plato", "Homer", "Ovid")),
        ("Unknown", ()),
        ("", ()),
        (" ; , & ", ()),
        ("-", ()),
    ],
)
def test_a_creator_is_a_list_of_authors(creator: str, authors: tuple[str, ...]) -> None:
    escaped = creator.replace("&", "&amp;")
    assert read("docx", docx(f"<dc:creator>{escaped}</dc:creator>")).authors == authors


@pytest.mark.parametrize(
    ("keywords", "tags"),
    [
        ("science fiction, robots", ("science fiction", "robots")),
        ("science fiction; robots", ("science fiction", "robots")),
        ("science fiction robots", ("science fiction robots",)),
        ("", ()),
    ],
)
def test_blanks_do_not_separate_keywords(keywords: str, tags: tuple[str, ...]) -> None:
    assert read("docx", docx(f"<cp:keywords>{keywords}</cp:keywords>")).tags == tags


def styles(language: str) -> str:
    return (
        '<w:styles xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:docDefaults><w:rPrDefault>'
        f"<w:rPr><w:sz w:val='24'/><w:lang {language}/></w:rPr></w:rPrDefault></w:docDefaults>"
        + '<w:style w:styleId="x"><w:rPr><w:lang w:val="fr-FR"/></w:rPr></w:style>' * 5_000
        + "</w:styles>"
    )


@pytest.mark.parametrize(
    ("said", "member", "languages"),
    [
        ("", styles('w:val="de-AT" w:eastAsia="ja-JP"'), ("de-at",)),
        ("<dc:language> </dc:language>", styles('w:val="de-AT"'), ("de-at",)),
        ("<dc:language>cs</dc:language>", styles('w:val="de-AT"'), ("cs",)),
        ("", styles('w:eastAsia="ja-JP"'), ()),
        ("", "<w:styles/>", ()),
        ("", "no XML", ()),
        ("", None, ()),
    ],
)
def test_a_docx_without_a_language_has_that_of_its_default_style(
    said: str, member: str | None, languages: tuple[str, ...]
) -> None:
    more = () if member is None else (("word/styles.xml", member),)
    found = read("docx", without_member(docx(f"<dc:title>T</dc:title>{said}"), "word/styles.xml", more=more))
    assert (found.title, found.languages) == ("T", languages)


_CORE_TYPE = "http://schemas.openxmlformats.org/package/2006/relationships/metadata/core-properties"


@pytest.mark.parametrize(
    "target", ["package/services/a b.psmdcp", "/package/services/a%20b.psmdcp", "./docProps/x.xml"]
)
@pytest.mark.parametrize("strict", [False, True])
def test_the_core_properties_of_a_docx_are_where_its_relationships_say(target: str, strict: bool) -> None:
    kind = (
        _CORE_TYPE.replace("schemas.openxmlformats.org/package/2006", "purl.oclc.org/ooxml") if strict else _CORE_TYPE
    )
    relations = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Type="http://x/officeDocument" Target="word/document.xml"/>'
        f'<Relationship Target="{target}" Type="{kind}"/></Relationships>'
    )
    member = target.replace("%20", " ").lstrip("./")
    core = f"<c xmlns:dc='http://purl.org/dc/elements/1.1/'><dc:title>{member}</dc:title></c>"
    more = (("_rels/.rels", relations), (member, core))
    data = without_member(docx("<dc:title>the usual one</dc:title>"), "_rels/.rels", more=more)
    assert read("docx", data).title == member
    assert read("docx", without_member(data, "docProps/core.xml")).title == member


@pytest.mark.parametrize(
    "relations", ["no XML", "", "<Relationships/>", f"<r><Relationship Type='{_CORE_TYPE}' Target='gone.xml'/></r>"]
)
def test_without_a_relationship_the_core_properties_are_where_word_writes_them(relations: str) -> None:
    data = without_member(docx("<dc:title>T</dc:title>"), "_rels/.rels", more=(("_rels/.rels", relations),))
    assert read("docx", data).title == "T"


def test_a_docx_without_core_properties_is_silent() -> None:
    assert read("docx", without_member(make_docx(BOOK), "docProps/core.xml")) == EbookMetadata()


def test_the_initial_creator_of_an_odt_is_its_author() -> None:
    meta = (
        '<office:document-meta xmlns:office="o" xmlns:meta="m" xmlns:dc="d"><office:meta>'
        "<dc:creator>Last Editor</dc:creator>{}<dc:title>T</dc:title></office:meta></office:document-meta>"
    )
    initial = "<meta:initial-creator>First Author</meta:initial-creator>"
    for fields, author in ((initial, "First Author"), ("", "Last Editor")):
        data = without_member(make_odt(BOOK), "meta.xml", more=(("meta.xml", meta.format(fields)),))
        assert read("odt", data).authors == (author,)


def test_an_odt_with_a_password_is_encrypted() -> None:
    manifest = '<manifest:file-entry manifest:full-path="meta.xml"><manifest:encryption-data/></manifest:file-entry>'
    more = (("meta.xml", b"\x93\x11 ciphertext"), ("META-INF/manifest.xml", manifest))
    data = without_member(make_odt(BOOK), "meta.xml", "META-INF/manifest.xml", more=more)
    assert read("odt", data).status == "encrypted"
    assert read("odt", without_member(make_odt(BOOK), "meta.xml", more=more[:1])).status == "unreadable"


def test_thumbnails_are_covers() -> None:
    for kind, member, made in (
        ("odt", "Thumbnails/thumbnail.png", make_odt(BOOK)),
        ("docx", "docProps/thumbnail.jpeg", make_docx(BOOK)),
    ):
        data = without_member(made, more=((member, b"picture"),))
        cover = read(kind, data).cover
        assert cover == member
        assert read_cover(kind, cover, len(data), CountingSource(data).read_at) == b"picture"


# -- doc ----------------------------------------------------------------------------------------------------------


def property_set(code_page: int | None, *texts: tuple[int, int, bytes]) -> bytes:
    """A property set of (number, type, bytes)."""
    values = [] if code_page is None else [(1, struct.pack("<IHxx", 2, code_page & 0xFFFF))]
    for number, kind, text in texts:
        length = len(text) // 2 if kind == 31 else len(text)
        values.append((number, struct.pack("<II", kind, length) + text + b"\0" * (-len(text) % 4)))
    offset = 8 + 8 * len(values)
    index = body = b""
    for number, value in values:
        index += struct.pack("<II", number, offset + len(body))
        body += value
    header = struct.pack("<HHI16xI16sI", 0xFFFE, 0, 0x20006, 1, b"\0" * 16, 48)
    return header + struct.pack("<II", offset + len(body), len(values)) + index + body


def doc(summary: bytes, flags: int = 0) -> bytes:
    header = struct.pack("<HHHHHH", 0xA5EC, 193, 0, 0, 0, flags)
    return ole_file({"WordDocument": header.ljust(600, b"\0"), "\x05SummaryInformation": summary})


@pytest.mark.parametrize(
    ("code_page", "codec", "title"),
    [
        (1251, "cp1251", "Война и мир"),
        (1250, "cp1250", "Příliš žluťoučký"),
        (1252, "cp1252", "Müller"),
        (-535, "utf-8", "Война 😀"),
        (65001, "utf-8", "Война 😀"),
        (1200, "utf-16-le", "Война"),
        (10007, "mac-cyrillic", "Война"),
        (936, "gbk", "战争"),
        (None, "cp1252", "Müller"),
        (4711, "cp1252", "Müller"),
    ],
)
def test_a_doc_is_read_in_its_code_page(code_page: int | None, codec: str, title: str) -> None:
    nul = "\0".encode(codec)
    summary = property_set(
        code_page, (2, 30, title.encode(codec) + nul), (4, 30, "A B;C D".encode(codec) + nul), (5, 30, b"")
    )
    found = read("doc", doc(summary))
    assert (found.title, found.authors, found.tags, found.status) == (title, ("A B", "C D"), (), "ok")


def test_wide_texts_of_a_doc_are_read() -> None:
    assert read("doc", doc(property_set(1252, (2, 31, "Война\0".encode("utf-16-le"))))).title == "Война"


def test_a_doc_with_a_password_is_encrypted_and_keeps_its_metadata() -> None:
    found = read("doc", doc(ole_summary({2: "T"}), flags=0x0100))
    assert (found.status, found.title) == ("encrypted", "T")


@pytest.mark.parametrize("summary", [b"", b"\0" * 48, b"\xff" * 200, ole_summary({2: "x"})[:60]])
def test_a_doc_with_a_damaged_summary_is_silent(summary: bytes) -> None:
    assert read("doc", doc(summary)).status == "none"


def mini_doc(title: str) -> bytes:
    """A doc as Word writes it: the short streams lie in the root's stream, in sectors of 64 bytes."""
    end, free = 0xFFFFFFFE, 0xFFFFFFFF
    summary = ole_summary({2: title, 4: "A B"})
    pieces = -(-len(summary) // 64)
    # The pieces are stored back to front: the chain, not their place, gives the order.
    container = b"".join(summary[64 * n : 64 * n + 64].ljust(64, b"\0") for n in reversed(range(pieces)))
    word = struct.pack("<HHHHHH", 0xA5EC, 193, 0, 0, 0, 0).ljust(64, b"\0")
    container += word
    mini = [end if n == 0 else n - 1 for n in range(pieces)] + [end]
    sectors = -(-len(container) // 512)

    def entry(name: str, kind: int, start: int, size: int, left: int, right: int, child: int) -> bytes:
        raw = name.encode("utf-16-le") + b"\0\0"
        return struct.pack("<64sHBBIII16xI16xIQ", raw, len(raw), kind, 1, left, right, child, 0, start, size)

    # sector 0: FAT, 1: directory, 2: mini FAT, 3...: the container
    fat = [0xFFFFFFFD, end, end, *range(4, 3 + sectors), end]
    directory = entry("Root Entry", 5, 3, len(container), free, free, 1)
    directory += entry("WordDocument", 2, pieces, 60, free, 3, free)
    directory += entry("ObjectPool", 1, 0, 0, free, free, 3)
    directory += entry("\x05SummaryInformation", 2, pieces - 1, len(summary), free, free, free)
    header = struct.pack(
        "<8s16xHHHHH6xIIIIIIIII", bytes.fromhex("D0CF11E0A1B11AE1"), 0x3E, 3, 0xFFFE, 9, 6,
        0, 1, 1, 0, 4096, 2, 1, end, 0,
    )  # fmt: skip
    tables = struct.pack("<109I", 0, *[free] * 108)
    fat += [free] * (128 - len(fat))
    mini += [free] * (128 - len(mini))
    body = struct.pack("<128I", *fat) + directory + struct.pack("<128I", *mini) + container.ljust(512 * sectors, b"\0")
    return header + tables + body


def test_short_streams_are_read_from_the_root_s_stream() -> None:
    title = "Příliš dlouhý název " * 20
    found = read("doc", mini_doc(title))
    assert (found.title, found.authors) == (title.strip(), ("A B",))


def test_the_summary_of_an_embedded_object_is_not_the_document_s() -> None:
    data = bytearray(make_doc(BOOK))
    at = data.index("\x05SummaryInformation".encode("utf-16-le"))
    number = (at - data.index("Root Entry".encode("utf-16-le"))) // 128
    word = data.index("WordDocument".encode("utf-16-le"))
    # Take it out of the root's tree and leave it in the directory.
    for field in (68, 72):
        if struct.unpack_from("<I", data, word + field)[0] == number:
            struct.pack_into("<I", data, word + field, 0xFFFFFFFF)
    struct.pack_into("<I", data, data.index("Root Entry".encode("utf-16-le")) + 76, 1 if number == 2 else 2)
    assert read("doc", bytes(data)).title is None


# -- rtf ----------------------------------------------------------------------------------------------------------


def rtf(info: str, head: str = r"\ansi\ansicpg1251") -> bytes:
    return (rf"{{\rtf1{head}{{\fonttbl{{\f0 Arial;}}}}" "\r\n" rf"{{\info{info}}}\pard text}}").encode("latin-1")


@pytest.mark.parametrize(
    ("data", "title"),
    [
        (rtf(r"{\title \'c2\'ee\'e9\'ed\'e0}"), "Война"),
        (rtf(r"{\title M\'fcller}", r"\ansi"), "Müller"),
        (rtf(r"{\title M\'9fller}", r"\mac"), "Müller"),
        (rtf(r"{\title M\'81ller}", r"\pc"), "Müller"),
        (rtf(r"{\title \'90\'ed\'91\'88}", r"\ansi\ansicpg932"), "戦争"),
        (rtf(r"{\title \u1042?\u1086?x}"), "Воx"),
        (rtf(r"{\title \u1042\'c2\u1086\'eex}"), "Воx"),
        (rtf(r"{\title \uc0\u1042 \u1086 x}"), "Воx"),
        (rtf(r"{\title \u1042 \u1086 x}", r"\ansi\uc0"), "Воx"),
        (rtf(r"{\title \uc2\u1042 ??\u1086 ??x}"), "Воx"),
        (rtf(r"{\title \u-10179?\u-8704?!}"), "😀!"),
        (rtf(r"{\title \u-10179?!}"), "!"),
        (rtf(r"{\title {\upr{War ?}{\*\ud{\u1042?\u1086?}}}}"), "Во"),
        (rtf(r"{\upr{\title \'c2}{\*\ud{\title \u1042?\u1086?}}}{\author A}"), "Во"),
        (rtf(r"{\upr{\title \'c2}}"), "В"),
        (rtf(r"{\author A}{\*\ud{\title not in upr}}"), None),
        (rtf(r"{\title T}{\doccomm {\upr{\title inner}{\*\ud{\title inner}}}}"), "T"),
        (rtf(r"{\title a\{b\}c\\d\~e\_f\-g}"), "a{b}c\\d e-fg"),
        (rtf("{\\title one\r\n\\line two\\tab three\\emdash four}"), "one two three—four"),
        (rtf(r"{\title {\b bold} plain}"), "bold plain"),
        (rtf(r"{\title a{\*\comment not this}b}"), "ab"),
        (rtf(r"{\*\company C}{\subject S}{\operator O}{\title T}"), "T"),
        (rtf(r"{\title T}{\doccomm {\title inner}}"), "T"),
        (rtf("{\\title \xc2\xee\xe9\xed\xe0}"), "Война"),
        (rtf(r"{\title T", "")[:-12], "T"),
        (rtf(r"{\author A}"), None),
        (b"{\\rtf1 no info}", None),
        (b"{\\rtf1{\\info", None),
    ],
)
def test_rtf_titles(data: bytes, title: str | None) -> None:
    assert read("rtf", data).title == title


def test_rtf_authors_and_keywords_are_lists() -> None:
    found = read("rtf", rtf(r"{\author A B; Doe, Jane}{\keywords one, two;three}"))
    assert (found.authors, found.tags) == (("A B", "Jane Doe"), ("one", "two", "three"))


def test_the_category_of_an_rtf_is_tags_too() -> None:
    assert read("rtf", rtf(r"{\category Fantasy, Drama}{\title T}")).tags == ("Fantasy", "Drama")
    assert read("rtf", rtf(r"{\category Fantasy}{\keywords one}")).tags == ("one", "Fantasy")


def test_rtf_fields_of_word_are_read_in_unicode() -> None:
    info = r"{\upr{\title ?}{\*\ud{\title \u26360?}}}{\upr{\author \'c2}{\*\ud{\author \u27491?}}}{\keywords k}"
    found = read("rtf", rtf(info))
    assert (found.title, found.authors, found.tags) == ("書", ("正",), ("k",))


@pytest.mark.parametrize("styles", [3_000, 60_000, 500_000])
def test_rtf_info_behind_long_style_lists_is_found(styles: int) -> None:
    data = rtf(r"{\title T}", r"\ansi{\stylesheet" + r"{\s1 Style;}" * (styles // 12) + "}")
    assert read("rtf", data).title == "T"


def test_a_long_rtf_info_is_read_to_its_end() -> None:
    assert read("rtf", rtf(r"{\doccomm " + "x" * 50_000 + r"}{\title T}")).title == "T"
    assert read("rtf", make_rtf(BOOK)).title == BOOK.title


# -- html ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "title"),
    [
        ("<title>T</title>", "T"),
        ("<HTML><HEAD><TITLE class=x>\n A\n title </TITLE>", "A title"),
        ("<title>Tom &amp; Jerry &mdash; caf&#233;</title>", "Tom & Jerry — café"),
        ("<!-- <title>old</title> --><title>new</title>", "new"),
        ("<!-- never closed <title>T</title>", None),
        ("<title></title><meta name=DC.Title content='From meta'>", "From meta"),
        ("<title>Of the page</title><meta name=DC.Title content='From meta'>", "From meta"),
        ("<title>Of the page</title><meta name=title content='From meta'>", "From meta"),
        ("<title>Of the page</title><meta name=DC.Title content=' '>", "Of the page"),
        ("<body><title>in the body</title>", None),
        ("<script>write('<body>')</script><title>T</title>", "T"),
        ("<SCRIPT type=x>'<body>' < 5</SCRIPT ><title>T</title><body><title>in the body</title>", "T"),
        (f"<script>'<body>'{' ' * 5000}</script><title>T</title>", "T"),
        ("<script><!-- '<body>' //--></script><title>T</title>", "T"),
        ("<script>'<title>of the script</title>'</script><title>T</title>", "T"),
        ("<script src='x'/><title>T</title><script src='y'></script>", "T"),
        ("<scripture><title>T</title>", "T"),
        ("<title>no end", "no end"),
        ("<p>nothing</p>", None),
    ],
)
def test_html_titles(data: str, title: str | None) -> None:
    assert read("html", data.encode()).title == title


@pytest.mark.parametrize(
    ("meta", "authors"),
    [
        ('<meta name="author" content="A B">', ("A B",)),
        ("<META CONTENT='A B, C D' NAME=Author />", ("A B", "C D")),
        ("<meta name=author content='A B and C D'>", ("A B", "C D")),
        ("<meta name=DC.creator content='A B, with Sandy Andersen'>", ("A B", "Sandy Andersen")),
        ("<meta name=author content=Homer>", ("Homer",)),
        ('<meta name="author" content="Müller, Jürgen">', ("Jürgen Müller",)),
        ('<meta name="DC.creator" content="A B"><meta name="dc.creator" content="C D">', ("A B", "C D")),
        ('<meta name="author" content="">', ()),
        ('<meta name="author">', ()),
        ('<meta name="author" content="&lt;A &quot;B&quot;&gt;">', ('<A "B">',)),
    ],
)
def test_html_authors(meta: str, authors: tuple[str, ...]) -> None:
    assert read("html", f"<head>{meta}</head>".encode()).authors == authors


@pytest.mark.parametrize(
    ("meta", "series"),
    [
        ("<meta name=series content='Oz'><meta name=seriesnumber content='2.5'>", ("Oz", 2.5)),
        ("<meta name=Series content='Oz [3]'><meta name=seriesnumber content='2.5'>", ("Oz", 3.0)),
        ("<meta name=series content='Oz [3.]'><meta name=series_index content='4'>", ("Oz", 3.0)),
        ("<meta name=series content='Oz'>", ("Oz", 1.0)),
        ("<meta name=seriesnumber content='2'>", (None, None)),
    ],
)
def test_html_series(meta: str, series: tuple[str | None, float | None]) -> None:
    found = read("html", f"<head>{meta}</head>".encode())
    assert (found.series, found.series_index) == series


def test_html_tags_are_those_of_every_name() -> None:
    text = "<meta name=tags content='Drama, War'><meta name=keywords content='one'>"
    assert read("html", text.encode()).tags == ("Drama", "War", "one")


@pytest.mark.parametrize(
    ("text", "languages"),
    [
        ('<html lang="cs-CZ">', ("cs-cz",)),
        ('<html xmlns="x" xml:lang="ru">', ("ru",)),
        ('<html lang="en"><meta http-equiv="Content-Language" content="cs">', ("cs",)),
        ("<html>", ()),
    ],
)
def test_html_languages(text: str, languages: tuple[str, ...]) -> None:
    assert read("html", text.encode()).languages == languages


@pytest.mark.parametrize(
    ("data", "title"),
    [
        ('<meta charset="windows-1251"><title>Война и мир</title>'.encode("cp1251"), "Война и мир"),
        ('<meta http-equiv=Content-Type content="text/html; charset=koi8-r"><title>Война</title>'.encode("koi8-r"),
         "Война"),
        ("<title>Война и мир</title>".encode("cp1251"), "Война и мир"),
        ("<title>Café Müller</title>".encode("cp1252"), "Café Müller"),
        ("<title>Война</title>".encode("utf-16"), "Война"),
        ('<meta charset="shift_jis"><title>戦争</title>'.encode("shift_jis"), "戦争"),
        ('<?xml version="1.0" encoding="iso-8859-2"?><html><title>Řeř</title>'.encode("iso8859-2"), "Řeř"),
        ("<title>Война</title>".encode() + b"x" * 100 + "ж".encode()[:1], "Война"),
    ],
)  # fmt: skip
def test_html_in_any_encoding(data: bytes, title: str) -> None:
    assert read("html", data).title == title


@pytest.mark.parametrize(
    ("label", "codec", "title"),
    [
        ("iso-8859-1", "cp1252", "Don’t – “stop”"),
        ("Latin1", "cp1252", "Don’t – “stop”"),
        ("us-ascii", "cp1252", "Don’t – “stop”"),
        ("us-ascii", "cp1251", "Война и мир"),
        ("gb2312", "gbk", "红楼夢镕"),
        ("GBK", "gb18030", "红楼夢镕㐀"),
        ("x-gbk", "gbk", "红楼夢镕"),
        ("big5", "big5hkscs", "粵語嘅"),
        ("Shift_JIS", "cp932", "①髙"),
        ("x-sjis", "cp932", "雪国①"),
        ("windows-31J", "cp932", "雪国①"),
        ("euc-jp", "euc_jis_2004", "雪国①"),
        ("iso-2022-jp", "iso-2022-jp", "雪国"),
        ("euc-kr", "cp949", "똠방각하"),
        ("ks_c_5601-1987", "cp949", "똠방각하"),
        ("iso-8859-9", "cp1254", "“Şeker”"),
        ("windows-874", "cp874", "สวัสดี"),
        ("TIS-620", "cp874", "“สวัสดี”"),
        ("iso-8859-8-i", "iso8859-8", "שלום"),
        ("cp-866", "cp866", "Война и мир"),
        ("x-mac-cyrillic", "mac-cyrillic", "Война и мир"),
        ("x-cp1250", "cp1250", "Příliš žluťoučký"),
    ],
)
def test_declared_encodings_are_what_browsers_take_them_for(label: str, codec: str, title: str) -> None:
    assert read("html", f"<meta charset={label}><title>{title}</title>".encode(codec)).title == title


@pytest.mark.parametrize("label", ["gb2312", "gbk", "big5", "shift_jis", "euc-jp", "euc-kr", "iso-2022-jp"])
@pytest.mark.parametrize("title", ["红楼梦", "雪国", "Žluťoučký kůň", "plain"])
def test_utf_8_is_seen_through_a_declared_east_asian_encoding(label: str, title: str) -> None:
    assert read("html", f"<meta charset={label}><title>{title}</title>".encode()).title == title


def test_html_is_read_up_to_64_kilobytes() -> None:
    assert read("html", b"<head>" + b" " * 50_000 + b"<title>T</title>").title == "T"
    assert read("html", b"<head>" + b" " * 100_000 + b"<title>T</title>").title is None
