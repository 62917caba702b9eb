"""The stand-in keeps the contract of the music archive."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bookpipe.demo.music_archive import MusicArchive, serve
from bookpipe_tests.music_archive.contract import BulkUploadContract, ListContract, LoginContract
from bookpipe_tests.music_archive.direct_contract import DirectUploadContract, OpenDoorContract


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory: Path = tmp_path_factory.mktemp("archive")
    archive = MusicArchive(directory)
    with serve(archive) as url:
        yield url
    assert not list((directory / "incoming").iterdir())
    archive.close()


class TestLogin(LoginContract):
    pass


class TestBulkUpload(BulkUploadContract):
    pass


class TestList(ListContract):
    pass


class TestDirectUpload(DirectUploadContract):
    pass


class TestOpenDoor(OpenDoorContract):
    pass
