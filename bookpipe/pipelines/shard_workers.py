"""Processes that examine the members of shards: each reads from the file that holds them, so that no bytes travel.

Parsing holds Python's lock, so that threads would get in the way of each other and of the writing; and no parser is
safe against every file. What a process is asked and answers are small tuples, and the descriptor of the file. It ends
when its parent does, however that ends.
"""

import errno
import gc
import os
import queue
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection

from bookpipe.model.errors import TerminalError, TransientError
from bookpipe.model.rejections import Reason
from bookpipe.pipelines.shard_members import PIECE, Examined, MemberReader
from bookpipe.sources.ebook_types import HEAD_BYTES
from bookpipe.sources.tar_streams import OpenFile

Request = tuple[int, int, str | None]  # offset in the file, size, the extension its name claims

TIME_LIMIT_S = 10.0  # of the processor, for a member; the slowest honest ones take a few tenths
_MAX_MEMORY = 2 << 30  # bytes of address space; parsers in C end the process when they get no more
_DIGESTED_PER_S = 20 << 20  # bytes, by a slow processor
_GONE = (errno.EPIPE, errno.ECONNRESET, None)  # of a connection whose other end was closed; None: amid an answer
_MODULE = "bookpipe.pipelines.shard_workers"
_GARBAGE = 50_000  # objects before Python looks for cycles; parsing makes many objects and few cycles


class MemberWorkers:
    """A pool of such processes, started when they are first needed. Threads may share it.

    A process that works on one member for more than `time_limit_s` ends, as one that crashes does. That is time of the
    processor, and more for a large member: a slow disk or a busy machine is not the member's fault.
    """

    def __init__(self, kinds: Collection[str], workers: int, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._kinds = sorted(kinds)
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._workers = workers
        self._time_limit_s = time_limit_s
        for _ in range(workers):
            self._idle.put(None)

    def examine(self, file: OpenFile, requests: Sequence[Request]) -> list[Examined]:
        """What these members are. One that ends its process costs only that one its metadata; it is refused when
        its process ends even without a look at those.

        Raises OSError when the file cannot be read on, TransientError when no process can be started.
        """
        found = self._ask(file, requests, parse=True)
        if found is None and len(requests) > 1:  # one of them is to blame
            return [one for request in requests for one in self.examine(file, [request])]
        return found or self._ask(file, requests, parse=False) or [_DEADLY]

    def _ask(self, file: OpenFile, requests: Sequence[Request], *, parse: bool) -> list[Examined] | None:
        """None when the process ended."""
        worker, found = self._idle.get(), None
        try:
            worker = worker or _Worker(self._kinds, self._time_limit_s)
            found = worker.ask(file, requests, parse)
        finally:
            if worker is not None and found is None:
                worker.end()
                worker = None
            self._idle.put(worker)
        return found

    def close(self) -> None:
        """End the processes. The pool may be used again."""
        for worker in [self._idle.get() for _ in range(self._workers)]:
            if worker is not None:
                worker.end()
            self._idle.put(None)


# Not even its type can be told.
_DEADLY = Examined(reason=Reason.UNREADABLE_FILE.value, detail="whatever looks at it crashes or comes to no end")


class _Worker:
    """One process and the connection to it."""

    def __init__(self, kinds: Sequence[str], time_limit_s: float) -> None:
        ours, theirs = socket.socketpair()
        # The same path as here, or the working directory would come first: who knows what lies there.
        program = f"import sys; sys.path[:] = {sys.path!r}; from {_MODULE} import main; main(*map(int, sys.argv[1:]))"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except OSError as error:
            ours.close()
            raise TransientError(f"cannot start a process: {error}; is the system overloaded?") from error
        finally:
            theirs.close()
        self._connection = Connection(ours.detach())
        try:
            self._connection.send((list(kinds), time_limit_s))
            self._connection.recv()  # that it has started: what ends it later is a member
        except (EOFError, OSError) as error:
            self.end()
            raise TransientError(
                f"a process that examines members ended with code {self._process.returncode} when it was started"
            ) from error

    def ask(self, file: OpenFile, requests: Sequence[Request], parse: bool) -> list[Examined] | None:
        """Its answer; None when it ended. Raises OSError when the file cannot be read on."""
        try:
            self._connection.send((list(requests), parse))
            # Each time anew: a descriptor that it kept would keep the space of a file without a name.
            reduction.send_handle(self._connection, file.fd, self._process.pid)
            answer = self._connection.recv()
        except EOFError:
            return None
        except OSError as error:
            if error.errno not in _GONE:
                raise
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


def _limit_resources() -> None:
    for what, limit in ((resource.RLIMIT_AS, _MAX_MEMORY), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):  # a lower limit holds already, or the system knows none
            resource.setrlimit(what, (limit, limit))


def main(descriptor: int) -> None:
    """Answer requests until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # what ends it when the time is over, in the middle of any code
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    _limit_resources()
    buffer = memoryview(bytearray(PIECE))
    try:
        with Connection(descriptor) as connection:
            kinds, time_limit_s = connection.recv()
            reader = MemberReader(kinds)
            connection.send(None)
            while True:
                requests, parse = connection.recv()
                fd = reduction.recv_handle(connection)
                found = []
                try:
                    for request in requests:
                        signal.setitimer(signal.ITIMER_PROF, time_limit_s + request[1] / _DIGESTED_PER_S)
                        found.append(tuple(read_member(reader, fd, request, buffer, parse=parse)))
                    connection.send(found)
                except (OSError, TerminalError, TransientError) as error:
                    connection.send(error)
                finally:
                    os.close(fd)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
