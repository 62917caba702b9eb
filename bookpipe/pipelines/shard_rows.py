"""A chunk of a shard -> hashed book files and their bytes: digests, types and metadata in one pass over memory."""

import errno
import os
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from bookpipe.model.book_plans import Content
from bookpipe.model.rejections import Reason
from bookpipe.model.schemas import HASHED_FILES
from bookpipe.pipelines.shard_members import PIECE, Examined, MemberReader
from bookpipe.pipelines.shard_workers import MemberWorkers, read_member
from bookpipe.sources.ebook_metadata import PdfReader, title_from_name
from bookpipe.sources.shard_chunks import Chunk, ShardRow
from bookpipe.sources.tar_streams import Range

# Kinds that are books although MyBookshelf2 has no such format: the options say whether it gets them. What else
# MyBookshelf2 does not have (zip, xls, jpg ...) is refused.
BOOK_KINDS = frozenset(
    (
        *("pdf", "txt", "pdb", "rtf", "doc", "mobi", "prc", "epub", "odt", "djvu", "html", "htm", "chm", "lit", "fb2"),
        *("docx", "azw3", "fbz", "cbz", "cbr", "cb7", "htmlz", "txtz", "kfx", "azw1", "lrf", "tcr", "snb", "ibooks"),
    )
)
_AT_ONCE = 32  # members a thread or process takes at once
_WORTH_PROCESSES = 16 << 20  # bytes of a chunk for which processes are started

# Members (by item) of other chunks -> (SHA-1, size), as far as they were loaded.
FindMembers = Callable[[Sequence[int]], dict[int, tuple[str, int]]]


@dataclass(slots=True)
class HashedChunk:
    """A chunk as HASHED_FILES rows (one member is one book), and the bytes of each row."""

    rows: pa.Table
    contents: list[Content | None]
    statuses: dict[str, int]  # of the metadata: ok, none, encrypted, unreadable


class ChunkHasher:
    """Digests, types and describes chunk after chunk of one shard: in processes what can be read from the shard by
    its offsets, in threads what is in memory."""

    def __init__(
        self, origin: str, formats: Collection[str], find_members: FindMembers, workers: int, pdf: PdfReader
    ) -> None:
        self._origin = origin
        self._reader = MemberReader(BOOK_KINDS.union(formats), pdf)
        self._find_members = find_members
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, "hash_members")
        self._processes: MemberWorkers | None = None
        self._buffers = threading.local()
        self._last: dict[int, Examined] = {}  # of the chunk before, which may not be committed yet

    def close(self) -> None:
        self._pool.shutdown()
        if self._processes is not None:
            self._processes.close()

    def hash(self, chunk: Chunk) -> HashedChunk:
        """Raises OSError when the shard cannot be read on, and what PdfReader raises."""
        rows = chunk.rows
        found = self._examine_all(chunk)
        self._follow_links(rows, found)
        self._last = {row.item: one for row, one in zip(rows, found, strict=True)}
        statuses: dict[str, int] = {}
        for one in found:
            if one.reason is None:
                statuses[one.status] = statuses.get(one.status, 0) + 1
        contents = [_content(row, one) for row, one in zip(rows, found, strict=True)]
        return HashedChunk(self._table(rows, found), contents, statuses)

    def _examine_all(self, chunk: Chunk) -> list[Examined]:
        found = [Examined(reason=row.reason, detail=row.detail) for row in chunk.rows]
        wanted = [n for n, row in enumerate(chunk.rows) if row.reason is None and (row.data or row.held)]
        processes = self._start_processes(chunk)
        pieces = [wanted[i : i + _AT_ONCE] for i in range(0, len(wanted), _AT_ONCE)]

        def examine(piece: list[int]) -> list[Examined]:
            some = [chunk.rows[n] for n in piece]
            if processes is not None and all(row.held and row.held.file is processes.file for row in some):
                return processes.examine([(row.held.offset, row.size, row.given_format) for row in some if row.held])
            return [self._examine(row) for row in some]

        for piece, ones in zip(pieces, self._pool.map(examine, pieces), strict=True):
            for n, one in zip(piece, ones, strict=True):
                found[n] = one
        return found

    def _start_processes(self, chunk: Chunk) -> MemberWorkers | None:
        """The processes, when there is enough for them to do."""
        file = chunk.file
        if self._processes is None and file is not None:
            size = sum(row.size for row in chunk.rows if row.held and row.held.file is file)
            if size >= _WORTH_PROCESSES:
                self._processes = MemberWorkers(file, self._reader.kinds, self._workers)
        return self._processes

    def _examine(self, row: ShardRow) -> Examined:
        if row.held is None:
            assert row.data is not None
            return self._reader.examine(row.data, row.size, row.read_at, row.given_format)
        buffer = getattr(self._buffers, "buffer", None)
        if buffer is None:
            buffer = self._buffers.buffer = memoryview(bytearray(PIECE))
        return read_member(self._reader, row.held.file.fd, (row.held.offset, row.size, row.given_format), buffer)

    def _follow_links(self, rows: Sequence[ShardRow], found: list[Examined]) -> None:
        """Hard links of a packed shard have the digest of a member that has gone by."""
        links = [
            n for n, row in enumerate(rows) if row.same_as is not None and row.data is None and row.held is None
        ]  # fmt: skip
        links = [n for n in links if found[n].reason is None]
        if not links:
            return
        here = {row.item: n for n, row in enumerate(rows)}
        earlier = {
            item: one
            for n in links
            if (item := rows[n].same_as) is not None and item not in here and (one := self._last.get(item))
        }
        rest = [i for n in links if (i := rows[n].same_as) is not None and i not in here and i not in earlier]
        loaded = self._find_members(rest) if rest else {}
        for n in links:
            item = rows[n].same_as
            assert item is not None
            if item in loaded:
                found[n] = Examined(*loaded[item], kind=rows[n].given_format or "link")
            else:
                found[n] = found[here[item]] if item in here else earlier.get(item, _BROKEN)

    def _table(self, rows: Sequence[ShardRow], found: Sequence[Examined]) -> pa.Table:
        names = [row.file_name for row in rows]
        nothing = pa.nulls(len(rows), pa.int16())
        columns = {
            "origin": [self._origin] * len(rows),
            "item": [row.item for row in rows],
            "title": [one.title or title_from_name(name) for one, name in zip(found, names, strict=True)],
            "authors": [one.authors for one in found],
            "series": [one.series for one in found],
            "series_index": [one.series_index for one in found],
            "languages": [one.languages for one in found],
            "tags": [one.tags for one in found],
            "rating": nothing,
            "path": [b""] * len(rows),
            "file_name": names,
            # A name that claims nothing agrees with whatever the file is.
            "given_format": [row.given_format or one.kind for row, one in zip(rows, found, strict=True)],
            "reason": [one.reason for one in found],
            "detail": [one.detail for one in found],
            "sha1": [one.sha1 for one in found],
            "size": [one.size for one in found],
            "format": [one.kind for one in found],
        }
        return pa.table(columns, schema=HASHED_FILES)


_BROKEN = Examined(reason=Reason.BROKEN_LINK.value, detail="its target was not loaded")


def _content(row: ShardRow, one: Examined) -> Content | None:
    if one.sha1 is None or (row.data is None and row.held is None):
        return None
    return Content(one.sha1, partial(_write, row))


def _write(row: ShardRow, file: int) -> None:
    """Write a member's bytes to an open file: from memory, or in the kernel from the shard."""
    if row.data is not None:
        view = row.data
        while view:
            view = view[os.write(file, view) :]
        return
    held = row.held
    assert held is not None
    at = 0
    # The second copies between file systems, too. Either may be missing, or not want these files.
    for copy in (_copy_range, _send):
        with suppress(AttributeError, OSError):
            while at < held.size and (copied := copy(held, at, file)):
                at += copied
    os.lseek(file, at, os.SEEK_SET)
    while at < held.size:
        piece = memoryview(held.read_at(at, PIECE))
        if not piece:
            raise OSError(errno.EIO, "the shard became shorter")
        at += len(piece)
        while piece:
            piece = piece[os.write(file, piece) :]


def _copy_range(held: Range, at: int, file: int) -> int:
    return os.copy_file_range(held.file.fd, file, held.size - at, held.offset + at, at)


def _send(held: Range, at: int, file: int) -> int:
    os.lseek(file, at, os.SEEK_SET)
    return os.sendfile(file, held.file.fd, held.offset + at, held.size - at)
