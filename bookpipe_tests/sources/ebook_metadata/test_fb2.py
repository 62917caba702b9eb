"""FictionBook in every encoding it comes in, plain and zipped."""

import base64
import codecs
import io
import zipfile

import pytest

from bookpipe.demo.ebook_files import BookText, make_fb2
from bookpipe.sources.ebook_metadata import read_cover
from bookpipe_tests.sources.ebook_metadata.reading import CountingSource, read, zip_of

BOOK = BookText(
    "Война и мир", ("Лев Николаевич Толстой",), "ru", "Романы", 1.0, ("prose_rus_classic",), 1869, "Ну, князь. " * 3000
)


def fb2(info: str, declaration: str = "", rest: str = "") -> str:
    return (
        f'{declaration}<FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0" '
        f'xmlns:l="http://www.w3.org/1999/xlink"><description><title-info>{info}</title-info></description>{rest}'
        "<body><p>x</p></body></FictionBook>"
    )


TITLE = "<book-title>Война и мир, сочинение графа</book-title>"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "windows-1251", "koi8-r", "iso-8859-1", "utf-16"])
@pytest.mark.parametrize("zipped", [False, True])
def test_every_encoding_is_read(encoding: str, zipped: bool) -> None:
    data = make_fb2(BOOK, encoding)
    found = read("fbz", zip_of(("книга.FB2", data))) if zipped else read("fb2", data)
    assert (found.title, found.authors, found.languages) == (BOOK.title, BOOK.authors, ("ru",))
    assert (found.series, found.series_index, found.tags) == ("Романы", 1.0, BOOK.tags)


@pytest.mark.parametrize(
    "data",
    [
        fb2(TITLE).encode(),
        fb2(TITLE).encode("cp1251"),
        fb2(TITLE).encode("utf-16-le"),
        fb2(TITLE).encode("utf-16-be"),
        codecs.BOM_UTF16_BE + fb2(TITLE).encode("utf-16-be"),
        codecs.BOM_UTF8 + fb2(TITLE).encode(),
        ("\ufeff\ufeff" + fb2(TITLE, '<?xml version="1.0" encoding="UTF-8"?>')).encode(),
        ("\ufeff\ufeff" + fb2(TITLE, '<?xml version="1.0" encoding="UTF-8"?>')).encode("utf-16-le"),
        fb2(TITLE, '<?xml version="1.0" encoding="UTF-8"?>').encode("cp1251"),
        fb2(TITLE, '<?xml version="1.0" encoding="windows-1251"?>').encode(),
        fb2(TITLE, '<?xml version="1.0" encoding="utf-16"?>').encode(),
        fb2(TITLE, "<?xml version='1.0' encoding='no-such-thing'?>").encode(),
        fb2(TITLE, "<?xml version='1.0' encoding='punycode'?>").encode(),
        fb2(TITLE, "<?xml version='1.0' encoding='hex'?>").encode("cp1251"),
        ("\n\n  " + fb2(TITLE)).encode("cp1251"),
    ],
    ids=["utf-8", "1251", "16le", "16be", "16be mark", "8 mark", "two 8 marks", "two 16 marks",
         "1251 says utf-8", "utf-8 says 1251", "utf-8 says utf-16", "no such codec", "punycode", "hex", "blanks first"],
)  # fmt: skip
def test_declarations_that_are_missing_or_lie_are_seen_through(data: bytes) -> None:
    assert read("fb2", data).title == "Война и мир, сочинение графа"


def test_one_damaged_byte_does_not_change_the_encoding() -> None:
    data = fb2(TITLE + "<author><last-name>Толстой</last-name></author>").encode()
    damaged = data.replace("граф".encode(), "гра".encode() + b"\xff", 1)
    assert read("fb2", damaged).title == "Война и мир, сочинение гра\ufffdа"


@pytest.mark.parametrize(
    ("author", "name"),
    [
        ("<first-name>Лев</first-name><middle-name>Н.</middle-name><last-name>Толстой</last-name>", "Лев Н. Толстой"),
        ("<last-name>Толстой</last-name><first-name>Лев</first-name>", "Лев Толстой"),
        ("<last-name>Гомер</last-name>", "Гомер"),
        ("<first-name/><last-name/><nickname>Nick</nickname>", "Nick"),
        ("<first-name>Лев</first-name><last-name/><nickname>Nick</nickname>", "Лев"),
        ("<last-name>Толстой, Лев</last-name>", "Лев Толстой"),
        ("<first-name> </first-name>", None),
        ("<first-name>A</first-name><last-name>B\nC</last-name>", "A B C"),
        ("<nickname>\n  Nick\n  Name\n</nickname>", "Nick Name"),
        ("<last-name>A and B</last-name>", "A and B"),
    ],
)
def test_names_are_put_together_in_order(author: str, name: str | None) -> None:
    found = read("fb2", fb2(f"{TITLE}<author>{author}</author><author><nickname>Z</nickname></author>").encode())
    assert found.authors == ((name, "Z") if name else ("Z",))


def test_only_the_title_info_counts() -> None:
    text = (
        "<FictionBook><description><src-title-info><book-title>War</book-title><lang>en</lang></src-title-info>"
        "<title-info><book-title>Мир</book-title><lang> RU </lang><src-lang>en</src-lang>"
        "<translator><last-name>Nobody</last-name></translator></title-info>"
        '<publish-info><sequence name="Library"/></publish-info></description></FictionBook>'
    )
    found = read("fb2", text.encode())
    assert (found.title, found.languages, found.authors, found.series) == ("Мир", ("ru",), (), None)


@pytest.mark.parametrize(
    ("title_info", "src_title_info", "authors"),
    [
        ("<author><nickname>A</nickname></author>", "<author><nickname>B</nickname></author>", ("A",)),
        ("<author><last-name> </last-name></author>", "<author><nickname>B</nickname></author>", ("B",)),
        ("<author><last-name/></author>", "", ("maker", "scanner")),
        ("", "<author/>", ("maker", "scanner")),
    ],
)
def test_without_authors_the_original_s_count_and_then_the_file_s(
    title_info: str, src_title_info: str, authors: tuple[str, ...]
) -> None:
    text = (
        f"<FictionBook><description><title-info><book-title>T</book-title>{title_info}</title-info>"
        f"<src-title-info>{src_title_info}</src-title-info>"
        "<document-info><author><nickname>maker</nickname></author><author><nickname>scanner</nickname></author>"
        "</document-info></description></FictionBook>"
    )
    assert read("fb2", text.encode()).authors == authors


@pytest.mark.parametrize(
    ("sequence", "series", "index"),
    [
        ('<sequence name="S" number="2"/>', "S", 2.0),
        ('<sequence number="2"/><sequence name="S"/>', "S", 1.0),
        ('<sequence name="S" number="two"/>', "S", 1.0),
        ('<sequence name="S" number="0"/>', "S", 0.0),
        ('<sequence name="S" number="2,5"><sequence name="Inner" number="9"/></sequence>', "S", 2.5),
        ('<sequence name="" number="2"/>', None, None),
    ],
)
def test_the_series_is_the_first_sequence_with_a_name(sequence: str, series: str | None, index: float | None) -> None:
    found = read("fb2", fb2(TITLE + sequence).encode())
    assert (found.series, found.series_index) == (series, index)


@pytest.mark.parametrize(
    ("data", "title"),
    [
        (fb2("<book-title>Tom & Jerry</book-title>").encode(), "Tom & Jerry"),
        (fb2("<book-title>a <emphasis>b</emphasis></book-title>").encode(), "a b"),
        (fb2("<book-title>a\x01b</book-title>").encode(), "ab"),
        (fb2("<annotation><p>never closed</annotation><book-title>T</book-title>").encode(), "T"),
        (b"<fb:FictionBook><fb:description><fb:title-info><fb:book-title>T</fb:book-title>", "T"),
        (fb2(TITLE).partition("</title-info>")[0].encode(), "Война и мир, сочинение графа"),
        (fb2(f"<annotation><p>{'x' * 500_000}</p></annotation><book-title>T</book-title>").encode(), "T"),
    ],
)
def test_broken_files_give_what_they_can(data: bytes, title: str) -> None:
    assert read("fb2", data).title == title


@pytest.mark.parametrize(
    "damage", ["<p>x<br>y</p>", "<p>never closed", "<p><emphasis>x</p>", "<p>a</strong><i><b></p>"]
)
def test_tags_that_are_not_closed_do_not_mix_the_sections(damage: str) -> None:
    def person(name: str) -> str:
        return f"<author><nickname>{name}</nickname></author>"

    def text(author: str) -> str:
        return (
            f"<FictionBook><description><title-info>{author}<book-title>T</book-title>"
            f"<annotation>{damage}</annotation><lang>ru</lang></title-info>"
            f"<src-title-info><genre>src</genre>{person('Src')}<lang>en</lang><sequence name='Src'/></src-title-info>"
            f"<document-info>{person('Scanner')}</document-info><publish-info><sequence name='Library'/></publish-info>"
            "</description><body/></FictionBook>"
        )

    found = read("fb2", text(person("A")).encode())
    assert (found.title, found.authors, found.languages) == ("T", ("A",), ("ru",))
    assert (found.series, found.tags) == (None, ())
    assert read("fb2", text("").encode()).authors == ("Src",)


def test_an_end_beyond_the_first_megabyte_is_not_waited_for() -> None:
    data = fb2(f"<book-title>T</book-title><annotation><p>{'x' * 3_000_000}</p></annotation>").encode()
    source = CountingSource(data)
    assert read("fb2", data).title == "T"
    assert source.asked <= 1 << 20


_IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


@pytest.mark.parametrize("encoding", ["utf-8", "windows-1251", "utf-16"])
@pytest.mark.parametrize("zipped", [False, True])
def test_the_cover_is_the_binary_the_title_info_names(encoding: str, zipped: bool) -> None:
    encoded = base64.encodebytes(_IMAGE).decode()
    text = fb2(
        TITLE + '<coverpage><image l:href="#обложка.png"/></coverpage>',
        f'<?xml version="1.0" encoding="{encoding}"?>',
        f'<binary id="other">AAAA</binary><binary content-type="image/png" id="обложка.png">{encoded}</binary>',
    )
    data = zip_of(("a.fb2", text.encode(encoding))) if zipped else text.encode(encoding)
    kind = "fbz" if zipped else "fb2"
    cover = read(kind, data).cover
    assert cover == "обложка.png"
    assert read_cover(kind, cover, len(data), CountingSource(data).read_at) == _IMAGE


def test_a_cover_that_is_not_there_is_none() -> None:
    data = fb2(TITLE + '<coverpage><image l:href="#x"/></coverpage>', rest='<binary id="x">\xe9 no base64</binary>')
    assert read_cover("fb2", "x", len(data), CountingSource(data.encode()).read_at) is None
    assert read_cover("fb2", "missing", len(data), CountingSource(data.encode()).read_at) is None


def test_a_zip_of_one_part_is_read_behind_its_mark() -> None:
    buffer = io.BytesIO(b"PK00")
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.fb2", fb2(TITLE))
    assert read("fbz", buffer.getvalue()).title == "Война и мир, сочинение графа"


def test_a_zip_without_an_fb2_is_unreadable() -> None:
    assert read("fbz", zip_of(("readme.txt", "x"))).status == "unreadable"
