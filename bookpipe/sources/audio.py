"""A folder of music as batches of TAGGED_FILES rows.

Paths are bytes from end to end: what the file system gives is never decoded, normalised or joined with text, so
that every name it can hold is found again.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from bookpipe.model.errors import ConfigError, TransientError
from bookpipe.model.rejections import Reason
from bookpipe.model.songs import TAGGED_FILES, SongTags
from bookpipe.runtime.audio_batches import Md5Cache, Md5Row
from bookpipe.runtime.files import Refused, hash_open_file, open_inside, refuse
from bookpipe.runtime.progress import NoProgress, Progress
from bookpipe.runtime.stopping import check_stop
from bookpipe.sources.audio_tags import read_tags
from bookpipe.sources.audio_types import CONTENT_TYPES, HEAD_BYTES, content_type, sniff

# The archive stores sizes as 64-bit numbers and knows no limit. No recording is larger; a file of holes can be.
MAX_SIZE = 1 << 40  # bytes
CHUNK = 16  # files a thread takes at once
SAVE_EVERY = 1_000  # digests; what a crash may cost
SAVE_EVERY_S = 2.0

# Folders that file servers and systems make for themselves, besides those that start with a dot. Lower case.
JUNK_FOLDERS = frozenset(
    (
        *(b"@eadir", b"#recycle", b"#snapshot", b"@recycle", b"lost+found", b"$recycle.bin", b"__macosx"),
        *(b"system volume information", b"network trash folder", b"temporary items"),
    )
)

_AUDIO = frozenset(f".{extension}".encode() for extension in CONTENT_TYPES)

OnUnreadable = Callable[[bytes, str], None]

# -- finding ------------------------------------------------------------------------------------------------------


def walk_audio(root: Path, *, on_unreadable: OnUnreadable | None = None) -> Iterator[bytes]:
    """The audio files below `root`, as paths from there, in the order of their bytes.

    Audio is what `audio_types.CONTENT_TYPES` has the extension of, in upper or lower case. Hidden files and
    folders and `JUNK_FOLDERS` are passed over. Links to folders are not followed, links to files when they end at a
    file inside of `root`. Memory: the names of one folder, and of those above it.

    `on_unreadable` hears the folder (from `root`) and the system's words for each that cannot be listed.
    Raises ConfigError when that is `root` itself, TransientError when the storage as a whole goes away.
    """
    top = os.fsencode(os.path.abspath(root))
    inside = os.path.realpath(top)
    try:
        stack = [iter(_list_folder(top, b"", inside))]
    except OSError as error:
        raise ConfigError(
            f"The music folder {os.fspath(root)!r} cannot be listed: {error.strerror}. Check the path and its rights."
        ) from error
    while stack:
        path = next(stack[-1], None)
        if path is None:
            stack.pop()
        elif not path.endswith(b"/"):
            yield path
        else:
            try:
                stack.append(iter(_list_folder(top, path, inside)))
            except OSError as error:
                refuse(error, path)
                if on_unreadable is not None:
                    on_unreadable(path[:-1], error.strerror or "")


def _list_folder(top: bytes, folder: bytes, inside: bytes) -> list[bytes]:
    """The folders, with a slash at the end, and audio files of a folder: sorted so that whole paths are in order."""
    found = []
    with os.scandir(os.path.join(top, folder)) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(b"."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if name.lower() not in JUNK_FOLDERS:
                    found.append(folder + name + b"/")
            elif os.path.splitext(name)[1].lower() in _AUDIO and (
                entry.is_file(follow_symlinks=False) or (entry.is_symlink() and _ends_at_a_file(entry.path, inside))
            ):
                found.append(folder + name)
    found.sort()
    return found


def _ends_at_a_file(link: bytes, inside: bytes) -> bool:
    target = os.path.realpath(link)
    return target.startswith(inside.rstrip(b"/") + b"/") and os.path.isfile(target)


# -- reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Read:
    """What one file is: everything of its row but its place and path."""

    size: int
    mtime_ns: int
    md5: str
    content_type: str
    sniffed_type: str
    tags: SongTags


def read_audio_files(
    root: Path,
    paths: Sequence[bytes],
    *,
    cache: Md5Cache | None = None,
    scope: str = "",
    threads: int | None = None,
    progress: Progress | None = None,
) -> pa.Table:
    """TAGGED_FILES of the files at `paths` below `root`, in the same order, counted from 1.

    `scope` names the batch in `cache`: a file whose size and time of change are known there is not hashed again. Of
    all others every byte is read once. Memory: a megabyte for each thread and the rows, however large the files are.
    A file that cannot be sent ends with a reason; one without readable tags only lacks them. When the folder
    itself has gone away, that is a TransientError and not ten thousand missing files; StoppedError ends the reading
    early when a stop is requested.
    """
    progress = progress or NoProgress()
    top = os.fsencode(os.path.abspath(root))
    inside = os.path.realpath(top).rstrip(b"/")
    known = cache.load(scope) if cache is not None else {}

    def read_chunk(chunk: list[bytes]) -> list[_Read | Refused]:
        return [_read_file(top, path, inside, known.get(path)) for path in chunk]

    found: list[_Read | Refused] = []
    fresh: list[tuple[bytes, Md5Row]] = []
    saved_at = time.monotonic()
    remaining = iter(paths)
    chunks = list(iter(lambda: list(islice(remaining, CHUNK)), []))
    try:
        with ThreadPoolExecutor(threads or os.cpu_count() or 1, "read_audio_files") as pool:
            for chunk, results in zip(chunks, pool.map(read_chunk, chunks), strict=True):
                found += results
                fresh += [
                    (path, row)
                    for path, result in zip(chunk, results, strict=True)
                    if isinstance(result, _Read)
                    and known.get(path) != (row := (result.size, result.mtime_ns, result.md5))
                ]
                if any(isinstance(r, Refused) and r.reason is Reason.MISSING_FILE for r in results) and _is_gone(top):
                    raise TransientError(
                        f"The music folder {os.fspath(root)!r} has gone away while its files were read: is the disk or "
                        "network share still mounted? The partition is tried again."
                    )
                progress.advance("read_audio_files", len(found), len(paths))
                if cache is not None and (len(fresh) >= SAVE_EVERY or time.monotonic() - saved_at > SAVE_EVERY_S):
                    cache.save(scope, fresh)
                    fresh, saved_at = [], time.monotonic()
                check_stop(f"{len(found)} of {len(paths)} audio files were read.")
    finally:
        if cache is not None and fresh:
            cache.save(scope, fresh)
    return _table(paths, found)


def _is_gone(top: bytes) -> bool:
    """Whether a folder that had files has none now: the mount point that is left of a share is empty."""
    try:
        with os.scandir(top) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def _read_file(top: bytes, path: bytes, inside: bytes, known: Md5Row | None) -> _Read | Refused:
    if any(part in (b"", b".", b"..") for part in path.split(b"/")) or b"\0" in path:
        return Refused(Reason.BAD_PATH, "")
    where = os.path.join(top, path)
    try:
        with open_inside(where, inside) as opened:
            if not isinstance(opened, Refused):
                return _read_open_file(*opened, path, known)
            missing = opened.reason is Reason.MISSING_DIR
            return Refused(Reason.MISSING_FILE, "") if missing else opened
    except OSError as error:
        return refuse(error, where)


def _read_open_file(fd: int, status: os.stat_result, path: bytes, known: Md5Row | None) -> _Read | Refused:
    size, mtime_ns = status.st_size, status.st_mtime_ns
    if size == 0:
        return Refused(Reason.EMPTY_FILE, "")
    if size > MAX_SIZE:
        return Refused(Reason.TOO_LARGE, f"{size} bytes")
    if known is not None and known[:2] == (size, mtime_ns):
        md5: str | None = known[2]
    else:
        md5 = hash_open_file(fd, size, "md5")
    if md5 is None:
        return Refused(Reason.CHANGED_WHILE_READING, "")
    # From here on the system has in memory, mostly, what it has just read for the digest.
    head = os.pread(fd, HEAD_BYTES, 0)
    name = path.rpartition(b"/")[2].decode("utf-8", "replace")
    tags = read_tags(fd, size, head, name.rpartition(".")[2].lower())
    after = os.fstat(fd)
    if (after.st_size, after.st_mtime_ns) != (size, mtime_ns):
        return Refused(Reason.CHANGED_WHILE_READING, "")
    declared = content_type(name)
    return _Read(size, mtime_ns, md5, declared, sniff(head, name, declared), tags)


def _table(paths: Sequence[bytes], found: list[_Read | Refused]) -> pa.Table:
    reads = [f if isinstance(f, _Read) else None for f in found]
    refused = [f if isinstance(f, Refused) else None for f in found]
    tags = [r and r.tags for r in reads]
    columns = {
        "item": range(1, 1 + len(paths)),
        "path": paths,
        "mtime_ns": [r.mtime_ns if r and abs(r.mtime_ns) < 2**63 else None for r in reads],
        "reason": [r and r.reason.value for r in refused],
        "detail": [(r and r.detail) or None for r in refused],
    }
    for name in ("size", "md5", "content_type", "sniffed_type"):
        columns[name] = [r and getattr(r, name) for r in reads]
    for name in ("title", "artist", "album", "genre", "track", "duration"):
        columns[name] = [t and getattr(t, name) for t in tags]
    return pa.table(
        {field.name: pa.array(columns[field.name], field.type) for field in TAGGED_FILES}, schema=TAGGED_FILES
    )
