"""A real Rails with Active Storage keeps the same contract: what the stand-in does is what Rails does.

Rails 6.1 stands in for the archive's 8.0 here. Where they are known to differ, the application below the tests makes
up for it: a blob without a checksum is refused by Rails 8 and left to the database by 6.1, and the type of a file is
found by Marcel 1.0.4's rule over the tables of 1.0.1.
"""

from collections.abc import Iterator

import pytest

from bookpipe_tests.music_archive.contract import BulkUploadContract, ListContract, LoginContract
from bookpipe_tests.music_archive.direct_contract import DirectUploadContract, OpenDoorContract
from bookpipe_tests.music_archive.rails_server import rails_server, why_unavailable

pytestmark = pytest.mark.rails


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    reason = why_unavailable()
    if reason is not None:
        pytest.skip(reason)
    with rails_server(tmp_path_factory.mktemp("rails")) as url:
        yield url


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
