"""The process that looks at ebooks: digest, type and metadata in one look at the bytes; or the cover.

MemberWorkers starts it. It ends when it has worked on one member for too long, however deep in C, when it gets no more
memory, and when the one who started it ends.
"""

import errno
import gc
import hashlib
import os
import resource
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

from bookpipe.model.errors import TerminalError, TransientError
from bookpipe.model.rejections import Reason
from bookpipe.pipelines.shard_workers import EXAMINE, HASH, RENDER_PICTURE, Examined, Request
from bookpipe.sources.ebook_metadata import EbookMetadata, find_cover, read_metadata
from bookpipe.sources.ebook_types import HEAD_BYTES, identify, label_unknown

PIECE = 1 << 20  # bytes
_MAX_MEMORY = 2 << 30  # bytes of address space; parsers in C end the process when they get no more
_DIGESTED_PER_S = 20 << 20  # bytes, by a slow processor
_GARBAGE = 50_000  # objects before Python looks for cycles; parsing makes many objects and few cycles

ReadAt = Callable[[int, int], bytes]


class MemberReader:
    """Examines members. `kinds` are those that are books, the others are refused."""

    def __init__(self, kinds: Collection[str]) -> None:
        self.kinds = frozenset(kinds)

    def examine(
        self, data: bytes | bytearray | memoryview, size: int, read_at: ReadAt, given: str | None, *, parse: bool = True
    ) -> Examined:
        """What a member of `size` bytes is. `data` is all of it, or at least its first HEAD_BYTES.

        Without `parse` its metadata is taken for unreadable. Raises OSError when `read_at` does, and what
        `read_metadata` raises.
        """
        head = bytes(data[:HEAD_BYTES])
        kind = identify(head, size, read_at, given)
        if kind not in self.kinds:
            label = kind or label_unknown(head) or "unknown"
            return Examined(reason=Reason.UNSUPPORTED_FORMAT.value, detail=label)
        assert kind is not None
        digest = hashlib.sha1(data if len(data) == size else b"", usedforsecurity=False)
        if len(data) != size:
            for at in range(0, size, PIECE):
                digest.update(read_at(at, PIECE))
        says = EbookMetadata(status="unreadable")
        if parse:
            says = read_metadata(kind, data, size, read_at)
        return Examined(
            digest.hexdigest(), size, kind, says.title, says.authors, says.series, says.series_index, says.languages,
            says.tags, says.status,
        )  # fmt: skip


def read_member(reader: MemberReader, fd: int, request: Request, buffer: memoryview, *, parse: bool = True) -> Examined:
    """Examine a member, read into `buffer` when it fits there. OSError when the shard cannot be read on."""
    _, size, given = request
    data, read_at = _open(fd, request, buffer)
    return reader.examine(data, size, read_at, given, parse=parse)


def _open(fd: int, request: Request, buffer: memoryview) -> tuple[memoryview, ReadAt]:
    """All of a member, or its beginning when it does not fit into the buffer, and a way to the rest."""
    offset, size, _ = request
    wanted = size if size <= len(buffer) else HEAD_BYTES
    data = buffer[: os.preadv(fd, [buffer[:wanted]], offset)]
    if len(data) < wanted:
        raise OSError(errno.EIO, "the shard became shorter")

    def read_at(start: int, length: int) -> bytes:
        return os.pread(fd, max(0, min(length, size - start)), offset + start)

    return data, read_at


def _look(what: str, reader: MemberReader, fd: int, request: Request, buffer: memoryview) -> Any:
    if what in (EXAMINE, HASH):
        return tuple(read_member(reader, fd, request, buffer, parse=what == EXAMINE))
    _, size, given = request
    data, read_at = _open(fd, request, buffer)
    if what == RENDER_PICTURE:
        return _render(read_at(0, size))
    kind = identify(bytes(data[:HEAD_BYTES]), size, read_at, given)
    picture = find_cover(kind, data, size, read_at) if kind else None
    return None if picture is None else _render(picture)


def _render(picture: bytes) -> tuple[bytes, bytes] | str:
    from bookpipe.targets.mybookshelf2.cover_images import BadImageError, render  # noqa: PLC0415  shards need no Pillow

    try:
        images = render(picture)
    except BadImageError as error:
        return str(error)
    return images.cover, images.thumbnail


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
                requests, what = connection.recv()
                fd = reduction.recv_handle(connection)
                found = []
                try:
                    for request in requests:
                        signal.setitimer(signal.ITIMER_PROF, time_limit_s + request[1] / _DIGESTED_PER_S)
                        found.append(_look(what, reader, fd, request, buffer))
                    connection.send(found)
                except (OSError, TerminalError, TransientError) as error:
                    connection.send(error)
                finally:
                    os.close(fd)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
