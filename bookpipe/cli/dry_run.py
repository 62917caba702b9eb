"""`bookpipe load ... --dry-run`: everything a load does short of writing."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import track

from bookpipe.cli.load_command import duration, print_summary
from bookpipe.cli.loading import LoadSummary
from bookpipe.defs.partitions import find_batches
from bookpipe.model.book_plans import Known
from bookpipe.model.errors import PartitionError
from bookpipe.pipelines import books, calibre
from bookpipe.pipelines.configured import book_options, calibre_library, mybookshelf2, tar_shards
from bookpipe.pipelines.tars import plan_shard_dry
from bookpipe.runtime.state import NoState
from bookpipe.settings import Settings

WRITE_S = 150e-6  # seconds to write one row, measured on a small home server; the rest is measured here


def dry_run_calibre(limit: int | None, partitions: Sequence[str], console: Console) -> None:
    """Read, hash, look up and plan every partition, and say what a load would do. Writes nothing anywhere."""
    settings = Settings.load()
    library = calibre_library(settings)
    target = mybookshelf2(settings)
    batches = find_batches(library, (), settings.batch_size)
    if unknown := [key for key in partitions if key not in batches]:
        raise PartitionError(f"The Calibre library has no partition {', '.join(unknown)}.")
    keys = list(partitions or batches)[:limit]
    summary = LoadSummary(total=len(keys))
    planned = Known()  # what earlier batches of this dry run would have added
    for key in track(keys, "planning", console=console, transient=True):
        state = batches[key]
        rows = library.read(state.first, state.last, without_files=settings.load_books_without_files)
        hashed = calibre.hash_files(library, rows, NoState(), key, threads=settings.hash_threads)
        known = Known.from_arrow(books.look_up(target, hashed))
        known.sources.update(planned.sources)
        plan, counts = books.plan_dry(hashed, known.to_arrow(), book_options(settings))
        planned.sources.update({f"{s.sha1}:{s.size}": 1 for s in plan.sources})
        summary.counts += counts
        summary.done += 1
    _print(summary, console)


def dry_run_tars(limit: int | None, partitions: Sequence[str], console: Console) -> None:
    """Read every shard and say what a first load of it would do. Writes nothing anywhere.

    Books that are in two of the shards are counted as inserted twice: each shard is looked at by itself.
    """
    settings = Settings.load()
    shards = tar_shards(settings)
    target = mybookshelf2(settings)
    if unknown := [key for key in partitions if key not in shards]:
        raise PartitionError(f"BOOKPIPE_TAR_DIR has no shard {', '.join(unknown)}.")
    keys = list(partitions or shards)[:limit]
    summary = LoadSummary(total=len(keys))
    for key in track(keys, "planning", console=console, transient=True):
        summary.counts += plan_shard_dry(target, shards[key], book_options(settings), workers=settings.hash_threads)
        summary.done += 1
    _print(summary, console)


def _print(summary: LoadSummary, console: Console) -> None:
    console.print("A dry run: nothing was written. A load would end like this:")
    seconds = summary.seconds + summary.counts.inserted * WRITE_S
    print_summary(summary, console)
    console.print(f"Estimated time of the load: about {duration(seconds)}.")


DRY_RUNS: dict[str, Callable[[int | None, Sequence[str], Console], None]] = {
    "calibre": dry_run_calibre,
    "tars": dry_run_tars,
}
