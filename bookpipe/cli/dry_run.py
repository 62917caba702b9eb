"""`bookpipe load ... --dry-run`: everything a load does short of writing."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from rich.console import Console
from rich.progress import track
from rich.text import Text

from bookpipe.cli.environment import registered_partitions
from bookpipe.cli.load_command import duration, print_summary
from bookpipe.cli.loading import LoadSummary
from bookpipe.defs.partitions import find_book_batches, find_listen_batches
from bookpipe.defs.pipelines import PIPELINES
from bookpipe.model.book_plans import source_key
from bookpipe.model.errors import PartitionError
from bookpipe.pipelines import books, calibre, covers, scrobbles, songs
from bookpipe.pipelines.configured import (
    book_options,
    calibre_library,
    koito,
    listen_options,
    music_archive,
    mybookshelf2,
    tar_shards,
)
from bookpipe.pipelines.tars import plan_shard_dry
from bookpipe.resolve.books import Batch
from bookpipe.runtime.audio_batches import AudioBatches
from bookpipe.runtime.state import State
from bookpipe.runtime.upload_ledger import Content, UploadLedger
from bookpipe.settings import Settings, require
from bookpipe.sources.scrobbles import read_listens

WRITE_S = 150e-6  # seconds to write one row, measured on a small home server; the rest is measured here


def dry_run_calibre(limit: int | None, partitions: Sequence[str], console: Console) -> None:
    """Read, hash, look up and plan every partition, and say what a load would do. Writes nothing anywhere."""
    settings = Settings.load()
    library = calibre_library(settings)
    target = mybookshelf2(settings)
    registered = registered_partitions(PIPELINES["calibre"].partitions_name)
    batches = find_book_batches(library, registered, settings.batch_size)
    if unknown := [key for key in partitions if key not in batches]:
        raise PartitionError(f"The Calibre library has no partition {', '.join(unknown)}.")
    keys = list(partitions or batches)[:limit]
    summary = LoadSummary(total=len(keys))
    digests = State(settings.state_path, read_only=True)
    planned: dict[str, int] = {}  # what earlier batches of this dry run would have added
    for key in track(keys, "planning", console=console, transient=True):
        state = batches[key]
        rows = library.read(state.first, state.last, without_files=settings.load_books_without_files)
        hashed = calibre.hash_files(library, rows, digests, key, threads=settings.hash_threads)
        batch = Batch(hashed)
        known = books.find_known(target, batch)
        known.sources.update(planned)
        plan, counts = books.plan_dry(batch, known, book_options(settings))
        planned.update({source_key(s.sha1, s.size): 1 for s in plan.sources})
        summary.add_loaded(counts)
    _print(summary, console)


def dry_run_tars(limit: int | None, partitions: Sequence[str], console: Console) -> None:
    """Read every shard and say what a first load of it would do. Writes nothing anywhere."""
    settings = Settings.load()
    shards = tar_shards(settings)
    target = mybookshelf2(settings)
    if unknown := [key for key in partitions if key not in shards]:
        raise PartitionError(f"BOOKPIPE_TAR_DIR has no shard {', '.join(unknown)}.")
    keys = list(partitions or shards)[:limit]
    summary = LoadSummary(total=len(keys))
    seen: set[bytes] = set()
    for key in track(keys, "planning", console=console, transient=True):
        summary.add_loaded(
            plan_shard_dry(target, shards[key], book_options(settings), workers=settings.hash_threads, seen=seen)
        )
    _print(summary, console)


def dry_run_covers(pipeline: str, limit: int | None, partitions: Sequence[str], console: Console) -> None:
    """Find and render every missing cover of the books that `pipeline` loaded. Writes nothing anywhere."""
    settings = Settings.load()
    target = mybookshelf2(settings)
    library = calibre_library(settings) if pipeline == "calibre" else None
    loaded = covers.find_partitions(target, pipeline)
    if unknown := [key for key in partitions if key not in loaded]:
        raise PartitionError(f"MyBookshelf2 has no loaded books of the partition {', '.join(unknown)}.")
    keys = list(partitions or loaded)[:limit]
    summary = LoadSummary(total=len(keys))
    for key in track(keys, "rendering", console=console, transient=True):
        ebooks = covers.list_ebooks(target, pipeline, key)
        summary.add_loaded(covers.plan_dry(target, ebooks, library=library, threads=settings.hash_threads))
    _print(summary, console)


def dry_run_scrobbles(limit: int | None, partitions: Sequence[str], console: Console) -> None:
    """Parse, look up and resolve every batch, and say what a load would do. Writes nothing anywhere.

    Batches do not see what those before them would add, so a listen that two exports share counts as inserted twice.
    """
    settings = Settings.load()
    exports = scrobbles.exports_by_key(require(settings, "scrobble_dir"))
    target, options = koito(settings), listen_options(settings)
    records = scrobbles.count_records(exports, None)
    registered = registered_partitions(PIPELINES["scrobbles"].partitions_name)
    batches = find_listen_batches(records, registered, settings.batch_size)
    if unknown := [key for key in partitions if key not in batches]:
        raise PartitionError(f"BOOKPIPE_SCROBBLE_DIR has no partition {', '.join(unknown)}.")
    keys = list(partitions or batches)[:limit]
    summary = LoadSummary(total=len(keys))
    for key in track(keys, "planning", console=console, transient=True):
        export, first, last = batches[key]
        rows = read_listens(
            exports[export], first, last, after=settings.import_after, before=settings.import_before, now=time.time()
        )
        summary.add_loaded(scrobbles.plan_dry(target, rows, options).counts)
    _print(summary, console)


UPLOAD_BYTES_PER_S = 20e6  # a guess: the network and the archive decide


def dry_run_audio(limit: int | None, partitions: Sequence[str], console: Console) -> None:
    """Find, hash and describe every file, and say what an upload would do. Writes nothing anywhere, and does not ask
    the archive."""
    settings = Settings.load()
    root, archive = require(settings, "music_dir"), music_archive(settings)

    def state() -> State:  # one for each that keeps tables in it: a state file need not have all of them yet
        return State(settings.state_path, read_only=True)

    ledger, batches, digests = UploadLedger(state(), archive.url), AudioBatches(state()), state()
    keys = batches.keys()
    known = {key: batches.paths(key) for key in keys}
    if unknown := [key for key in partitions if key not in known]:
        raise PartitionError(f"There is no batch {', '.join(unknown)} of audio files; `bookpipe discover` makes them.")
    in_batches = {path for paths in known.values() for path in paths}
    new = [path for path in songs.walk_songs(root, console.print) if path not in in_batches]
    size = settings.batch_size
    fresh = {f"new files {i + 1}": new[i : i + size] for i in range(0, len(new), size)}
    work = list(({key: known[key] for key in partitions} if partitions else {**known, **fresh}).items())[:limit]
    summary = LoadSummary(total=len(work))
    planned: set[Content] = set()
    to_send, expected = 0, dict[str, int]()
    for key, paths in track(work, "hashing", console=console, transient=True):
        rows = songs.read_songs(root, paths, digests, key, threads=settings.hash_threads)
        plan = songs.plan_dry(rows, ledger, planned, skip_likely_refused=settings.skip_likely_refused)
        summary.add_loaded(plan.counts)
        to_send += plan.bytes_to_send
        for kind, n in plan.expected.items():
            expected[kind] = expected.get(kind, 0) + n
    console.print("A dry run: nothing was written. An upload would end like this:")
    print_summary(summary, console)
    console.print(f"{to_send / 1e6:,.1f} MB to send, about {duration(to_send / UPLOAD_BYTES_PER_S)} at 20 MB/s.")
    for kind, n in sorted(expected.items()):
        refused = f"The archive will probably refuse {n:,} of these: it takes them for {kind}."
        remedy = " BOOKPIPE_ARCHIVE_SKIP_LIKELY_REFUSED=true does not send them."
        console.print(Text.assemble((refused, "yellow"), remedy))


def _print(summary: LoadSummary, console: Console) -> None:
    console.print("A dry run: nothing was written. A load would end like this:")
    seconds = summary.seconds + summary.counts.inserted * WRITE_S
    print_summary(summary, console)
    console.print(f"Estimated time of the load: about {duration(seconds)}.")


DRY_RUNS: dict[str, Callable[[int | None, Sequence[str], Console], None]] = {
    "calibre": dry_run_calibre,
    "tars": dry_run_tars,
    "calibre_covers": partial(dry_run_covers, "calibre"),
    "tars_covers": partial(dry_run_covers, "tars"),
    "scrobbles": dry_run_scrobbles,
    "audio": dry_run_audio,
}
