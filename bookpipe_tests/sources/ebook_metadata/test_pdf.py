"""What PDFs say of themselves."""

import hashlib
import io
import struct
import sys
import zlib
from itertools import cycle

import pytest
from PIL import Image

from bookpipe.demo.ebook_files import BookText, make_pdf
from bookpipe.demo.ebook_files.containers import pdf_file
from bookpipe.model.errors import TerminalError
from bookpipe.sources.ebook_metadata import EbookMetadata, find_cover, read_metadata
from bookpipe_tests.sources.ebook_metadata.reading import CountingSource, read

BLOCK = 64 << 10  # bytes
BOOK = BookText("Vojna a mír", ("Lev Tolstoj", "Karel Čapek"), "cs", None, None, ("Román", "Sci-Fi"), 1869, "Text.")
MADE = make_pdf(BOOK)
ALL = EbookMetadata("Vojna a mír", ("Lev Tolstoj", "Karel Čapek"), tags=("Román", "Sci-Fi"), status="ok")
PADDED = make_pdf(BookText("Long", (), "en", None, None, (), None, "Text.", pad_to=20 * BLOCK))


def pdf_with(info: bytes, catalog: bytes = b"") -> bytes:
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>"
    pages = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
    root = b"<< /Type /Catalog /Pages 2 0 R %b >>" % catalog
    return pdf_file([root, pages, page, b"<< %b >>" % info], root=1, info=4)


# -- what is read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "title"),
    [
        (b"/Title (Plain)", "Plain"),
        (b"/Title (\\(paren\\) \\\\ \\101)", "(paren) \\ A"),
        (b"/Title <FEFF04120430>", "Ва"),
        (b"/Title (\xef\xbb\xbf\xd0\x92)", "В"),
        (b"/Title (M\xfcller \x85)", "Müller \u2013"),  # PDFDocEncoding has an en dash there
        (b"/Title ()", None),
        (b"/Title 5", None),
        (b"", None),
    ],
)
def test_the_title_is_that_of_the_info_dictionary(info: bytes, title: str | None) -> None:
    found = read("pdf", pdf_with(info))
    assert (found.title, found.status) == (title, "ok" if title else "none")


@pytest.mark.parametrize("codec", ["utf-8", "cp1251"])
@pytest.mark.parametrize(
    "title",
    [
        "Мастер и Маргарита",
        "Преступление и наказание",  # whose first letter has a byte that PDFDocEncoding has not
        "МАСТЕР И МАРГАРИТА",
        "«Война и мир» — том 1, 1869 (PDF)",
        "Введение в C++ — 2-е издание",
    ],
)
def test_an_info_in_another_encoding_is_seen_through(title: str, codec: str) -> None:
    escaped = title.replace("(", "\\(").replace(")", "\\)").encode(codec)
    info = b"/Title (%b) /Author (%b) /Keywords (%b)" % (escaped, "Лев Толстой".encode(codec), "роман".encode(codec))
    found = read("pdf", pdf_with(info))
    assert (found.title, found.authors, found.tags) == (title, ("Лев Толстой",), ("роман",))


@pytest.mark.parametrize(
    "title", ["Žluťoučký kůň", "中国", "Çılgın Türkün Düğünü, Başlangıç", "Così è (se vi pare)…", "Ελένη", "El país"]
)
def test_an_info_in_utf_8_without_its_mark_is_read(title: str) -> None:
    escaped = title.replace("(", "\\(").replace(")", "\\)").encode()
    assert read("pdf", pdf_with(b"/Title (%b)" % escaped)).title == title


PDF_DOC = dict(zip("•†‡…—–ƒ⁄‹›−‰„“”‘’‚™ﬁﬂŁŒŠŸŽıłœšž", range(0x80, 0x9F), strict=True)) | {"€": 0xA0}


@pytest.mark.parametrize(
    "title",
    [
        "Les Misérables",
        "À la recherche du temps perdu",
        "L’ÉTÉ – ÉTÉ À LA MER",
        "CAFÉ’S",
        "CAFÉ™",
        "LIBERTÉ–ÉGALITÉ–FRATERNITÉ…",
        "“Größe” – Äußerungen über Öl",
        "Übungsbücher für Schüler",
        "Žižka: šílený lid",
        "Dítě a žlutý kůň",
        "Příští stanice: Náměstí Míru",
        "Años de soledad: ¿cuántos?",
        "São Paulo, coração",
        "Blåbærsyltetøy på Ærø",
        "Þórarinn Eldjárn: Ofsögum sagt",
        "Łódź, ćma",
        "100 € für 5 ‰",
    ],
)
def test_titles_in_latin_letters_stay_as_they_are(title: str) -> None:
    codes = [PDF_DOC.get(character, ord(character)) for character in title]
    if max(codes) <= 0xFF:
        assert read("pdf", pdf_with(b"/Title (%b)" % bytes(codes))).title == title
    wide = b"\xfe\xff" + title.encode("utf-16-be")
    assert read("pdf", pdf_with(b"/Title <%b>" % wide.hex().encode())).title == title


@pytest.mark.parametrize(
    ("author", "authors"),
    [
        (b"A B; C D", ("A B", "C D")),
        (b"A B, C D", ("A B", "C D")),
        (b"A B and C D", ("A B", "C D")),
        (b"Doe, Jane", ("Jane Doe",)),
        (b"Unknown", ()),
    ],
)
def test_the_author_entry_is_a_list(author: bytes, authors: tuple[str, ...]) -> None:
    assert read("pdf", pdf_with(b"/Author (%b)" % author)).authors == authors


def test_the_language_is_the_catalog_s() -> None:
    assert read("pdf", pdf_with(b"", b"/Lang (cs-CZ)")).languages == ("cs-cz",)
    assert read("pdf", pdf_with(b"", b"/Lang (%b)" % (b"x" * 5000))).languages == ()


# -- XMP ----------------------------------------------------------------------------------------------------------

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"><xmp:title>No</xmp:title>
{}</rdf:Description></rdf:RDF></x:xmpmeta>{}<?xpacket end="w"?>"""
_TITLE = """<dc:title><rdf:Alt><rdf:li xml:lang="de">Krieg</rdf:li><rdf:li xml:lang="x-default">Válka</rdf:li></rdf:Alt>
</dc:title>"""
_OTHERS = """<dc:creator><rdf:Seq><rdf:li>Doe, Jane</rdf:li><rdf:li>A B and C D</rdf:li></rdf:Seq></dc:creator>
<dc:language><rdf:Bag><rdf:li>cs</rdf:li><rdf:li>de</rdf:li></rdf:Bag></dc:language>
<dc:subject><rdf:Bag><rdf:li>Román</rdf:li><rdf:li>Sci-Fi, War</rdf:li></rdf:Bag></dc:subject>"""
PACKET = _PACKET.format(_TITLE + _OTHERS, " " * 3000).encode()
OF_XMP = EbookMetadata(
    "Válka", ("Jane Doe", "A B", "C D"), languages=("cs", "de"), tags=("Román", "Sci-Fi", "War"), status="ok"
)
_PAGES = [
    b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>",
]


def xmp_stream(packet: bytes, packed: bool = False, length: bytes | None = None) -> bytes:
    data = zlib.compress(packet) if packed else packet
    entry = b"/Filter /FlateDecode" if packed else b""
    length = b"%d" % len(data) if length is None else length
    return b"<< /Type /Metadata /Subtype /XML /Length %b %b >>\nstream\n%b\nendstream" % (length, entry, data)


def pdf_with_xmp(info: bytes, stream: bytes, catalog: bytes = b"") -> bytes:
    root = b"<< /Type /Catalog /Pages 2 0 R /Metadata 5 0 R %b >>" % catalog
    return pdf_file([root, *_PAGES, b"<< %b >>" % info, stream], root=1, info=4)


def pdf_1_5(packet: bytes, predictor: int = 0) -> bytes:
    """All objects but streams in an object stream, the table in a cross-reference stream, as most writers do now."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R /Metadata 5 0 R >>", *_PAGES]
    offsets = [sum(len(o) + 1 for o in objects[:n]) for n in range(len(objects))]
    numbers = b" ".join(b"%d %d" % pair for pair in enumerate(offsets, 1))
    packed = zlib.compress(numbers + b"\n" + b"\n".join(objects))
    parts = [b"%PDF-1.5\n", b"5 0 obj\n%b\nendobj\n" % xmp_stream(packet, True)]
    parts.append(
        b"6 0 obj\n<< /Type /ObjStm /N 3 /First %d /Length %d /Filter [/FlateDecode] >>stream\r\n%b\nendstream\n"
        b"endobj\n" % (len(numbers) + 1, len(packed), packed)
    )
    places = [len(parts[0]), len(parts[0]) + len(parts[1])]
    at = sum(map(len, parts))
    entries = [
        (0, 0, 255),
        (2, 6, 0),
        (2, 6, 1),
        (2, 6, 2),
        (0, 0, 0),
        (1, places[0], 0),
        (1, places[1], 0),
        (1, at, 0),
    ]
    rows = [struct.pack(">BHB", *entry) for entry in entries]
    parameters = b""
    if predictor:
        parameters = b"/DecodeParms << /Columns 4 /Predictor %d >>" % predictor
        above = [bytes(4), *rows]
        rows = [
            b"\2" + bytes(x - y & 255 for x, y in zip(*pair, strict=True)) for pair in zip(rows, above, strict=False)
        ]
    table = zlib.compress(b"".join(rows))
    parts.append(
        b"7 0 obj\n<< /Type /XRef /Size 8 /W [1 2 1] /Root 1 0 R /Length %d /Filter /FlateDecode %b >>\nstream\n%b\n"
        b"endstream\nendobj\nstartxref\n%d\n%%%%EOF\n" % (len(table), parameters, table, at)
    )
    return b"".join(parts)


@pytest.mark.parametrize(
    "data",
    [
        pdf_with_xmp(b"/Producer (P)", xmp_stream(PACKET)),
        pdf_with_xmp(b"/Title () /Author ()", xmp_stream(PACKET, True)),
        pdf_with_xmp(b"/Title ( ) /Author <FEFF0020000A> /Keywords ( )", xmp_stream(PACKET)),
        pdf_with_xmp(b"", xmp_stream(PACKET, length=b"9 0 R")),
        b"HTTP/1.1 200 OK\r\n\r\n" + pdf_with_xmp(b"", xmp_stream(PACKET, True)),
        pdf_1_5(PACKET),
        pdf_1_5(PACKET, 12),
        pdf_with_xmp(b"", xmp_stream(PACKET.replace(b"</rdf:Description>", b""))),
        pdf_with_xmp(b"", xmp_stream(PACKET.decode().encode("utf-16"))),
    ],
    ids=["plain", "packed", "blanks", "lost length", "junk before", "1.5", "predictor", "broken XML", "UTF-16"],
)
def test_the_xmp_of_the_catalog_stands_in_for_an_empty_info(data: bytes) -> None:
    assert read("pdf", data) == OF_XMP


def test_xmp_of_a_file_that_was_saved_again_is_the_new_one() -> None:
    old = pdf_with_xmp(b"", xmp_stream(_PACKET.format("<dc:title>Old</dc:title>", "").encode()))
    table = old.rindex(b"xref\n0 ")
    new = b"5 0 obj\n%b\nendobj\n" % xmp_stream(PACKET)
    update = b"xref\n5 1\n%010d 00000 n \ntrailer\n<< /Size 6 /Root 1 0 R /Prev %d >>\nstartxref\n%d\n%%%%EOF\n"
    assert read("pdf", old).title == "Old"
    assert read("pdf", old + new + update % (len(old), table, len(old + new))) == OF_XMP


@pytest.mark.parametrize("info", [b"/Title (T)", b"/Author (A B)"])
def test_info_that_says_something_is_all_that_is_read(info: bytes) -> None:
    found = read("pdf", pdf_with_xmp(info, xmp_stream(PACKET)))
    assert (found.title, found.authors, found.tags) == (("T", (), ()) if b"T" in info else (None, ("A B",), ()))


@pytest.mark.parametrize(
    "stream",
    [
        b"<< >>",
        b"null",
        xmp_stream(b""),
        xmp_stream(b"no xml"),
        xmp_stream(PACKET, True).replace(zlib.compress(PACKET)[:9], b"\xff" * 9),
        xmp_stream(PACKET).replace(b"/Length", b"/Filter [/ASCII85Decode] /Length"),
        xmp_stream(b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><x xmlns:dc="http://purl.org/dc/elements/1.1/">'
                   b"<dc:creator>&e;</dc:creator></x>"),
        xmp_stream(b"\0" * 30_000_000, True),
    ],
    ids=["no stream", "null", "empty", "text", "damaged", "filter", "entity", "bomb"],
)  # fmt: skip
def test_xmp_that_cannot_be_read_leaves_the_file_silent(stream: bytes) -> None:
    assert read("pdf", pdf_with_xmp(b"", stream)).title is None
    assert read("pdf", pdf_with_xmp(b"", stream)).status in ("none", "ok")


def test_a_damaged_way_to_the_xmp_never_hurts() -> None:
    for whole in (pdf_with_xmp(b"", xmp_stream(PACKET)), pdf_1_5(PACKET, 12)):
        table = whole.rindex(b"startxref")
        for at in range(table - 200, len(whole), 7):
            found = read("pdf", whole[:at] + b"9" + whole[at + 1 :])
            assert found.status != "encrypted" and "Error" not in found.detail, found


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 500 + MADE,
        b"HTTP/1.1 200 OK\r\n\r\n" + MADE,
        MADE + b"\0" * 5000,
        MADE.replace(b"xref", b"xxxx"),
        MADE.replace(b"startxref", b"startyref"),
        MADE[: MADE.rindex(b"startxref")],
    ],
    ids=["zeros before", "text before", "zeros behind", "no xref", "no startxref", "no end"],
)
def test_a_pdf_with_junk_around_or_a_lost_table_is_read(data: bytes) -> None:
    assert read("pdf", data) == ALL


def test_a_large_pdf_costs_a_few_blocks() -> None:
    source = CountingSource(PADDED)
    assert read_metadata("pdf", b"", len(PADDED), source.read_at).title == "Long"
    assert source.asked <= 6 * BLOCK


def test_a_large_pdf_without_its_table_is_searched_block_by_block() -> None:
    data = PADDED.replace(b"xref", b"xxxx")
    source = CountingSource(data)
    assert read_metadata("pdf", b"", len(data), source.read_at).title == "Long"
    assert source.asked >= len(data)


@pytest.mark.parametrize("data", [b"", b"%PDF-1.4", MADE[:400], b"%PDF-1.4\n" + b"1 0 obj\n" * 5000])
def test_what_is_no_pdf_is_unreadable(data: bytes) -> None:
    found = read("pdf", data)
    assert found == EbookMetadata(status="unreadable", detail=found.detail)
    assert found.detail


def test_a_size_that_lies_is_unreadable() -> None:
    source = CountingSource(MADE)
    assert read_metadata("pdf", b"", 1 << 40, source.read_at).status == "unreadable"
    assert read_metadata("pdf", b"", len(MADE), source.read_at) == ALL


# -- keys ---------------------------------------------------------------------------------------------------------

_PAD = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")


def rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i, k in zip(range(256), cycle(key), strict=False):
        j = (j + state[i] + k) % 256
        state[i], state[j] = state[j], state[i]
    out = bytearray()
    i = j = 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def locked_pdf(user: bytes, title: bytes) -> bytes:
    """A PDF under the standard handler, revision 2 (40-bit RC4): ISO 32000-1, 7.6.3."""
    identifier, permissions = b"0123456789abcdef", struct.pack("<i", -4)
    owner_entry = rc4(md5((b"owner" + _PAD)[:32])[:5], (user + _PAD)[:32])
    key = md5((user + _PAD)[:32] + owner_entry + permissions + identifier)[:5]
    info_key = md5(key + (4).to_bytes(3, "little") + b"\0\0")[:10]
    encrypt = b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%b> /U <%b> >>" % (
        owner_entry.hex().encode(),
        rc4(key, _PAD).hex().encode(),
    )
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>",
        b"<< /Title <%b> >>" % rc4(info_key, title).hex().encode(),
        encrypt,
    ]
    more = b"trailer\n<< /Encrypt 5 0 R /ID [<%b> <%b>]" % ((identifier.hex().encode(),) * 2)
    return pdf_file(objects, root=1, info=4).replace(b"trailer\n<<", more)


def test_a_pdf_that_needs_a_password_is_encrypted() -> None:
    found = read("pdf", locked_pdf(b"secret", b"Hidden"))
    assert (found.status, found.title) == ("encrypted", None)


def test_a_pdf_that_only_forbids_things_is_read() -> None:
    found = read("pdf", locked_pdf(b"", b"Open"))
    assert (found.status, found.title) == ("ok", "Open")


def test_a_pdf_under_another_handler_is_encrypted() -> None:
    data = locked_pdf(b"", b"Open").replace(b"/Filter /Standard", b"/Filter /EBX_HANDL")
    assert read("pdf", data).status == "encrypted"


# -- the library --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 7 * BLOCK])
def test_an_error_of_the_source_passes_through(at: int) -> None:
    data = PADDED.replace(b"xref", b"xxxx")

    def failing(offset: int, length: int) -> bytes:
        if offset <= at < offset + length:
            raise TimeoutError("network share")
        return data[offset : offset + length]

    for _ in range(2):
        with pytest.raises(TimeoutError, match="network share"):
            read_metadata("pdf", b"", len(data), failing)
        with pytest.raises(TimeoutError, match="network share"):
            find_cover("pdf", b"", len(data), failing)
        assert read("pdf", MADE) == ALL


def test_a_library_that_is_missing_is_an_error_of_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(TerminalError, match="is pypdfium2 installed"):
        read("pdf", MADE)


# -- the first page ------------------------------------------------------------------------------------------------


def drawing(page: bytes, content: bytes = b"1 0 0 rg 0 0 1000 1000 re f 0 0 1 rg 0 0 10 10 re f") -> bytes:
    """A PDF of one page: its entries, and what is drawn on it."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R %b >>" % page,
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content),
    ]
    return pdf_file(objects, root=1, info=1)


def draw(data: bytes) -> Image.Image | None:
    drawn = find_cover("pdf", b"", len(data), CountingSource(data).read_at)
    return None if drawn is None else Image.open(io.BytesIO(drawn))


@pytest.mark.parametrize(
    ("box", "size"),
    [
        (b"[0 0 100 100]", (640, 640)), (b"[0 0 612 792]", (640, 829)), (b"[0 0 20 600]", (31, 904)),
        (b"[0 0 14400 14400]", (640, 640)),
    ],
)  # fmt: skip
def test_the_first_page_is_drawn_in_the_size_of_two_covers(box: bytes, size: tuple[int, int]) -> None:
    image = draw(drawing(b"/MediaBox %b" % box))
    assert image is not None
    assert image.format == "JPEG"
    assert all(abs(side - wanted) <= 1 for side, wanted in zip(image.size, size, strict=True))


def test_the_text_of_a_first_page_shows() -> None:
    image = draw(MADE)
    assert image is not None
    assert image.convert("L").getextrema() == (0, 255)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"no PDF", MADE[:200],
        drawing(b"/MediaBox [0 0 9 9]", b""), drawing(b"/MediaBox [0 0 9 9]", b"junk ( q q"),
        pdf_file([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [] /Count 0 >>"], root=1, info=1),
        pdf_file([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [9 0 R] /Count 1 >>"], root=1, info=1),
    ],
)  # fmt: skip
def test_a_pdf_without_a_page_to_see_has_no_picture(data: bytes) -> None:
    assert draw(data) is None


@pytest.mark.parametrize("box", [b"[0 0 0 0]", b"[0 0 -5 9]", b"[0 0 0.00001 9]", b"[0 0 1e30 1e30]", b"[0 0 9 1e9]"])
def test_a_page_of_any_size_is_drawn_or_not_and_hurts_nobody(box: bytes) -> None:
    image = draw(drawing(b"/MediaBox %b" % box))
    assert image is None or max(image.size) <= 905
