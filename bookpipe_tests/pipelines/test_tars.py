"""Shards of ebooks are loaded from the tar: every member ends as a book that is there once, or with a reason."""

import os
import shutil
import tarfile
from hashlib import sha1
from pathlib import Path

import pytest

from bookpipe.demo.ebook_files import MAKERS, BookText
from bookpipe.demo.tar_shards import make_demo_shards
from bookpipe.model.counts import LoadCounts
from bookpipe.pipelines.tars import DamagedShardError, Limits, index_shard, loaded_sources, plan_shard_dry
from bookpipe.resolve.books import BookOptions
from bookpipe.runtime.state import State
from bookpipe.sources.tar_shards import Settled, Shard, find_shards
from bookpipe_tests.factories import hashed_table
from bookpipe_tests.pipelines.shards import Heard, Member, book, files_of, link, load, make_shard, numbered
from bookpipe_tests.targets.book_rows import book_rows
from bookpipe_tests.targets.shelf import Shelf

TITLE_ONLY, SILENT, NO_LANGUAGE = {"pdb"}, {"txt", "djvu", "chm", "lit", "cbz"}, {"pdf", "doc", "rtf", "pdb"}
TEXT = BookText("Kůň & Vojna", ("Karel Čapek", "Jane Doe"), "cs", "Řada", 2.0, ("Fantasy",), 1869, "Příliš žluťoučký.")


@pytest.mark.parametrize("extension", MAKERS)
def test_a_book_of_every_format_is_loaded_as_what_it_was_made_of(shelf: Shelf, tmp_path: Path, extension: str) -> None:
    data = MAKERS[extension](TEXT)
    result = load(shelf, make_shard(tmp_path / "16470000", numbered([data])))
    assert result.counts == LoadCounts(inserted=1)
    ((title, language, kind, name, size, digest, location),) = shelf.sql(
        "SELECT e.title, l.code, f.extension, s.load_source, s.size, s.hash, s.location FROM source s "
        "JOIN ebook e ON e.id = s.ebook_id JOIN language l ON l.id = e.language_id JOIN format f ON f.id = s.format_id"
    )
    silent = extension in SILENT
    pdb_title = TEXT.title.encode("cp1252", "replace").decode("cp1252")
    assert title == ("16470000" if silent else pdb_title if extension in TITLE_ONLY else TEXT.title)
    assert language == ("und" if silent or extension in NO_LANGUAGE else "cs")
    # Nothing tells prc from mobi and htm from html but the name, and this one says nothing.
    assert kind == {"prc": "mobi", "htm": "html"}.get(extension, extension)
    assert (name, size, digest) == ("16470000", len(data), sha1(data).hexdigest())
    assert files_of(shelf) == {location: data}
    authors = {f"{first} {last}" for first, last in shelf.sql("SELECT first_name, last_name FROM author")}
    assert authors == (set() if silent or extension in TITLE_ONLY else set(TEXT.authors))
    if not authors:
        assert location.startswith("No Authors/")


@pytest.mark.parametrize(("name", "kind"), [("a.prc", "prc"), ("a.mobi", "mobi"), ("a.pdf", "mobi")])
def test_the_name_only_breaks_ties(shelf: Shelf, tmp_path: Path, name: str, kind: str) -> None:
    load(shelf, make_shard(tmp_path / "1.tar", [(name, MAKERS["mobi"](TEXT))]))
    assert shelf.one("SELECT f.extension FROM source s JOIN format f ON f.id = s.format_id") == kind


def test_files_are_real_files_whatever_the_file_mode(shelf: Shelf, tmp_path: Path) -> None:
    shelf.target = shelf.using(file_mode="hardlink")
    load(shelf, make_shard(tmp_path / "1.tar", numbered(map(book, range(3)))))
    assert sorted(files_of(shelf).values()) == sorted(map(book, range(3)))
    assert all(path.stat().st_nlink == 1 for path in shelf.books.rglob("*.epub"))


def test_the_same_bytes_are_there_once(shelf: Shelf, tmp_path: Path, library: Path) -> None:
    """Within a shard (and within and across chunks), across shards, and with a book of a Calibre library."""
    shelf.load(hashed_table(book_rows(library, 1, "From Calibre", files={"epub": book(100)})))
    first = make_shard(tmp_path / "1.tar", numbered([book(1), book(1), *map(book, range(2, 9)), book(2), book(100)]))
    second = make_shard(tmp_path / "2.tar", numbered(map(book, range(5, 12))))
    assert load(shelf, first).counts == LoadCounts(inserted=8, existing=3)
    assert load(shelf, second).counts == LoadCounts(inserted=3, existing=4)
    assert shelf.one("SELECT count(*) FROM source") == shelf.one("SELECT count(*) FROM ebook") == 12
    assert shelf.one("SELECT count(DISTINCT (hash, size)) FROM source") == 12


def test_what_is_no_book_is_rejected_with_its_reason(shelf: Shelf, tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    members: list[Member] = [
        ("1", b"\0\1\2" * 100),
        ("2.epub", b"PK\x05\x06" + bytes(18)),
        ("3", b""),
        link("4", "/etc/hostname", tarfile.SYMTYPE),
        link("5", "", tarfile.CHRTYPE),
        ("../6", book(6)),
        link("7", "nowhere"),
        ("8.jpg", b"\xff\xd8\xff\xe0" + bytes(50)),
        ("9.json", b'{"not": "a book"}'),
        ("10", book(10)),
    ]
    result = load(shelf, make_shard(tmp_path / "16470000", members), state=state)
    assert result.counts.inserted == 1
    assert [(key.split("#")[1].split(" ", 1)[1], reason) for _, _, key, reason, _ in state.list_rejections("tars")] == [
        ("1", "unsupported_format"),
        ("2.epub", "unsupported_format"),
        ("3", "empty_file"),
        ("4", "symlink"),
        ("5", "not_a_file"),
        ("6", "traversing_name"),
        ("7", "broken_link"),
        ("8.jpg", "unsupported_format"),
        ("9.json", "unsupported_format"),
    ]
    assert len(files_of(shelf)) == 1


def test_a_format_mybookshelf2_was_given_is_loaded(shelf: Shelf, tmp_path: Path) -> None:
    shelf.sql("INSERT INTO format (version_id, mime_type, name, extension) VALUES (1, 'application/zip', 'Zip', 'zip')")
    assert load(shelf, make_shard(tmp_path / "1.tar", [("1", b"PK\x05\x06" + bytes(18))])).counts.inserted == 1


def test_formats_that_may_not_be_made_are_rejected(shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered([MAKERS["cbz"](TEXT), MAKERS["epub"](TEXT)]))
    result = load(shelf, shard, options=BookOptions(create_formats=False))
    assert result.counts == LoadCounts(inserted=1, rejections={"unsupported_format": 1})


@pytest.mark.parametrize("name", ["1.tar", "1.tar.gz"])
def test_a_hard_link_is_the_file_it_links_to(shelf: Shelf, tmp_path: Path, name: str) -> None:
    members: list[Member] = [("a", book(1)), link("b", "a"), *numbered(map(book, range(2, 13))), link("c", "a")]
    members += [("junk", b"\0" * 9), link("d", "junk"), link("e", "16470010")]
    shard = make_shard(tmp_path / name, members)
    result = load(shelf, shard)
    assert (result.counts.inserted, result.counts.existing) == (12, 3)
    assert result.counts.rejections == {"unsupported_format": 2}
    by_shard = [source for some in loaded_sources(shelf.target, "1") for source in some]
    assert len(by_shard) == 15
    assert len(set(by_shard)) == 12


def test_a_folder_is_loaded_as_its_tar(shelf: Shelf, another_shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered(map(book, range(12))))
    with tarfile.open(shard.path) as archive:
        archive.extractall(tmp_path / "1", filter="data")
    folder = Shard("1", tmp_path / "1", "folder")
    assert load(shelf, shard).counts == load(another_shelf, folder).counts
    assert shelf.meaning() == another_shelf.meaning()
    assert shelf.tree() == another_shelf.tree()
    again = load(another_shelf, folder)
    assert (again.from_journal, again.counts) == (True, LoadCounts(existing=12))
    (tmp_path / "1" / "16470003").write_bytes(book(99))
    assert load(another_shelf, folder).counts == LoadCounts(inserted=1, existing=11)


@pytest.mark.parametrize("name", ["1.tar", "1.tar.gz"])
def test_a_member_too_large_for_memory_is_streamed(shelf: Shelf, tmp_path: Path, name: str) -> None:
    large = [book(n, pad_to=300_000) for n in range(3)]
    shard = make_shard(tmp_path / name, numbered([book(7), *large, book(8)]))
    assert load(shelf, shard, limits=Limits(members=3, bytes=100_000, member=50_000)).counts.inserted == 5
    assert sorted(files_of(shelf).values()) == sorted([book(7), *large, book(8)])
    assert shelf.one("SELECT count(*) FROM ebook WHERE title LIKE 'Book %%'") == 5


def test_progress_tells_members_and_bytes(shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered(map(book, range(12))))
    heard = Heard()
    load(shelf, shard, progress=heard)
    size = shard.path.stat().st_size
    assert [done for done, _ in heard.steps["members"]] == [5, 10, 12]
    done = [done for done, _ in heard.steps["bytes"]]
    assert done == sorted(set(done))
    assert heard.steps["bytes"][-1] == (size, size)


def test_a_dry_run_says_what_the_load_then_does(shelf: Shelf, tmp_path: Path) -> None:
    load(shelf, make_shard(tmp_path / "1.tar", numbered(map(book, range(4)))))
    shard = make_shard(tmp_path / "2.tar", numbered([*map(book, range(2, 14)), book(9), b"\0" * 10, book(13)]))
    before = shelf.exactly()
    counts = plan_shard_dry(shelf.target, shard, BookOptions(), workers=2, limits=Limits(members=4))
    assert shelf.exactly() == before
    assert counts == load(shelf, shard).counts == LoadCounts(10, 4, {"unsupported_format": 1})


def test_a_dry_run_of_several_shards_counts_a_book_once(shelf: Shelf, tmp_path: Path) -> None:
    shards = [make_shard(tmp_path / "1.tar", numbered(map(book, range(6)))),
              make_shard(tmp_path / "2.tar.gz", numbered([*map(book, range(4, 9)), book(7)]))]  # fmt: skip
    seen: set[bytes] = set()
    planned = [plan_shard_dry(shelf.target, shard, BookOptions(), workers=2, seen=seen) for shard in shards]
    assert planned == [LoadCounts(6), LoadCounts(3, 3)]
    assert [load(shelf, shard).counts for shard in shards] == planned


@pytest.mark.parametrize("name", ["1.tar", "1.tar.gz"])
def test_an_index_counts_the_members_that_a_load_ends(shelf: Shelf, tmp_path: Path, name: str) -> None:
    """Also where the shard is cut off: in a header, in a member, in one that is refused by its name."""
    members: list[Member] = [("1", book(1)), ("../2", book(2)), ("3", b"\0" * 700), link("4", "1"), ("5", book(5))]
    whole = make_shard(tmp_path / "1.tar", members).path.stat().st_size
    for cut in range(300, whole, 411):
        shard = make_shard(tmp_path / name, members, cut=cut)
        try:
            counts = load(shelf, shard).counts
        except DamagedShardError as error:
            counts = error.result.counts
        assert index_shard(shard).members == counts.read


def test_the_chunks_make_no_difference(shelf: Shelf, another_shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered([*map(book, range(20)), b"", book(3)]))
    assert load(shelf, shard, limits=Limits(members=3)).counts == load(another_shelf, shard, limits=Limits()).counts
    assert shelf.meaning() == another_shelf.meaning()
    assert shelf.tree() == another_shelf.tree()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (book(1)[:600] + b"\xff" * 900, "unreadable"),
        (b"%PDF-1.4\n1 0 obj\n<< /Broken", "unreadable"),
        (b"{\\rtf1 nothing said}", "none"),
    ],
)
def test_a_book_that_says_nothing_is_loaded_under_its_name(
    shelf: Shelf, tmp_path: Path, data: bytes, kind: str
) -> None:
    result = load(shelf, make_shard(tmp_path / "1.tar", [("War_and_Peace.rtf", data)]))
    assert (result.counts, result.metadata) == (LoadCounts(inserted=1), {kind: 1})
    assert shelf.one("SELECT title FROM ebook") == "War and Peace"


def test_the_demo_s_shards_share_books_with_its_library(shelf: Shelf, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for n in range(60):
        (library / f"{n}.epub").write_bytes(book(n))
        (library / f"{n} broken.epub").write_bytes(b"broken")
    facts = make_demo_shards(tmp_path / "shards", calibre_library=library)
    shards = find_shards(tmp_path / "shards", settled=Settled())
    assert facts.from_library == 45
    load(shelf, make_shard(tmp_path / "library.tar", numbered(map(book, range(60)))))
    counts = sum((load(shelf, shard, limits=Limits()).counts for shard in shards), LoadCounts())
    assert (counts.inserted, counts.existing) == (facts.books, facts.twice + facts.from_library)


def test_the_demo_s_shards_hold_what_they_say(shelf: Shelf, tmp_path: Path) -> None:
    facts = make_demo_shards(tmp_path / "shards")
    shards = find_shards(tmp_path / "shards", settled=Settled())
    assert [shard.key for shard in shards] == list(facts.keys)
    assert sum(index_shard(shard).members for shard in shards) == facts.members
    counts = sum((load(shelf, shard, limits=Limits()).counts for shard in shards), LoadCounts())
    assert (counts.inserted, counts.existing, counts.rejected) == (facts.books, facts.twice, facts.junk)
    assert counts.read == facts.members
    shutil.rmtree(tmp_path / "shards")
    assert make_demo_shards(tmp_path / "shards") == facts
    assert os.listdir(tmp_path / "shards")
