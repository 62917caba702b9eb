"""Being nobody for a moment, for file rights mean nothing to root; and what not even root can read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

NOBODY = 65534


@contextmanager
def nobody() -> Iterator[None]:
    """The block runs without root's rights; for anybody but root nothing changes."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that everybody may pass through, which pytest's are not."""
    with TemporaryDirectory(prefix="bookpipe-tests-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def make_folder_too_deep(root: Path) -> None:
    """One that nobody can list, root neither: its path is longer than the system takes."""
    fd = os.open(root, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=fd)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
