"""MyBookshelf2 keeps what every target of books promises."""

import pytest

from bookpipe_tests.targets.contract import BookTargetContract
from bookpipe_tests.targets.shelf import Shelf


class TestMyBookshelf2(BookTargetContract):
    @pytest.fixture
    def target(self, shelf: Shelf) -> Shelf:
        return shelf

    @pytest.fixture
    def another(self, another_shelf: Shelf) -> Shelf:
        return another_shelf
