"""One file is digested in one read, or refused for a reason; nothing hangs and nothing leads outside."""

import errno
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bookpipe.model.errors import TransientError
from bookpipe.model.rejections import Reason
from bookpipe.runtime.files import HEAD, WHOLE_READ, Refused, digest_file, hash_open_file, open_inside, refuse
from bookpipe.runtime.state import Digest
from bookpipe_tests.unprivileged import nobody, open_folder

ReadAt = Callable[[int, int], bytes]


def identify(head: bytes, size: int, read_at: ReadAt, given: str | None) -> str | None:
    """The file's first word."""
    assert read_at(0, 4) == head[:4]
    return head.split(b" ", 1)[0][:8].decode("latin-1") if head[:1].isalpha() else None


def digest(path: Path, *, inside: Path | None = None, max_size: int = 2**31, known: Digest | None = None) -> object:
    return digest_file(
        os.fsencode(path), "epub", inside=os.fsencode(inside or path.parent), identify=identify, max_size=max_size,
        known=known,
    )  # fmt: skip


def reason(found: object) -> Reason:
    assert isinstance(found, Refused)
    return found.reason


@pytest.mark.parametrize(
    "size", [1, HEAD, HEAD + 1, WHOLE_READ - 1, WHOLE_READ, WHOLE_READ + 1, 3 * WHOLE_READ, 3 * WHOLE_READ + 7]
)
def test_a_digest_is_the_sha1_of_all_bytes(tmp_path: Path, size: int) -> None:
    content = (b"text " + bytes(range(256)) * (size // 256 + 1))[:size]
    file = tmp_path / "book"
    file.write_bytes(content)
    found = digest(file)
    assert isinstance(found, Digest)
    assert found.sha1 == hashlib.sha1(content).hexdigest()
    assert (found.size, found.mtime_ns) == (size, file.stat().st_mtime_ns)
    assert found.format == ("t" if size == 1 else "text")


@pytest.mark.parametrize("size", [10_000, 2 * WHOLE_READ])
def test_type_detection_may_read_anywhere_in_the_file(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "book").write_bytes(content)

    def check(head: bytes, length: int, read_at: ReadAt, given: str | None) -> str | None:
        assert head == content[:HEAD]
        assert (length, given) == (size, "epub")
        for offset, n in [(0, 1), (size - 1, 1), (size // 2, 100), (size - 5, 100), (size, 10), (size + 10, 10)]:
            assert read_at(offset, n) == content[offset : offset + n]
        return "seen"

    path = os.fsencode(tmp_path / "book")
    found = digest_file(path, "epub", inside=os.fsencode(tmp_path), identify=check, max_size=size)
    assert isinstance(found, Digest)
    assert found.format == "seen"


@pytest.mark.parametrize("more", [-1, 1])
def test_a_file_of_another_length_than_was_said_has_no_digest(tmp_path: Path, more: int) -> None:
    (tmp_path / "book").write_bytes(bytes(100))
    fd = os.open(tmp_path / "book", os.O_RDONLY)
    assert hash_open_file(fd, 100 + more, "md5") is None
    os.close(fd)


def test_a_missing_file_and_a_missing_folder_are_told_apart_from_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert reason(digest(tmp_path / "no")) is Reason.MISSING_FILE
    assert reason(digest(tmp_path / "no" / "book")) is Reason.MISSING_FILE  # whoever looks for it finds out more
    assert reason(digest(tmp_path / "file" / "book")) is Reason.MISSING_DIR


def test_a_dangling_link_is_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "book").symlink_to("nowhere")
    assert reason(digest(tmp_path / "book")) is Reason.MISSING_FILE


def test_a_loop_of_links_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "book").symlink_to("book")
    assert reason(digest(tmp_path / "book")) is Reason.UNREADABLE_FILE


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device"])
def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "book"
    inside = tmp_path
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path, inside = Path("/dev/null"), Path("/dev")
    assert reason(digest(path, inside=inside)) is Reason.NOT_A_FILE


def test_a_file_without_rights_is_unreadable() -> None:
    with open_folder() as folder:
        file = folder / "book"
        file.write_bytes(b"secret")
        known = digest(file)
        assert isinstance(known, Digest)
        file.chmod(0o000)
        with nobody():
            assert reason(digest(file)) is Reason.UNREADABLE_FILE
            assert reason(digest(file, known=known)) is Reason.UNREADABLE_FILE


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "book").touch()
    assert reason(digest(tmp_path / "book")) is Reason.EMPTY_FILE


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "book"
    file.touch()
    os.truncate(file, 2**40)  # sparse: reading it would take minutes
    found = digest(file, max_size=2**31 - 1)
    assert found == Refused(Reason.TOO_LARGE, f"{2**40} bytes")
    os.truncate(file, 100)
    assert isinstance(digest(file, max_size=100), Digest)
    assert reason(digest(file, max_size=99)) is Reason.TOO_LARGE


@pytest.mark.parametrize("path", [b"a\0b", b"x" * 300, b"/".join([b"d"] * 3000)])
def test_a_path_that_cannot_be_is_a_bad_path(tmp_path: Path, path: bytes) -> None:
    inside = os.fsencode(tmp_path)
    found = digest_file(inside + b"/" + path, None, inside=inside, identify=identify, max_size=9)
    assert reason(found) is Reason.BAD_PATH


@pytest.mark.parametrize("link", ["file", "folder", "chain"])
def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, link: str) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "in"
    outside.mkdir()
    inside.mkdir()
    (outside / "book").write_bytes(b"secret")
    if link == "folder":
        (inside / "author").symlink_to(outside)
        path = inside / "author" / "book"
    else:
        (inside / "book").symlink_to("other" if link == "chain" else "../outside/book")
        (inside / "other").symlink_to(outside / "book")
        path = inside / "book"
    found = digest(path, inside=inside)
    assert found == Refused(Reason.OUTSIDE_LIBRARY, f"the file is really {str(outside / 'book')!r}")


def test_a_sibling_with_the_same_beginning_is_outside(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library2").mkdir()
    (tmp_path / "library2" / "book").write_bytes(b"x")
    (tmp_path / "library" / "book").symlink_to("../library2/book")
    assert reason(digest(tmp_path / "library" / "book")) is Reason.OUTSIDE_LIBRARY


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "book").write_bytes(b"text x")
    (tmp_path / "author").symlink_to("store")
    found = digest(tmp_path / "author" / "book", inside=tmp_path)
    assert isinstance(found, Digest)
    assert found.size == 6


@pytest.mark.parametrize("size", [1000, 2 * WHOLE_READ])
@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, size: int, change: str) -> None:
    file = tmp_path / "book"
    file.write_bytes(b"a" * size)
    os.utime(file, (1_000_000, 1_000_000))

    def meanwhile(_head: bytes, _size: int, _read_at: ReadAt, _given: str | None) -> str | None:
        if change == "grow":
            with file.open("ab") as f:
                f.write(b"more")
        elif change == "shrink":
            os.truncate(file, size - 1)
        else:
            file.write_bytes(b"b" * size)
        return None

    found = digest_file(os.fsencode(file), None, inside=os.fsencode(tmp_path), identify=meanwhile, max_size=2**31)
    assert reason(found) is Reason.CHANGED_WHILE_READING


def test_a_known_file_is_not_read_again_until_its_time_or_size_changes(tmp_path: Path) -> None:
    file = tmp_path / "book"
    file.write_bytes(b"text one")
    os.utime(file, ns=(5, 5_000_000_001))
    known = digest(file)
    assert isinstance(known, Digest)

    file.write_bytes(b"text two")
    os.utime(file, ns=(5, 5_000_000_001))
    assert digest(file, known=known) is known  # which proves that the bytes were not looked at

    os.utime(file, ns=(5, 5_000_000_002))
    assert digest(file, known=known) == Digest(8, 5_000_000_002, hashlib.sha1(b"text two").hexdigest(), "text")

    file.write_bytes(b"text three")
    os.utime(file, ns=(5, 5_000_000_001))
    assert digest(file, known=known) == Digest(10, 5_000_000_001, hashlib.sha1(b"text three").hexdigest(), "text")


def test_what_is_known_of_a_file_does_not_excuse_where_it_is_now(tmp_path: Path) -> None:
    library = tmp_path / "library"
    (library / "author").mkdir(parents=True)
    (library / "author" / "book").write_bytes(b"text")
    path = library / "author" / "book"
    known = digest(path, inside=library)
    assert isinstance(known, Digest)
    # Moved to another disk, times and all, with a link left behind.
    (library / "author").rename(tmp_path / "author")
    (library / "author").symlink_to(tmp_path / "author")
    assert reason(digest(path, inside=library, known=known)) is Reason.OUTSIDE_LIBRARY


@pytest.mark.parametrize(
    "code", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.EMFILE]
)
def test_trouble_of_the_storage_is_no_matter_of_one_file(code: int) -> None:
    with pytest.raises(TransientError, match="'/share/book': is the disk or network share still there"):
        refuse(OSError(code, os.strerror(code)), b"/share/book")


def test_an_io_error_while_reading_is_transient(tmp_path: Path) -> None:
    (tmp_path / "book").write_bytes(b"text")

    def fail(_head: bytes, _size: int, _read_at: ReadAt, _given: str | None) -> str | None:
        raise OSError(errno.EIO, "Input/output error")

    path = os.fsencode(tmp_path / "book")
    with pytest.raises(TransientError, match=str(tmp_path)):
        digest_file(path, None, inside=os.fsencode(tmp_path), identify=fail, max_size=9)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "book").write_bytes(b"text")
    (tmp_path / "folder").mkdir()
    (tmp_path / "out").symlink_to("/etc/hostname")
    before = os.listdir("/proc/self/fd")
    for name in ("book", "folder", "out", "missing"):
        digest(tmp_path / name)
    assert os.listdir("/proc/self/fd") == before


def test_a_file_is_opened_or_refused_for_the_same_reasons(tmp_path: Path) -> None:
    def found(name: str, *, anywhere: bool = False) -> object:
        with open_inside(os.fsencode(inside / name), None if anywhere else os.fsencode(inside)) as opened:
            return opened if isinstance(opened, Refused) else os.read(opened[0], 1_000)

    inside = tmp_path / "inside"
    (inside / "folder").mkdir(parents=True)
    (inside / "file").write_bytes(b"x" * 100)
    (inside / "empty").touch()
    (tmp_path / "outside").write_bytes(b"x")
    (inside / "link").symlink_to(tmp_path / "outside")
    (inside / "good link").symlink_to(inside / "file")
    os.mkfifo(inside / "pipe")
    assert found("file") == found("good link") == b"x" * 100
    assert found("empty") == b""
    refused = {
        name: reason(found(name)) for name in ("link", "folder", "pipe", "none", "none/none", "file/none", "a\0")
    }
    assert refused == {
        "link": Reason.OUTSIDE_LIBRARY, "folder": Reason.NOT_A_FILE, "pipe": Reason.NOT_A_FILE,
        "none": Reason.MISSING_FILE, "none/none": Reason.MISSING_FILE, "file/none": Reason.MISSING_DIR,
        "a\0": Reason.BAD_PATH,
    }  # fmt: skip
    assert found("link", anywhere=True) == b"x"
