"""What doctor makes of the settings, and what it shows."""

import io
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from bookpipe.cli.doctor import diagnose, print_findings
from bookpipe.demo.calibre_writer import CalibreWriter, SampleBook
from bookpipe.model.findings import Finding
from bookpipe.settings import Settings

PASSWORD = "rather-secret-77"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    with CalibreWriter(tmp_path / "library") as writer:
        writer.add(SampleBook(None, "Dune", ("Frank Herbert",), formats=(("EPUB", b"words"),)))
    return tmp_path / "library"


@pytest.fixture
def environment(tmp_path: Path, library: Path, mybookshelf2_url: str, mybookshelf2_dir: Path) -> dict[str, str]:
    """Everything configured, and in order."""
    return {
        "DAGSTER_HOME": str(tmp_path / "home"),
        "BOOKPIPE_CALIBRE_LIBRARY": str(library),
        "BOOKPIPE_MYBOOKSHELF2_URL": mybookshelf2_url,
        "BOOKPIPE_MYBOOKSHELF2_DATA_DIR": str(mybookshelf2_dir),
    }


def _findings(environment: Mapping[str, str]) -> dict[str, Finding]:
    found = diagnose(Settings.load(environment))
    assert len({f.subject for f in found}) == len(found)
    return {f.subject: f for f in found}


def _shown(findings: dict[str, Finding], width: int = 200) -> str:
    text = io.StringIO()
    print_findings(findings.values(), Console(file=text, width=width))
    return text.getvalue()


def test_a_configured_and_healthy_installation_has_nothing_wrong(environment: dict[str, str]) -> None:
    found = _findings(environment)
    others = {"Shards", "Scrobbles", "Koito", "Music", "Music archive"}
    assert {subject for subject, f in found.items() if f.ok is not True} == others
    assert {subject.partition(":")[0] for subject in found} == {"bookpipe", "Calibre", "MyBookshelf2", *others}
    assert "for 1 books" in found["MyBookshelf2: free space"].detail
    assert "Nothing is wrong." in _shown(found)
    assert not Path(environment["DAGSTER_HOME"]).exists()


def test_nothing_configured_is_nothing_wrong_and_names_the_settings(tmp_path: Path) -> None:
    found = _findings({"DAGSTER_HOME": str(tmp_path)})
    assert {subject: f.ok for subject, f in found.items()} == {
        "bookpipe: state": True,
        "Calibre": None,
        "Shards": None,
        "MyBookshelf2": None,
        "Scrobbles": None,
        "Koito": None,
        "Music": None,
        "Music archive": None,
    }
    for subject, name in (
        ("Shards", "BOOKPIPE_TAR_DIR"),
        ("Scrobbles", "BOOKPIPE_SCROBBLE_DIR"),
        ("Koito", "BOOKPIPE_KOITO_URL"),
        ("Music", "BOOKPIPE_MUSIC_DIR"),
        ("Music archive", "BOOKPIPE_ARCHIVE_PASSWORD"),
    ):
        assert f"set {name}" in found[subject].remedy
    assert "set BOOKPIPE_CALIBRE_LIBRARY" in found["Calibre"].remedy
    for name in ("BOOKPIPE_MYBOOKSHELF2_URL", "BOOKPIPE_MYBOOKSHELF2_DATA_DIR"):
        assert f"set {name}" in found["MyBookshelf2"].remedy


@pytest.mark.parametrize("name", ["BOOKPIPE_MYBOOKSHELF2_URL", "BOOKPIPE_MYBOOKSHELF2_DATA_DIR"])
def test_half_a_target_is_a_failure(environment: dict[str, str], name: str) -> None:
    del environment[name]
    found = _findings(environment)
    assert found["MyBookshelf2"].ok is False
    assert name in found["MyBookshelf2"].detail
    assert f"set {name}" in found["MyBookshelf2"].remedy


def test_a_link_prefix_that_does_not_parse_is_a_failure(environment: dict[str, str]) -> None:
    found = _findings(environment | {"BOOKPIPE_LINK_PREFIX": "calibre:/calibre"})
    assert [s for s, f in found.items() if f.ok is False] == ["MyBookshelf2: settings"]
    assert "BOOKPIPE_LINK_PREFIX" in found["MyBookshelf2: settings"].detail


def test_a_source_that_fails_does_not_hide_the_target(environment: dict[str, str], library: Path) -> None:
    (library / "metadata.db").unlink()
    found = _findings(environment)
    assert [s for s, f in found.items() if f.ok is False] == ["Calibre: metadata.db"]
    assert found["MyBookshelf2: symlink works"].ok is True
    assert "is not known" in found["MyBookshelf2: free space"].detail


def test_a_place_for_the_state_that_is_a_file_is_a_failure(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    found = _findings(environment | {"DAGSTER_HOME": str(tmp_path / "taken")})
    assert found["bookpipe: state"].ok is False
    assert "DAGSTER_HOME" in found["bookpipe: state"].remedy
    found = _findings(environment | {"BOOKPIPE_STATE_URL": f"sqlite:///{tmp_path}/taken/state.sqlite"})
    assert found["bookpipe: state"].ok is False
    assert "BOOKPIPE_STATE_URL" in found["bookpipe: state"].remedy


def test_the_table_shows_every_word_and_counts_what_failed() -> None:
    findings = {
        "a": Finding("Calibre: folder", True, "/srv/calibre"),
        "b": Finding("MyBookshelf2: login", False, "[bold]refused[/bold]", "Check the password."),
        "c": Finding("MyBookshelf2: user", None, "not looked at"),
    }
    lines = _shown(findings).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["OK", "FAIL", "-"]
    assert "[bold]refused[/bold]" in lines[2]  # text is not markup
    assert "Check the password." in lines[2]
    assert lines[4] == "1 of 3 failed."


def test_long_texts_are_folded_and_not_cut() -> None:
    remedy = " ".join(f"GRANT{n}" for n in range(60))
    shown = _shown({"a": Finding("subject", False, "/very" * 40, remedy)}, width=60)
    assert all(word in shown.split() for word in remedy.split())
    assert "…" not in shown


def test_paths_that_are_not_utf8_can_be_shown() -> None:
    name = os.fsdecode(b"/srv/\xff")
    shown = _shown({"a": Finding("subject", True, name)})
    shown.encode("utf-8")
    assert "/srv/\N{REPLACEMENT CHARACTER}" in shown


def test_a_password_is_shown_nowhere(environment: dict[str, str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        for url in (f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/x", f"postgresql://me:a%{PASSWORD}@127.0.0.1/x"):
            found = _findings(environment | {"BOOKPIPE_MYBOOKSHELF2_URL": url})
            assert any(f.ok is False for f in found.values())
            assert PASSWORD not in _shown(found)
    assert PASSWORD not in _shown({"a": Finding("s", False, f"cannot read postgresql://me:{PASSWORD}@host/x")})


def test_doctor_does_not_import_dagster() -> None:
    """Dagster takes seconds to import, and doctor shall answer at once."""
    code = "import sys, bookpipe.cli.doctor; sys.exit('dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
