"""A batch of files is digested: every row ends with a digest or a reason, and no file is read twice."""

import errno
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bookpipe.model.errors import TransientError
from bookpipe.model.rejections import Reason
from bookpipe.model.schemas import BOOK_FILES, CALIBRE_BOOKS, HASHED_FILES
from bookpipe.runtime import digests
from bookpipe.runtime.digests import CHUNK, hash_files
from bookpipe.runtime.state import State


class Reads:
    """Counts the files whose bytes are read: type detection is asked for these only."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    def __call__(self, head: bytes, size: int, read_at: Callable[[int, int], bytes], given: str | None) -> str | None:
        self.heads.append(head[:20])
        return "pdf" if head.startswith(b"%PDF") else None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "anchor").touch()
    return tmp_path / "library"


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state.sqlite")


def write(folder: Path, count: int) -> list[Path]:
    files = [folder / f"book {n}.epub" for n in range(count)]
    for n, file in enumerate(files):
        file.write_bytes(b"book %d" % n)
    return files


def table(paths: Sequence[Path | None], schema: pa.Schema = BOOK_FILES, **columns: list[Any]) -> pa.Table:
    rows = [
        {
            "origin": "test",
            "item": n,
            "path": path and os.fsencode(path),
            "given_format": "epub",
            **{name: values[n] for name, values in columns.items()},
        }
        for n, path in enumerate(paths)
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def nowhere(_path: bytes) -> Reason:
    return Reason.MISSING_FILE


def hashed(folder: Path, state: State, rows: pa.Table, **options: Any) -> list[dict[str, Any]]:
    defaults: dict[str, Any] = {
        "folder": os.fsencode(folder), "anchor": os.fsencode(folder / "anchor"), "identify": Reads(),
        "relocate": nowhere, "max_size": 1000,
    }  # fmt: skip
    result = hash_files(rows, state, options.pop("scope", "test"), **(defaults | options))
    result.validate(full=True)
    assert result.schema == HASHED_FILES
    found: list[dict[str, Any]] = result.to_pylist()
    return found


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, CHUNK, 3 * CHUNK + 1])
def test_rows_keep_their_order_and_get_their_digests(folder: Path, state: State, count: int, threads: int) -> None:
    files = write(folder, count)
    found = hashed(folder, state, table(files), threads=threads)
    assert [r["item"] for r in found] == list(range(count))
    assert [r["sha1"] for r in found] == [hashlib.sha1(f.read_bytes()).hexdigest() for f in files]
    assert [r["size"] for r in found] == [f.stat().st_size for f in files]
    assert all(r["reason"] is None for r in found)


def test_extra_columns_are_dropped(folder: Path, state: State) -> None:
    [row] = hashed(folder, state, table(write(folder, 1), CALIBRE_BOOKS, title=["A"], uuid=["u"]))
    assert row["title"] == "A"
    assert "uuid" not in row


def test_the_format_is_that_of_the_content_and_else_the_given_one(folder: Path, state: State) -> None:
    files = write(folder, 3)
    files[0].write_bytes(b"%PDF-1.7")
    found = hashed(folder, state, table(files, given_format=["epub", "xyz", None]))
    assert [r["format"] for r in found] == ["pdf", "xyz", None]


def test_rows_that_are_rejected_already_or_have_no_path_are_left_alone(folder: Path, state: State) -> None:
    files = write(folder, 3)
    reads = Reads()
    rows = table([files[0], None, files[2]], reason=["bad_path", None, None], detail=["why", None, None])
    found = hashed(folder, state, rows, identify=reads)
    assert [(r["reason"], r["detail"], r["sha1"] is None) for r in found] == [
        ("bad_path", "why", True),
        (None, None, True),
        (None, None, False),
    ]
    assert reads.heads == [b"book 2"]


def test_one_bad_file_is_a_reason_and_not_the_end_of_the_batch(folder: Path, state: State) -> None:
    files = write(folder, 8)
    files[1].unlink()
    files[2].write_bytes(b"")
    files[3].write_bytes(b"x" * 1001)
    files[4].unlink()
    files[4].mkdir()
    files[5].unlink()
    os.mkfifo(files[5])
    files[6].unlink()
    files[6].symlink_to("/etc/hostname")
    found = hashed(folder, state, table(files))
    assert [r["reason"] for r in found] == [
        *(None, "missing_file", "empty_file", "too_large", "not_a_file", "not_a_file", "outside_library", None)
    ]
    assert all((r["reason"] is None) == (r["sha1"] is not None) == (r["format"] is not None) for r in found)


def test_a_file_is_looked_for_where_it_may_be_and_the_row_says_where_it_was(folder: Path, state: State) -> None:
    files = write(folder, 3)
    moved = folder / "moved"
    files[1].rename(moved)

    def relocate(path: bytes) -> bytes | Reason:
        assert path == os.fsencode(files[1])
        return os.fsencode(moved)

    reads = Reads()
    for _ in range(2):
        found = hashed(folder, state, table(files), relocate=relocate, identify=reads)
        assert [r["path"] for r in found] == [os.fsencode(p) for p in (files[0], moved, files[2])]
        assert found[1]["sha1"] == hashlib.sha1(b"book 1").hexdigest()
    assert len(reads.heads) == 3  # the second time all three were known


def test_the_reason_of_a_file_that_is_not_found_is_that_of_the_search(folder: Path, state: State) -> None:
    found = hashed(folder, state, table([folder / "no"]), relocate=lambda _path: Reason.MISSING_DIR)
    assert found[0]["reason"] == "missing_dir"


def test_a_file_found_outside_is_refused_like_any_other(folder: Path, state: State, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    found = hashed(folder, state, table([folder / "no"]), relocate=lambda _path: os.fsencode(tmp_path / "secret"))
    assert found[0]["reason"] == "outside_library"


def test_an_unchanged_file_is_never_read_twice(folder: Path, state: State) -> None:
    files = write(folder, 3 * CHUNK)
    rows = table(files)
    reads = Reads()
    first = hashed(folder, state, rows, identify=reads)
    assert len(reads.heads) == len(files)
    status = files[5].stat()
    files[5].write_bytes(b"BOOK 5")
    os.utime(files[5], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert hashed(folder, state, rows, identify=reads) == first
    assert hashed(folder, State(state.path), rows, identify=reads) == first  # another process, later
    assert len(reads.heads) == len(files)


def test_a_changed_file_is_read_again_and_nothing_else(folder: Path, state: State) -> None:
    files = write(folder, 5)
    hashed(folder, state, table(files))
    status = files[1].stat()
    files[1].write_bytes(b"longer than before")
    os.utime(files[1], ns=(status.st_atime_ns, status.st_mtime_ns))
    os.utime(files[3], ns=(0, 12345))
    reads = Reads()
    found = hashed(folder, state, table(files), identify=reads)
    assert sorted(reads.heads) == [b"book 3", b"longer than before"]
    assert found[1]["sha1"] == hashlib.sha1(b"longer than before").hexdigest()
    hashed(folder, state, table(files), identify=reads)
    assert len(reads.heads) == 2


def test_a_scope_knows_its_own_files_only(folder: Path, state: State) -> None:
    files = write(folder, 2)
    hashed(folder, state, table(files), scope="one")
    reads = Reads()
    hashed(folder, state, table(files), scope="two", identify=reads)
    assert len(reads.heads) == 2


def test_a_file_from_the_far_future_is_digested_and_only_not_remembered(folder: Path, state: State) -> None:
    files = write(folder, 2)
    try:
        os.utime(files[0], ns=(0, 2**63))  # the year 2262; file systems go on, SQLite's integers do not
    except OverflowError:
        pytest.skip("this Python cannot set such a time")
    if files[0].stat().st_mtime_ns < 2**63:
        pytest.skip("this file system cannot hold such a time")
    reads = Reads()
    for _ in range(2):
        assert all(r["sha1"] for r in hashed(folder, state, table(files), identify=reads))
    assert sorted(reads.heads) == [b"book 0", b"book 0", b"book 1"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from bookpipe.runtime import digests
from bookpipe.runtime.state import State
from bookpipe_tests.runtime.test_digests import hashed, table

class KillAt:
    def advance(self, step, done, total):
        if done >= 5 * digests.CHUNK:
            os.kill(os.getpid(), signal.SIGKILL)

digests.SAVE_EVERY, digests.SAVE_EVERY_S = 2 * digests.CHUNK, 1e9
folder = Path(sys.argv[1])
hashed(folder, State(Path(sys.argv[2])), table(sorted(folder.glob("*.epub"))), progress=KillAt())
"""


def test_what_was_saved_before_a_kill_is_not_read_again(folder: Path, state: State) -> None:
    files = write(folder, 8 * CHUNK)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(folder), str(state.path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    reads = Reads()
    found = hashed(folder, state, table(files), identify=reads)
    # Saved after 2 and 4 chunks, killed at the fifth.
    assert len(reads.heads) == len(files) - 4 * CHUNK
    assert [r["sha1"] for r in found] == [hashlib.sha1(f.read_bytes()).hexdigest() for f in files]


def test_what_was_read_before_an_error_is_saved_and_nothing_more_is_read(folder: Path, state: State) -> None:
    files = write(folder, 20 * CHUNK)

    class Interrupt:
        def advance(self, step: str, done: int, total: int | None) -> None:
            if done >= 2 * CHUNK:
                raise KeyboardInterrupt

    reads = Reads()
    with pytest.raises(KeyboardInterrupt):
        hashed(folder, state, table(files), identify=reads, progress=Interrupt(), threads=1)
    assert len(reads.heads) < len(files)
    again = Reads()
    hashed(folder, state, table(files), identify=again)
    assert len(again.heads) == len(files) - 2 * CHUNK


def test_progress_is_told_and_ends_at_the_total(folder: Path, state: State) -> None:
    class Heard:
        def __init__(self) -> None:
            self.calls: list[tuple[str, int, int | None]] = []

        def advance(self, step: str, done: int, total: int | None) -> None:
            self.calls.append((step, done, total))

    heard = Heard()
    hashed(folder, state, table([*write(folder, CHUNK + 5), None]), progress=heard)
    assert heard.calls == [("hash_files", CHUNK, CHUNK + 5), ("hash_files", CHUNK + 5, CHUNK + 5)]


def test_missing_files_of_a_collection_that_is_gone_are_transient(folder: Path, state: State) -> None:
    files = write(folder, 3)
    folder.rename(folder.with_name("unmounted"))
    with pytest.raises(TransientError, match=f"{folder}/anchor has gone away.*tried again"):
        hashed(folder, state, table(files))


def test_a_collection_that_goes_away_for_a_moment_leaves_no_false_rejections(folder: Path, state: State) -> None:
    files = write(folder, 4 * CHUNK)
    away = folder.with_name("unmounted")
    folder.rename(away)

    class Back:
        def advance(self, step: str, done: int, total: int | None) -> None:
            away.rename(folder)

    with pytest.raises(TransientError):
        hashed(folder, state, table(files), progress=Back(), threads=1)


def test_an_io_error_stops_the_batch_as_transient_and_keeps_what_was_read(folder: Path, state: State) -> None:
    files = write(folder, 4 * CHUNK)

    def fail(head: bytes, size: int, read_at: Callable[[int, int], bytes], given: str | None) -> str | None:
        if head == b"book %d" % (2 * CHUNK):
            raise OSError(errno.EIO, "Input/output error")
        return None

    with pytest.raises(TransientError, match="disk or network share"):
        hashed(folder, state, table(files), identify=fail)
    assert len(state.load_digests("test")) == 2 * CHUNK


def test_two_batches_share_one_state_file(folder: Path, state: State) -> None:
    files = write(folder, 4 * CHUNK)
    found: dict[str, list[dict[str, Any]]] = {}

    def run(scope: str) -> None:
        found[scope] = hashed(folder, state, table(files), scope=scope)

    threads = [threading.Thread(target=run, args=(scope,)) for scope in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found["a"] == found["b"] == found["c"]
    with closing(sqlite3.connect(state.path)) as connection:
        assert connection.execute("SELECT count(*) FROM digest").fetchone() == (3 * len(files),)


def test_no_more_is_saved_than_was_read(folder: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "SAVE_EVERY", 1)
    files = write(folder, 2 * CHUNK)
    files[3].unlink()
    hashed(folder, state, table(files))
    assert set(state.load_digests("test")) == {os.fsencode(f) for f in files} - {os.fsencode(files[3])}
