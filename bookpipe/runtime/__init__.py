"""Shared input and output that is neither source nor target: files, digests, local state, progress."""
