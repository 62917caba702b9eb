"""Commands as a user types them, in an environment of their own."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bookpipe.cli import main
from bookpipe_tests.defs.conftest import home, instance, sample_library, setup
from bookpipe_tests.defs.music_setups import archiving, sample_exports, sample_music, scrobbling

__all__ = [
    "Invoke",
    "Run",
    "archiving",
    "home",
    "instance",
    "run_command",
    "sample_exports",
    "sample_library",
    "sample_music",
    "scrobbling",
    "setup",
]

BIN = Path(sys.executable).parent
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Invoke = Callable[..., Result]


@pytest.fixture
def run_command(home: Path, tmp_path: Path) -> Run:
    """Run a command of the virtual environment in an empty working directory, with the test's environment."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()

    def run(*command: str, code: int | None = 0, **changes: str | None) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "COLUMNS": "200", **{k: v for k, v in changes.items() if v is not None}}
        for name, value in changes.items():
            if value is None:
                environment.pop(name, None)
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]], check=False, cwd=cwd, env=environment, text=True,
            capture_output=True, timeout=300,
        )  # fmt: skip
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def bookpipe(home: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a `bookpipe` command in this process, which saves seconds of imports."""
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == code, done.output
        return done

    return invoke


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Modification time and size of everything in a folder."""
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in folder.rglob("*")}


def contents(home: Path) -> dict[str, object]:
    """What the files below a folder say: of a database its rows, as readers move SQLite's bytes from file to file."""
    said: dict[str, object] = {}
    for path in home.rglob("*"):
        if path.is_dir() or path.name.endswith(("-shm", "-wal", "-journal")):
            continue
        said[str(path)] = held = path.read_bytes()
        if held.startswith(b"SQLite format 3"):
            with closing(sqlite3.connect(path)) as connection:
                said[str(path)] = list(connection.iterdump())
    return said
