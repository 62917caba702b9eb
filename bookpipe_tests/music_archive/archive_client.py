"""A plain client for the contract tests: httpx, one method per request, nothing hidden."""

import base64
import hashlib
import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from bookpipe.demo.music_archive import MODERATOR, PASSWORD, User

API = "/api/v1"
MP3 = "audio/mpeg"


def checksum(content: bytes) -> str:
    """Base64 of the 16 bytes of the MD5."""
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def unique_word() -> str:
    """A word of letters that no other song has."""
    return "w" + uuid.uuid4().hex.translate(str.maketrans("0123456789", "ghijklmnop"))


@dataclass(frozen=True)
class Reservation:
    """What direct_upload answered."""

    json: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.json["direct_upload"]["url"])

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.json["direct_upload"]["headers"])

    @property
    def signed_id(self) -> str:
        return str(self.json["signed_id"])


class ArchiveClient:
    """Somebody logged in; `anonymous` has no token and is used for the uploads to storage."""

    def __init__(self, url: str, user: User = MODERATOR) -> None:
        self.url = url
        self.anonymous = httpx.Client(base_url=url, trust_env=False, headers={"Accept": "application/json"}, timeout=60)
        answer = self.login(email=user.email)
        answer.raise_for_status()
        token = {"Authorization": f"Bearer {answer.json()['api_token']}"}
        self.http = httpx.Client(
            base_url=url, trust_env=False, headers={"Accept": "application/json", **token}, timeout=60
        )

    def close(self) -> None:
        self.anonymous.close()
        self.http.close()

    def login(self, **values: Any) -> httpx.Response:
        return self.anonymous.post(f"{API}/auth/login", json={"email": MODERATOR.email, "password": PASSWORD, **values})

    def switch(self, **values: Any) -> None:
        self.anonymous.patch("/__state__", json=values).raise_for_status()

    def bulk_upload(
        self,
        content: bytes | None,
        *,
        part_name: str = "a.mp3",
        content_type: str = MP3,
        **fields: Any,
    ) -> httpx.Response:
        """Send a file (None: no part for it) with form fields; `part_name` is the file's own name in the form."""
        # Without a file httpx would send no multipart form.
        files = {"nothing": ("", b"")} if content is None else {"audio_file": (part_name, content, content_type)}
        return self.http.post(f"{API}/songs/bulk_upload", data=fields, files=files)

    def reserve(self, content: bytes, **changes: Any) -> httpx.Response:
        asked = {"filename": "a.mp3", "byte_size": len(content), "checksum": checksum(content), "content_type": MP3}
        return self.http.post(f"{API}/songs/direct_upload", json={**asked, **changes})

    def reserved(self, content: bytes, **changes: Any) -> Reservation:
        answer = self.reserve(content, **changes)
        assert answer.status_code == 200, answer.text
        return Reservation(answer.json())

    def put(self, reservation: Reservation, content: Any, **headers: str) -> httpx.Response:
        """PUT with the reserved headers, changed by `headers` (underscores for dashes)."""
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.anonymous.put(reservation.url, content=content, headers={**reservation.headers, **changed})

    def create(self, signed_id: str, **values: Any) -> httpx.Response:
        asked = {"signed_id": signed_id, "filename": "a.mp3", **values}
        return self.http.post(f"{API}/songs/create_from_blob", json=asked)

    def uploaded(self, title: str, content: bytes | None = None, **fields: Any) -> dict[str, Any]:
        """A song by bulk_upload, as it was answered."""
        content = title.encode() if content is None else content
        answer = self.bulk_upload(content, **{"title": title, **fields})
        assert answer.status_code == 201, answer.text
        return dict(answer.json()["song"])

    def search(self, words: str, **parameters: Any) -> dict[str, Any]:
        answer = self.http.get(f"{API}/songs", params={"search": words, **parameters})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def titles(self, words: str, **parameters: Any) -> list[str]:
        return [song["title"] for song in self.search(words, **parameters)["songs"]]

    def pages(self, words: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        for page in itertools.count(1):
            found = self.search(words, page=page, **parameters)
            yield found
            if page >= found["pagination"]["total_pages"]:
                return

    def audio_file(self, song_id: Any) -> dict[str, Any]:
        answer = self.http.get(f"{API}/audio_files/{song_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@contextmanager
def client_of(url: str, user: User = MODERATOR) -> Iterator[ArchiveClient]:
    client = ArchiveClient(url, user)
    try:
        yield client
    finally:
        client.close()
