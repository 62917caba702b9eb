"""The registry: every pipeline with its partitions, its assets and its job. A new source adds one entry."""

from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg

from bookpipe.defs.assets.archive_songs import archive_songs
from bookpipe.defs.assets.books_from_calibre import books_from_calibre
from bookpipe.defs.assets.books_from_tars import books_from_tars
from bookpipe.defs.assets.calibre_books import calibre_books
from bookpipe.defs.assets.covers import covers_from_calibre, covers_from_tars
from bookpipe.defs.assets.koito_listens import koito_listens
from bookpipe.defs.ops.scrobbles import exports_and_batches
from bookpipe.defs.ops.tars import fingerprint
from bookpipe.defs.partitions import audio_batches, calibre_batches, find_book_batches, scrobble_batches, tar_shards
from bookpipe.pipelines import configured, covers, songs
from bookpipe.runtime.state import State
from bookpipe.settings import Settings, require

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Pipeline:
    """A way from one source to one target.

    `find` lists what the source has now: partition key -> a text that changes when its rows do. What of the source
    cannot be read is told to its last argument; it raises a BookpipeError when that is all of it.
    """

    name: str
    partitions: dg.DynamicPartitionsDefinition
    source_asset: dg.AssetKey
    loaded_asset: dg.AssetKey
    assets: tuple[dg.AssetsDefinition, ...]
    configured: Callable[[Settings], bool]
    find: Callable[[Settings, dg.DagsterInstance, Warn], dict[str, str]]
    in_order: bool = False  # partitions are loaded one after the other, in the order in which they are found
    follows: str | None = None  # the pipeline whose partitions these are: those that are loaded are found

    @property
    def job_name(self) -> str:
        return f"make_{self.name}" if self.follows else f"load_{self.name}"

    @property
    def partitions_name(self) -> str:
        assert self.partitions.name is not None
        return self.partitions.name


def _find_calibre(settings: Settings, instance: dg.DagsterInstance, _warn: Warn) -> dict[str, str]:
    registered = instance.get_dynamic_partitions("calibre_batches")
    batches = find_book_batches(configured.calibre_library(settings), registered, settings.batch_size)
    return {key: state.fingerprint for key, state in batches.items()}


def _find_shards(settings: Settings, _instance: dg.DagsterInstance, _warn: Warn) -> dict[str, str]:
    return {key: fingerprint(shard) for key, shard in configured.tar_shards(settings).items()}


def _find_listens(settings: Settings, instance: dg.DagsterInstance, _warn: Warn) -> dict[str, str]:
    _, batches = exports_and_batches(settings, instance)
    return {key: export for key, (export, _, _) in batches.items()}  # the export's key names its content


def _find_songs(settings: Settings, _instance: dg.DagsterInstance, warn: Warn) -> dict[str, str]:
    root = require(settings, "music_dir")
    # What is in a batch is fixed when its files are found: a file that changes since is another song.
    return {key: key for key in songs.find_song_batches(root, State(settings.state_path), settings.batch_size, warn)}


def _covers_of(
    books: str,
    loaded: dg.AssetsDefinition,
    partitions: dg.DynamicPartitionsDefinition,
    has_source: Callable[[Settings], bool],
) -> Pipeline:
    """The covers of the books that the pipeline `books` loads: they are found in its target."""

    def is_configured(settings: Settings) -> bool:
        target = settings.mybookshelf2_url, settings.mybookshelf2_data_dir
        return has_source(settings) and None not in target

    def find(settings: Settings, _instance: dg.DagsterInstance, _warn: Warn) -> dict[str, str]:
        return covers.find_partitions(configured.mybookshelf2(settings), books)

    return Pipeline(
        name=covers.covers_pipeline(books),
        partitions=partitions,
        source_asset=loaded.key,
        loaded_asset=loaded.key,
        assets=(loaded,),
        configured=is_configured,
        find=find,
        follows=books,
    )


PIPELINES: dict[str, Pipeline] = {
    pipeline.name: pipeline
    for pipeline in (
        Pipeline(
            name="calibre",
            partitions=calibre_batches,
            source_asset=calibre_books.key,
            loaded_asset=books_from_calibre.key,
            assets=(calibre_books, books_from_calibre),
            configured=lambda settings: settings.calibre_library is not None,
            find=_find_calibre,
        ),
        Pipeline(
            name="tars",
            partitions=tar_shards,
            source_asset=books_from_tars.key,
            loaded_asset=books_from_tars.key,
            assets=(books_from_tars,),
            configured=lambda settings: settings.tar_dir is not None,
            find=_find_shards,
        ),
        Pipeline(
            name="scrobbles",
            partitions=scrobble_batches,
            source_asset=koito_listens.key,
            loaded_asset=koito_listens.key,
            assets=(koito_listens,),
            configured=lambda settings: settings.scrobble_dir is not None,
            find=_find_listens,
            in_order=True,  # as Koito's importer, so that what depends on the order comes out the same
        ),
        Pipeline(
            name="audio",
            partitions=audio_batches,
            source_asset=archive_songs.key,
            loaded_asset=archive_songs.key,
            assets=(archive_songs,),
            configured=lambda settings: settings.music_dir is not None,
            find=_find_songs,
            in_order=True,  # a batch has many uploads at a time, and an album may go on in the next batch
        ),
        _covers_of(
            "calibre", covers_from_calibre, calibre_batches, lambda settings: settings.calibre_library is not None
        ),
        _covers_of("tars", covers_from_tars, tar_shards, lambda settings: settings.tar_dir is not None),
    )
}


def sources() -> list[Pipeline]:
    """The pipelines that have partitions of their own."""
    return [pipeline for pipeline in PIPELINES.values() if pipeline.follows is None]
