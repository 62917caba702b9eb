"""Shards, read in place: tar archives, packed or not, and folders of what was extracted from one.

Nothing is written to a shard, extracted beside it or followed out of it: names in it are labels, never paths to
open. Members come in chunks, so that memory is bounded and work starts with the first of them.
"""

from collections.abc import Iterator
from pathlib import Path

from bookpipe.model.errors import TransientError
from bookpipe.sources.shard_chunks import Buffers, Chunk, Filling, Resume
from bookpipe.sources.shard_folders import FolderReader
from bookpipe.sources.tar_headers import Kind, Member, Problem
from bookpipe.sources.tar_reader import TarReader
from bookpipe.sources.tar_shards import Shard

MAX_IN_MEMORY = 64 << 20  # bytes of a member


def walk(shard: Shard, start: int = 0) -> Iterator[Member | Problem]:
    """The members of a shard, folders included, without their data, and its problems.

    `start` is the header offset of a member (in a folder its number). A packed shard is unpacked from its beginning.
    """
    reader = FolderReader(shard, 0) if shard.kind == "folder" else TarReader(shard, 0, None)
    for event in reader.events(Resume(start)):
        if isinstance(event, Problem) or reader.reaches(event):
            yield event


def read_chunks(
    shard: Shard,
    start: Resume | None = None,
    *,
    max_members: int,
    max_bytes: int,
    max_member: int = MAX_IN_MEMORY,
    spool: Path | None = None,
) -> Iterator[Chunk]:
    """The shard from `start` on, in chunks of at most `max_members` rows and `max_bytes` bytes; at least one chunk.

    Members of a plain tar stay where they are and are read by whoever wants them, at the latest when the next chunk
    but one is asked for, or they will have to come from the disk again. Those of other forms are in memory. A single
    member may have more bytes than a chunk. Those with more than `max_member` are not read into memory: in a packed
    shard they go to a nameless file in `spool` (by default where temporary files are). Memory is at most
    max(max_bytes, max_member) for each chunk that somebody still holds. ConfigError when the shard cannot be
    opened, TransientError when it changes or can no longer be read.
    """
    start = start or Resume(0)
    if shard.kind == "folder":
        reader: FolderReader | TarReader = FolderReader(shard, max_member)
    else:
        reader = TarReader(shard, max_member, spool, max_bytes)
    buffers = Buffers(max_bytes if shard.kind != "tar" else 0)
    filling, after = Filling(buffers), start.position
    try:
        for event in reader.events(start):
            if isinstance(event, Problem):
                filling.problems.append(event)
                continue
            if event.kind is Kind.FOLDER:
                after = reader.after(event)
                continue
            row, content = reader.admit(event)
            size = row.size if content is not None else 0
            if filling.rows and (len(filling.rows) >= max_members or filling.bytes + size > max_bytes):
                yield reader.close_chunk(filling, event.header_offset, last=False)
                filling = Filling(buffers)
            # One that is refused by its header counts only when it is whole, too: so does it for whoever walks.
            if reader.load(row, content, filling) if content is not None else reader.reaches(event):
                filling.rows.append(row)
                filling.bytes += size
                after = reader.after(event)
        yield reader.close_chunk(filling, after, last=True)
    except OSError as error:
        raise TransientError(
            f"The shard {shard.path} cannot be read on: {error.strerror}. The partition is tried again."
        ) from error
    finally:
        reader.close()
