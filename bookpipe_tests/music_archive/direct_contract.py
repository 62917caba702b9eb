"""Direct uploads: reserving, sending the bytes, making the song; and the door that Rails itself leaves open.

The archive's real code lacks the first and the last step; they are switched on here, over the real Active Storage.
"""

import hashlib
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from bookpipe.demo.music_archive import LISTENER
from bookpipe_tests.music_archive.archive_client import (
    API,
    MP3,
    ArchiveClient,
    Reservation,
    checksum,
    client_of,
    unique_word,
)
from bookpipe_tests.music_archive.audio_bytes import SAMPLES, Sample, mp3
from bookpipe_tests.music_archive.contract import ServerContract

CONTENT = mp3("the content") + bytes(range(256)) * 1000
OTHER_BYTES = CONTENT[:-1] + b"!"
NO_BYTES = "Upload failed: ActiveStorage::FileNotFoundError"
BAD_SIGNATURE = "Upload failed: ActiveSupport::MessageVerifier::InvalidSignature"
DOOR = "/rails/active_storage/direct_uploads"


class DirectUploadContract(ServerContract):
    """The three steps over the Disk service."""

    @pytest.fixture
    def direct(self, archive: ArchiveClient) -> ArchiveClient:
        archive.switch(direct_upload=True)
        return archive

    def test_the_actions_ask_for_a_token_and_a_role(self, direct: ArchiveClient) -> None:
        for action in ("direct_upload", "create_from_blob"):
            assert direct.anonymous.post(f"{API}/songs/{action}", json={}).status_code == 401
            with client_of(direct.url, LISTENER) as listener:
                assert listener.http.post(f"{API}/songs/{action}", json={}).status_code == 403

    def test_a_reservation_tells_where_and_with_what_headers(self, direct: ArchiveClient) -> None:
        found = direct.reserved(CONTENT).json
        blob = {"filename": "a.mp3", "content_type": MP3, "byte_size": len(CONTENT), "checksum": checksum(CONTENT)}
        assert {name: found[name] for name in blob} == blob
        assert {"id", "key", "signed_id", "metadata"} <= set(found)
        assert found["direct_upload"]["headers"] == {"Content-Type": MP3}
        assert found["direct_upload"]["url"].startswith(f"{direct.url}/rails/active_storage/disk/")

    def test_the_url_leads_to_the_host_that_was_asked(self, direct: ArchiveClient) -> None:
        asked = {"filename": "a.mp3", "byte_size": 1, "checksum": checksum(b"x"), "content_type": MP3}
        answer = direct.http.post(f"{API}/songs/direct_upload", json=asked, headers={"Host": "music.test:81"})
        assert answer.json()["direct_upload"]["url"].startswith("http://music.test:81/")

    @pytest.mark.parametrize("missing", ["checksum", "byte_size", "filename"])
    def test_a_reservation_without_what_it_is_for_is_422(self, direct: ArchiveClient, missing: str) -> None:
        assert direct.reserve(CONTENT, **{missing: None}).status_code == 422

    def test_a_reservation_without_a_type_has_a_null_header(self, direct: ArchiveClient) -> None:
        assert direct.reserved(CONTENT, content_type=None).headers == {"Content-Type": None}

    def test_three_steps_make_a_song(self, direct: ArchiveClient) -> None:
        title = unique_word()
        reservation = direct.reserved(CONTENT)
        stored = direct.put(reservation, CONTENT)
        assert (stored.status_code, stored.content) == (204, b"")
        answer = direct.create(reservation.signed_id, title=title, artist_name="Somebody")
        assert answer.status_code == 201
        assert answer.json()["song"]["processing_status"] == "completed"
        file = direct.audio_file(answer.json()["song"]["id"])
        assert (file["checksum"], file["file_size"]) == (checksum(CONTENT), len(CONTENT))
        assert direct.http.get(file["stream_url"]).content == CONTENT

    def test_the_same_put_again_is_204(self, direct: ArchiveClient) -> None:
        reservation = direct.reserved(CONTENT)
        assert [direct.put(reservation, CONTENT).status_code for _ in range(2)] == [204, 204]

    @pytest.mark.parametrize("content", [OTHER_BYTES, CONTENT + b"!", CONTENT[:-1], b""], ids=len)
    def test_other_bytes_are_422_and_can_be_put_right(self, direct: ArchiveClient, content: bytes) -> None:
        reservation = direct.reserved(CONTENT)
        refused = direct.put(reservation, content)
        assert (refused.status_code, refused.content) == (422, b"")
        assert direct.create(reservation.signed_id, title="x").json()["message"] == NO_BYTES
        assert direct.put(reservation, CONTENT).status_code == 204

    @pytest.mark.parametrize("content_type", ["audio/flac", "text/plain", "application/octet-stream"])
    def test_another_type_is_422(self, direct: ArchiveClient, content_type: str) -> None:
        assert direct.put(direct.reserved(CONTENT), CONTENT, Content_Type=content_type).status_code == 422

    def test_parameters_of_the_type_do_not_count(self, direct: ArchiveClient) -> None:
        answer = direct.put(direct.reserved(CONTENT), CONTENT, Content_Type=f"{MP3}; charset=utf-8")
        assert answer.status_code == 204

    def test_no_type_is_422(self, direct: ArchiveClient) -> None:
        assert direct.anonymous.put(direct.reserved(CONTENT).url, content=CONTENT).status_code == 422

    def test_the_type_of_a_form_is_400(self, direct: ArchiveClient) -> None:
        form = "application/x-www-form-urlencoded"
        assert direct.put(direct.reserved(CONTENT), b"\xff%zz" + CONTENT, Content_Type=form).status_code == 400

    def test_a_hex_digest_is_accepted_and_fits_no_bytes(self, direct: ArchiveClient) -> None:
        reservation = direct.reserved(CONTENT, checksum=hashlib.md5(CONTENT).hexdigest())
        assert direct.put(reservation, CONTENT).status_code == 422

    def test_a_body_in_chunks_is_accepted(self, direct: ArchiveClient) -> None:
        chunks: Iterator[bytes] = iter([CONTENT[:1000], CONTENT[1000:]])
        assert direct.put(direct.reserved(CONTENT), chunks).status_code == 204

    def test_a_bearer_token_is_ignored(self, direct: ArchiveClient) -> None:
        reservation = direct.reserved(CONTENT)
        answer = direct.http.put(reservation.url, content=CONTENT, headers=reservation.headers)
        assert answer.status_code == 204

    def test_an_empty_file_needs_no_bytes(self, direct: ArchiveClient) -> None:
        reservation = direct.reserved(b"")
        assert direct.put(reservation, b"").status_code == 204
        assert direct.create(reservation.signed_id, title=unique_word()).status_code == 201

    def test_a_url_past_its_end_is_404(self, direct: ArchiveClient) -> None:
        direct.switch(url_seconds=-1)
        reservation = direct.reserved(CONTENT)
        answer = direct.put(reservation, CONTENT)
        assert (answer.status_code, answer.content) == (404, b"")

    def test_a_changed_url_is_404(self, direct: ArchiveClient) -> None:
        reservation = direct.reserved(CONTENT)
        changed = reservation.url[:-1] + ("0" if reservation.url[-1] != "0" else "1")
        answer = direct.anonymous.put(changed, content=CONTENT, headers=reservation.headers)
        assert answer.status_code == 404

    def test_a_signed_id_is_no_url_and_a_url_no_signed_id(self, direct: ArchiveClient) -> None:
        reservation = direct.reserved(CONTENT)
        folder, _, token = reservation.url.rpartition("/")
        answer = direct.anonymous.put(f"{folder}/{reservation.signed_id}", content=CONTENT, headers=reservation.headers)
        assert answer.status_code == 404
        assert direct.create(token, title="x").json()["message"] == BAD_SIGNATURE

    def test_a_cut_connection_stores_nothing_and_the_url_stays_good(self, direct: ArchiveClient) -> None:
        reservation = direct.reserved(CONTENT)
        _send_half(reservation)
        assert direct.create(reservation.signed_id, title="x").json()["message"] == NO_BYTES
        assert direct.put(reservation, CONTENT).status_code == 204

    def test_wrong_bytes_over_good_ones_delete_these(self, direct: ArchiveClient) -> None:
        reservation = direct.reserved(CONTENT)
        assert direct.put(reservation, CONTENT).status_code == 204
        assert direct.put(reservation, OTHER_BYTES).status_code == 422
        assert direct.create(reservation.signed_id, title="x").json()["message"] == NO_BYTES

    @pytest.mark.parametrize(("content", "content_type"), [(CONTENT[:-1], MP3), (CONTENT, "audio/flac")])
    def test_a_wrong_length_or_type_leaves_good_bytes_alone(
        self, direct: ArchiveClient, content: bytes, content_type: str
    ) -> None:
        reservation = direct.reserved(CONTENT)
        assert direct.put(reservation, CONTENT).status_code == 204
        assert direct.put(reservation, content, Content_Type=content_type).status_code == 422
        assert direct.create(reservation.signed_id, title=unique_word()).status_code == 201

    def test_a_song_before_its_bytes_is_500(self, direct: ArchiveClient) -> None:
        answer = direct.create(direct.reserved(CONTENT).signed_id, title="x")
        assert (answer.status_code, answer.json()["message"]) == (500, NO_BYTES)

    def test_a_bad_signed_id_is_500(self, direct: ArchiveClient) -> None:
        answer = direct.create("nonsense--0123", title="x")
        assert (answer.status_code, answer.json()["message"]) == (500, BAD_SIGNATURE)

    def test_a_song_without_a_title_is_500_and_can_be_made_after_all(self, direct: ArchiveClient) -> None:
        reservation = direct.reserved(CONTENT)
        direct.put(reservation, CONTENT)
        assert direct.create(reservation.signed_id).status_code == 500
        assert direct.create(reservation.signed_id, title=unique_word()).status_code == 201

    def test_two_songs_may_have_the_same_bytes(self, direct: ArchiveClient) -> None:
        title = unique_word()
        reservation = direct.reserved(CONTENT)
        direct.put(reservation, CONTENT)
        ids = {direct.create(reservation.signed_id, title=title).json()["song"]["id"] for _ in range(2)}
        assert len(ids) == len(direct.titles(title)) == 2

    @pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.label)
    def test_the_first_bytes_decide_here_as_well(self, direct: ArchiveClient, sample: Sample) -> None:
        reservation = direct.reserved(sample.content, filename=sample.filename, content_type=sample.declared_type)
        assert direct.put(reservation, sample.content).status_code == 204
        answer = direct.create(reservation.signed_id, title=unique_word())
        assert answer.status_code == (422 if sample.stored_as is None else 201), answer.text

    def test_a_signed_id_leads_to_the_bytes_once_they_are_there(self, direct: ArchiveClient) -> None:
        reservation = direct.reserved(CONTENT)
        way = f"/rails/active_storage/blobs/redirect/{reservation.signed_id}/a.mp3"
        led = direct.anonymous.get(way)
        assert led.status_code == 302
        assert direct.anonymous.get(led.headers["location"]).status_code == 404
        direct.put(reservation, CONTENT)
        found = direct.anonymous.get(led.headers["location"])
        assert (found.status_code, found.content) == (200, CONTENT)
        last = len(CONTENT) - 1
        part = direct.anonymous.get(led.headers["location"], headers={"Range": f"bytes={last}-{last}"})
        assert (part.status_code, part.content) == (206, CONTENT[-1:])
        assert part.headers["content-range"] == f"bytes {last}-{last}/{len(CONTENT)}"

    def test_a_bad_signed_id_leads_nowhere(self, direct: ArchiveClient) -> None:
        answer = direct.anonymous.get("/rails/active_storage/blobs/redirect/nonsense--0123/a.mp3")
        assert (answer.status_code, answer.content) == (404, b"")

    def test_metadata_may_be_in_a_part_of_its_own(self, direct: ArchiveClient) -> None:
        reservation = direct.reserved(CONTENT)
        direct.put(reservation, CONTENT)
        title = unique_word()
        asked = {"blob_signed_id": reservation.signed_id, "filename": "a.mp3", "metadata": {"title": title}}
        assert direct.http.post(f"{API}/songs/create_from_blob", json=asked).json()["song"]["title"] == title


class OpenDoorContract(ServerContract):
    """Rails' own direct uploads, and bulk_upload with a signed id in place of a file: works with the real code."""

    @pytest.fixture
    def browser(self, archive: ArchiveClient) -> Iterator[httpx.Client]:
        """A session with its form token."""
        with httpx.Client(base_url=archive.url, trust_env=False, headers={"Accept": "application/json"}) as http:
            page = http.get("/login").text
            found = re.search('name="csrf-token" content="([^"]+)"', page)
            assert found is not None
            http.headers["X-CSRF-Token"] = found[1]
            yield http

    def _reserve(self, http: httpx.Client) -> httpx.Response:
        blob = {
            "filename": "a.mp3",
            "byte_size": len(CONTENT),
            "checksum": checksum(CONTENT),
            "content_type": MP3,
        }
        return http.post(DOOR, json={"blob": blob})

    def test_without_a_session_it_is_422(self, archive: ArchiveClient) -> None:
        assert self._reserve(archive.http).status_code == 422

    def test_a_signed_id_in_place_of_the_file_makes_a_song(self, archive: ArchiveClient, browser: httpx.Client) -> None:
        answer = self._reserve(browser)
        assert answer.status_code == 200
        reservation = Reservation(answer.json())
        assert archive.put(reservation, CONTENT).status_code == 204
        title = unique_word()
        fields: dict[str, Any] = {"audio_file": reservation.signed_id, "title": title, "filename": "a.mp3"}
        made = archive.bulk_upload(None, **fields)
        assert made.status_code == 201
        assert archive.audio_file(made.json()["song"]["id"])["checksum"] == checksum(CONTENT)

    def test_a_signed_id_without_a_filename_is_500(self, archive: ArchiveClient, browser: httpx.Client) -> None:
        reservation = Reservation(self._reserve(browser).json())
        archive.put(reservation, CONTENT)
        answer = archive.bulk_upload(None, audio_file=reservation.signed_id, title="x")
        assert answer.status_code == 500
        assert answer.json()["message"].startswith("Upload failed: undefined method")

    def test_a_bad_signed_id_is_500(self, archive: ArchiveClient) -> None:
        answer = archive.bulk_upload(None, audio_file="nonsense--0123", title="x", filename="a.mp3")
        assert (answer.status_code, answer.json()["message"]) == (500, BAD_SIGNATURE)


def _send_half(reservation: Reservation) -> None:
    """Begin a PUT and hang up in the middle of its body."""
    url = urlsplit(reservation.url)
    assert url.port is not None
    with socket.create_connection((url.hostname, url.port)) as connection:
        lines = [f"PUT {url.path} HTTP/1.1", f"Host: {url.netloc}", f"Content-Length: {len(CONTENT)}"]
        lines += [f"{name}: {value}" for name, value in reservation.headers.items()]
        connection.sendall("\r\n".join((*lines, "", "")).encode() + CONTENT[: len(CONTENT) // 2])
