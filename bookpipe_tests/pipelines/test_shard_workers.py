"""Processes say of members what threads say, and are not missed when they die."""

import os
import tempfile
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path

import psutil
import pytest

from bookpipe.demo.ebook_files import MAKERS
from bookpipe.pipelines import shard_rows, shard_workers
from bookpipe.pipelines.shard_members import PIECE, Examined, MemberReader
from bookpipe.pipelines.shard_rows import BOOK_KINDS
from bookpipe.pipelines.shard_workers import MemberWorkers, Request, read_member
from bookpipe.pipelines.tars import Limits
from bookpipe.sources.ebook_metadata import PdfReader
from bookpipe.sources.shard_chunks import ShardRow
from bookpipe.sources.tar_streams import OpenFile, Range
from bookpipe_tests.pipelines import dying_worker
from bookpipe_tests.pipelines.shards import book, files_of, load, make_shard, numbered
from bookpipe_tests.pipelines.test_tars import TEXT
from bookpipe_tests.targets.shelf import Shelf

BYTES = [make(TEXT) for make in MAKERS.values()] + [
    b"\0\1\2" * 99,
    book(1, pad_to=2 * PIECE),
    b"PK\x05\x06" + bytes(18),
]


def packed(path: Path, contents: list[bytes], given: str | None = None) -> tuple[OpenFile, list[Request]]:
    """A file of these bytes one after the other, and the requests for them."""
    path.write_bytes(b"".join(contents))
    offsets = [sum(map(len, contents[:n])) for n in range(len(contents))]
    requests = [(offset, len(data), given) for offset, data in zip(offsets, contents, strict=True)]
    return OpenFile(os.open(path, os.O_RDONLY)), requests


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[tuple[MemberWorkers, list[Request]]]:
    """Two of them for a file with a member of every kind."""
    file, requests = packed(tmp_path / "members", BYTES)
    workers = MemberWorkers(file, BOOK_KINDS, 2)
    yield workers, requests
    workers.close()


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def test_a_process_says_what_a_thread_says(processes: tuple[MemberWorkers, list[Request]]) -> None:
    workers, requests = processes
    found = workers.examine(requests)
    with PdfReader() as pdf:
        reader = MemberReader(BOOK_KINDS, pdf)
        buffer = memoryview(bytearray(PIECE))
        assert found == [read_member(reader, workers.file.fd, request, buffer) for request in requests]
    assert [one.kind for one in found if one.kind][: len(MAKERS) - 5]
    assert {one.sha1 for one in found if one.sha1} <= {sha1(data).hexdigest() for data in BYTES}
    assert sum(one.title == TEXT.title for one in found) > 8
    assert found[-1].reason == found[-3].reason == "unsupported_format"


def test_a_process_that_was_killed_is_replaced(processes: tuple[MemberWorkers, list[Request]]) -> None:
    workers, requests = processes
    before = children()
    first = workers.examine(requests)
    (process,) = children() - before
    process.kill()
    process.wait()
    assert workers.examine(requests) == first


def test_a_member_that_ends_its_process_costs_only_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, requests = packed(tmp_path / "members", [book(n) for n in range(4)])
    requests[2] = (*requests[2][:2], dying_worker.DEADLY)
    monkeypatch.setattr(shard_workers, "_MODULE", dying_worker.__name__)
    workers = MemberWorkers(file, BOOK_KINDS, 1)
    try:
        found = workers.examine(requests)
    finally:
        workers.close()
    assert [one.title for one in found] == ["Book 0", "Book 1", None, "Book 3"]
    assert [one.status for one in found] == ["ok", "ok", "unreadable", "ok"]
    assert found[2].sha1 == sha1(book(2)).hexdigest()


def test_a_shard_that_is_cut_off_is_no_member_s_fault(processes: tuple[MemberWorkers, list[Request]]) -> None:
    workers, requests = processes
    with pytest.raises(OSError, match="shorter"):
        workers.examine([requests[0], (requests[0][0] + (1 << 40), 100, None)])
    assert workers.examine(requests[:1])[0].reason is None


def test_a_process_ends_with_the_connection_to_it(tmp_path: Path) -> None:
    """However its parent ends, the connection does."""
    file, requests = packed(tmp_path / "members", [book(1)])
    worker = shard_workers._Worker(file.fd, sorted(BOOK_KINDS))
    assert worker.ask(requests) == [Examined(*one) for one in worker.ask(requests) or []]
    worker._connection.close()
    assert worker._process.wait(30) == 0


def test_no_process_outlives_its_pool(tmp_path: Path) -> None:
    before = children()
    file, requests = packed(tmp_path / "members", BYTES)
    workers = MemberWorkers(file, BOOK_KINDS, 2)
    workers.examine(requests)
    assert children() - before
    workers.close()
    assert children() - before == set()


def test_a_load_in_processes_ends_as_one_in_threads(
    shelf: Shelf, another_shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = make_shard(tmp_path / "1.tar", numbered([*BYTES, *map(book, range(40)), b"", book(3)]))
    threads = load(shelf, shard, limits=Limits(members=20))
    before = children()
    monkeypatch.setattr(shard_rows, "_WORTH_PROCESSES", 1)
    in_processes = load(another_shelf, shard, limits=Limits(members=20))
    assert in_processes.counts == threads.counts
    assert in_processes.metadata == threads.metadata
    assert shelf.meaning() == another_shelf.meaning()
    assert files_of(shelf) == files_of(another_shelf)
    assert children() == before


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same file system", "another file system"])
def test_a_member_is_copied_out_of_its_shard_alone(tmp_path: Path, elsewhere: bool) -> None:
    data = bytes(range(256)) * 1_000
    file, requests = packed(tmp_path / "members", [b"before", data, b"behind"])
    offset, size, _ = requests[1]
    row = ShardRow(offset, b"member", size, 0, held=Range(file, offset, size))
    with tempfile.TemporaryFile(dir="/dev/shm" if elsewhere and os.path.isdir("/dev/shm") else tmp_path) as copy:
        shard_rows._write(row, copy.fileno())
        copy.seek(0)
        assert copy.read() == data
