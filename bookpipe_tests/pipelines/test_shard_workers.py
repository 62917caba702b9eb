"""Processes say of members what a reader says, and are not missed when they die."""

import errno
import gc
import os
import socket
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bookpipe.demo.ebook_files import MAKERS
from bookpipe.model.errors import TerminalError, TransientError
from bookpipe.pipelines import shard_rows, shard_workers
from bookpipe.pipelines.shard_members import PIECE, MemberReader, read_member
from bookpipe.pipelines.shard_rows import BOOK_KINDS
from bookpipe.pipelines.shard_workers import Examined, MemberWorkers, Request
from bookpipe.pipelines.tars import Limits
from bookpipe.sources.tar_shards import Shard
from bookpipe.sources.tar_streams import OpenFile, Range, scratch_in_memory
from bookpipe_tests.pipelines import dying_worker
from bookpipe_tests.pipelines.shards import book, files_of, load, make_shard, numbered
from bookpipe_tests.pipelines.test_tars import TEXT
from bookpipe_tests.sources.ebook_metadata.test_hostile import damaged
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


def read_here(file: OpenFile, requests: list[Request]) -> list[Examined]:
    reader, buffer = MemberReader(BOOK_KINDS), memoryview(bytearray(PIECE))
    return [read_member(reader, file.fd, request, buffer) for request in requests]


def test_a_process_says_what_the_reader_says(processes: Processes) -> None:
    workers, file, requests = processes
    found = workers.examine(file, requests)
    assert found == read_here(file, requests)
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
    assert process.num_fds() <= opened + 1  # it answers first, then it closes the last one


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
    assert worker.ask(file, requests, shard_workers.EXAMINE) == list(map(tuple, read_here(file, requests)))
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
def test_a_load_leaves_no_process_and_no_descriptor(shelf: Shelf, tmp_path: Path, form: str) -> None:
    """Also with members that are too large for memory."""
    books = [*BYTES[:-3], BYTES[-2], *map(book, range(40))]
    members = numbered([*books, BYTES[-3], BYTES[-1], b"", book(3)])
    shard = make_shard(tmp_path / f"1.{'tar' if form == 'folder' else form}", members)
    if form == "folder":
        with tarfile.open(shard.path) as archive:
            archive.extractall(tmp_path / "1", filter="data")
        shard = Shard("1", tmp_path / "1", "folder")
    before, opened = children(), descriptors()
    result = load(shelf, shard, limits=Limits(members=20, member=PIECE))
    assert result.metadata["ok"] > 40
    assert sorted(files_of(shelf).values()) == sorted(set(books))
    assert (children(), descriptors()) == (before, opened)


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


# -- PDFs, whose library is the most dangerous one ----------------------------------------------------------------

PDFIUM = """
class PdfiumError(RuntimeError):
    err_code = 3
class PdfDocument:
    def __init__(self, file):
        {body}
    def get_metadata_value(self, key):
        return key
    def close(self):
        pass
class raw:
    FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY = 4, 5
    FPDFCatalog_GetLanguage = staticmethod(lambda *_: 0)
"""


@pytest.fixture
def broken_pdfium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that workers import instead of the real one, once it is written."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "pypdfium2.py"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("while True: pass", "unreadable"),
        ("import collections, itertools; collections.deque(itertools.count(), 0)", "unreadable"),
        ("import os; os.abort()", "unreadable"),
        ("import ctypes; ctypes.string_at(0)", "unreadable"),
        ("import os; os._exit(3)", "unreadable"),
        ("self.all = [bytes(1 << 28) for _ in range(64)]", "unreadable"),
        ("raise ValueError('odd')", "unreadable"),
        ("raise PdfiumError('bad file')", "unreadable"),
    ],
)
def test_a_file_that_breaks_the_library_costs_its_metadata(
    tmp_path: Path, broken_pdfium: Path, body: str, detail: str
) -> None:
    broken_pdfium.write_text(PDFIUM.format(body=f"if file.seek(0, 2) == 7:\n            {body}"))
    file, requests = packed(tmp_path / "members", [b"%PDF-1.", b"%PDF-1.4", book(1)])
    workers = MemberWorkers(BOOK_KINDS, 1, time_limit_s=1.0)
    try:
        for _ in range(2):
            hostile, fine, other = workers.examine(file, requests)
            assert (hostile.status, hostile.title, hostile.kind) == (detail, None, "pdf")
            assert (fine.title, other.title) == ("Title", "Book 1")
    finally:
        workers.close()


def test_what_lies_in_the_working_directory_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pypdfium2", "json", "socket", "bookpipe"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    file, requests = packed(tmp_path / "members", [MAKERS["pdf"](TEXT)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part])
    workers = MemberWorkers(BOOK_KINDS, 1)
    try:
        assert workers.examine(file, requests)[0].title == TEXT.title
    finally:
        workers.close()


def test_a_library_that_is_missing_is_an_error_of_the_installation(processes: Processes, broken_pdfium: Path) -> None:
    broken_pdfium.write_text("raise ImportError('no such library')")
    workers, file, requests = processes
    with pytest.raises(TerminalError, match=r"no such library.*is pypdfium2 installed"):
        workers.examine(file, requests)


@pytest.fixture(scope="module")
def worker() -> Iterator[MemberWorkers]:
    workers = MemberWorkers(BOOK_KINDS, 1, time_limit_s=5.0)
    yield workers
    workers.close()


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damaged_pdfs_are_survived(worker: MemberWorkers, data: st.DataObject) -> None:
    content = damaged(data, MAKERS["pdf"](TEXT))
    file = scratch_in_memory()
    os.write(file.fd, content)
    (found,) = worker.examine(file, [(0, len(content), "pdf")]) if content else (Examined(),)
    assert found.status in ("ok", "none", "encrypted", "unreadable")
