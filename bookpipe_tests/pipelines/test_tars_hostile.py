"""Members that are odd, huge, locked or out to do harm: each is loaded, or rejected with its reason."""

import io
import os
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest

from bookpipe.demo.ebook_files import MAKERS, make_pdf
from bookpipe.model.counts import LoadCounts
from bookpipe.pipelines import shard_rows, tars
from bookpipe.pipelines.shard_workers import MemberWorkers
from bookpipe.pipelines.tars import Limits
from bookpipe.runtime.state import State
from bookpipe.sources.tar_shards import Shard
from bookpipe_tests.pipelines.shards import Member, book, files_of, load, make_shard, numbered
from bookpipe_tests.pipelines.test_shard_workers import PDFIUM, broken_pdfium
from bookpipe_tests.pipelines.test_tars import TEXT
from bookpipe_tests.sources.ebook_metadata.reading import without_member, zip_of
from bookpipe_tests.sources.ebook_metadata.test_epub import container, encryption, opf
from bookpipe_tests.sources.ebook_metadata.test_pdf import locked_pdf
from bookpipe_tests.targets.shelf import Shelf

__all__ = ["broken_pdfium"]

FORMS = ["1.tar", "1.tar.gz", "1.tar.xz", "1.tar.zst", "1.tar.bz2"]


@pytest.mark.parametrize("name", FORMS)
def test_a_packed_shard_is_loaded_as_a_plain_one(shelf: Shelf, another_shelf: Shelf, tmp_path: Path, name: str) -> None:
    contents = [*map(book, range(8)), b"", book(3), *(make(TEXT) for make in MAKERS.values())]
    packed = load(shelf, make_shard(tmp_path / name, numbered(contents)))
    plain = load(another_shelf, make_shard(tmp_path / "1", numbered(contents)))
    assert packed.counts == plain.counts
    assert packed.counts.inserted > 20
    assert shelf.meaning() == another_shelf.meaning()
    assert files_of(shelf) == files_of(another_shelf)
    assert load(shelf, make_shard(tmp_path / name, numbered(contents))).counts.inserted == 0


@pytest.mark.parametrize("name", FORMS[1:4])  # bzip2 unpacks whole blocks only, of up to 900 KB
def test_a_packed_shard_that_is_cut_off_is_loaded_as_far_as_it_goes(shelf: Shelf, tmp_path: Path, name: str) -> None:
    books = [book(n, pad_to=100_000) for n in range(12)]
    shard = make_shard(tmp_path / name, numbered(books))
    data = shard.path.read_bytes()
    shard.path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(tars.DamagedShardError, match=r"truncated_(member|header) in bytes \d+ to \d+") as error:
        load(shelf, shard)
    assert 0 < error.value.result.counts.inserted < 12
    assert set(files_of(shelf).values()) <= set(books)
    shard.path.write_bytes(data)
    assert load(shelf, shard).counts.read == 12
    assert sorted(files_of(shelf).values()) == sorted(books)


def test_a_shard_that_needs_too_much_memory_is_to_be_unpacked_by_hand(shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar.zst", numbered([book(1)]))
    shard.path.write_bytes(b"\x28\xb5\x2f\xfd\x00" + bytes([28 - 10 << 3]) + bytes(100))  # as of zstd --long=28
    with pytest.raises(tars.DamagedShardError, match=r"cannot be unpacked here, needs_memory.* Unpack it by hand"):
        load(shelf, shard)


def write_holes(path: Path, members: list[tuple[str, bytes, int]]) -> Shard:
    """A plain tar of members that begin with some bytes and go on with zeros, which take no room on the disk."""
    with path.open("wb") as file:
        for name, start, size in members:
            info = tarfile.TarInfo(name)
            info.size = size
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            data = file.tell()
            file.write(start)
            file.seek(data + size + -size % 512)
        file.write(bytes(1024))
    return Shard("1", path, "tar")


def test_members_of_gigabytes_are_loaded_or_said_to_be_too_large(shelf: Shelf, tmp_path: Path) -> None:
    """MyBookshelf2 counts bytes to 2147483647, and refuses uploads of more than 100 MiB, but not the files."""
    state, text = State(tmp_path / "state.db"), b"Plain text.\n" * 1000
    hundred = (100 << 20) + 1
    sizes = [("small", text, 20_000), ("100 MiB", text, hundred), ("junk", b"\0\1\2", 2**31 - 1),
             ("2 GiB", text, 2**31), ("8 GiB", text, 2**33), ("last", text, 30_000)]  # fmt: skip
    result = load(shelf, write_holes(tmp_path / "1.tar", sizes), state=state)
    assert result.counts == LoadCounts(3, 0, {"unsupported_format": 1, "too_large": 2})
    assert sorted(shelf.sql("SELECT size FROM source")) == [(20_000,), (30_000,), (hundred,)]
    assert [detail for *_, reason, detail in state.list_rejections() if reason == "too_large"] == [
        "2147483648 bytes",
        "8589934592 bytes",
    ]
    for location, size in shelf.sql("SELECT location, size FROM source"):
        assert (shelf.books / location).stat().st_size == size


def test_a_sparse_member_that_claims_gigabytes_is_rejected(shelf: Shelf, tmp_path: Path) -> None:
    def sparse(name: str, real: int, stored: bytes) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.size = len(stored)
        info.pax_headers = {"GNU.sparse.map": f"0,{len(stored)}", "GNU.sparse.realsize": str(real),
                            "GNU.sparse.name": name}  # fmt: skip
        return info

    mobi = MAKERS["mobi"](TEXT)
    path = tmp_path / "1.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, real in (("a", len(mobi) + 4_000), ("b", 2**31 - 1), ("c", 2**40)):
            archive.addfile(sparse(name, real, mobi), io.BytesIO(mobi))
    result = load(shelf, Shard("1", path, "tar"))
    assert result.counts == LoadCounts(1, 0, {"broken_sparse": 1, "too_large": 1})
    assert list(files_of(shelf).values()) == [mobi + bytes(4_000)]


def test_a_pdf_that_hangs_costs_its_metadata_only(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_pdfium: Path
) -> None:
    hanging = make_pdf(TEXT)
    broken_pdfium.write_text(PDFIUM.format(body=f"while file.seek(0, 2) == {len(hanging)}: pass"))
    monkeypatch.setattr(shard_rows, "MemberWorkers", partial(MemberWorkers, time_limit_s=1.0))
    shard = make_shard(tmp_path / "1.tar", [("Endless_Story.pdf", hanging), ("b.pdf", hanging + b"\n"), ("c", book(1))])
    result = load(shelf, shard)
    assert (result.counts, result.metadata) == (LoadCounts(3), {"unreadable": 1, "ok": 2})
    assert {title for (title,) in shelf.sql("SELECT title FROM ebook")} == {"Endless Story", "Title", "Book 1"}


def zip_bomb(path: Path, name: str, size: int) -> bytes:
    """An EPUB whose member `name` unpacks to `size` blanks."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(*container("content.opf"))
        with archive.open(name, "w", force_zip64=True) as bomb:
            for _ in range(size >> 20):
                bomb.write(b" " * (1 << 20))
    return path.read_bytes()


def test_bombs_do_not_go_off(shelf: Shelf, tmp_path: Path) -> None:
    laughs = '<!DOCTYPE x [<!ENTITY l0 "lol">'
    laughs += "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12)) + "]>"
    package = opf("<dc:title>&l11;</dc:title>", declaration=laughs)
    members: list[Member] = [
        ("zip_bomb.epub", zip_bomb(tmp_path / "bomb", "content.opf", 300 << 20)),
        ("entity_bomb.epub", zip_of(container("content.opf"), ("content.opf", package))),
        ("entity_bomb.fb2", f"<?xml version='1.0'?>{laughs}<FictionBook><a>&l11;</a></FictionBook>".encode()),
        ("bomb", zip_of(("bomb.txt", bytes(50 << 20)))),
        ("c", book(1)),
    ]
    result = load(shelf, make_shard(tmp_path / "1.tar", members))
    assert result.counts == LoadCounts(4, 0, {"unsupported_format": 1})
    titles = {title for (title,) in shelf.sql("SELECT title FROM ebook")}
    assert {"zip bomb", "entity bomb", "Book 1"} >= titles - {"&l11;"}
    assert len(files_of(shelf)) == 4


def test_what_is_locked_is_loaded_with_what_it_says(shelf: Shelf, tmp_path: Path) -> None:
    drm = encryption("http://www.w3.org/2001/04/xmlenc#aes128-cbc")
    contents = [without_member(MAKERS["epub"](TEXT), more=(drm,)), locked_pdf(b"secret", b"Hidden"),
                locked_pdf(b"", b"Open")]  # fmt: skip
    result = load(shelf, make_shard(tmp_path / "1.tar", numbered(contents)))
    assert (result.counts, result.metadata) == (LoadCounts(3), {"encrypted": 2, "ok": 1})
    titles = sorted(title for (title,) in shelf.sql("SELECT title FROM ebook"))
    assert titles == sorted(["16470001", "Open", TEXT.title])


def test_a_tar_inside_a_tar_is_no_book(shelf: Shelf, tmp_path: Path) -> None:
    inner = [make_shard(tmp_path / name, numbered([book(1), book(2)])).path.read_bytes() for name in FORMS]
    result = load(shelf, make_shard(tmp_path / "1.tar", numbered([*inner, book(3)])))
    assert result.counts == LoadCounts(1, 0, {"unsupported_format": len(FORMS)})


@pytest.mark.parametrize("form", FORMS)
def test_names_are_only_labels(shelf: Shelf, tmp_path: Path, form: str) -> None:
    """The same name twice, names that are no UTF-8, control characters, very long ones, and members without bytes."""
    state = State(tmp_path / "state.db")
    members: list[Member] = [
        ("same", book(1)),
        ("same", book(2)),
        ("d/same", book(3)),
        (os.fsdecode(b"p\xf8\xedb\xechy.epub"), book(4)),
        ("line\nend\x1b[31m.epub", book(5)),
        ("x" * 300 + ".epub", book(6)),
        ("nothing.epub", b""),
        ("nothing.epub", b""),
        ("e.epub", book(7)),
    ]
    result = load(shelf, make_shard(tmp_path / form, members), state=state)
    assert result.counts == LoadCounts(7, 0, {"empty_file": 2})
    assert sorted(files_of(shelf).values()) == sorted(map(book, range(1, 8)))
    names = [name for (name,) in shelf.sql("SELECT load_source FROM source ORDER BY id")]
    assert names[:3] == ["same"] * 3
    assert names[3] == "p\ufffd\ufffdb\ufffdhy.epub"
    assert all(name.isprintable() and len(name) <= 256 for name in names)
    assert len({key for _, _, key, _, _ in state.list_rejections()}) == 2


def test_garbage_after_the_end_is_no_loss(shelf: Shelf, tmp_path: Path) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered(map(book, range(3))))
    with shard.path.open("ab") as file:
        file.write(b"garbage" * 1000)
    result = load(shelf, shard)
    assert result.counts == LoadCounts(3)
    assert [problem.partition(" ")[0] for problem in result.problems] == ["garbage_after_end"]


def test_extensions_that_lie_are_seen_through(shelf: Shelf, tmp_path: Path) -> None:
    lies = [("epub", "pdf"), ("pdf", "epub"), ("fb2", "txt"), ("mobi", "doc"), ("rtf", "mobi"), ("docx", "zip")]
    members: list[Member] = [(f"{n}.{lie}", MAKERS[kind](TEXT)) for n, (kind, lie) in enumerate(lies)]
    result = load(shelf, make_shard(tmp_path / "1.tar", members), limits=Limits())
    assert (result.counts.inserted, result.retyped) == (6, 6)
    kinds = shelf.sql(
        "SELECT s.load_source, f.extension FROM source s JOIN format f ON f.id = s.format_id ORDER BY s.load_source"
    )
    assert [kind for _, kind in kinds] == [kind for kind, _ in lies]
    locations = [location for (location,) in shelf.sql("SELECT location FROM source ORDER BY load_source")]
    assert [location.rpartition(".")[2] for location in locations] == [kind for kind, _ in lies]
