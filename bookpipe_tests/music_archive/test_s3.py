"""The storage behind the archive may be something like S3."""

import hashlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from bookpipe.demo.music_archive import Action, Fault
from bookpipe.demo.music_archive.s3 import presign
from bookpipe_tests.music_archive.archive_client import checksum
from bookpipe_tests.music_archive.audio_bytes import mp3
from bookpipe_tests.music_archive.conftest import Served

CONTENT = mp3("the content") + bytes(200_000)
OTHER_BYTES = CONTENT[:-1] + b"!"


def test_a_query_is_signed_as_in_amazons_own_example() -> None:
    query = presign(
        "GET",
        "/test.txt",
        {"host": "examplebucket.s3.amazonaws.com"},
        access_key="AKIAIOSFODNN7EXAMPLE",
        secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        region="us-east-1",
        now=1369353600,  # 2013-05-24
        seconds=86400,
    )
    assert query.endswith("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


def test_a_reservation_has_the_headers_to_send(served_s3: Served) -> None:
    reservation = served_s3.client.reserved(CONTENT, filename='a "ü".mp3')
    assert reservation.headers == {
        "Content-Type": "audio/mpeg",
        "Content-MD5": checksum(CONTENT),
        "Content-Disposition": "inline; filename=\"a %22?%22.mp3\"; filename*=UTF-8''a%20%22%C3%BC%22.mp3",
    }
    assert "X-Amz-SignedHeaders=content-length%3Bcontent-md5%3Bcontent-type%3Bhost" in reservation.url


def test_three_steps_make_a_song(served_s3: Served) -> None:
    client = served_s3.client
    reservation = client.reserved(CONTENT)
    stored = client.put(reservation, CONTENT)
    assert (stored.status_code, stored.headers["etag"]) == (200, f'"{hashlib.md5(CONTENT).hexdigest()}"')
    assert client.create(reservation.signed_id, title="a song").status_code == 201
    (song,) = served_s3.archive.songs()
    assert served_s3.archive.bytes_path(song).read_bytes() == CONTENT
    assert client.audio_file(song["id"])["checksum"] == checksum(CONTENT)


def test_a_second_put_replaces_the_first(served_s3: Served) -> None:
    reservation = served_s3.client.reserved(CONTENT)
    assert [served_s3.client.put(reservation, CONTENT).status_code for _ in range(2)] == [200, 200]


@pytest.mark.parametrize(
    "changed",
    [
        {"Content_Type": "audio/flac"},
        {"Content_Type": "audio/mpeg; charset=utf-8"},
        {"Content_MD5": checksum(OTHER_BYTES)},
        {"Host": "elsewhere.test"},
    ],
    ids=str,
)
def test_a_changed_signed_header_is_403(served_s3: Served, changed: dict[str, Any]) -> None:
    answer = served_s3.client.put(served_s3.client.reserved(CONTENT), CONTENT, **changed)
    assert (answer.status_code, "SignatureDoesNotMatch" in answer.text) == (403, True)


@pytest.mark.parametrize("left_out", ["Content-Type", "Content-MD5"])
def test_a_missing_signed_header_is_403(served_s3: Served, left_out: str) -> None:
    reservation = served_s3.client.reserved(CONTENT)
    headers = {name: value for name, value in reservation.headers.items() if name != left_out}
    answer = served_s3.client.anonymous.put(reservation.url, content=CONTENT, headers=headers)
    assert (answer.status_code, "SignatureDoesNotMatch" in answer.text) == (403, True)


def test_another_length_is_403(served_s3: Served) -> None:
    reservation = served_s3.client.reserved(CONTENT)
    assert served_s3.client.put(reservation, CONTENT + b"!").status_code == 403


def test_the_disposition_is_not_signed(served_s3: Served) -> None:
    reservation = served_s3.client.reserved(CONTENT)
    assert served_s3.client.put(reservation, CONTENT, Content_Disposition="attachment").status_code == 200


def test_other_bytes_are_400_and_leave_what_is_there(served_s3: Served) -> None:
    reservation = served_s3.client.reserved(CONTENT)
    assert served_s3.client.put(reservation, CONTENT).status_code == 200
    answer = served_s3.client.put(reservation, OTHER_BYTES)
    assert (answer.status_code, "BadDigest" in answer.text) == (400, True)
    assert served_s3.client.create(reservation.signed_id, title="a song").status_code == 201
    assert served_s3.archive.bytes_path(served_s3.archive.songs()[0]).read_bytes() == CONTENT


def test_a_hex_digest_is_no_digest(served_s3: Served) -> None:
    reservation = served_s3.client.reserved(CONTENT, checksum=hashlib.md5(CONTENT).hexdigest())
    answer = served_s3.client.put(reservation, CONTENT)
    assert (answer.status_code, "InvalidDigest" in answer.text) == (400, True)


def test_a_body_in_chunks_has_no_length_and_is_411(served_s3: Served) -> None:
    answer = served_s3.client.put(served_s3.client.reserved(CONTENT), iter([CONTENT]))
    assert (answer.status_code, "MissingContentLength" in answer.text) == (411, True)


def test_a_bearer_token_is_a_second_way_to_authenticate(served_s3: Served) -> None:
    reservation = served_s3.client.reserved(CONTENT)
    answer = served_s3.client.http.put(reservation.url, content=CONTENT, headers=reservation.headers)
    assert (answer.status_code, "InvalidArgument" in answer.text) == (400, True)


def test_a_url_past_its_end_is_403(served_s3: Served) -> None:
    reservation = served_s3.client.reserved(CONTENT)
    served_s3.client.switch(clock_offset=301)
    answer = served_s3.client.put(reservation, CONTENT)
    assert (answer.status_code, "Request has expired" in answer.text) == (403, True)


def test_a_url_is_tested_before_the_body(served_s3: Served) -> None:
    reservation = served_s3.client.reserved(CONTENT)

    def body() -> Any:
        yield CONTENT[:1000]
        while not served_s3.receiving():
            pass
        served_s3.archive.state.clock_offset = 400
        yield CONTENT[1000:]

    assert served_s3.client.put(reservation, body(), Content_Length=str(len(CONTENT))).status_code == 200


def _put_with_query(served: Served, change: Callable[[list[str]], list[str]]) -> int:
    reservation = served.client.reserved(CONTENT)
    url = urlsplit(reservation.url)
    changed = url._replace(query="&".join(change(url.query.split("&")))).geturl()
    return served.client.anonymous.put(changed, content=CONTENT, headers=reservation.headers).status_code


@pytest.mark.parametrize("lost", ["Signature", "Algorithm", "Expires", "Date", "Credential", "SignedHeaders"])
def test_a_query_without_a_part_of_the_signature_is_400(served_s3: Served, lost: str) -> None:
    assert _put_with_query(served_s3, lambda parts: [part for part in parts if f"X-Amz-{lost}=" not in part]) == 400


def test_a_query_without_a_signature_is_403(served_s3: Served) -> None:
    assert _put_with_query(served_s3, lambda _: []) == 403


@pytest.mark.parametrize("changed", ["Expires", "SignedHeaders", "Signature"])
def test_a_query_with_a_changed_part_is_403(served_s3: Served, changed: str) -> None:
    added = {"Expires": "0", "SignedHeaders": "%3Bx-more", "Signature": "0"}[changed]
    status = _put_with_query(
        served_s3, lambda parts: [part + added if f"X-Amz-{changed}=" in part else part for part in parts]
    )
    assert status == 403


def test_another_key_is_403(served_s3: Served) -> None:
    first, second = (served_s3.client.reserved(CONTENT) for _ in range(2))
    url = first.url.replace(first.json["key"], second.json["key"])
    assert served_s3.client.anonymous.put(url, content=CONTENT, headers=first.headers).status_code == 403


def test_a_cut_connection_stores_nothing(served_s3: Served) -> None:
    served_s3.archive.faults.add(Fault("put", Action.CUT_BODY, size=50_000))
    reservation = served_s3.client.reserved(CONTENT)
    with pytest.raises(httpx.TransportError):
        served_s3.client.put(reservation, CONTENT)
    assert served_s3.client.create(reservation.signed_id, title="x").status_code == 500
    assert served_s3.client.put(reservation, CONTENT).status_code == 200


def test_a_signed_id_leads_to_the_bytes_once_they_are_there(served_s3: Served) -> None:
    client = served_s3.client
    reservation = client.reserved(CONTENT)
    led = client.anonymous.get(f"/rails/active_storage/blobs/redirect/{reservation.signed_id}/a.mp3")
    assert led.status_code == 302
    assert client.anonymous.get(led.headers["location"]).status_code == 404
    client.put(reservation, CONTENT)
    part = client.anonymous.get(led.headers["location"], headers={"Range": "bytes=0-2"})
    assert (part.status_code, part.content) == (206, b"ID3")
    assert client.anonymous.get(led.headers["location"].partition("?")[0]).status_code == 403
