"""Benchmarks: what bookpipe needs, as a ratio to a limit measured in the same run."""
