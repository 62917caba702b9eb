"""Audio files -> the music archive: find and hash, tell the archive's fields, upload what it has not got."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from bookpipe.model.counts import LoadCounts
from bookpipe.model.rejections import Reason, Rejection
from bookpipe.model.songs import is_likely_refused
from bookpipe.resolve.songs import describe_songs, order_songs
from bookpipe.runtime.audio_batches import AudioBatches, Md5Cache
from bookpipe.runtime.progress import Progress
from bookpipe.runtime.state import State
from bookpipe.runtime.stopping import stop_requested
from bookpipe.runtime.upload_ledger import Content, UploadLedger, UploadState
from bookpipe.sources.audio import read_audio_files, walk_audio
from bookpipe.targets.music_archive.server import MusicArchive
from bookpipe.targets.music_archive.uploads import UploadResult, upload_batch

PIPELINE = "audio"
SHOWN = 5  # folders that cannot be read, by name
SAMPLE = 100  # songs that are read back although they were there before


def walk_songs(root: Path, warn: Callable[[str], None]) -> Iterator[bytes]:
    """`walk_audio`, and in the end a word about the folders that could not be listed."""
    unreadable: list[str] = []
    yield from walk_audio(root, on_unreadable=lambda path, why: unreadable.append(f"{_shown(path)} ({why})"))
    if unreadable:
        warn(
            f"Folders of {root} that cannot be read, and whose files are not uploaded: {len(unreadable)}: "
            f"{', '.join(unreadable[:SHOWN])}{' ...' if len(unreadable) > SHOWN else ''}. Give this user the right to "
            "read them."
        )


def find_song_batches(root: Path, state: State, size: int, warn: Callable[[str], None]) -> list[str]:
    """The keys of all batches, after files that are in none yet have been put into new ones. `warn` hears of folders
    that cannot be read."""
    batches = AudioBatches(state)
    batches.plan_batches(walk_songs(root, warn), size)
    return batches.keys()


def read_songs(
    root: Path,
    paths: list[bytes],
    state: State | None,
    key: str,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> pa.Table:
    """AUDIO_FILES of a batch. Without a state nothing is remembered, and every file is read."""
    cache = Md5Cache(state) if state is not None else None
    return describe_songs(read_audio_files(root, paths, cache=cache, scope=key, threads=threads, progress=progress))


def upload_songs(
    archive: MusicArchive,
    songs: pa.Table,
    root: Path,
    state: State,
    *,
    concurrency: int,
    skip_likely_refused: bool = False,
    look_up_remote: bool = False,
    progress: Progress | None = None,
) -> UploadResult:
    """Upload AUDIO_FILES rows, an album's first one before its siblings. Ends early in good order when a stop is
    requested. `look_up_remote`: for a ledger that was lost, or that a power cut may have cut short."""
    return upload_batch(
        archive,
        songs,
        root,
        UploadLedger(state, archive.url),
        waits_for=order_songs(songs),
        concurrency_cap=concurrency,
        skip_likely_refused=skip_likely_refused,
        look_up_remote=look_up_remote,
        progress=progress,
        stop=stop_requested,
    )


def rejections(outcomes: pa.Table) -> list[Rejection]:
    """The rejected rows of SONG_OUTCOMES."""
    columns = (outcomes.column(name).to_pylist() for name in ("path", "reason", "detail"))
    return [
        Rejection(_shown(path), Reason(reason), detail or "")
        for path, reason, detail in zip(*columns, strict=True)
        if reason
    ]


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "replace")


def failed_songs(outcomes: pa.Table) -> list[str]:
    """Songs that the archive has and could not process, with its own words."""
    columns = (outcomes.column(name).to_pylist() for name in ("path", "processing_error"))
    return [f"{_shown(path)}: {error}" for path, error in zip(*columns, strict=True) if error]


def songs_to_read_back(outcomes: pa.Table) -> list[tuple[str, Content]]:
    """(song id, content) of what was uploaded now, and of some that the archive had already: those were read back when
    they were uploaded."""
    found: dict[str, list[tuple[str, Content]]] = {"inserted": [], "existing": []}
    columns = (outcomes.column(name).to_pylist() for name in ("outcome", "song_id", "md5", "size"))
    for outcome, song, md5, size in zip(*columns, strict=True):
        if outcome in found and song is not None:
            found[outcome].append((song, Content(md5, size)))
    return found["inserted"] + found["existing"][:SAMPLE]


@dataclass
class UploadPlan:
    """What an upload would do with some files. `expected`: refusals that the first bytes foretell, by sniffed type;
    they are among the inserted, because the archive has the last word, unless they are to be skipped."""

    counts: LoadCounts = field(default_factory=LoadCounts)
    bytes_to_send: int = 0
    expected: dict[str, int] = field(default_factory=dict)


def plan_dry(songs: pa.Table, ledger: UploadLedger, planned: set[Content], *, skip_likely_refused: bool) -> UploadPlan:
    """What `upload_songs` would do with AUDIO_FILES rows. `planned` is what earlier calls would have sent; it grows."""
    plan = UploadPlan()
    reasons: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    columns = (songs.column(name).to_pylist() for name in ("md5", "size", "sniffed_type", "reason"))
    rows = list(zip(*columns, strict=True))
    known = ledger.load({Content(md5, size) for md5, size, _, reason in rows if reason is None})
    for md5, size, sniffed, reason in rows:
        content = Content(md5, size)
        upload = known.get(content) if reason is None else None
        if reason is not None:
            reasons[reason] += 1
        elif upload is not None and upload.state is UploadState.REFUSED:
            reasons[Reason.REFUSED.value] += 1
        elif content in planned or (upload is not None and upload.state is UploadState.CREATED):
            ends["existing"] += 1
        elif is_likely_refused(sniffed) and skip_likely_refused:
            reasons[Reason.LIKELY_REFUSED.value] += 1
        else:
            planned.add(content)
            ends["inserted"] += 1
            plan.bytes_to_send += size
            if is_likely_refused(sniffed):
                plan.expected[sniffed] = plan.expected.get(sniffed, 0) + 1
    plan.counts = LoadCounts(ends["inserted"], ends["existing"], dict(reasons))
    return plan
