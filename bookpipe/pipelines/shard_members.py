"""What the bytes of a shard's member are: digest, type and metadata, in one look at them."""

import hashlib
from collections.abc import Callable, Collection
from typing import NamedTuple

from bookpipe.model.rejections import Reason
from bookpipe.sources.ebook_metadata import EbookMetadata, read_metadata
from bookpipe.sources.ebook_types import HEAD_BYTES, identify, label_unknown

PIECE = 1 << 20  # bytes

ReadAt = Callable[[int, int], bytes]


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
