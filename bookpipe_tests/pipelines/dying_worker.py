"""A worker process that dies of a member with a certain name's extension, for a test."""

import os

from bookpipe.pipelines import shard_workers
from bookpipe.pipelines.shard_members import Examined, MemberReader

DEADLY = "deadly"


def main(descriptor: int, fd: int) -> None:
    """As the real one, but for that."""
    read = shard_workers.read_member

    def read_or_die(reader: MemberReader, fd: int, request: shard_workers.Request, buffer: memoryview) -> Examined:
        if request[2] == DEADLY:
            os._exit(1)
        return read(reader, fd, request, buffer)

    shard_workers.read_member = read_or_die  # type: ignore[assignment]
    shard_workers.main(descriptor, fd)
