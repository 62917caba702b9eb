"""What the music archive answers: the same claims for the stand-in and for a real Rails with Active Storage.

A subclass gives the fixture `url`. Servers are shared by the tests of a module: songs are told apart by unique words.
"""

from typing import Any

import pytest

from bookpipe.demo.music_archive import ADMIN, LISTENER, MODERATOR, User
from bookpipe_tests.music_archive.archive_client import API, ArchiveClient, checksum, client_of, unique_word
from bookpipe_tests.music_archive.audio_bytes import SAMPLES, WAV, Sample, mp3

DAY = 24 * 3600
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
NEEDS_TOKEN = (
    *(("GET", "auth/verify"), ("POST", "auth/refresh"), ("POST", "auth/logout"), ("POST", "songs/bulk_upload")),
    *(("GET", "songs"), ("GET", f"audio_files/{UNKNOWN_ID}")),
)
NO_ACTION = (
    *(("POST", "songs/direct_upload"), ("POST", "songs/create_from_blob"), ("POST", "songs/bulk_create")),
    *(("PUT", "songs/bulk_update"), ("DELETE", "songs/bulk_destroy"), ("GET", "artists"), ("GET", "search")),
)


class ServerContract:
    """Fixtures of all contracts."""

    @pytest.fixture
    def archive(self, url: str) -> Any:
        """A moderator's client, with the switches as the real archive has them."""
        with client_of(url) as client:
            client.switch(direct_upload=False, url_seconds=300)
            yield client


class LoginContract(ServerContract):
    """auth/*, roles, and the answers that are no endpoint's own."""

    @pytest.mark.parametrize("user", [ADMIN, MODERATOR, LISTENER], ids=lambda user: user.role)
    def test_login_gives_a_token_its_end_and_the_user(self, archive: ArchiveClient, user: User) -> None:
        answer = archive.login(email=user.email)
        content = answer.json()
        assert answer.status_code == 200
        assert set(content) == {"success", "message", "api_token", "expires_at", "user"}
        assert content["user"] == {"id": user.id, "name": user.name, "email": user.email, "role": user.role}

    def test_login_takes_a_form_as_well(self, archive: ArchiveClient) -> None:
        form = {"email": MODERATOR.email, "password": "let me in"}
        assert archive.anonymous.post(f"{API}/auth/login", data=form).status_code == 200

    @pytest.mark.parametrize(
        "changed", [{"password": "wrong"}, {"email": "nobody@archive.test"}, {"email": MODERATOR.email.upper()}]
    )
    def test_a_wrong_name_or_password_is_401(self, archive: ArchiveClient, changed: dict[str, str]) -> None:
        answer = archive.login(**changed)
        assert (answer.status_code, answer.json()["success"]) == (401, False)
        assert answer.json()["message"]

    def test_a_token_lives_two_days_or_as_asked_up_to_thirty(self, archive: ArchiveClient) -> None:
        usual = archive.login().json()["expires_at"]
        for asked, life in ((600, 600), (10 * DAY, 10 * DAY), (90 * DAY, 30 * DAY)):
            difference = archive.login(expires_in=asked).json()["expires_at"] - usual
            assert abs(difference - (life - 2 * DAY)) < 600

    def test_refresh_answers_as_login_without_a_message(self, archive: ArchiveClient) -> None:
        content = archive.http.post(f"{API}/auth/refresh", json={"expires_in": 600}).json()
        assert set(content) == {"success", "api_token", "expires_at", "user"}
        token = {"Authorization": f"Bearer {content['api_token']}"}
        assert archive.anonymous.get(f"{API}/auth/verify", headers=token).status_code == 200

    def test_logout_revokes_nothing(self, archive: ArchiveClient) -> None:
        assert archive.http.post(f"{API}/auth/logout").status_code == 200
        assert archive.http.get(f"{API}/auth/verify").json()["user"]["email"] == MODERATOR.email

    @pytest.mark.parametrize(("method", "path"), NEEDS_TOKEN)
    @pytest.mark.parametrize("token", [None, "Bearer nonsense"])
    def test_without_a_good_token_it_is_401(
        self, archive: ArchiveClient, method: str, path: str, token: str | None
    ) -> None:
        headers = {} if token is None else {"Authorization": token}
        answer = archive.anonymous.request(method, f"{API}/{path}", headers=headers)
        assert (answer.status_code, answer.json()["success"]) == (401, False)

    def test_a_listener_may_read_and_not_upload(self, archive: ArchiveClient) -> None:
        with client_of(archive.url, LISTENER) as listener:
            assert listener.http.get(f"{API}/songs").status_code == 200
            answer = listener.bulk_upload(mp3("x"), title="x")
            assert (answer.status_code, answer.json()["success"]) == (403, False)

    @pytest.mark.parametrize("with_token", [False, True])
    @pytest.mark.parametrize(("method", "path"), NO_ACTION)
    def test_routes_without_an_action_are_404(
        self, archive: ArchiveClient, method: str, path: str, with_token: bool
    ) -> None:
        http = archive.http if with_token else archive.anonymous
        answer = http.request(method, f"{API}/{path}")
        assert (answer.status_code, answer.json()) == (404, {"status": 404, "error": "Not Found"})

    def test_who_does_not_ask_for_json_gets_a_page(self, archive: ArchiveClient) -> None:
        answer = archive.anonymous.post(f"{API}/songs/direct_upload", headers={"Accept": "*/*"})
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")

    @pytest.mark.parametrize("path", [f"songs/{UNKNOWN_ID}", f"audio_files/{UNKNOWN_ID}", "songs/export"])
    def test_an_unknown_song_leads_to_the_start_page(self, archive: ArchiveClient, path: str) -> None:
        answer = archive.http.get(f"{API}/{path}")
        assert (answer.status_code, answer.headers["location"]) == (302, f"{archive.url}/")
        followed = archive.http.get(f"{API}/{path}", follow_redirects=True)
        assert (followed.status_code, followed.headers["content-type"].split(";")[0]) == (200, "text/html")

    def test_health_is_always_ill_and_up_is_up(self, archive: ArchiveClient) -> None:
        assert archive.anonymous.get(f"{API}/health").status_code == 503
        assert archive.anonymous.get("/up").status_code == 200


class BulkUploadContract(ServerContract):
    """songs/bulk_upload, and what is told of a song later."""

    def test_an_upload_answers_201_with_the_song(self, archive: ArchiveClient) -> None:
        title = unique_word()
        fields: dict[str, Any] = {"artist_name": "The Artist", "album_title": "An Album", "genre_name": "Rock"}
        answer = archive.bulk_upload(mp3(title), title=title, track_number="3", duration="231", **fields)
        content = answer.json()
        assert (answer.status_code, set(content)) == (201, {"success", "message", "song"})
        song = content["song"]
        assert set(song) == {"id", "title", "artist", "album", "genre", "processing_status", "created_at"}
        assert (song["title"], song["artist"], song["album"], song["genre"]) == (
            title,
            "The Artist",
            "An Album",
            "Rock",
        )
        row = archive.search(title)["songs"][0]
        assert (row["track_number"], row["duration"], row["file_format"]) == (3, 231, "mp3")

    @pytest.mark.parametrize(("artist", "status"), [({"artist_name": "Somebody"}, "completed"), ({}, "needs_review")])
    def test_title_and_artist_complete_a_song(
        self, archive: ArchiveClient, artist: dict[str, Any], status: str
    ) -> None:
        assert archive.uploaded(unique_word(), **artist)["processing_status"] == status

    @pytest.mark.parametrize("title", [{}, {"title": ""}, {"title": "  "}], ids=str)
    def test_without_a_title_it_is_500(self, archive: ArchiveClient, title: dict[str, Any]) -> None:
        answer = archive.bulk_upload(mp3("no title"), artist_name="Somebody", **title)
        assert (answer.status_code, answer.json()["success"]) == (500, False)
        assert answer.json()["message"].startswith("Upload failed: ")

    def test_without_a_file_it_is_422(self, archive: ArchiveClient) -> None:
        answer = archive.bulk_upload(None, title=unique_word())
        assert (answer.status_code, answer.json()["success"]) == (422, False)

    @pytest.mark.parametrize(
        "fields",
        [
            *({"track_number": "3/12"}, {"track_number": "0"}, {"track_number": "-1"}, {"track_number": "three"}),
            *({"duration": "231.5"}, {"duration": "0"}, {"title": "t" * 201}, {"filename": "f" * 252 + ".mp3"}),
        ],
        ids=lambda fields: " ".join(f"{name}={value[:9]}" for name, value in fields.items()),
    )
    def test_a_field_that_does_not_fit_is_422_with_errors(self, archive: ArchiveClient, fields: dict[str, Any]) -> None:
        title = unique_word()
        answer = archive.bulk_upload(mp3(title), **{"title": title, **fields})
        assert answer.status_code == 422
        assert len(answer.json()["errors"]) == 1
        assert archive.titles(title) == []

    def test_blank_fields_are_no_fields(self, archive: ArchiveClient) -> None:
        names = ("artist_name", "album_title", "genre_name", "track_number", "duration")
        blank: dict[str, Any] = dict.fromkeys(names, " ")
        song = archive.uploaded(unique_word(), **blank)
        assert (song["artist"], song["album"], song["genre"], song["processing_status"]) == (
            *(None, None, None),
            "needs_review",
        )

    def test_all_errors_are_told_at_once(self, archive: ArchiveClient) -> None:
        answer = archive.bulk_upload(WAV, part_name="a.wav", title="t" * 201, track_number="x", duration="0")
        assert (answer.status_code, len(answer.json()["errors"])) == (422, 4)

    def test_a_refused_type_is_told_before_a_missing_title(self, archive: ArchiveClient) -> None:
        assert archive.bulk_upload(WAV, part_name="a.wav", content_type="audio/wav").status_code == 422

    @pytest.mark.parametrize(("field", "longest"), [("artist_name", 200), ("album_title", 200), ("genre_name", 100)])
    def test_a_name_that_is_too_long_is_500(self, archive: ArchiveClient, field: str, longest: int) -> None:
        title = unique_word()
        assert archive.bulk_upload(mp3(title), **_song(title, field, longest + 1)).status_code == 500
        assert archive.bulk_upload(mp3(title), **_song(title, field, longest)).status_code == 201

    def test_the_longest_fields_fit(self, archive: ArchiveClient) -> None:
        title = unique_word().ljust(200, "x")
        song = archive.uploaded(title, filename="f" * 251 + ".mp3", track_number="2147483647")
        assert song["title"] == title

    def test_a_number_beyond_32_bits_is_500(self, archive: ArchiveClient) -> None:
        answer = archive.bulk_upload(mp3("x"), title=unique_word(), track_number="2147483648")
        assert answer.status_code == 500

    @pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.label)
    def test_the_first_bytes_decide_what_is_accepted(self, archive: ArchiveClient, sample: Sample) -> None:
        title = unique_word()
        answer = archive.bulk_upload(
            sample.content, part_name=sample.filename, content_type=sample.declared_type, title=title
        )
        assert answer.status_code == (422 if sample.stored_as is None else 201), answer.text
        if sample.stored_as is not None:
            assert archive.search(title)["songs"][0]["file_format"] == sample.stored_as

    def test_without_post_processing_format_and_size_stay_empty(self, archive: ArchiveClient) -> None:
        title = unique_word()
        song = archive.uploaded(title, mp3(title), skip_post_processing="true")
        file = archive.audio_file(song["id"])
        assert (file["file_format"], file["file_size"]) == (None, None)
        assert file["checksum"] == checksum(mp3(title))

    def test_nothing_is_recognised_as_a_duplicate(self, archive: ArchiveClient) -> None:
        title = unique_word()
        ids = {archive.uploaded(title, mp3("the same"))["id"] for _ in range(2)}
        assert len(ids) == 2
        assert archive.titles(title) == [title, title]

    def test_text_of_any_script_comes_back_as_it_went(self, archive: ArchiveClient) -> None:
        title = f'Mötley “Crüe” \\ "日本" {unique_word()}'
        song = archive.uploaded(title, artist_name="Сплин", filename='a "b" ü.mp3')
        assert (song["title"], song["artist"]) == (title, "Сплин")

    @pytest.mark.parametrize(
        ("name", "stored_as"),
        [
            ('a "b" ü.mp3', "mp3"),
            ("50%2Emp3", "mp3"),  # Rack takes percent signs for escapes, where all of them could be
            ("50%2Emp3 100%", None),
            ("x.flac/y.mp3", "mp3"),
            ("x.mp3\\y.wav", None),
        ],
    )
    def test_the_part_has_the_name_that_rack_reads(
        self, archive: ArchiveClient, name: str, stored_as: str | None
    ) -> None:
        """Seen by the type, which only the name tells of these bytes."""
        title = unique_word()
        answer = archive.bulk_upload(
            b"no audio", part_name=name, content_type="application/octet-stream", title=title, filename="x"
        )
        assert answer.status_code == (422 if stored_as is None else 201)

    def test_artists_are_told_apart_by_case_and_blanks(self, archive: ArchiveClient) -> None:
        name = unique_word()
        names = [name, name.upper(), f"{name} "]
        assert [archive.uploaded(unique_word(), artist_name=each)["artist"] for each in names] == names

    def test_a_file_is_told_with_its_checksum_and_size(self, archive: ArchiveClient) -> None:
        title = unique_word()
        content = mp3(title) + bytes(100_000)
        song = archive.uploaded(title, content, artist_name="A", album_title="B", duration="7")
        file = archive.audio_file(song["id"])
        named = ("song_id", "title", "artist", "album", "duration", "file_format", "file_size", "checksum")
        assert set(file) == {*named, "stream_url", "download_url"}
        expected = (song["id"], title, "A", "B", 7, "mp3", len(content), checksum(content))
        assert tuple(file[name] for name in named) == expected
        assert archive.http.get(file["download_url"]).content == content

    def test_a_song_is_told_with_its_file_or_as_its_bytes(self, archive: ArchiveClient) -> None:
        title = unique_word()
        links = {"artist_name": "A", "album_title": "B", "genre_name": "C"}
        song = archive.uploaded(title, mp3(title), duration="7", **links)
        shown = archive.http.get(f"{API}/songs/{song['id']}").json()["song"]
        assert {shown.pop("download_url")[:4], shown.pop("stream_url")[:4]} == {"http"}
        named = {"id": song["id"], "title": title, "artist": "A", "album": "B", "genre": "C", "duration": 7}
        assert shown == {**named, "file_format": "mp3", "file_size": len(mp3(title))}
        as_bytes = archive.http.get(f"{API}/songs/{song['id']}", params={"include": "binary"})
        assert as_bytes.content == mp3(title)


class ListContract(ServerContract):
    """GET songs."""

    @pytest.fixture
    def word(self, archive: ArchiveClient) -> str:
        """A word in the titles of five songs, 0 to 4."""
        word = unique_word()
        for number in range(5):
            archive.uploaded(f"{word} {number}", duration=str(10 - number), artist_name=f"Artist {number % 2}")
        return word

    def test_a_page_has_songs_and_a_pagination(self, archive: ArchiveClient, word: str) -> None:
        found = archive.search(word, limit=2, page=2)
        assert found["pagination"] == {"current_page": 2, "total_pages": 3, "total_count": 5, "limit": 2}
        names = {"id", "title", "artist", "album", "genre", "duration", "track_number", "file_format"}
        assert set(found["songs"][0]) == {*names, "processing_status", "created_at"}

    def test_pages_hold_every_song_once_in_order(self, archive: ArchiveClient, word: str) -> None:
        pages = archive.pages(word, limit=2, sort_by="created_at", sort_order="asc")
        assert [song["title"] for page in pages for song in page["songs"]] == [f"{word} {n}" for n in range(5)]

    def test_the_newest_comes_first_when_nothing_is_asked(self, archive: ArchiveClient, word: str) -> None:
        assert archive.titles(word) == [f"{word} {n}" for n in reversed(range(5))]

    @pytest.mark.parametrize(
        ("asked", "order"),
        [
            ({"sort_by": "duration", "sort_order": "asc"}, "43210"),
            ({"sort_by": "title", "sort_order": "desc"}, "43210"),
            ({"sort_by": "title", "sort_order": "asc"}, "01234"),
            ({"sort_by": "nonsense"}, "43210"),
            ({"sort": "title", "order": "asc"}, "43210"),  # the documented names do nothing
        ],
    )
    def test_songs_are_sorted_as_asked(
        self, archive: ArchiveClient, word: str, asked: dict[str, str], order: str
    ) -> None:
        assert archive.titles(word, **asked) == [f"{word} {n}" for n in order]

    @pytest.mark.parametrize(("asked", "given"), [(None, 50), (0, 1), (-3, 1), (100, 100), (500, 100)])
    def test_a_page_has_one_to_a_hundred_songs(self, archive: ArchiveClient, asked: int | None, given: int) -> None:
        parameters = {} if asked is None else {"limit": asked}
        assert archive.search("", **parameters)["pagination"]["limit"] == given

    def test_a_page_past_the_end_is_empty(self, archive: ArchiveClient, word: str) -> None:
        assert archive.search(word, page=9)["songs"] == []

    def test_every_word_has_to_occur_somewhere(self, archive: ArchiveClient, word: str) -> None:
        assert sorted(archive.titles(f"{word} artist 1")) == [f"{word} 1", f"{word} 3"]
        assert archive.titles(f"{word} {unique_word()}") == []

    def test_words_are_found_in_any_case_and_inside_others(self, archive: ArchiveClient, word: str) -> None:
        assert len(archive.titles(word.upper()[3:-3])) == 5

    def test_only_ten_words_count(self, archive: ArchiveClient, word: str) -> None:
        assert len(archive.titles(" ".join([word] * 10 + [unique_word()]))) == 5

    def test_rows_do_not_tell_the_checksum(self, archive: ArchiveClient, word: str) -> None:
        assert not {"checksum", "original_filename", "file_size"} & set(archive.search(word)["songs"][0])


def _song(title: str, field: str, length: int) -> dict[str, Any]:
    return {"title": title, field: "n" * length}
