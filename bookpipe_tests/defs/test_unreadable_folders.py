"""Folders of music that cannot be listed are told, wherever files are looked for."""

import logging
from pathlib import Path

import dagster as dg
import pytest

from bookpipe.definitions import defs
from bookpipe.defs.pipelines import PIPELINES
from bookpipe.defs.sensors import discover_partitions
from bookpipe.settings import Settings
from bookpipe_tests.defs.test_sensors import keys_of, tick
from bookpipe_tests.unprivileged import make_folder_too_deep

TOLD = "cannot be read, and whose files are not uploaded: 1: d"


@pytest.fixture
def music(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A song, and a folder that cannot be listed."""
    root = tmp_path / "music"
    root.mkdir()
    (root / "z.mp3").write_bytes(b"a song")
    make_folder_too_deep(root)
    monkeypatch.setenv("BOOKPIPE_MUSIC_DIR", str(root))
    return root


def test_what_is_found_comes_with_a_warning(music: Path, instance: dg.DagsterInstance) -> None:
    told: list[str] = []
    assert list(PIPELINES["audio"].find(Settings.load(), instance, told.append)) == ["songs-0000001-0000001"]
    (text,) = told
    assert TOLD in text
    assert str(music) in text
    assert "(File name too long)" in text


def test_the_discover_job_says_it(music: Path, instance: dg.DagsterInstance) -> None:
    result = defs.resolve_job_def("discover").execute_in_process(instance=instance)
    warnings = [e.user_message for e in instance.all_logs(result.run_id) if e.level == logging.WARNING]
    assert [text for text in warnings if TOLD in text] == warnings != []


def test_the_sensor_says_it(music: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]) -> None:
    assert keys_of(tick(discover_partitions, instance)) == ["songs-0000001-0000001"]
    assert TOLD in capfd.readouterr().err
