"""A worker process that ends or hangs at members whose names have certain extensions, for a test."""

import itertools
import os
from collections import deque

from bookpipe.pipelines import shard_members
from bookpipe.pipelines.shard_members import MemberReader
from bookpipe.pipelines.shard_workers import Examined, Request

DEADLY = "deadly"  # to whoever parses it
ENDLESS = "endless"  # the same
FATAL = "fatal"  # to whoever looks at it


def main(descriptor: int) -> None:
    """As the real one, but for that."""
    read = shard_members.read_member

    def read_or_die(
        reader: MemberReader, fd: int, request: Request, buffer: memoryview, *, parse: bool = True
    ) -> Examined:
        if request[2] == FATAL or (request[2] == DEADLY and parse):
            os._exit(1)
        if request[2] == ENDLESS and parse:
            deque(itertools.count(), 0)  # no Python code runs in it, as in a parser written in C
        return read(reader, fd, request, buffer, parse=parse)

    shard_members.read_member = read_or_die
    shard_members.main(descriptor)
