"""A worker process that ends or hangs at members whose names have certain extensions, for a test."""

import itertools
import os
from collections import deque

from bookpipe.pipelines import shard_workers
from bookpipe.pipelines.shard_members import Examined, MemberReader

DEADLY = "deadly"  # to whoever parses it
ENDLESS = "endless"  # the same
FATAL = "fatal"  # to whoever looks at it


def main(descriptor: int) -> None:
    """As the real one, but for that."""
    read = shard_workers.read_member

    def read_or_die(
        reader: MemberReader, fd: int, request: shard_workers.Request, buffer: memoryview, *, parse: bool = True
    ) -> Examined:
        if request[2] == FATAL or (request[2] == DEADLY and parse):
            os._exit(1)
        if request[2] == ENDLESS and parse:
            deque(itertools.count(), 0)  # no Python code runs in it, as in a parser written in C
        return read(reader, fd, request, buffer, parse=parse)

    shard_workers.read_member = read_or_die
    shard_workers.main(descriptor)
