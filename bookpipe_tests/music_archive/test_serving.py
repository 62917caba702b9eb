"""The stand-in runs in a thread and as a process, and what it answered outlives it."""

import asyncio
import re
import socket
from pathlib import Path

import httpx
import pytest

from bookpipe.demo.music_archive import Action, Fault, MusicArchive, archive_process, serve, start_process
from bookpipe.model.errors import ConfigError
from bookpipe_tests.music_archive.archive_client import API, client_of
from bookpipe_tests.music_archive.audio_bytes import mp3


def test_a_killed_process_starts_again_with_songs_and_tokens(tmp_path: Path) -> None:
    content = mp3("a song")
    first = start_process(tmp_path, "--direct-upload")
    with client_of(first.url) as client:
        assert client.bulk_upload(content, title="a song").status_code == 201
        reservation = client.reserved(content)
        first.kill()
        with pytest.raises(httpx.TransportError):
            client.put(reservation, content)
        with archive_process(tmp_path, "--direct-upload", port=first.port):
            assert client.put(reservation, content).status_code == 204
            assert client.create(reservation.signed_id, title="another").status_code == 201
            assert sorted(client.titles("")) == ["a song", "another"]


def test_a_process_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with archive_process(tmp_path) as running:
        assert httpx.get(f"{running.url}/up", trust_env=False).status_code == 200
        held = {"endpoint": "songs", "action": "hold"}
        httpx.post(f"{running.url}/__faults__", json=held, trust_env=False).raise_for_status()
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{running.url}{API}/songs", trust_env=False, timeout=0.5)
    assert running.process.poll() is not None


def test_faults_reach_a_process(tmp_path: Path) -> None:
    with archive_process(tmp_path, "--song-ids", "integer") as running, client_of(running.url) as client:
        fault = {"endpoint": "bulk_upload", "action": "cut_after"}
        client.anonymous.post("/__faults__", json=fault).raise_for_status()
        with pytest.raises(httpx.TransportError):
            client.bulk_upload(mp3("x"), title="a song")
        (song,) = client.search("song")["songs"]
        assert song["id"] == 1


def test_song_ids_are_uuids_as_in_the_real_schema(tmp_path: Path) -> None:
    archive = MusicArchive(tmp_path)
    with serve(archive) as url, client_of(url) as client:
        assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", client.uploaded("a song")["id"])
    archive.close()


def test_numbers_may_be_ids_instead(tmp_path: Path) -> None:
    archive = MusicArchive(tmp_path, song_ids="integer")
    with serve(archive) as url, client_of(url) as client:
        song = client.uploaded("a song")
        assert song["id"] == client.audio_file(song["id"])["song_id"] == 1
        assert client.http.get(f"{API}/audio_files/2").status_code == 302
    archive.close()


def test_it_answers_inside_the_process_as_well(tmp_path: Path) -> None:
    archive = MusicArchive(tmp_path)

    async def ask() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(archive), base_url="http://archive.test") as http:
            status = (await http.get("/up")).status_code
            archive.faults.add(Fault("up", Action.CUT_AFTER))
            with pytest.raises(ConnectionError):
                await http.get("/up")
            return status

    assert asyncio.run(ask()) == 200
    archive.close()


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=str(port)), serve(MusicArchive(tmp_path), port=port):
            pass


def test_what_arrived_when_the_server_was_killed_is_removed(tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "incoming-left").write_bytes(b"half a song")
    MusicArchive(tmp_path).close()
    assert not list((tmp_path / "incoming").iterdir())
