"""Processes say of members what threads say, and are not missed when they die."""

import errno
import gc
import os
import socket
import tarfile
import tempfile
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path
from typing import Any

import psutil
import pytest

from bookpipe.demo.ebook_files import MAKERS
from bookpipe.model.errors import TransientError
from bookpipe.pipelines import shard_rows, shard_workers
from bookpipe.pipelines.shard_members import PIECE, Examined, MemberReader
from bookpipe.pipelines.shard_rows import BOOK_KINDS
from bookpipe.pipelines.shard_workers import MemberWorkers, Request, read_member
from bookpipe.pipelines.tars import Limits
from bookpipe.sources.ebook_metadata import PdfReader
from bookpipe.sources.tar_shards import Shard
from bookpipe.sources.tar_streams import OpenFile, Range, scratch_in_memory
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


Processes = tuple[MemberWorkers, OpenFile, list[Request]]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Two of them, and a file with a member of every kind."""
    file, requests = packed(tmp_path / "members", BYTES)
    workers = MemberWorkers(BOOK_KINDS, 2)
    yield workers, file, requests
    workers.close()


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def in_threads(file: OpenFile, requests: list[Request]) -> list[Examined]:
    with PdfReader() as pdf:
        reader = MemberReader(BOOK_KINDS, pdf)
        buffer = memoryview(bytearray(PIECE))
        return [read_member(reader, file.fd, request, buffer) for request in requests]


def test_a_process_says_what_a_thread_says(processes: Processes) -> None:
    workers, file, requests = processes
    found = workers.examine(file, requests)
    assert found == in_threads(file, requests)
    assert [one.kind for one in found if one.kind][: len(MAKERS) - 5]
    assert {one.sha1 for one in found if one.sha1} <= {sha1(data).hexdigest() for data in BYTES}
    assert sum(one.title == TEXT.title for one in found) > 8
    assert found[-1].reason == found[-3].reason == "unsupported_format"


def test_a_process_that_was_killed_is_replaced(processes: Processes) -> None:
    workers, file, requests = processes
    before = children()
    first = workers.examine(file, requests)
    (process,) = children() - before
    process.kill()
    process.wait()
    assert workers.examine(file, requests) == first


def test_a_process_keeps_no_file_open(processes: Processes) -> None:
    """Or the room of a file without a name would not be free when its parent is done with it."""
    workers, file, requests = processes
    before = children()
    workers.examine(file, requests[:1])
    (process,) = children() - before
    opened = process.num_fds()
    for n in range(5):
        another = scratch_in_memory()
        os.write(another.fd, book(n))
        assert workers.examine(another, [(0, len(book(n)), None)])[0].title == f"Book {n}"
    assert process.num_fds() == opened


@pytest.mark.parametrize("extension", [dying_worker.DEADLY, dying_worker.ENDLESS, dying_worker.FATAL])
def test_a_member_that_ends_or_occupies_its_process_is_the_only_one_that_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str
) -> None:
    file, requests = packed(tmp_path / "members", [book(n) for n in range(4)])
    requests[2] = (*requests[2][:2], extension)
    monkeypatch.setattr(shard_workers, "_MODULE", dying_worker.__name__)
    opened, before = descriptors(), children()
    workers = MemberWorkers(BOOK_KINDS, 1, time_limit_s=0.5)
    try:
        found = workers.examine(file, requests)
    finally:
        workers.close()
    assert [one.title for one in found] == ["Book 0", "Book 1", None, "Book 3"]
    if extension == dying_worker.FATAL:
        assert (found[2].reason, found[2].sha1) == ("unreadable_file", None)
    else:
        assert [one.status for one in found] == ["ok", "ok", "unreadable", "ok"]
        assert (found[2].reason, found[2].kind, found[2].sha1) == (None, "epub", sha1(book(2)).hexdigest())
    assert (descriptors(), children()) == (opened, before)


def test_a_large_member_has_more_time(tmp_path: Path) -> None:
    with (tmp_path / "members").open("wb") as members:
        members.write(b"text\n" * 1000)
        members.truncate(256 << 20)
    file = OpenFile(os.open(tmp_path / "members", os.O_RDONLY))
    workers = MemberWorkers(["txt"], 1, time_limit_s=0.001)
    before = children()
    try:
        (found,) = workers.examine(file, [(0, 256 << 20, "txt")])
        assert len(children() - before) == 1
    finally:
        workers.close()
    assert (found.size, found.status) == (256 << 20, "none")


def test_no_member_is_to_blame_for_a_process_that_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, requests = packed(tmp_path / "members", [book(1)])
    monkeypatch.setattr(shard_workers, "_MODULE", "bookpipe.none")
    opened, before = descriptors(), children()
    workers = MemberWorkers(BOOK_KINDS, 1)
    with pytest.raises(TransientError, match="ended with code"):
        workers.examine(file, requests)
    assert (descriptors(), children()) == (opened, before)


def test_no_member_is_to_blame_when_there_are_no_descriptors_left(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers, file, requests = processes
    first = workers.examine(file, requests)
    with monkeypatch.context() as without:
        without.setattr(socket, "fromfd", _without_descriptors)
        with pytest.raises(OSError, match="Too many open files"):
            workers.examine(file, requests)
    assert workers.examine(file, requests) == first


def _without_descriptors(*_: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_shard_that_is_cut_off_is_no_member_s_fault(processes: Processes) -> None:
    workers, file, requests = processes
    with pytest.raises(OSError, match="shorter"):
        workers.examine(file, [requests[0], (requests[0][0] + (1 << 40), 100, None)])
    assert workers.examine(file, requests[:1])[0].reason is None


def test_a_process_ends_with_the_connection_to_it(tmp_path: Path) -> None:
    """However its parent ends, the connection does."""
    file, requests = packed(tmp_path / "members", [book(1)])
    worker = shard_workers._Worker(sorted(BOOK_KINDS), shard_workers.TIME_LIMIT_S)
    assert worker.ask(file, requests, True) == in_threads(file, requests)
    worker._connection.close()
    assert worker._process.wait(30) == 0


def test_no_process_outlives_its_pool(tmp_path: Path) -> None:
    before = children()
    file, requests = packed(tmp_path / "members", BYTES)
    workers = MemberWorkers(BOOK_KINDS, 2)
    workers.examine(file, requests)
    assert children() - before
    workers.close()
    assert children() - before == set()


@pytest.mark.parametrize("form", ["tar", "tar.gz", "tar.zst", "folder"])
def test_a_load_in_processes_ends_as_one_in_threads(
    shelf: Shelf, another_shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Also with members that are too large for memory."""
    members = numbered([*BYTES, *map(book, range(40)), b"", book(3)])
    shard = make_shard(tmp_path / f"1.{'tar' if form == 'folder' else form}", members)
    if form == "folder":
        with tarfile.open(shard.path) as archive:
            archive.extractall(tmp_path / "1", filter="data")
        shard = Shard("1", tmp_path / "1", "folder")
    limits = Limits(members=20, member=PIECE)
    threads = load(shelf, shard, limits=limits)
    assert threads.metadata["ok"] > 40
    before, opened = children(), descriptors()
    monkeypatch.setattr(shard_rows, "_WORTH_PROCESSES", 1)
    with monkeypatch.context() as without:
        without.setattr(shard_rows, "read_member", None)
        in_processes = load(another_shelf, shard, limits=limits)
    assert in_processes.counts == threads.counts
    assert in_processes.metadata == threads.metadata
    assert shelf.meaning() == another_shelf.meaning()
    assert files_of(shelf) == files_of(another_shelf)
    assert (children(), descriptors()) == (before, opened)


def test_processes_are_started_for_many_small_chunks_and_not_for_a_small_shard(
    shelf: Shelf, another_shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = make_shard(tmp_path / "1.tar.gz", numbered(map(book, range(20))))
    started = []

    def start(*arguments: Any) -> MemberWorkers:
        started.append(MemberWorkers(*arguments))
        return started[-1]

    monkeypatch.setattr(shard_rows, "MemberWorkers", start)
    load(shelf, shard, limits=Limits(members=5))
    assert started == []
    monkeypatch.setattr(shard_rows, "_WORTH_PROCESSES", 10 * len(book(1)))
    load(another_shelf, shard, limits=Limits(members=5))
    assert len(started) == 1


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same file system", "another file system"])
def test_a_member_is_copied_out_of_its_shard_alone(tmp_path: Path, elsewhere: bool) -> None:
    data = bytes(range(256)) * 1_000
    file, requests = packed(tmp_path / "members", [b"before", data, b"behind"])
    offset, size, _ = requests[1]
    with tempfile.TemporaryFile(dir="/dev/shm" if elsewhere and os.path.isdir("/dev/shm") else tmp_path) as copy:
        shard_rows._write(Range(file, offset, size), copy.fileno())
        copy.seek(0)
        assert copy.read() == data
        with pytest.raises(OSError, match="shorter"):
            shard_rows._write(Range(file, offset, size + 100), copy.fileno())
