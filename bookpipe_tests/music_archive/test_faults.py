"""Each fault does what it says, and leaves behind what it says."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from bookpipe.demo.music_archive import Action, Fault
from bookpipe_tests.music_archive.archive_client import API, checksum
from bookpipe_tests.music_archive.audio_bytes import mp3
from bookpipe_tests.music_archive.conftest import Served

CONTENT = mp3("the content") + bytes(300_000)


def upload(served: Served, title: str = "a song") -> httpx.Response:
    return served.client.bulk_upload(CONTENT, title=title, artist_name="Somebody")


@pytest.mark.parametrize(
    ("fault", "songs"),
    [
        (Fault("bulk_upload", Action.CUT_BEFORE), 0),
        (Fault("bulk_upload", Action.CUT_BODY), 0),
        (Fault("bulk_upload", Action.CUT_BODY, size=100_000), 0),
        (Fault("bulk_upload", Action.CUT_AFTER), 1),
        (Fault("bulk_upload", Action.RESTART), 0),
    ],
    ids=lambda value: value.action.value if isinstance(value, Fault) else str(value),
)
def test_a_cut_connection_has_no_answer(served: Served, fault: Fault, songs: int) -> None:
    served.archive.faults.add(fault)
    with pytest.raises(httpx.TransportError):
        upload(served)
    assert len(served.archive.songs()) == songs
    assert served.receiving() == 0
    assert upload(served, "another").status_code == 201


@pytest.mark.parametrize("status", [302, 401, 403, 404, 406, 422, 500, 502, 503])
@pytest.mark.parametrize(("action", "songs"), [(Action.ANSWER, 0), (Action.ANSWER_AFTER, 1)])
def test_an_answer_may_be_any_with_or_without_the_work(served: Served, status: int, action: Action, songs: int) -> None:
    served.archive.faults.add(Fault("bulk_upload", action, status=status, retry_after=7))
    answer = upload(served)
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    assert len(served.archive.songs()) == songs
    if status in (401, 403, 422):
        assert answer.json()["success"] is False
    assert upload(served).status_code == 201


def test_an_answer_may_have_a_message(served: Served) -> None:
    served.archive.faults.add(Fault("bulk_upload", Action.ANSWER, message="Upload failed: the database is away"))
    assert upload(served).json() == {"success": False, "message": "Upload failed: the database is away"}


def test_answers_to_puts_are_empty(served: Served) -> None:
    served.archive.faults.add(Fault("put", Action.ANSWER, status=404))
    reservation = served.client.reserved(CONTENT)
    late = served.client.put(reservation, CONTENT)
    assert (late.status_code, late.content) == (404, b"")
    assert served.client.put(reservation, CONTENT).status_code == 204


@pytest.mark.parametrize("action", [Action.DELAY, Action.DELAY_AFTER])
def test_a_delayed_answer_comes(served: Served, action: Action) -> None:
    served.archive.faults.add(Fault("bulk_upload", action, seconds=0.001))
    assert upload(served).status_code == 201


def test_a_client_that_does_not_wait_cannot_know(served: Served) -> None:
    served.archive.faults.add(Fault("bulk_upload", Action.HOLD_AFTER))
    served.client.http.timeout = httpx.Timeout(0.5)
    with pytest.raises(httpx.ReadTimeout):
        upload(served)
    assert served.titles() == ["a song"]


def test_a_held_request_waits_to_be_released(served: Served) -> None:
    served.archive.faults.add(Fault("bulk_upload", Action.HOLD, times=3))
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(upload, served, f"song {number}") for number in range(3)]
        while served.archive.counters.snapshot()["requests"].get("bulk_upload", 0) < 3:
            pass
        assert served.titles() == []
        served.archive.faults.release()
        assert [answer.result().status_code for answer in answers] == [201, 201, 201]
    assert len(served.titles()) == 3
    assert served.archive.counters.snapshot()["most_at_once_per_endpoint"]["bulk_upload"] == 3


def test_a_slowly_read_body_arrives_whole(served: Served) -> None:
    served.archive.faults.add(Fault("put", Action.SLOW_BODY, size=50_000_000))
    reservation = served.client.reserved(CONTENT)
    assert served.client.put(reservation, CONTENT).status_code == 204


def test_processing_may_fail_and_the_song_is_there(served: Served) -> None:
    served.archive.faults.add(Fault("bulk_upload", Action.PROCESSING_FAILS))
    answer = upload(served)
    assert (answer.status_code, answer.json()["song"]["processing_status"]) == (201, "failed")


def test_a_full_disk_leaves_a_song_with_half_its_bytes(served: Served) -> None:
    served.archive.faults.add(Fault("bulk_upload", Action.DISK_FULL))
    answer = upload(served)
    assert (answer.status_code, answer.json()["message"]) == (500, "Upload failed: No space left on device")
    (song,) = served.archive.songs()
    assert 0 < served.archive.bytes_path(song).stat().st_size < len(CONTENT)
    assert served.client.audio_file(song["id"])["checksum"] == checksum(CONTENT)


def test_a_full_disk_leaves_half_of_a_direct_upload_until_it_comes_again(served: Served) -> None:
    served.archive.faults.add(Fault("put", Action.DISK_FULL))
    reservation = served.client.reserved(CONTENT)
    assert served.client.put(reservation, CONTENT).status_code == 500
    made = served.client.create(reservation.signed_id, title="half a song")
    assert made.status_code == 201
    (song,) = served.archive.songs()
    assert 0 < served.archive.bytes_path(song).stat().st_size < len(CONTENT)
    assert served.client.put(reservation, CONTENT).status_code == 204
    assert served.archive.bytes_path(song).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("options", "met"),
    [
        ({}, {1}),
        ({"nth": 3}, {3}),
        ({"nth": 2, "times": 3}, {2, 3, 4}),
        ({"nth": 4, "times": None}, {4, 5, 6, 7, 8, 9}),
        ({"nth": 2, "times": 2, "every": 3}, {2, 5}),
        ({"every": 2, "times": None}, {1, 3, 5, 7, 9}),
    ],
    ids=str,
)
def test_a_fault_meets_the_requests_it_names(options: dict[str, Any], met: set[int]) -> None:
    fault = Fault("songs", Action.ANSWER, **options)
    assert {number for number in range(1, 10) if fault.meets(number)} == met


def test_a_fault_counts_the_requests_to_its_own_endpoint(served: Served) -> None:
    served.archive.faults.add(Fault("songs", Action.ANSWER, nth=2), Fault("*", Action.ANSWER, nth=4, status=503))
    paths = ["up", "api/v1/songs", "api/v1/songs", "up", "up"]
    found = [served.client.http.get(f"/{path}").status_code for path in paths]
    assert found == [200, 200, 500, 503, 200]


def test_faults_are_set_over_http_as_well(served: Served) -> None:
    http = served.client.anonymous
    wanted = [{"endpoint": "up", "action": "answer", "status": 503}, {"endpoint": "songs", "action": "cut_after"}]
    assert http.post("/__faults__", json=wanted).status_code == 200
    assert [http.get("/up").status_code for _ in range(2)] == [503, 200]
    told = http.get("/__faults__").json()["faults"]
    assert [(fault["endpoint"], fault["action"], fault["seen"]) for fault in told] == [
        ("up", "answer", 2),
        ("songs", "cut_after", 0),
    ]
    assert http.delete("/__faults__").json() == {"faults": []}
    assert served.client.http.get(f"{API}/songs").status_code == 200


@pytest.mark.parametrize("content", [{}, {"endpoint": "up"}, {"endpoint": "up", "action": "burn"}, {"action": "delay"}])
def test_what_is_no_fault_is_refused(served: Served, content: dict[str, str]) -> None:
    assert served.client.anonymous.post("/__faults__", json=content).status_code == 400


def test_a_restart_keeps_tokens_and_songs(served: Served) -> None:
    upload(served)
    served.archive.restart()
    token = {"Authorization": served.client.http.headers["Authorization"]}
    found = httpx.get(f"{served.client.url}{API}/songs", headers=token, trust_env=False).json()
    assert [song["title"] for song in found["songs"]] == ["a song"]


def test_a_restart_cuts_what_is_under_way(served: Served) -> None:
    served.archive.faults.add(Fault("bulk_upload", Action.HOLD))
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(upload, served)
        while not served.archive.faults.to_json()[0]["seen"]:
            pass
        served.archive.restart()
        with pytest.raises(httpx.TransportError):
            answer.result()


def test_expired_tokens_are_refused_until_the_next_login(served: Served) -> None:
    served.client.switch(expire_tokens=True)
    refused = served.client.http.get(f"{API}/songs")
    assert (refused.status_code, refused.json()["message"]) == (401, "Invalid API token")
    token = served.client.login().json()["api_token"]
    answer = served.client.anonymous.get(f"{API}/songs", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200


def test_a_token_ends_by_the_servers_clock(served: Served) -> None:
    served.client.switch(clock_offset=3 * 24 * 3600)
    refused = served.client.http.get(f"{API}/songs")
    assert (refused.status_code, refused.json()["message"]) == (401, "API token expired")


def test_a_server_may_have_another_time_than_we(served: Served) -> None:
    ours = served.client.login().json()["expires_at"]
    served.client.switch(clock_offset=-50_000)
    answer = served.client.login().json()
    assert abs(answer["expires_at"] - ours + 50_000) < 600
    headers = {"Authorization": f"Bearer {answer['api_token']}"}
    assert served.client.anonymous.get(f"{API}/songs", headers=headers).status_code == 200


def test_a_url_is_tested_when_the_body_is_there(served: Served) -> None:
    reservation = served.client.reserved(CONTENT)

    def body() -> Any:
        yield CONTENT[:1000]
        while not served.receiving():
            pass
        served.archive.state.clock_offset = 400
        yield CONTENT[1000:]

    late = served.client.put(reservation, body(), Content_Length=str(len(CONTENT)))
    assert late.status_code == 404


def test_two_puts_at_once_to_one_url_are_told(served: Served) -> None:
    reservation = served.client.reserved(CONTENT)

    def body() -> Any:
        yield CONTENT[:1000]
        while not served.receiving():
            pass
        assert served.client.put(reservation, CONTENT).status_code == 204
        yield CONTENT[1000:]

    with httpx.Client(trust_env=False) as other:
        headers = {**reservation.headers, "Content-Length": str(len(CONTENT))}
        assert other.put(reservation.url, content=body(), headers=headers).status_code == 204
    told = served.archive.counters.snapshot()
    assert len(told["violations"]) == 1
    assert list(told["puts_per_url"].values()) == [2]


def test_requests_bytes_and_answers_are_counted(served: Served) -> None:
    upload(served)
    reservation = served.client.reserved(CONTENT)
    for content in (CONTENT, CONTENT[:-1]):
        served.client.put(reservation, content)
    told = served.client.anonymous.get("/__state__").json()["counters"]
    assert told["requests"] == {"login": 1, "bulk_upload": 1, "direct_upload": 1, "put": 2}
    assert told["received_bytes"] == {"bulk_upload": len(CONTENT), "put": 2 * len(CONTENT) - 1}
    assert {name: told["statuses"][name] for name in ("put 204", "put 422")} == {"put 204": 1, "put 422": 1}
    assert told["violations"] == []
    served.client.switch(reset_counters=True)
    assert served.archive.counters.snapshot()["requests"] == {}


def test_blobs_without_a_song_are_told(served: Served) -> None:
    reservation = served.client.reserved(CONTENT)
    assert served.archive.state.catalogue.unattached_blobs() == [reservation.json["key"]]
    served.client.put(reservation, CONTENT)
    served.client.create(reservation.signed_id, title="a song")
    assert served.archive.state.catalogue.unattached_blobs() == []
