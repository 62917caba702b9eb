"""The members of a tar, packed or not, as rows."""

import os
from collections.abc import Iterator
from pathlib import Path

from bookpipe.model.errors import TransientError
from bookpipe.model.rejections import Reason
from bookpipe.sources import tar_headers
from bookpipe.sources.shard_chunks import Chunk, Filling, Resume, ShardRow, refuse_member
from bookpipe.sources.tar_headers import Kind, Member, Problem
from bookpipe.sources.tar_shards import Shard
from bookpipe.sources.tar_streams import OpenFile, Plain, Range, Unpacked, open_shard, scratch_on_disk

MAX_LINK_TARGETS = 1_000_000  # members a hard link may name; each costs about 100 bytes of memory


class TarReader:
    """The members of a tar, packed or not."""

    def __init__(self, shard: Shard, max_member: int, spool: Path | None, ahead: int = 0) -> None:
        self.path, self.max_member, self.spool, self.ahead = shard.path, max_member, spool, ahead
        self.file = OpenFile(open_shard(shard.path))
        self.total: int | None = os.fstat(self.file.fd).st_size
        self.plain = shard.kind == "tar"
        self.source: Plain | Unpacked = (Plain if self.plain else Unpacked)(self.file, shard.kind)
        self.records: tar_headers.Records = {}
        self.targets: dict[int, int] = {}  # hash of a name -> header offset of its member; its item when packed
        self.not_indexed = 0  # bytes at the start whose members are not in `targets`
        self.dropped = 0
        self.ends = (0, 0)  # of the last two chunks of a plain tar
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.file.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def events(self, start: Resume) -> Iterator[Member | Problem]:
        if self.plain:
            self.records.update(start.records)
            self.not_indexed = self.dropped = start.position
            self.ends = start.position, start.position
            self._fetch(start.position)
            yield from tar_headers.walk(self.source, start.position, self.records)
            return
        for event in tar_headers.walk(self.source, 0, self.records):  # a stream has no middle to begin in
            if (event.header_offset if isinstance(event, Member) else event.offset) >= start.position:
                yield event
            elif isinstance(event, Member):
                self.admit(event)

    def after(self, member: Member) -> int:
        return member.end

    def reaches(self, member: Member) -> bool:
        """Whether the archive has all of the member's data."""
        return self.source.reaches(member.offset + member.stored)

    def admit(self, member: Member) -> tuple[ShardRow, Member | None]:
        """The row of a member, and the member that has its bytes; None when there are none to be read."""
        row = ShardRow(member.offset, member.name, member.size, member.mtime)
        refusal = refuse_member(member)
        target = member.header_offset if self.plain else member.offset
        content: Member | None = member
        if refusal is None and member.kind is Kind.HARD_LINK:
            target = self._find_target(member.link)
            if target < 0:
                refusal = (
                    Reason.BROKEN_LINK.value,
                    f"to {os.fsdecode(member.link)!r}, which is no earlier file of the shard",
                )
            elif self.plain:
                content = _first_member(self.source, target)
                row.same_as, row.size = content.offset, content.size
            else:
                content, row.same_as = None, target
        if refusal is not None:
            row.refuse(*refusal)
            return row, None
        if len(self.targets) < MAX_LINK_TARGETS:
            self.targets[hash(os.path.normpath(member.name))] = target
        return row, content

    def _find_target(self, link: bytes) -> int:
        name = hash(os.path.normpath(link))
        if name not in self.targets and self.not_indexed:
            later, self.targets = self.targets, {}
            end, self.not_indexed = self.not_indexed, 0
            for event in tar_headers.walk(self.source, 0):
                if isinstance(event, Member):
                    if event.header_offset >= end:
                        break
                    self.admit(event)
            self.targets |= later
        return self.targets.get(name, -1)

    def load(self, row: ShardRow, member: Member, filling: Filling) -> bool:
        """Get the row's bytes, or its reason; False when the archive ends before their end."""
        if member.kind is Kind.SPARSE:
            return self._load_sparse(row, member, filling)

        def allocate(size: int) -> Range:
            return filling.allocate(size) if size <= self.max_member else Range(scratch_on_disk(self.spool), 0, size)

        row.held = self.source.hold(member.offset, member.size, allocate)
        return row.held is not None

    def _load_sparse(self, row: ShardRow, member: Member, filling: Filling) -> bool:
        if max(member.size, member.stored) > self.max_member:
            row.refuse(
                Reason.BROKEN_SPARSE.value,
                f"{member.size} bytes, {member.stored} of them stored: too many to fill in holes",
            )
            return True
        stored = bytearray(member.stored)
        if not self.source.read_into(member.offset, memoryview(stored)):
            return False
        expanded = bytearray(member.size)
        if tar_headers.expand_sparse(member, stored, memoryview(expanded)):
            del stored
            row.held = filling.allocate(member.size)
            row.held.write_at(0, expanded)
        else:
            row.refuse(Reason.BROKEN_SPARSE.value, "the map of its holes contradicts itself")
        return True

    def close_chunk(self, filling: Filling, position: int, last: bool) -> Chunk:
        if self.file.is_changed():
            raise TransientError(f"The shard {self.path} changed while it was read. The partition is tried again.")
        done = position if self.plain else os.lseek(self.file.fd, 0, os.SEEK_CUR)
        if last and self.total is not None:
            done = self.total
        if self.plain:
            # The members of this chunk and of the one before are still to be read.
            self._drop(self.ends[0])
            self.ends = self.ends[1], position
            if not last:
                self._fetch(position)
        else:
            self._drop(done)
        resume = Resume(position, tuple(self.records.items()) if self.plain else ())
        return Chunk(filling.rows, filling.problems, resume, done, self.total, last)

    def close(self) -> None:
        """No chunk of this reader is needed any more."""
        self._drop(self.ends[1])

    def _fetch(self, position: int) -> None:
        """Have the system read the next chunk while others are worked on."""
        if self.ahead and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.file.fd, position, self.ahead, os.POSIX_FADV_WILLNEED)

    def _drop(self, end: int) -> None:
        # What was read is not read again: its pages are better used for what comes next, and for the database.
        if hasattr(os, "posix_fadvise") and end > self.dropped:
            os.posix_fadvise(self.file.fd, self.dropped, end - self.dropped, os.POSIX_FADV_DONTNEED)
            self.dropped = end


def _first_member(source: "Plain | Unpacked", offset: int) -> Member:
    return next(event for event in tar_headers.walk(source, offset) if isinstance(event, Member))
