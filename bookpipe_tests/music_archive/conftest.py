"""A stand-in of its own for each test that switches faults on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bookpipe.demo.music_archive import MusicArchive, serve
from bookpipe_tests.music_archive.archive_client import ArchiveClient, client_of


@dataclass(frozen=True)
class Served:
    """An archive and somebody logged in to it."""

    archive: MusicArchive
    client: ArchiveClient

    def titles(self) -> list[str]:
        return [song["title"] for song in self.archive.songs()]

    def receiving(self) -> int:
        """Bodies that are on their way to disk."""
        return len(list(self.archive.state.incoming.iterdir()))


def _served(archive: MusicArchive) -> Iterator[Served]:
    with serve(archive) as url, client_of(url) as client:
        yield Served(archive, client)
    archive.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    yield from _served(MusicArchive(tmp_path / "archive", direct_upload=True))


@pytest.fixture
def served_s3(tmp_path: Path) -> Iterator[Served]:
    """Its upload urls lead to something like S3."""
    yield from _served(MusicArchive(tmp_path / "archive", direct_upload=True, storage="s3"))
