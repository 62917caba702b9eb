"""Processes that look at ebooks, as the members of shards are: each reads from the file itself, no bytes travel.

Parsing holds Python's lock, so that threads would get in the way of each other and of the writing; and no parser is
safe against every file. What a process is asked and answers are small tuples, and the descriptor of the file. It ends
when its parent does, however that ends.
"""

import errno
import queue
import socket
import subprocess
import sys
from collections.abc import Collection, Sequence
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from bookpipe.model.errors import TransientError
from bookpipe.model.rejections import Reason
from bookpipe.sources.tar_streams import OpenFile

Request = tuple[int, int, str | None]  # offset in the file, size, the extension its name claims
# What a process may be asked for: of a member all, or without its metadata; and of a book or a picture the cover.
EXAMINE, HASH, RENDER_COVER, RENDER_PICTURE = "examine", "hash", "render cover", "render picture"

TIME_LIMIT_S = 10.0  # of the processor, for a member; the slowest honest ones take a few tenths
_GONE = (errno.EPIPE, errno.ECONNRESET, None)  # of a connection whose other end was closed; None: amid an answer
_MODULE = "bookpipe.pipelines.shard_members"  # what they run: with all parsers, which are not needed here


class Examined(NamedTuple):
    """What is known of a member's bytes, or why they are not loaded. Plain values: it travels between processes."""

    sha1: str | None = None
    size: int | None = None
    kind: str | None = None
    title: str | None = None
    authors: tuple[str, ...] = ()
    series: str | None = None
    series_index: float | None = None
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    status: str = "none"  # of the metadata
    reason: str | None = None
    detail: str | None = None


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
        found = self._ask(file, requests, EXAMINE)
        if found is None and len(requests) > 1:  # one of them is to blame
            return [one for request in requests for one in self.examine(file, [request])]
        return [Examined(*one) for one in found or self._ask(file, requests, HASH) or [_DEADLY]]

    def render(self, file: OpenFile, request: Request, what: str) -> tuple[bytes, bytes] | str | None:
        """Cover and thumbnail of a book that has a picture (RENDER_COVER) or of a file that is one (RENDER_PICTURE).

        None for a book without; a text for people when the picture cannot be read, or ends its process. Raises as
        `examine` does.
        """
        found = self._ask(file, [request], what)
        return found[0] if found else _DEADLY.detail

    def _ask(self, file: OpenFile, requests: Sequence[Request], what: str) -> list[Any] | None:
        """None when the process ended."""
        worker, found = self._idle.get(), None
        try:
            worker = worker or _Worker(self._kinds, self._time_limit_s)
            found = worker.ask(file, requests, what)
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

    def ask(self, file: OpenFile, requests: Sequence[Request], what: str) -> list[Any] | None:
        """Its answer; None when it ended. Raises OSError when the file cannot be read on."""
        try:
            self._connection.send((list(requests), what))
            # Each time anew: a descriptor that it kept would keep the space of a file without a name.
            reduction.send_handle(self._connection, file.fd, self._process.pid)
            answer: Any = self._connection.recv()
        except EOFError:
            return None
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return None
        if isinstance(answer, BaseException):
            raise answer
        return list(answer)

    def end(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()
