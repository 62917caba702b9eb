"""The same uploads against a real Rails with Active Storage: bytes, addresses and crashes as Rails itself has them."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from bookpipe.demo.music_archive import MODERATOR, PASSWORD
from bookpipe.model.secrets import Secret
from bookpipe.runtime.state import State
from bookpipe.runtime.upload_ledger import Content, UploadLedger
from bookpipe.targets.music_archive import lookup, strategies
from bookpipe.targets.music_archive.answers import Answer
from bookpipe.targets.music_archive.audit import audit_songs
from bookpipe.targets.music_archive.client import ArchiveClient
from bookpipe.targets.music_archive.health import examine
from bookpipe.targets.music_archive.server import MusicArchive
from bookpipe.targets.music_archive.strategies import Song
from bookpipe.targets.music_archive.uploads import UploadResult, upload_batch
from bookpipe_tests.music_archive.rails_server import rails_server, why_unavailable
from bookpipe_tests.targets.archive_uploads import QUICK, audio_rows, outcomes, reasons, song_bytes

pytestmark = pytest.mark.rails

ROOT = Path(__file__).parents[2]
SIZE = 200_000


class Rails:
    """A real archive of a test's own, a music folder and a ledger."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder, self.root = url, folder, folder / "music"
        self.root.mkdir()
        self.server = MusicArchive(url, MODERATOR.email, Secret(PASSWORD), **QUICK)  # type: ignore[arg-type]

    def switch(self, **values: Any) -> None:
        httpx.patch(f"{self.url}/__state__", json=values, trust_env=False).raise_for_status()

    def many(self, count: int, size: int = SIZE) -> list[str]:
        names = [f"song {n:04d}.mp3" for n in range(count)]
        for name in names:
            (self.root / name).write_bytes(song_bytes(name, size))
        return names

    def upload(self, rows: pa.Table | list[str], **options: Any) -> UploadResult:
        table = rows if isinstance(rows, pa.Table) else audio_rows(self.root, rows)
        ledger = UploadLedger(State(self.folder / "state.sqlite"), self.server.url)
        return upload_batch(self.server, table, self.root, ledger, **options)

    def songs(self) -> list[dict[str, Any]]:
        with ArchiveClient(self.server) as client:
            return list(client.get("/songs", limit=100).data["songs"])

    def assert_holds(self, names: list[str]) -> None:
        songs = {song["title"]: song["id"] for song in self.songs()}
        assert len(self.songs()) == len(names)
        rows = audio_rows(self.root, names).select(["title", "md5", "size"]).to_pylist()
        assert audit_songs(self.server, [(songs[r["title"]], Content(r["md5"], r["size"])) for r in rows]).ok
        with ArchiveClient(self.server) as client:
            for row in rows:
                file = lookup.get_audio_file(client, songs[row["title"]])
                assert file is not None and lookup.has_whole_file(client, file, row["size"]) is not False

    def stored(self) -> list[int]:
        """The sizes of all files of the storage."""
        folder = self.folder / "rails" / "storage"
        return [path.stat().st_size for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(params=["direct", "multipart"])
def rails(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rails]:
    reason = why_unavailable()
    if reason is not None:
        pytest.skip(reason)
    with rails_server(tmp_path / "rails", direct_upload=request.param == "direct") as url:
        yield Rails(url, tmp_path)


@pytest.fixture
def direct(tmp_path: Path) -> Iterator[Rails]:
    reason = why_unavailable()
    if reason is not None:
        pytest.skip(reason)
    with rails_server(tmp_path / "rails", direct_upload=True) as url:
        yield Rails(url, tmp_path)


def test_every_file_becomes_one_song_and_a_second_run_sends_nothing(rails: Rails) -> None:
    names = rails.many(20)
    (rails.root / "refused.mp3").write_bytes(b"%PDF-1.7\n" + bytes(100))
    result = rails.upload([*names, "refused.mp3"])
    assert outcomes(result) == ["inserted"] * 20 + ["rejected"]
    assert reasons(result)[-1] == "refused"
    rails.assert_holds(names)
    again = rails.upload([*names, "refused.mp3"])
    assert outcomes(again) == ["existing"] * 20 + ["rejected"]
    assert (again.sent_bytes, again.strategy) == (0, "")


def test_the_doctor_finds_it_healthy(rails: Rails) -> None:
    assert [finding.ok for finding in examine(rails.server)] == [True] * 4
    assert rails.songs() == []


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_it_ends_with_one_song_per_content(rails: Rails, seed: int) -> None:
    names = rails.many(40)
    chance = random.Random(seed)
    command = [sys.executable, "-m", "bookpipe_tests.targets.upload_process", rails.url, str(rails.folder), "settle=5"]
    for _ in range(4):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "uploading\n"
            time.sleep(chance.uniform(0.05, 0.5))
            process.send_signal(signal.SIGKILL)
    result = rails.upload(names)
    assert result.counts.rejected == 0
    rails.assert_holds(names)
    assert rails.stored() == [SIZE] * 40


def test_an_address_that_expires_during_a_put_is_replaced(direct: Rails) -> None:
    names = direct.many(3)
    direct.switch(url_seconds=-1)
    result = direct.upload(names)
    assert reasons(result) == ["upload_failed"] * 3
    direct.switch(url_seconds=300)
    assert outcomes(direct.upload(names)) == ["inserted"] * 3
    direct.assert_holds(names)


def test_it_can_be_asked_whether_the_bytes_are_there(direct: Rails) -> None:
    [name] = direct.many(1)
    row = audio_rows(direct.root, [name]).to_pylist()[0]
    song = Song(Content(row["md5"], row["size"]), name, "audio/mpeg", "A")
    with ArchiveClient(direct.server) as client, (direct.root / name).open("rb") as file:
        place = strategies.reserve(client, song)
        assert not isinstance(place, Answer)
        there = [lookup.has_whole_blob(client, place.signed_id, name, SIZE)]
        assert strategies.put(client, place, file.fileno(), song.content).status == 204
        there.append(lookup.has_whole_blob(client, place.signed_id, name, SIZE))
        there.append(lookup.has_whole_blob(client, place.signed_id, name, SIZE + 1))
        [path] = [path for path in (direct.folder / "rails" / "storage").rglob("*") if path.is_file()]
        path.write_bytes(path.read_bytes()[:-1])
        there.append(lookup.has_whole_blob(client, place.signed_id, name, SIZE))
        there.append(lookup.has_whole_blob(client, "no-signed-id", name, SIZE))
    assert there == [False, True, False, False, None]


def test_an_album_is_made_once(rails: Rails) -> None:
    names = rails.many(12, 1_000)
    rows = audio_rows(rails.root, names, album=["An Album"] * 12, artist=[f"Artist {n % 3}" for n in range(12)])
    result = rails.upload(rows, waits_for=[-1] + [0] * 11)
    assert outcomes(result) == ["inserted"] * 12
    assert {song["album"] for song in rails.songs()} == {"An Album"}
    with closing(sqlite3.connect(rails.folder / "rails" / "archive.sqlite3")) as database:
        assert database.execute("SELECT title FROM albums").fetchall() == [("An Album",)]
