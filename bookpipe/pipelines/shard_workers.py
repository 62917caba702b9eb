"""Processes that examine the members of a plain tar: each reads from the shard itself, so that no bytes travel.

Parsing holds Python's lock, so that threads would get in the way of each other and of the writing. What a process
is asked and answers are small tuples. It ends when its parent does, however that ends.
"""

import errno
import gc
import os
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Sequence
from multiprocessing.connection import Connection

from bookpipe.model.errors import TerminalError, TransientError
from bookpipe.pipelines.shard_members import PIECE, Examined, MemberReader
from bookpipe.sources.ebook_metadata import PdfReader
from bookpipe.sources.ebook_types import HEAD_BYTES
from bookpipe.sources.tar_streams import OpenFile

Request = tuple[int, int, str | None]  # offset in the shard, size, the extension its name claims

_MODULE = "bookpipe.pipelines.shard_workers"
_GARBAGE = 50_000  # objects before Python looks for cycles; parsing makes many objects and few cycles


class MemberWorkers:
    """A pool of such processes for one open shard, started when they are first needed. Threads may share it."""

    def __init__(self, file: OpenFile, kinds: Collection[str], workers: int) -> None:
        self.file = file
        self._kinds = sorted(kinds)
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._workers = workers
        for _ in range(workers):
            self._idle.put(None)

    def examine(self, requests: Sequence[Request]) -> list[Examined]:
        """What these members are. A process that dies of a member costs only that one its metadata.

        Raises OSError when the shard cannot be read on.
        """
        worker = self._idle.get()
        try:
            worker = worker or _Worker(self.file.fd, self._kinds)
            found = worker.ask(requests)
        except BaseException:
            if worker is not None:
                worker.end()
            self._idle.put(None)
            raise
        if found is not None:
            self._idle.put(worker)
            return found
        worker.end()
        self._idle.put(None)
        if len(requests) > 1:  # one of them is to blame
            return [one for request in requests for one in self.examine([request])]
        reader = MemberReader(self._kinds, None)
        return [read_member(reader, self.file.fd, requests[0], memoryview(bytearray(PIECE)), parse=False)]

    def close(self) -> None:
        """End the processes. The pool may be used again."""
        for worker in [self._idle.get() for _ in range(self._workers)]:
            if worker is not None:
                worker.end()
            self._idle.put(None)


class _Worker:
    """One process and the connection to it."""

    def __init__(self, fd: int, kinds: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        # The same path as here, or the working directory would come first: who knows what lies there.
        program = f"import sys; sys.path[:] = {sys.path!r}; from {_MODULE} import main; main(*map(int, sys.argv[1:]))"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program, str(theirs.fileno()), str(fd)],
                pass_fds=(theirs.fileno(), fd),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except OSError as error:
            ours.close()
            raise TransientError(f"cannot start a process: {error}; is the system overloaded?") from error
        finally:
            theirs.close()
        self._connection = Connection(ours.detach())
        self._connection.send(list(kinds))

    def ask(self, requests: Sequence[Request]) -> list[Examined] | None:
        """Its answer; None when it died. Raises OSError when the shard cannot be read on."""
        try:
            self._connection.send(list(requests))
            answer = self._connection.recv()
        except (EOFError, OSError):
            return None
        if isinstance(answer, BaseException):
            raise answer
        return [Examined(*one) for one in answer]

    def end(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()


def read_member(reader: MemberReader, fd: int, request: Request, buffer: memoryview, *, parse: bool = True) -> Examined:
    """Examine a member, read into `buffer` when it fits there. OSError when the shard cannot be read on."""
    offset, size, given = request
    wanted = size if size <= len(buffer) else HEAD_BYTES
    data = buffer[: os.preadv(fd, [buffer[:wanted]], offset)]
    if len(data) < wanted:
        raise OSError(errno.EIO, "the shard became shorter")

    def read_at(start: int, length: int) -> bytes:
        return os.pread(fd, max(0, min(length, size - start)), offset + start)

    return reader.examine(data, size, read_at, given, parse=parse)


def main(descriptor: int, fd: int) -> None:
    """Answer requests until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    buffer = memoryview(bytearray(PIECE))
    try:
        with Connection(descriptor) as connection, PdfReader(1) as pdf:
            reader = MemberReader(connection.recv(), pdf)
            while True:
                requests = connection.recv()
                try:
                    connection.send([tuple(read_member(reader, fd, request, buffer)) for request in requests])
                except (OSError, TerminalError, TransientError) as error:
                    connection.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
