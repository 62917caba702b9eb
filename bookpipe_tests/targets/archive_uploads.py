"""A folder of songs, a ledger and an archive: what the tests of uploads work with."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from bookpipe.demo.music_archive import MODERATOR, PASSWORD, MusicArchive, serve
from bookpipe.model.secrets import Secret
from bookpipe.model.songs import AUDIO_FILES
from bookpipe.runtime.state import State
from bookpipe.runtime.upload_ledger import UploadLedger
from bookpipe.targets.music_archive import server as target
from bookpipe.targets.music_archive.uploads import UploadResult, upload_batch

HEAD = b"ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb\x90\x00"
QUICK = {"backoff": 0.01, "settle": 0.3, "outage": 5.0, "connect_timeout": 5.0}


def song_bytes(name: str, size: int = 3_000) -> bytes:
    """An MP3, as far as anybody looks at it, that no other name has."""
    seed = hashlib.sha256(name.encode()).digest()
    return (HEAD + seed * (size // len(seed) + 1))[:size]


def audio_rows(root: Path, names: Sequence[str], **changes: Sequence[Any]) -> pa.Table:
    """AUDIO_FILES of files below `root`; `changes` are whole columns."""
    rows = []
    for item, name in enumerate(names, 1):
        path = root / name
        content = path.read_bytes()
        rows.append(
            {
                "item": item,
                "path": name.encode(),
                "size": len(content),
                "mtime_ns": path.stat().st_mtime_ns,
                "md5": hashlib.md5(content).hexdigest(),
                "content_type": "audio/mpeg",
                "sniffed_type": "audio/mpeg",
                "filename": path.name,
                "title": path.stem,
                "artist": "An Artist",
                "album": None,
                "genre": "Noise",
                "track_number": None,
                "duration": 3,
                "reason": None,
                "detail": None,
            }
        )
    for column, values in changes.items():
        for row, value in zip(rows, values, strict=True):
            row[column] = value
    return pa.Table.from_pylist(rows, AUDIO_FILES)


@dataclass
class Uploads:
    """One archive over a real socket, one music folder, one state file."""

    archive: MusicArchive
    url: str
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)  # of the MusicArchive target

    @property
    def root(self) -> Path:
        return self.folder / "music"

    @property
    def server(self) -> target.MusicArchive:
        options = {"email": MODERATOR.email, "password": Secret(PASSWORD), **QUICK, **self.options}
        return target.MusicArchive(self.url, **options)

    @property
    def ledger(self) -> UploadLedger:
        return UploadLedger(State(self.folder / "state.sqlite"), self.server.url)

    def write(self, *names: str, size: int = 3_000) -> list[str]:
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(song_bytes(name, size))
        return list(names)

    def many(self, count: int, size: int = 3_000) -> list[str]:
        return self.write(*(f"song {n:04d}.mp3" for n in range(count)), size=size)

    def rows(self, names: Sequence[str], **changes: Sequence[Any]) -> pa.Table:
        return audio_rows(self.root, names, **changes)

    def upload(self, rows: pa.Table | Sequence[str], **options: Any) -> UploadResult:
        table = rows if isinstance(rows, pa.Table) else self.rows(rows)
        return upload_batch(self.server, table, self.root, self.ledger, **options)

    def checksums(self) -> list[str]:
        """Of all songs of the archive, sorted."""
        return sorted(song["checksum"] for song in self.archive.songs())

    def assert_holds(self, names: Sequence[str]) -> None:
        """Exactly one song for each of these files, with all of its bytes."""
        songs = {song["title"]: song for song in self.archive.songs()}
        assert len(self.archive.songs()) == len(names)
        for name in names:
            song = songs[Path(name).stem]
            assert self.archive.bytes_path(song).read_bytes() == (self.root / name).read_bytes()

    def count(self, name: str) -> dict[str, int]:
        """A part of the archive's counters."""
        return dict(self.archive.counters.snapshot()[name])


def outcomes(result: UploadResult) -> list[str]:
    return [str(value) for value in result.outcomes.column("outcome").to_pylist()]


def reasons(result: UploadResult) -> list[str | None]:
    return list(result.outcomes.column("reason").to_pylist())


def details(result: UploadResult) -> list[str]:
    return [value or "" for value in result.outcomes.column("detail").to_pylist()]


@contextmanager
def uploads(folder: Path, **options: Any) -> Iterator[Uploads]:
    """An archive, served. `options` are the stand-in's."""
    archive = MusicArchive(folder / "archive", **options)
    (folder / "music").mkdir(parents=True, exist_ok=True)
    with serve(archive) as url:
        yield Uploads(archive, url, folder)
    archive.close()
