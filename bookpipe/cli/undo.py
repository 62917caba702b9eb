"""`bookpipe undo`: what the loads of one partition made is removed, and what was kept is said."""

from dataclasses import asdict

from rich.console import Console

from bookpipe.pipelines.configured import koito, mybookshelf2
from bookpipe.pipelines.covers import covers_pipeline
from bookpipe.runtime.state import State
from bookpipe.settings import Settings
from bookpipe.targets.koito.undo import undo_partition as undo_listens
from bookpipe.targets.mybookshelf2.undo import undo_partition as undo_books

_BOOKS = ("ebooks", "sources", "files", "authors", "series", "languages", "genres", "formats")
_LISTENS = ("listens", "tracks", "releases", "artists")
_KEPT = {
    "in_use": "ebooks kept: somebody rated them, put them on a bookshelf or converted a file",
    "shared": "ebooks kept without our files: they have files of somebody else",
    "changed_files": "files kept: they are not what was placed any more",
    "missing_listens": "listens not there any more: somebody moved or deleted them",
    "kept_tracks": "tracks kept: they have listens of others",
    "kept_releases": "albums kept: they have tracks of others",
    "kept_artists": "artists kept: they have tracks or albums of others",
}


def undo(settings: Settings, pipeline: str, partition: str, dry_run: bool, console: Console) -> None:
    """Remove what a partition's loads made, and tell it."""
    removed: tuple[str, ...]
    if pipeline == "scrobbles":
        target, removed, undone = "Koito", _LISTENS, [pipeline]
        counts = asdict(undo_listens(koito(settings), pipeline, partition, dry_run=dry_run))
    else:
        target, removed, undone = "MyBookshelf2", _BOOKS, [pipeline, covers_pipeline(pipeline)]
        counts = asdict(undo_books(mybookshelf2(settings), pipeline, partition, dry_run=dry_run))
    if not any(counts.values()):
        console.print(f"Nothing to undo: no load of {pipeline} {partition} has anything in {target}.")
        return
    if not dry_run:
        for name in undone:
            State(settings.state_path).replace_rejections(name, partition, [])
    console.print("Would be removed:" if dry_run else "Removed:")
    for kind in removed:
        console.print(f"  {counts[kind]:>8,} {kind}", highlight=False)
    for kind, text in _KEPT.items():
        if counts.get(kind):
            console.print(f"  {counts[kind]:>8,} {text}", highlight=False)
    if not dry_run:
        console.print(
            f"Dagster goes on showing it as loaded; `bookpipe load {pipeline} --partition {partition}` loads it."
        )
