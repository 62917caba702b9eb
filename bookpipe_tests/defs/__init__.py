"""Tests of bookpipe.defs."""
