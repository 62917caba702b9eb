"""Mobipocket, KF8 and other Palm databases: EXTH records, code pages, DRM and headers that lie."""

import struct

import pytest

from bookpipe.demo.ebook_files import BookText, make_azw3, make_mobi, make_pdb
from bookpipe.demo.ebook_files.containers import palm_database
from bookpipe.sources.ebook_metadata import read_cover
from bookpipe_tests.sources.ebook_metadata.reading import CountingSource, read

BOOK = BookText("Vojna a mír", ("Lev Tolstoj", "Karel Čapek"), "cs", None, None, ("Román", "Sci-Fi"), 1869, "Text.")
_NONE = 0xFFFFFFFF
_JPEG = b"\xff\xd8\xff\xe0 picture"


def mobi(
    *exth: tuple[int, bytes],
    name: bytes = b"Full Name",
    database: bytes = b"Database_Name",
    code_page: int = 65001,
    locale: int = 0,
    drm: int = 0,
    count: int | None = None,
    images: tuple[bytes, ...] = (),
) -> bytes:
    """A MOBI 6 of these EXTH values and no text."""
    values = b"".join(struct.pack(">II", number, 8 + len(value)) + value for number, value in exth)
    block = struct.pack(">4sII", b"EXTH", 12 + len(values), len(exth) if count is None else count) + values
    header = bytearray(b"\0" * 248)
    struct.pack_into(">H", header, 12, drm)
    struct.pack_into(">4sIIII", header, 16, b"MOBI", 232, 2, code_page, 0)
    struct.pack_into(">I", header, 36, 6)
    struct.pack_into(">III", header, 84, 248 + len(block), len(name), locale)
    struct.pack_into(">I", header, 108, 1)
    struct.pack_into(">I", header, 128, 0x40)
    return palm_database(database, b"BOOKMOBI", [bytes(header) + block + name, *images, b"the end"])


# -- titles and text ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exth", "name", "database", "title"),
    [
        ([(503, b"Updated")], b"Full Name", b"DB", "Updated"),
        ([], b"Full Name", b"DB", "Full Name"),
        ([(503, b" ")], b"Full Name", b"DB", "Full Name"),
        ([], b"", b"Data_Base", "Data Base"),
        ([], b"\0\0", b"DB", "DB"),
        ([], b"", b"", None),
        ([(503, b"One"), (503, b"Two")], b"", b"", "One"),
        ([(503, b"NUL \0 inside\0")], b"", b"", "NUL inside"),
    ],
)
def test_the_title_is_exth_503_then_the_header_s_then_the_database_s(
    exth: list[tuple[int, bytes]], name: bytes, database: bytes, title: str | None
) -> None:
    assert read("mobi", mobi(*exth, name=name, database=database)).title == title


@pytest.mark.parametrize(
    ("code_page", "codec"),
    [(65001, "utf-8"), (1252, "cp1252"), (1251, "cp1251"), (932, "cp932"), (1250, "cp1250"), (1252, "utf-8")],
)
def test_texts_are_in_the_header_s_code_page(code_page: int, codec: str) -> None:
    title = {"cp1251": "Война и мир", "cp932": "戦争と平和", "cp1250": "Řeřicha"}.get(codec, "Æneid – Müller")
    assert read("mobi", mobi((503, title.encode(codec)), code_page=code_page)).title == title


@pytest.mark.parametrize("code_page", [0, 7, 99999, _NONE])
def test_a_code_page_nobody_knows_is_windows_1252(code_page: int) -> None:
    assert read("mobi", mobi((503, "Müller".encode("cp1252")), code_page=code_page)).title == "Müller"


def test_utf_8_that_is_windows_1251_is_seen_through() -> None:
    assert read("mobi", mobi((503, "Война и мир".encode("cp1251")))).title == "Война и мир"


# -- people, tags, languages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "authors"),
    [
        ([b"A B", b"C D"], ("A B", "C D")),
        ([b"A B; C D"], ("A B", "C D")),
        (["Müller, Jürgen".encode(), b"Doe, Jane Q."], ("Jürgen Müller", "Jane Q. Doe")),
        ([b"Garcia Marquez, Gabriel"], ("Garcia Marquez, Gabriel",)),
        ([b"Martin Luther King, Jr."], ("Martin Luther King, Jr.",)),
        ([b"A B", b"A B", b""], ("A B",)),
        ([], ()),
    ],
)
def test_every_record_100_is_an_author(values: list[bytes], authors: tuple[str, ...]) -> None:
    assert read("mobi", mobi(*((100, value) for value in values))).authors == authors


def test_subjects_are_lists() -> None:
    assert read("mobi", mobi((105, b"A; B"), (105, b"C"), (108, b"Contributor"))).tags == ("A", "B", "C")


def test_entities_of_html_are_characters() -> None:
    found = read("mobi", mobi((503, b"Tom &amp; Jerry &#8212; caf&#xE9;"), (100, b"A&nbsp;B &amp; C&eacute; D"),
                              (105, b"R&amp;B; &lt;x&gt;")))  # fmt: skip
    assert found.title == "Tom & Jerry \u2014 caf\xe9"
    assert found.authors == ("A B", "C\xe9 D")
    assert found.tags == ("R&B", "<x>")
    assert read("mobi", mobi(name=b"Tom &amp; Jerry")).title == "Tom & Jerry"


@pytest.mark.parametrize("title", ["Rock&parade", "R&D; more", "a & b;", "&unknown;", "&;", "&#x;", "AT&T"])
def test_what_is_no_entity_stays(title: str) -> None:
    assert read("mobi", mobi((503, title.encode()))).title == title


@pytest.mark.parametrize(
    ("exth", "locale", "languages"),
    [
        ([(524, b"RU")], 9, ("ru",)),
        ([(524, b"en"), (524, b"cs")], 0, ("cs",)),
        ([(524, b"en"), (524, b" ")], 0, ("en",)),
        ([(524, b"")], 9, ("en",)),
        ([], 9, ("en",)),
        ([], 0x0405, ("cs",)),
        ([], 0x0419, ("ru",)),
        ([], 0x081A, ("hr",)),  # the language's number is shared
        ([], 0, ()),
        ([], 0x3FF, ()),
    ],
)
def test_the_language_is_exth_524_then_the_header_s(
    exth: list[tuple[int, bytes]], locale: int, languages: tuple[str, ...]
) -> None:
    assert read("mobi", mobi(*exth, locale=locale)).languages == languages


# -- DRM and damage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [1, 2])
@pytest.mark.parametrize("make", [make_mobi, make_azw3])
def test_a_book_under_drm_is_encrypted_and_keeps_its_metadata(make: object, scheme: int) -> None:
    data = bytearray(make_mobi(BOOK) if make is make_mobi else make_azw3(BOOK))
    struct.pack_into(">H", data, int.from_bytes(data[78:82], "big") + 12, scheme)
    found = read("mobi", bytes(data))
    assert (found.status, found.title, found.authors) == ("encrypted", BOOK.title, BOOK.authors)
    assert str(scheme) in found.detail


@pytest.mark.parametrize("count", [0, 1, 2, 1000, _NONE])
def test_an_exth_count_that_lies_ends_with_the_records(count: int) -> None:
    found = read("mobi", mobi((100, b"A B"), (503, b"T"), count=count))
    assert found.title == ("T" if count > 1 else "Full Name")
    assert found.authors == (("A B",) if count else ())


@pytest.mark.parametrize("length", [0, 7, 1 << 20, _NONE])
def test_an_exth_length_that_lies_is_survived(length: int) -> None:
    data = bytearray(mobi((503, b"Title"), (100, b"A B")))
    at = data.index(struct.pack(">II", 503, 13))
    struct.pack_into(">I", data, at + 4, length)
    assert read("mobi", bytes(data)).status == "ok"


@pytest.mark.parametrize("offset", [78, 86])
@pytest.mark.parametrize("value", [0, 60, 1 << 20, _NONE])
def test_record_offsets_that_lie_are_survived(offset: int, value: int) -> None:
    data = bytearray(make_mobi(BOOK))
    struct.pack_into(">I", data, offset, value)
    assert read("mobi", bytes(data)).status in ("ok", "unreadable", "encrypted")


def test_every_cut_of_a_mobi_is_survived() -> None:
    data = mobi((100, b"A B"), (503, b"Title"))
    for length in range(len(data)):
        assert read("mobi", data[:length]).status in ("ok", "unreadable")


def test_a_name_beyond_the_record_is_left_out() -> None:
    data = bytearray(mobi(database=b"DB"))
    at = int.from_bytes(data[78:82], "big")
    struct.pack_into(">II", data, at + 84, _NONE, _NONE)
    assert read("mobi", bytes(data)).title == "DB"


# -- covers -------------------------------------------------------------------------------------------------------


def test_the_cover_is_counted_from_the_first_image() -> None:
    data = mobi((201, struct.pack(">I", 1)), images=(b"\x89PNG other", _JPEG))
    cover = read("mobi", data).cover
    assert cover == 2
    assert read_cover("mobi", cover, len(data), CountingSource(data).read_at) == _JPEG


@pytest.mark.parametrize("value", [struct.pack(">I", _NONE), struct.pack(">I", 50), b"", b"123"])
def test_a_cover_record_that_does_not_exist_is_none(value: bytes) -> None:
    assert read("mobi", mobi((201, value), images=(_JPEG,))).cover is None


def test_a_record_that_is_no_image_is_no_cover() -> None:
    data = mobi((201, struct.pack(">I", 0)), images=(b"no image",))
    assert read_cover("mobi", read("mobi", data).cover, len(data), CountingSource(data).read_at) is None
    assert read_cover("mobi", 60_000, len(data), CountingSource(data).read_at) is None


# -- other databases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "title"),
    [
        (b"War_and_Peace", "War and Peace"),
        ("Müller".encode("cp1252"), "Müller"),
        ("Les Misérables".encode("cp1252"), "Les Misérables"),
        ("Café".encode("cp1252"), "Café"),
        (b"x" * 40, "x" * 31),
        (b"", None),
        ("Мастер_и_Маргарита".encode("cp1251"), "Мастер и Маргарита"),
        ("«ВОЙНА И МИР»".encode("cp1251"), "«ВОЙНА И МИР»"),
        ("Žluťoučký kůň".encode(), "Žluťoučký kůň"),
        ("Мастер и Маргарита".encode(), "Мастер и Маргари"),  # 31 bytes end in the middle of a letter
    ],
)
def test_the_title_of_a_pdb_is_its_name(name: bytes, title: str | None) -> None:
    assert read("pdb", palm_database(name, b"TEXtREAd", [b"header", b"text"])).title == title


def test_a_pdb_says_nothing_else() -> None:
    found = read("pdb", make_pdb(BOOK))
    assert (found.authors, found.languages, found.tags, found.status) == ((), (), (), "ok")
