"""The UI as a person sees it, in a real browser."""

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bookpipe.defs.partitions import books_key
from bookpipe_tests.cli.conftest import BIN, Run
from bookpipe_tests.defs.conftest import Setup

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: install Debian's package chromium, say"),
]


@pytest.fixture
def ui(setup: Setup, run_command: Run, tmp_path: Path) -> Iterator[str]:
    """`bookpipe ui` on one loaded partition; its address."""
    run_command("bookpipe", "discover")
    run_command("bookpipe", "load", "calibre", "--limit", "1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        ["env", "--default-signal=INT,TERM", str(BIN / "bookpipe"), "ui", "--port", str(port)],
        cwd=tmp_path / "cwd", env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{address}/server_info", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def page(address: str, tmp_path: Path) -> str:
    """The page's HTML once its scripts have run."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'chromium'}", "--virtual-time-budget=25000", "--dump-dom", address,
        ],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.stdout


def test_a_partition_shows_its_counts_and_rejections(ui: str, setup: Setup, tmp_path: Path) -> None:
    key = books_key(1, 50)
    html = page(f"{ui}/assets/mybookshelf2/books_from_calibre?view=partitions&partition={key}", tmp_path)
    assert "Materialized (1)" in html
    assert "Missing (2)" in html
    for text in (key, "inserted", "rejections", "seconds_hash_files"):
        assert text in html
    assert f">{setup.count('source')}<" in html
