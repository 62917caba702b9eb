"""Shards as they are found, and everything in them read in chunks: packed, plain, extracted, damaged."""

import bz2
import gc
import gzip
import io
import lzma
import os
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bookpipe.model.errors import ConfigError, TransientError
from bookpipe.sources import shard_chunks, tar_reader, tar_streams
from bookpipe.sources.shard_chunks import Chunk, Resume, ShardRow
from bookpipe.sources.shard_folders import latest_changes
from bookpipe.sources.tar_chunks import read_chunks, walk
from bookpipe.sources.tar_headers import BLOCK, Kind, Member, Problem, ProblemKind
from bookpipe.sources.tar_shards import Settled, Shard, ShardKind, find_shards, look, shard_key
from bookpipe.sources.tar_streams import ScratchFile

PACKERS: dict[ShardKind, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.xz": lzma.compress,
    "tar.zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    "tar.bz2": bz2.compress,
}
PACKED: list[ShardKind] = ["tar.gz", "tar.xz", "tar.zst", "tar.bz2"]
FORMS: list[ShardKind] = ["tar", *PACKED, "folder"]
NOW = 2_000_000_000.0
SETTLED = Settled(now=NOW)


def _info(name: str | bytes, size: int = 0, kind: bytes = b"0", link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(os.fsdecode(name))
    info.size, info.type, info.linkname, info.mtime = size, kind, link, 1_600_000_000
    return info


def _tar(*members: tuple[str | bytes, bytes] | tarfile.TarInfo, tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format, errors="surrogateescape") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                archive.addfile(_info(member[0], len(member[1])), io.BytesIO(member[1]))
    return buffer.getvalue()


def _shard(folder: Path, data: bytes, kind: ShardKind = "tar") -> Shard:
    path = folder / f"shard.{kind}"
    path.write_bytes(PACKERS[kind](data))
    return Shard("shard", path, kind)


def _form(folder: Path, members: Iterable[tuple[str, bytes]], kind: ShardKind) -> Shard:
    """A shard of these files in that form."""
    members = list(members)
    if kind != "folder":
        return _shard(folder, _tar(*members), kind)
    root = folder / "shard"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name, data in members:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return Shard("shard", root, "folder")


def _chunks(shard: Shard, start: Resume | None = None, **limits: int) -> list[Chunk]:
    limits = {"max_members": 1000, "max_bytes": 1 << 20, **limits}
    return list(read_chunks(shard, start, spool=shard.path.parent, **limits))


def _rows(chunks: Iterable[Chunk]) -> list[ShardRow]:
    return [row for chunk in chunks for row in chunk.rows]


def _data(row: ShardRow) -> bytes | None:
    """The row's bytes, wherever they are."""
    return None if row.held is None else row.read_at(0, row.size)


def _content(row: ShardRow) -> tuple[int, bytes, bytes, str | None]:
    return row.item, row.name, row.read_at(0, row.size), row.reason


def _problems(chunks: Iterable[Chunk]) -> list[ProblemKind]:
    return [problem.kind for chunk in chunks for problem in chunk.problems]


# -- finding shards -----------------------------------------------------------------------------------------------


def _put(path: Path, data: bytes, mtime: float = NOW - 1000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (mtime, mtime))


def test_tars_and_folders_are_shards_and_nothing_else_is(tmp_path: Path) -> None:
    tar = _tar(("a", b"1"))
    for name, kind in [("plain.tar", "tar"), ("g.tar.gz", "tar.gz"), ("t.TGZ", "tar.gz"), ("x.tar.xz", "tar.xz"),
                       ("z.tar.zst", "tar.zst"), ("16470000", "tar"), ("b.tar.bz2", "tar.bz2"),
                       ("c.TBZ2", "tar.bz2"), ("d.tbz", "tar.bz2"), ("16480000", "tar.bz2")]:  # fmt: skip
        _put(tmp_path / name, PACKERS[kind](tar))  # type: ignore[index]
    for name in ["folder/book", "lost+found/x", "@eaDir/x", ".hidden/x"]:
        _put(tmp_path / name, b"x")
    for name in [".hidden.tar", "notes.txt", "README", "x.tar.part", "y.tar.lz4", "BZip", "tar"]:
        _put(tmp_path / name, b"some text")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "gone.tar").symlink_to(tmp_path / "nothing")
    found = [(s.key, s.path.name, s.kind) for s in find_shards(tmp_path, settled=SETTLED)]
    assert found == [
        ("16470000", "16470000", "tar"), ("16480000", "16480000", "tar.bz2"), ("b", "b.tar.bz2", "tar.bz2"),
        ("c", "c.TBZ2", "tar.bz2"), ("d", "d.tbz", "tar.bz2"), ("folder", "folder", "folder"),
        ("g", "g.tar.gz", "tar.gz"),
        ("plain", "plain.tar", "tar"), ("t", "t.TGZ", "tar.gz"), ("x", "x.tar.xz", "tar.xz"),
        ("z", "z.tar.zst", "tar.zst"),
    ]  # fmt: skip


def test_a_tar_with_a_dot_in_its_name_is_known_by_its_content(tmp_path: Path) -> None:
    for name in ["v1.5", "2024.11.02", "Vol. 1"]:
        _put(tmp_path / name, _tar(("a", b"1")))
    for name in ["x.tar.part", "y.cbt", "z.BAK", "n.txt"]:
        _put(tmp_path / name, _tar(("a", b"1")))
    _put(tmp_path / "v1.6", b"some text")
    _put(tmp_path / "v1.7", b"\0" * 257 + b"ustar" + b"\0" * 9000)
    _put(tmp_path / "v1.8", gzip.compress(b"text"))
    found = find_shards(tmp_path, settled=SETTLED)
    assert [(s.path.name, s.kind) for s in found] == [("2024.11.02", "tar"), ("Vol. 1", "tar"), ("v1.5", "tar")]


def test_two_files_of_one_form_are_two_shards(tmp_path: Path) -> None:
    for name in ["6.TAR", "6.tar", "5", "5.tar"]:
        _put(tmp_path / name, _tar(("a", b"1")))
    for name in ["7.tgz", "7.tar.gz", "7.tgz.tar.gz"]:
        _put(tmp_path / name, gzip.compress(_tar(("a", b"1"))))
    _put(tmp_path / "7" / "a", b"1")
    shards = find_shards(tmp_path, settled=SETTLED)
    assert {s.path.name for s in shards} == {"5", "5.tar", "6.TAR", "6.tar", "7.tgz", "7.tar.gz", "7.tgz.tar.gz"}
    assert len({s.key for s in shards}) == len(shards)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", s.key) for s in shards)
    keys = {s.key: (s.path.name, [other.name for other in s.others]) for s in shards}
    assert (keys["5"], keys["6"], keys["7"]) == (("5.tar", []), ("6.tar", []), ("7.tar.gz", ["7"]))
    assert set(look(tmp_path)) == {s.key for s in shards}


def test_a_shard_linked_into_the_folder_is_a_shard(tmp_path: Path) -> None:
    _put(tmp_path / "elsewhere" / "s.tar", _tar(("a", b"1")))
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "s.tar").symlink_to(tmp_path / "elsewhere" / "s.tar")
    assert [s.key for s in find_shards(tmp_path / "shards", settled=SETTLED)] == ["s"]


def test_a_tar_and_what_was_extracted_from_it_are_one_shard(tmp_path: Path) -> None:
    _put(tmp_path / "s.tar", _tar(("a", b"1")))
    _put(tmp_path / "s.tar.gz", gzip.compress(_tar(("a", b"1"))))
    _put(tmp_path / "s" / "a", b"1")
    (shard,) = find_shards(tmp_path, settled=SETTLED)
    assert (shard.key, shard.path.name, {p.name for p in shard.others}) == ("s", "s.tar", {"s.tar.gz", "s"})


@pytest.mark.parametrize("damage", [b"", b"\xff" * 2000, b"PK\x03\x04" + bytes(600)])
def test_an_unreadable_tar_gives_way_to_its_folder(tmp_path: Path, damage: bytes) -> None:
    _put(tmp_path / "s.tar", damage)
    assert [(s.key, s.kind) for s in find_shards(tmp_path, settled=SETTLED)] == [("s", "tar")]
    _put(tmp_path / "s" / "a", b"1")
    assert [(s.key, s.kind) for s in find_shards(tmp_path, settled=SETTLED)] == [("s", "folder")]


def test_the_content_of_a_tar_decides_how_it_is_packed(tmp_path: Path) -> None:
    _put(tmp_path / "a.tar.gz", _tar(("a", b"1")))
    _put(tmp_path / "b.tar", gzip.compress(_tar(("a", b"1"))))
    shards = find_shards(tmp_path, settled=SETTLED)
    assert [s.kind for s in shards] == ["tar", "tar.gz"]
    assert [row.read_at(0, 9) for s in shards for row in _rows(_chunks(s))] == [b"1", b"1"]


@pytest.mark.parametrize(
    ("age", "earlier", "listed"),
    [
        (61, None, True),
        (59, None, False),
        (61, "same", True),
        (59, "same", False),
        (61, "smaller", False),
        (61, "touched", False),
        (-1000, None, False),  # a clock is wrong
        (-1000, "same", True),
        (-1000, "smaller", False),
    ],
)
def test_a_tar_that_still_moves_is_not_listed(tmp_path: Path, age: float, earlier: str | None, listed: bool) -> None:
    _put(tmp_path / "s.tar", _tar(("a", b"1")), NOW - age)
    _put(tmp_path / "s" / "a", b"1")  # being extracted, or just being packed
    size, mtime = look(tmp_path)["s"]
    before = {"same": (size, mtime), "smaller": (size - 512, mtime), "touched": (size, mtime - 1)}
    settled = Settled({"s": before[earlier]} if earlier else {}, 60, NOW)
    assert bool(find_shards(tmp_path, settled=settled)) == listed


@pytest.mark.parametrize(
    "name", ["16470000", "a b", "a_b", "a,b", "knihy žánr", "a...b", "a..b", os.fsdecode(b"\xff"), "a\nb", "a.tar"]
)
def test_a_key_fits_dagster_and_belongs_to_one_name(name: str) -> None:
    key = shard_key(name)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", key) and "..." not in key
    assert (key == name) == (re.fullmatch(r"[A-Za-z0-9_.-]+", name) is not None and "..." not in name)
    assert key == shard_key(name)


def test_keys_never_change() -> None:
    assert [shard_key(n) for n in ("a b", "a_b", "žluťoučký")] == ["a_b-7dbde935", "a_b", "_lu_ou_k_-c044c359"]


def test_a_missing_folder_is_a_matter_of_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="BOOKPIPE_TAR_DIR"):
        find_shards(tmp_path / "nothing", settled=SETTLED)


# -- all forms give the same --------------------------------------------------------------------------------------

_BOOKS = [(f"b/{n:03}.epub", bytes([n]) * (n * 97 % 3000 + 1)) for n in range(60)] + [("x" * 180, b"long name")]


@pytest.mark.parametrize("kind", FORMS)
def test_every_form_of_a_shard_has_the_same_members(tmp_path: Path, kind: ShardKind) -> None:
    chunks = _chunks(_form(tmp_path, _BOOKS, kind), max_members=7)
    assert [(row.name.decode(), row.read_at(0, 9999)) for row in _rows(chunks)] == _BOOKS
    assert all(len(_data(row) or b"") == row.size for row in _rows(chunks))
    shared = {row.held.file for row in chunks[0].rows if row.held is not None}
    assert len(shared) == 1
    assert all((row.held is not None and row.held.file in shared) == (kind == "tar") for row in chunks[1].rows)
    assert [len(chunk.rows) for chunk in chunks] == [7] * 8 + [5]
    assert [chunk.last for chunk in chunks] == [False] * 8 + [True]
    assert _problems(chunks) == []


@pytest.mark.parametrize("kind", PACKED)
def test_a_packed_tar_has_the_items_of_the_tar(tmp_path: Path, kind: ShardKind) -> None:
    rows = [[_content(row) for row in _rows(_chunks(_form(tmp_path, _BOOKS, k)))] for k in ("tar", kind)]
    assert rows[0] == rows[1]


def test_items_of_a_tar_are_the_offsets_of_the_data(tmp_path: Path) -> None:
    shard = _form(tmp_path, _BOOKS, "tar")
    data = shard.path.read_bytes()
    for row in _rows(_chunks(shard)):
        assert data[row.item : row.item + row.size] == _data(row)
    assert (shard.origin, Shard("shard", tmp_path, "folder").origin) == ("tar:shard", "folder:shard")


@pytest.mark.parametrize("kind", FORMS)
def test_a_walk_lists_what_the_chunks_hold(tmp_path: Path, kind: ShardKind) -> None:
    shard = _form(tmp_path, _BOOKS, kind)
    members = [event for event in walk(shard) if isinstance(event, Member)]
    assert [(m.offset, m.name, m.size, m.mtime) for m in members] == [
        (r.item, r.name, r.size, r.mtime) for r in _rows(_chunks(shard))
    ]
    assert list(walk(shard, members[20].header_offset)) == members[20:]


@pytest.mark.parametrize("kind", FORMS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5000), max_size=25),
    members=st.integers(1, 9),
    size=st.integers(1, 12_000),
    large=st.integers(1, 6000),
)
def test_reading_on_after_any_chunk_gives_exactly_the_rest(
    tmp_path: Path, kind: ShardKind, sizes: list[int], members: int, size: int, large: int
) -> None:
    books = [(f"{n:02}", os.urandom(s)) for n, s in enumerate(sizes)]
    shard = _form(tmp_path, books, kind)

    def read(start: Resume | None = None) -> list[Chunk]:
        return _chunks(shard, start, max_members=members, max_bytes=size, max_member=large)

    chunks = read()
    rows = [_content(row) for row in _rows(chunks)]
    assert [(name.decode(), data) for _, name, data, _ in rows] == books
    assert [reason for *_, reason in rows] == [None if s else "empty_file" for s in sizes]
    done = 0
    for chunk in chunks:
        done += len(chunk.rows)
        assert len(chunk.rows) <= members
        assert sum(row.size for row in chunk.rows) <= size or sum(1 for row in chunk.rows if row.size) == 1
        assert all((row.held is not None) == (row.size > 0) for row in chunk.rows)
        in_memory = {row.held.file for row in chunk.rows if row.held is not None and row.size <= large}
        on_disk = {row.held.file for row in chunk.rows if row.held is not None and row.size > large}
        assert kind == "tar" or (len(in_memory) <= 1 and not in_memory & on_disk)
        rest = read(chunk.resume)
        assert [_content(row) for row in _rows(rest)] == rows[done:]
        assert _problems(rest) == []


@pytest.mark.parametrize("kind", ["tar", *PACKED])
def test_progress_ends_at_the_size_of_the_file(tmp_path: Path, kind: ShardKind) -> None:
    chunks = _chunks(_form(tmp_path, _BOOKS, kind), max_members=5)
    size = (tmp_path / f"shard.{kind}").stat().st_size
    assert {chunk.total for chunk in chunks} == {size}
    done = [chunk.done for chunk in chunks]
    assert done == sorted(done) and done[-1] == size


def test_global_records_are_still_in_force_after_a_resume(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"mtime": "77"}) as archive:
        for name in "abc":
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"1"))
    shard = _shard(tmp_path, buffer.getvalue())
    first, *_ = _chunks(shard, max_members=1)
    assert [row.mtime for row in _rows(_chunks(shard, first.resume))] == [77, 77]


def test_the_name_and_format_given_to_a_member_are_for_people(tmp_path: Path) -> None:
    names: list[str | bytes] = ["a/b.EPUB", "16470000", b"\xff.fb2", "v1.5", ".hidden", "x.fb2.zip", "dir.d/y"]
    names += ["c\\d.mobi", "q.7z"]
    rows = _rows(_chunks(_shard(tmp_path, _tar(*((name, b"1") for name in names)))))
    assert [(row.file_name, row.given_format) for row in rows] == [
        ("b.EPUB", "epub"), ("16470000", None), ("\ufffd.fb2", "fb2"), ("v1.5", None), (".hidden", None),
        ("x.fb2.zip", "zip"), ("y", None), ("d.mobi", "mobi"), ("q.7z", "7z"),
    ]  # fmt: skip


# -- what is not read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_members_that_are_no_books_are_rejected_with_their_reason(tmp_path: Path, kind: ShardKind) -> None:
    members: list[tuple[tuple[str | bytes, bytes] | tarfile.TarInfo, str | None]] = [
        (_info("link", kind=b"2", link="/etc/passwd"), "symlink"),
        (_info("char", kind=b"3"), "not_a_file"),
        (_info("block", kind=b"4"), "not_a_file"),
        (_info("fifo", kind=b"6"), "not_a_file"),
        (("../up", b"1"), "traversing_name"),
        (("a/../../up", b"1"), "traversing_name"),
        (("a/..", b"1"), "traversing_name"),
        (("..\\up", b"1"), "traversing_name"),
        (("/etc/absolute", b"1"), "traversing_name"),
        (("empty", b""), "empty_file"),
        (_info("dangling", kind=b"1", link="nothing"), "broken_link"),
        (_info("to itself", kind=b"1", link="to itself"), "broken_link"),
        (_info("to a link", kind=b"1", link="link"), "broken_link"),
        (_info("to a later one", kind=b"1", link="last"), "broken_link"),
        (("..fine..", b"1"), None),
        (("./a/./b", b"1"), None),
        (("last", b"1"), None),
    ]
    data = _tar(_info("folder", kind=b"5"), *(member for member, _ in members))
    rows = _rows(_chunks(_shard(tmp_path, data, kind)))
    assert [row.reason for row in rows] == [reason for _, reason in members]
    assert all((row.reason is None) == (_data(row) is not None) for row in rows)


def test_a_folder_is_never_left_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    shard = _form(tmp_path, [("book", b"1")], "folder")
    (shard.path / "file").symlink_to(tmp_path / "outside" / "secret")
    (shard.path / "folder").symlink_to(tmp_path / "outside")
    (shard.path / "loop").symlink_to(shard.path)
    os.mkfifo(shard.path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(shard.path)  # the path of a socket must be short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
    rows = _rows(_chunks(shard))
    assert [(row.name, row.reason) for row in rows] == [
        (b"book", None), (b"file", "symlink"), (b"folder", "symlink"), (b"loop", "symlink"), (b"pipe", "not_a_file"),
        (b"socket", "not_a_file"),
    ]  # fmt: skip


def test_a_file_replaced_by_a_link_after_it_was_listed_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    shard = _form(tmp_path, [("a", b"1"), ("b", b"222222"), ("c", b"3")], "folder")
    chunks = read_chunks(shard, max_members=1, max_bytes=100)
    next(chunks)  # b is listed: it was what did not fit
    (shard.path / "b").unlink()
    (shard.path / "b").symlink_to(tmp_path / "secret")
    (shard.path / "c").unlink()
    rest = _rows(chunks)
    assert [row.reason for row in rest] == ["unreadable_file", "missing_file"]
    assert not any(row.held for row in rest)


def test_a_file_that_grew_after_it_was_listed_is_not_read_in_part(tmp_path: Path) -> None:
    shard = _form(tmp_path, [("a", b"1"), ("b", b"2")], "folder")
    chunks = read_chunks(shard, max_members=1, max_bytes=100)
    next(chunks)
    (shard.path / "b").write_bytes(b"22")
    assert [row.reason for row in _rows(chunks)] == ["changed_while_reading"]


def test_a_folder_that_cannot_be_listed_is_a_problem(tmp_path: Path) -> None:
    missing = Shard("gone", tmp_path / "gone", "folder")
    (chunk,) = _chunks(missing)
    assert [p.kind for p in chunk.problems] == [ProblemKind.UNREADABLE_FOLDER]
    assert chunk.problems[0].incomplete


def test_a_member_of_more_than_two_gigabytes_is_rejected_unread(tmp_path: Path) -> None:
    for size, header in [
        (2**31, _info("huge", 2**31).tobuf(tarfile.GNU_FORMAT)),
        (2**33, _info("huge", 2**33).tobuf(tarfile.GNU_FORMAT)),
        (2**33, _info("huge", 2**33).tobuf(tarfile.PAX_FORMAT)),
    ]:
        path = tmp_path / "huge.tar"
        with path.open("wb") as file:
            file.write(header)
            file.seek(size, os.SEEK_CUR)
            file.write(_tar(("next", b"1")))
        before = next(event for event in walk(Shard("h", path, "tar")) if isinstance(event, Member))
        assert (before.size, before.kind) == (size, Kind.FILE)
        huge, following = _rows(_chunks(Shard("h", path, "tar")))
        assert (huge.reason, huge.size, huge.held) == ("too_large", size, None)
        assert _data(following) == b"1"


# -- hard links and sparse files ----------------------------------------------------------------------------------


def test_a_hard_link_has_the_bytes_of_the_earlier_member(tmp_path: Path) -> None:
    links = [
        _info("l1", kind=b"1", link="b/x"),
        _info("l2", kind=b"1", link="l1"),
        _info("l3", kind=b"1", link="./b//x"),
    ]
    shard = _shard(tmp_path, _tar(("b/x", b"old"), ("b/x", b"newer"), *links))
    old, newer, *linked = _rows(_chunks(shard, max_members=1))
    assert [(row.read_at(0, 9), row.size, row.same_as) for row in linked] == [(b"newer", 5, newer.item)] * 3
    assert len({row.item for row in [old, newer, *linked]}) == 5


def test_a_hard_link_of_a_packed_shard_names_the_earlier_member(tmp_path: Path) -> None:
    links = [_info("l1", kind=b"1", link="x"), _info("l2", kind=b"1", link="l1"), _info("l3", kind=b"1", link="empty")]
    shard = _shard(tmp_path, _tar(("x", b"content"), ("empty", b""), *links), "tar.zst")
    chunks = _chunks(shard, max_members=1)
    x, _, l1, l2, l3 = _rows(chunks)
    assert [(row.same_as, row.held, row.reason) for row in (l1, l2)] == [(x.item, None, None)] * 2
    assert l3.reason == "broken_link"
    assert [row.same_as for row in _rows(_chunks(shard, chunks[1].resume))] == [x.item, x.item, None]


def test_a_hard_link_is_resolved_after_a_resume_behind_its_target(tmp_path: Path) -> None:
    names = [(f"n{n}", b"%d" % n * 10) for n in range(9)]
    shard = _shard(tmp_path, _tar(*names, *(_info(f"l{n}", kind=b"1", link=f"n{n}") for n in range(9))))
    chunks = _chunks(shard, max_members=1)
    whole = [_content(row) for row in _rows(chunks)]
    for n, chunk in enumerate(chunks):
        assert [_content(row) for row in _rows(_chunks(shard, chunk.resume))] == whole[n + 1 :]


def test_only_so_many_members_can_be_named_by_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_reader, "MAX_LINK_TARGETS", 2)
    links = [_info(f"to {name}", kind=b"1", link=name) for name in "abc"]
    rows = _rows(_chunks(_shard(tmp_path, _tar(("a", b"1"), ("b", b"2"), ("c", b"3"), *links))))
    assert [row.reason for row in rows[3:]] == [None, None, "broken_link"]


_GNU_SPARSE = [["--format=gnu"], *(["--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0"))]


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
@pytest.mark.parametrize("options", _GNU_SPARSE, ids=" ".join)
def test_a_sparse_member_has_its_holes_filled_in(tmp_path: Path, options: list[str], kind: ShardKind) -> None:
    with (tmp_path / "book").open("wb") as file:
        for n in range(30):
            file.seek(100_000 * n)
            file.write(b"page %d" % n)
        file.truncate(4_000_000)
    (tmp_path / "z").write_bytes(b"next")
    subprocess.run(["tar", "-S", *options, "-cf", "x", "book", "z"], cwd=tmp_path, check=True)
    shard = _shard(tmp_path, (tmp_path / "x").read_bytes(), kind)
    book, following = _rows(_chunks(shard))
    assert _data(book) == (tmp_path / "book").read_bytes()
    assert _data(following) == b"next"
    book, following = _rows(_chunks(shard, max_member=1_000_000))
    assert (book.reason, _data(following)) == ("broken_sparse", b"next")


# -- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tar", *PACKED])
def test_a_large_member_is_held_outside_of_memory_and_can_be_read_again(tmp_path: Path, kind: ShardKind) -> None:
    large = os.urandom(3_000_000)
    shard = _shard(tmp_path, _tar(("a", b"1"), ("large", large), ("z", b"2")), kind)
    chunks = _chunks(shard, max_bytes=1 << 20, max_member=1 << 20)
    assert [[row.name for row in chunk.rows] for chunk in chunks] == [[b"a"], [b"large"], [b"z"]]
    row = chunks[1].rows[0]
    for _ in range(2):
        assert row.read_at(0, len(large)) == large
    assert row.read_at(2_999_990, 100) == large[-10:]
    assert (row.read_at(3_000_000, 5), row.read_at(9_000_000, 5)) == (b"", b"")
    assert [p.name for p in tmp_path.iterdir()] == [shard.path.name]  # nothing is left over


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_memory_is_bounded_whatever_a_member_claims_to_be(tmp_path: Path, kind: ShardKind) -> None:
    size = 1 << 30 if kind == "tar" else 200 << 20
    path = tmp_path / "x"
    with path.open("wb") if kind == "tar" else gzip.open(path, "wb", 1) as file:
        file.write(_info("zeros", size).tobuf())
        if kind == "tar":
            file.seek(size, os.SEEK_CUR)
        else:
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))
        file.write(_tar(*((f"{n:03}", b"x" * 100_000) for n in range(100))))
    tracemalloc.start()
    try:
        count = sum(len(c.rows) for c in read_chunks(
            Shard("x", path, kind), max_members=1000, max_bytes=1 << 20, max_member=4 << 20, spool=tmp_path
        ))  # fmt: skip
        sizes = [event.size for event in walk(Shard("x", path, kind)) if isinstance(event, Member)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (count, len(sizes), sizes[0]) == (101, 101, size)
    assert peak < 8 << 20


def test_the_memory_of_a_chunk_is_used_again_only_when_nobody_looks_at_it(tmp_path: Path) -> None:
    books = [(f"{n:02}", bytes([n]) * 1000) for n in range(12)]
    shard = _shard(tmp_path, _tar(*books), "tar.gz")
    kept = [row.held for chunk in _chunks(shard, max_members=2) for row in chunk.rows]
    assert [held.read_at(0, 9999) for held in kept if held is not None] == [data for _, data in books]
    assert len({held.file.fd for held in kept if held is not None}) == 6
    kept.clear()
    used = set()
    for chunk in read_chunks(shard, max_members=2, max_bytes=2000):
        held = chunk.rows[0].held
        assert held is not None
        used.add(held.file.fd)
        del held
    assert len(used) <= 2


def _memory() -> dict[int, int]:
    """This process' files in memory: descriptor -> bytes they take."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if "memfd:bookpipe" in os.readlink(f"/proc/self/fd/{name}"):
                found[int(name)] = os.fstat(int(name)).st_blocks * 512
    return found


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the system has no files in memory")
@pytest.mark.parametrize("kind", ["tar.gz", "folder"])
def test_what_chunks_have_in_memory_is_bounded_and_given_back(tmp_path: Path, kind: ShardKind) -> None:
    books = [(f"{n:03}", os.urandom(60_000)) for n in range(60)]
    books[30] = ("030", os.urandom(3_000_000))
    shard = _form(tmp_path, books, kind)
    before, taken = len(_memory()), []
    for chunk in read_chunks(shard, max_members=1000, max_bytes=500_000, max_member=4_000_000):
        taken.append(sorted(_memory().values()))
        assert chunk.rows
    assert max(map(len, taken)) == before + 2  # the one that was read while this loop still had the last one
    ordinary = [sum(sizes) for sizes in taken if max(sizes) < 1_000_000]
    assert max(ordinary) <= 2 * (500_000 + 4096)
    assert len(ordinary) >= len(taken) - 2  # a file that had a large member is cut when it is used again
    assert max(map(sum, taken)) <= 3_000_000 + 500_000 + 2 * 4096
    del chunk
    assert len(_memory()) == before


@pytest.mark.parametrize("kind", FORMS)
def test_a_system_without_files_in_memory_has_them_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: ShardKind
) -> None:
    for name in ("memfd_create", "copy_file_range", "sendfile"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shard = _form(tmp_path, _BOOKS, kind)
    before = len(_memory()), sorted(tmp_path.iterdir())
    assert [_content(row)[1:3] for row in _rows(_chunks(shard, max_members=7))] == [
        (name.encode(), data) for name, data in _BOOKS
    ]
    assert (len(_memory()), sorted(tmp_path.iterdir())) == before


def test_a_folder_s_files_are_not_to_blame_for_a_full_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = _form(tmp_path, _BOOKS, "folder")
    with Path("/dev/full").open("r+b", buffering=0) as full:
        monkeypatch.setattr(shard_chunks, "scratch_in_memory", lambda: ScratchFile(os.dup(full.fileno())))
        monkeypatch.setattr(os, "ftruncate", lambda *_: None)
        with pytest.raises(TransientError, match="No space left"):
            _chunks(shard)


def test_a_change_anywhere_in_a_folder_is_seen_without_reading_its_files(tmp_path: Path) -> None:
    deep = tmp_path / "shard" / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "shard" / "c").mkdir()
    (deep / "1").write_bytes(b"1")
    seen = [latest_changes(tmp_path / "shard")]

    def is_new() -> bool:
        seen.append(latest_changes(tmp_path / "shard"))
        return seen[-1] not in seen[:-1]

    def at(second: int, folder: Path) -> None:  # clocks of file systems are coarse
        os.utime(folder, (second, second))

    assert not is_new()
    (deep / "2").write_bytes(b"2")
    at(1, deep)
    assert is_new()
    (deep / "d").mkdir()
    at(2, deep)
    assert is_new()
    (deep / "d" / "3").write_bytes(b"3")
    at(3, deep / "d")
    assert is_new()
    (deep / "1").unlink()
    at(4, deep)
    assert is_new()
    (tmp_path / "shard" / "link").symlink_to(tmp_path)  # not followed
    at(5, tmp_path / "shard")
    assert is_new()
    (tmp_path / "beside").write_bytes(b"")
    at(6, tmp_path)
    assert not is_new()
    with pytest.raises(OSError):
        latest_changes(tmp_path / "none")


def test_nothing_stays_open_when_reading_ends_or_is_given_up(tmp_path: Path) -> None:
    shards = [_form(tmp_path, _BOOKS, kind) for kind in FORMS]
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for shard in shards:
        _chunks(shard, max_member=1000)
        next(read_chunks(shard, max_members=1, max_bytes=1))
        next(walk(shard))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


# -- damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tar", *PACKED])
def test_what_is_before_a_cut_is_read_and_the_cut_is_reported(tmp_path: Path, kind: ShardKind) -> None:
    books = [(f"{n:02}", os.urandom(50_000)) for n in range(12)]
    data = _tar(*books)
    ends = [BLOCK + n * (BLOCK + 50_176) + 50_000 for n in range(12)]
    for cut in (0, 100, 30_000, 50_512, 50_688, 50_800, 300_000, len(data) - 10_240):
        path = tmp_path / "cut"
        path.write_bytes(PACKERS[kind](data[:cut]))
        chunks = _chunks(Shard("cut", path, kind), max_members=2)
        whole = [content for (_, content), end in zip(books, ends, strict=True) if end <= cut]
        assert [_data(row) for row in _rows(chunks)] == whole
        assert any(p.incomplete and p.end <= cut for chunk in chunks for p in chunk.problems), cut


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.95])
def test_a_packed_shard_that_is_cut_or_damaged_is_reported(tmp_path: Path, kind: ShardKind, part: float) -> None:
    books = [(f"{n:02}", os.urandom(100_000)) for n in range(20)]
    packed = PACKERS[kind](_tar(*books))
    at = int(len(packed) * part)
    for damaged in (packed[:at], packed[:at] + b"\x55" * 2000 + packed[at + 2000 :]):
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        chunks = _chunks(Shard("d", path, kind))
        rows = _rows(chunks)
        assert len(rows) >= int(20 * part) - 8  # what a decoder still holds back when it finds damage
        assert any(p.incomplete for chunk in chunks for p in chunk.problems)
        if damaged == packed[:at]:
            assert [_data(row) for row in rows] == [data for _, data in books[: len(rows)]]


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("size", [10_000, 300_000])
def test_a_wrong_checksum_loses_nothing_that_can_be_unpacked(tmp_path: Path, kind: ShardKind, size: int) -> None:
    books = [(f"{n:02}", os.urandom(size)) for n in range(5)]
    shard = _shard(tmp_path, _tar(*books), kind)
    packed = bytearray(shard.path.read_bytes())
    # gzip: CRC and length at the end; zstd: hash at the end; xz: check of the block, index (8 or more), footer (12)
    at = packed.rindex(lzma.compress(b"")[-2:]) - 12 - 8 - 8 if kind == "tar.xz" else len(packed) - 8
    packed[at if kind != "tar.zst" else -1] ^= 0x55
    shard.path.write_bytes(packed)
    chunks = _chunks(shard)
    assert [_data(row) for row in _rows(chunks)] == [data for _, data in books]
    assert _problems(chunks) == [ProblemKind.DAMAGED_STREAM]


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz"])
def test_what_is_before_damage_in_a_small_packed_shard_is_read(tmp_path: Path, kind: ShardKind) -> None:
    text = b"".join(b"%d %d\n" % (n, n * n % 7919) for n in range(3000))
    books = [(f"{n:02}", b"%d" % n + text[n:]) for n in range(5)]
    shard = _shard(tmp_path, _tar(*books, ("noise", os.urandom(50_000))), kind)
    packed = bytearray(shard.path.read_bytes())
    packed[-20_000:-19_000] = b"\xff" * 1000
    shard.path.write_bytes(packed)
    chunks = _chunks(shard)
    assert [_data(row) for row in _rows(chunks)][:5] == [data for _, data in books]
    assert ProblemKind.DAMAGED_STREAM in _problems(chunks)


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("left", [3, 8, 40])
def test_a_stream_that_ends_before_any_header_is_damaged_and_not_no_tar(
    tmp_path: Path, kind: ShardKind, left: int
) -> None:
    path = tmp_path / "cut"
    path.write_bytes(PACKERS[kind](_tar(("a", os.urandom(5000))))[:left])
    assert _problems(_chunks(Shard("cut", path, kind))) == [ProblemKind.DAMAGED_STREAM]


def test_a_packed_file_that_is_whole_and_no_tar_is_no_tar(tmp_path: Path) -> None:
    for kind in PACKED:
        for data in (b"", b"some text" * 1000):
            assert _problems(_chunks(_shard(tmp_path, data, kind))) == [ProblemKind.NOT_A_TAR]


def test_a_stream_that_needs_too_much_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_streams, "_XZ_MEMORY", 1 << 20)
    header = b"\x28\xb5\x2f\xfd\x00" + bytes([28 - 10 << 3])  # as of zstd --long=28
    for kind, packed in (("tar.zst", header + bytes(100)), ("tar.xz", lzma.compress(_tar(("a", b"1"))))):
        path = tmp_path / "large"
        path.write_bytes(packed)
        (chunk,) = _chunks(Shard("large", path, kind))  # type: ignore[arg-type]
        assert [(p.kind, p.incomplete) for p in chunk.problems] == [(ProblemKind.NEEDS_MEMORY, True)]
        assert "memory" in chunk.problems[0].detail


@pytest.mark.parametrize("kind", PACKED)
def test_parts_packed_one_after_the_other_are_one_shard(tmp_path: Path, kind: ShardKind) -> None:
    path = tmp_path / "parts"
    path.write_bytes(PACKERS[kind](_tar(("a", b"1"))) + PACKERS[kind](_tar(("b", b"2"))))
    chunks = _chunks(Shard("parts", path, kind))
    assert [_data(row) for row in _rows(chunks)] == [b"1", b"2"]
    assert _problems(chunks) == []


@pytest.mark.parametrize("kind", PACKED)
def test_garbage_behind_packed_data_is_reported_and_loses_nothing(tmp_path: Path, kind: ShardKind) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(PACKERS[kind](_tar(("a", b"1"))) + b"some signature")
    chunks = _chunks(Shard("garbage", path, kind))
    assert [_data(row) for row in _rows(chunks)] == [b"1"]
    assert _problems(chunks) == [ProblemKind.GARBAGE_AFTER_END]


def test_a_corrupt_header_costs_one_member_and_reading_goes_on(tmp_path: Path) -> None:
    data = bytearray(_tar(*_BOOKS[:5]))
    at = [m.header_offset for m in walk(_shard(tmp_path, bytes(data))) if isinstance(m, Member)][2]
    data[at + 5] ^= 0xFF
    chunks = _chunks(_shard(tmp_path, bytes(data)), max_members=1)
    assert [row.name.decode() for row in _rows(chunks)] == [name for i, (name, _) in enumerate(_BOOKS[:5]) if i != 2]
    assert [(p.kind, p.offset) for c in chunks for p in c.problems] == [(ProblemKind.CORRUPT_HEADER, at)]
    assert _problems(_chunks(_shard(tmp_path, bytes(data)), chunks[-2].resume)) == []


@pytest.mark.parametrize("kind", ["tar", *PACKED])
def test_a_shard_without_members_is_one_last_chunk(tmp_path: Path, kind: ShardKind) -> None:
    (chunk,) = _chunks(_shard(tmp_path, _tar(), kind))
    assert (chunk.rows, chunk.problems, chunk.last) == ([], [], True)
    (tmp_path / "nothing").write_bytes(b"")
    (chunk,) = _chunks(Shard("n", tmp_path / "nothing", kind))
    assert ProblemKind.NOT_A_TAR in [p.kind for p in chunk.problems]


def test_a_shard_that_changes_while_it_is_read_is_tried_again(tmp_path: Path) -> None:
    for change in (lambda p: os.truncate(p, 60_000), lambda p: os.utime(p, (1, 1)), lambda p: p.open("ab").write(b"x")):
        shard = _form(tmp_path, [(f"{n}", b"x" * 10_000) for n in range(20)], "tar")
        chunks = read_chunks(shard, max_members=2, max_bytes=1 << 20)
        next(chunks)
        change(shard.path)
        with pytest.raises(TransientError, match="tried again"):
            list(chunks)


def test_a_shard_that_cannot_be_opened_is_a_matter_of_configuration(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.tar", tmp_path):
        with pytest.raises(ConfigError, match=re.escape(str(path))):
            list(read_chunks(Shard("x", path, "tar"), max_members=1, max_bytes=1))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(kind=st.sampled_from(["tar", *PACKED]), changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255))))
def test_a_mutated_shard_neither_raises_nor_loops(
    tmp_path: Path, kind: ShardKind, changes: list[tuple[int, int]]
) -> None:
    link = _info("link", kind=b"1", link="a")
    data = bytearray(PACKERS[kind](_tar(("a", b"1" * 700), link, ("n" * 150, b"3" * 100), ("c", b"4"))))
    for at, value in changes:
        data[at % len(data)] = value
    path = tmp_path / "mutated"
    path.write_bytes(bytes(data))
    chunks = _chunks(Shard("m", path, kind), max_members=1)
    items = [row.item for row in _rows(chunks)]
    assert items == sorted(set(items))
    assert all(isinstance(event, Member | Problem) for event in walk(Shard("m", path, kind)))
    assert all(row.size <= shard_chunks.MAX_SIZE for row in _rows(chunks) if row.reason is None)
