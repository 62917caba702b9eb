"""Tests of bookpipe.cli."""
