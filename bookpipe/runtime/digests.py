"""BOOK_FILES -> HASHED_FILES: what the bytes of every file of a batch are, read at most once in its life."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
_Job = tuple[int, bytes, str | None]


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
    inside = os.path.realpath(folder)
    paths: list[bytes | None] = rows.column("path").to_pylist()
    reasons: list[str | None] = rows.column("reason").to_pylist()
    details: list[str | None] = rows.column("detail").to_pylist()
    given: list[str | None] = rows.column("given_format").to_pylist()
    jobs = [(i, p, given[i]) for i, p in enumerate(paths) if p is not None and reasons[i] is None]

    def digest(job: _Job) -> tuple[bytes, Digest | Refused]:
        _, path, extension = job
        found = digest_file(
            path, extension, inside=inside, identify=identify, max_size=max_size, known=known.get(path)
        )  # fmt: skip
        if isinstance(found, Refused) and found.reason in (Reason.MISSING_FILE, Reason.MISSING_DIR):
            moved = relocate(path)
            if isinstance(moved, Reason):
                return path, Refused(moved, "")
            path = moved
            found = digest_file(
                path, extension, inside=inside, identify=identify, max_size=max_size, known=known.get(path)
            )
        return path, found

    def digest_chunk(chunk: list[_Job]) -> list[tuple[bytes, Digest | Refused]]:
        return [digest(job) for job in chunk]

    digests: list[Digest | None] = [None] * len(paths)
    fresh: list[tuple[bytes, Digest]] = []
    done = 0
    saved_at = time.monotonic()
    remaining = iter(jobs)
    chunks = list(iter(lambda: list(islice(remaining, CHUNK)), []))
    try:
        with ThreadPoolExecutor(threads or os.cpu_count() or 1, "hash_files") as pool:
            for chunk, results in zip(chunks, pool.map(digest_chunk, chunks), strict=True):
                missing = False
                for (i, _, _), (path, found) in zip(chunk, results, strict=True):
                    if isinstance(found, Refused):
                        reasons[i], details[i] = found.reason.value, found.detail or None
                        missing = missing or found.reason in (Reason.MISSING_FILE, Reason.MISSING_DIR)
                        continue
                    digests[i] = found
                    if known.get(path) is not found:
                        fresh.append((path, found))
                    if paths[i] != path:
                        paths[i] = path
                if missing and not os.path.exists(anchor):
                    raise TransientError(
                        f"{os.fsdecode(anchor)} has gone away while its files were read: is the disk or network share "
                        "still mounted? The partition is tried again."
                    )
                done += len(chunk)
                progress.advance("hash_files", done, len(jobs))
                if len(fresh) >= SAVE_EVERY or (fresh and time.monotonic() - saved_at > SAVE_EVERY_S):
                    state.save_digests(scope, fresh)
                    fresh, saved_at = [], time.monotonic()
    finally:
        if fresh:
            state.save_digests(scope, fresh)
    columns = {name: rows.column(name) for name in BOOK_FILES.names}
    columns["path"] = pa.array(paths, pa.binary())
    columns["reason"] = pa.array(reasons, pa.string())
    columns["detail"] = pa.array(details, pa.string())
    columns["sha1"] = pa.array([d and d.sha1 for d in digests], pa.string())
    columns["size"] = pa.array([d and d.size for d in digests], pa.int64())
    columns["format"] = pa.array(
        [None if d is None else d.format or given[i] for i, d in enumerate(digests)], pa.string()
    )
    return pa.table(columns, schema=HASHED_FILES)
