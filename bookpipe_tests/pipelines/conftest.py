"""Pipelines are tested on the same installations as their targets."""

from bookpipe_tests.targets.conftest import another_shelf, library, shelf

__all__ = ["another_shelf", "library", "shelf"]
