"""A chunk of a shard -> hashed book files and their bytes: digests, types and metadata in one pass over memory."""

import errno
import hashlib
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from bookpipe.model.book_plans import Content
from bookpipe.model.rejections import Reason
from bookpipe.model.schemas import HASHED_FILES
from bookpipe.sources.ebook_metadata import EbookMetadata, PdfReader, read_metadata, title_from_name
from bookpipe.sources.ebook_types import HEAD_BYTES, identify, label_unknown
from bookpipe.sources.tar_shards import Chunk, ShardRow

# Kinds that are books although MyBookshelf2 has no such format: the options say whether it gets them. What else
# MyBookshelf2 does not have (zip, xls, jpg ...) is refused.
BOOK_KINDS = frozenset(
    (
        *("pdf", "txt", "pdb", "rtf", "doc", "mobi", "prc", "epub", "odt", "djvu", "html", "htm", "chm", "lit", "fb2"),
        *("docx", "azw3", "fbz", "cbz", "cbr", "cb7", "htmlz", "txtz", "kfx", "azw1", "lrf", "tcr", "snb", "ibooks"),
    )
)
_PIECE = 1 << 20  # bytes
_AT_ONCE = 16  # members a thread takes at once

# Members (by item) of other chunks -> (SHA-1, size), as far as they were loaded.
FindMembers = Callable[[Sequence[int]], dict[int, tuple[str, int]]]


_SILENT = EbookMetadata()


@dataclass(frozen=True, slots=True)
class _Examined:
    """What is known of a member's bytes."""

    sha1: str | None = None
    size: int | None = None
    kind: str | None = None
    metadata: EbookMetadata = _SILENT
    reason: str | None = None
    detail: str | None = None


@dataclass(slots=True)
class HashedChunk:
    """A chunk as HASHED_FILES rows (one member is one book), and the bytes of each row."""

    rows: pa.Table
    contents: list[Content | None]
    statuses: dict[str, int]  # of the metadata: ok, none, encrypted, unreadable


class ChunkHasher:
    """Digests, types and describes chunk after chunk of one shard, in threads."""

    def __init__(
        self, origin: str, formats: Collection[str], find_members: FindMembers, workers: int, pdf: PdfReader
    ) -> None:
        self._origin = origin
        self._kinds = BOOK_KINDS.union(formats)
        self._find_members = find_members
        self._pool = ThreadPoolExecutor(workers, "hash_members")
        self._pdf = pdf
        self._last: dict[int, _Examined] = {}  # of the chunk before, which may not be committed yet

    def close(self) -> None:
        self._pool.shutdown()

    def hash(self, chunk: Chunk) -> HashedChunk:
        """Raises OSError when the shard cannot be read on, and what PdfReader raises."""
        rows = chunk.rows
        pieces = [rows[i : i + _AT_ONCE] for i in range(0, len(rows), _AT_ONCE)]
        found = [one for some in self._pool.map(self._examine_all, pieces) for one in some]
        self._follow_links(rows, found)
        self._last = {row.item: one for row, one in zip(rows, found, strict=True)}
        statuses: dict[str, int] = {}
        for one in found:
            if one.reason is None:
                statuses[one.metadata.status] = statuses.get(one.metadata.status, 0) + 1
        contents = [_content(row, one) for row, one in zip(rows, found, strict=True)]
        return HashedChunk(self._table(rows, found), contents, statuses)

    def _examine_all(self, rows: Sequence[ShardRow]) -> list[_Examined]:
        return [self._examine(row) for row in rows]

    def _examine(self, row: ShardRow) -> _Examined:
        if row.reason is not None or (row.data is None and row.held is None):
            return _Examined(reason=row.reason, detail=row.detail)
        head = row.read_at(0, HEAD_BYTES)
        kind = identify(head, row.size, row.read_at, row.given_format)
        if kind not in self._kinds:
            label = kind or label_unknown(head) or "unknown"
            return _Examined(reason=Reason.UNSUPPORTED_FORMAT.value, detail=label)
        assert kind is not None
        data = head if row.data is None else row.data
        metadata = read_metadata(kind, data, row.size, row.read_at, pdf=self._pdf)
        return _Examined(_sha1(row), row.size, kind, metadata)

    def _follow_links(self, rows: Sequence[ShardRow], found: list[_Examined]) -> None:
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
                found[n] = _Examined(*loaded[item], kind=rows[n].given_format or "link")
            else:
                found[n] = found[here[item]] if item in here else earlier.get(item, _BROKEN)

    def _table(self, rows: Sequence[ShardRow], found: Sequence[_Examined]) -> pa.Table:
        names = [row.file_name for row in rows]
        says = [one.metadata for one in found]
        nothing = pa.nulls(len(rows), pa.int16())
        columns = {
            "origin": [self._origin] * len(rows),
            "item": [row.item for row in rows],
            "title": [m.title or title_from_name(name) for m, name in zip(says, names, strict=True)],
            "authors": [m.authors for m in says],
            "series": [m.series for m in says],
            "series_index": [m.series_index for m in says],
            "languages": [m.languages for m in says],
            "tags": [m.tags for m in says],
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


_BROKEN = _Examined(reason=Reason.BROKEN_LINK.value, detail="its target was not loaded")


def _sha1(row: ShardRow) -> str:
    if row.data is not None:
        return hashlib.sha1(row.data, usedforsecurity=False).hexdigest()
    digest = hashlib.sha1(usedforsecurity=False)
    for at in range(0, row.size, _PIECE):
        digest.update(row.read_at(at, _PIECE))
    return digest.hexdigest()


def _content(row: ShardRow, one: _Examined) -> Content | None:
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
    try:
        while at < held.size:
            copied = os.copy_file_range(held.file.fd, file, held.size - at, held.offset + at)
            if not copied:
                break
            at += copied
    except (AttributeError, OSError):  # not this system, not between these file systems
        pass
    os.lseek(file, at, os.SEEK_SET)
    while at < held.size:
        piece = memoryview(held.read_at(at, _PIECE))
        if not piece:
            raise OSError(errno.EIO, "the shard became shorter")
        at += len(piece)
        while piece:
            piece = piece[os.write(file, piece) :]
