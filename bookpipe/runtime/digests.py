"""BOOK_FILES -> HASHED_FILES: what the bytes of every file of a batch are, read at most once in its life."""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import pyarrow as pa

from bookpipe.model.errors import TransientError
from bookpipe.model.rejections import Reason
from bookpipe.model.schemas import BOOK_FILES, HASHED_FILES
from bookpipe.runtime.files import Identify, Refused, digest_file
from bookpipe.runtime.progress import NoProgress, Progress
from bookpipe.runtime.state import Digest, State

CHUNK = 64  # files a thread takes at once: one task per file would cost more than the hashing of small files
SAVE_EVERY = 1_000  # digests; what a crash may cost
SAVE_EVERY_S = 2.0

Relocate = Callable[[bytes], bytes | Reason]
_Job = tuple[int, bytes, str | None]  # row, path, given extension
_Look = Callable[..., Digest | Refused]  # digest_file with all but (path, extension, known=)


def hash_files(
    rows: pa.Table,
    state: State,
    scope: str,
    *,
    folder: bytes,
    anchor: bytes,
    identify: Identify,
    relocate: Relocate,
    max_size: int,
    threads: int | None = None,
    progress: Progress | None = None,
) -> pa.Table:
    """HASHED_FILES of BOOK_FILES rows (extra columns are dropped), in the same order.

    `scope` names the batch in the digest cache. Every file must really be inside `folder`. A file that is
    not at its path is looked for with `relocate`, and the row then carries the path where it was found.
    `anchor` is a file that is always there: when files are missing and it is too, the whole collection has
    gone away, which is a TransientError and not ten thousand missing files.
    """
    progress = progress or NoProgress()
    known = state.load_digests(scope)
    look = partial(digest_file, inside=os.path.realpath(folder), identify=identify, max_size=max_size)
    paths, reasons, given = (rows.column(name).to_pylist() for name in ("path", "reason", "given_format"))
    jobs = [(i, path, given[i]) for i, path in enumerate(paths) if path is not None and reasons[i] is None]

    def digest_chunk(chunk: list[_Job]) -> list[tuple[bytes, Digest | Refused]]:
        return [_digest(path, extension, look, known, relocate) for _, path, extension in chunk]

    found: dict[int, tuple[bytes, Digest | Refused]] = {}
    fresh: list[tuple[bytes, Digest]] = []
    saved_at = time.monotonic()
    remaining = iter(jobs)
    chunks = list(iter(lambda: list(islice(remaining, CHUNK)), []))
    try:
        with ThreadPoolExecutor(threads or os.cpu_count() or 1, "hash_files") as pool:
            for chunk, results in zip(chunks, pool.map(digest_chunk, chunks), strict=True):
                found.update((i, result) for (i, _, _), result in zip(chunk, results, strict=True))
                fresh += [(path, d) for path, d in results if isinstance(d, Digest) and known.get(path) is not d]
                if any(_is_missing(result) for _, result in results) and not os.path.exists(anchor):
                    raise TransientError(
                        f"{os.fsdecode(anchor)} has gone away while its files were read: is the disk or network share "
                        "still mounted? The partition is tried again."
                    )
                progress.advance("hash_files", len(found), len(jobs))
                if len(fresh) >= SAVE_EVERY or (fresh and time.monotonic() - saved_at > SAVE_EVERY_S):
                    state.save_digests(scope, fresh)
                    fresh, saved_at = [], time.monotonic()
    finally:
        if fresh:
            state.save_digests(scope, fresh)
    return _table(rows, found)


def _digest(
    path: bytes, extension: str | None, look: _Look, known: Mapping[bytes, Digest], relocate: Relocate
) -> tuple[bytes, Digest | Refused]:
    """Where the file is, and what it is."""
    found = look(path, extension, known=known.get(path))
    if not _is_missing(found):
        return path, found
    moved = relocate(path)
    if isinstance(moved, Reason):
        return path, Refused(moved, "")
    return moved, look(moved, extension, known=known.get(moved))


def _is_missing(found: Digest | Refused) -> bool:
    return isinstance(found, Refused) and found.reason in (Reason.MISSING_FILE, Reason.MISSING_DIR)


def _table(rows: pa.Table, found: Mapping[int, tuple[bytes, Digest | Refused]]) -> pa.Table:
    """The rows with what was found of some, by their places."""
    columns = {name: rows.column(name) for name in BOOK_FILES.names}
    paths, reasons, details, given = (
        columns[name].to_pylist() for name in ("path", "reason", "detail", "given_format")
    )
    digests: list[Digest | None] = [None] * rows.num_rows
    for i, (path, result) in found.items():
        if isinstance(result, Refused):
            reasons[i], details[i] = result.reason.value, result.detail or None
        else:
            paths[i], digests[i] = path, result
    columns["path"] = pa.array(paths, pa.binary())
    columns["reason"] = pa.array(reasons, pa.string())
    columns["detail"] = pa.array(details, pa.string())
    columns["sha1"] = pa.array([d and d.sha1 for d in digests], pa.string())
    columns["size"] = pa.array([d and d.size for d in digests], pa.int64())
    columns["format"] = pa.array(
        [None if d is None else d.format or extension for d, extension in zip(digests, given, strict=True)], pa.string()
    )
    return pa.table(columns, schema=HASHED_FILES)
