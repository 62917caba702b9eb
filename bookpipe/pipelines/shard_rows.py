"""A chunk of a shard -> hashed book files and their bytes: digests, types and metadata in one look at them."""

import errno
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import pyarrow as pa

from bookpipe.model.book_plans import Content
from bookpipe.model.rejections import Reason
from bookpipe.model.schemas import HASHED_FILES
from bookpipe.pipelines.shard_workers import Examined, MemberWorkers
from bookpipe.sources.file_names import title_from_name
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
_AT_ONCE = 32  # members a process takes at once

# Members (by item) of other chunks -> (SHA-1, size), as far as they were loaded.
FindMembers = Callable[[Sequence[int]], dict[int, tuple[str, int]]]


@dataclass(slots=True)
class HashedChunk:
    """A chunk as HASHED_FILES rows (one member is one book), and the bytes of each row."""

    rows: pa.Table
    contents: list[Content | None]
    statuses: dict[str, int]  # of the metadata: ok, none, encrypted, unreadable


class ChunkHasher:
    """Digests, types and describes chunk after chunk of one shard, in processes."""

    def __init__(self, origin: str, formats: Collection[str], find_members: FindMembers, workers: int) -> None:
        self._origin = origin
        self._find_members = find_members
        self._processes = MemberWorkers(BOOK_KINDS.union(formats), workers)
        self._pool = ThreadPoolExecutor(workers, "ask_processes")
        self._last: dict[int, Examined] = {}  # of the chunk before, which may not be committed yet

    def close(self) -> None:
        self._pool.shutdown()
        self._processes.close()

    def hash(self, chunk: Chunk) -> HashedChunk:
        """Raises OSError when the shard cannot be read on, and what MemberWorkers raises."""
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
        held = [(n, row.held) for n, row in enumerate(chunk.rows) if row.reason is None and row.held is not None]

        def examine(piece: list[tuple[int, Range]]) -> list[Examined]:
            requests = [(each.offset, each.size, chunk.rows[n].given_format) for n, each in piece]
            return self._processes.examine(piece[0][1].file, requests)

        pieces = list(_pieces(held))
        for piece, ones in zip(pieces, self._pool.map(examine, pieces), strict=True):
            for (n, _), one in zip(piece, ones, strict=True):
                found[n] = one
        return found

    def _follow_links(self, rows: Sequence[ShardRow], found: list[Examined]) -> None:
        """Hard links of a packed shard have the digest of a member that has gone by."""
        links = [
            n
            for n, row in enumerate(rows)
            if row.same_as is not None and row.held is None and found[n].reason is None
        ]  # fmt: skip
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


def _pieces(held: list[tuple[int, Range]]) -> Iterator[list[tuple[int, Range]]]:
    """What is examined at once: neighbours in one file."""
    for _, group in groupby(held, lambda one: one[1].file):
        rest = list(group)
        yield from (rest[i : i + _AT_ONCE] for i in range(0, len(rest), _AT_ONCE))


def _content(row: ShardRow, one: Examined) -> Content | None:
    return Content(one.sha1, partial(_write, row.held)) if one.sha1 is not None and row.held is not None else None


def _write(held: Range, file: int) -> None:
    if not held.copy_to(file):
        raise OSError(errno.EIO, "the shard became shorter")
