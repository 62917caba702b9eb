"""Partitions: which there are, what their keys mean, and which a source has that are not registered yet.

A key is stable for ever. `books-0010001-0020000` is Calibre's book ids 10001 to 20000, both included. A new
batch size only shapes ids that no registered partition covers.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import dagster as dg

from bookpipe.model.errors import PartitionError
from bookpipe.runtime.audio_batches import AudioBatches
from bookpipe.sources.calibre import BatchState, CalibreLibrary
from bookpipe.sources.tar_shards import Shard

calibre_batches = dg.DynamicPartitionsDefinition(name="calibre_batches")
tar_shards = dg.DynamicPartitionsDefinition(name="tar_shards")
scrobble_batches = dg.DynamicPartitionsDefinition(name="scrobble_batches")
audio_batches = dg.DynamicPartitionsDefinition(name="audio_batches")

_BOOKS_KEY = re.compile(r"books-(\d{7,})-(\d{7,})")
_LISTENS_KEY = re.compile(r"([A-Za-z0-9_-]+)-(\d{7,})-(\d{7,})")


def books_key(first: int, last: int) -> str:
    return f"books-{first:07d}-{last:07d}"


def parse_books_key(key: str) -> tuple[int, int]:
    """First and last book id of a key; PartitionError for anything `books_key` would not have made."""
    match = _BOOKS_KEY.fullmatch(key)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 0 < first <= last or books_key(first, last) != key:
        raise PartitionError(
            f"{key!r} is no partition of a Calibre library: keys look like {books_key(1, 10_000)}. "
            "`bookpipe discover` registers and lists them."
        )
    return first, last


def _uncovered(first: int, last: int, covered: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of `first`..`last` outside of the sorted ranges `covered`."""
    parts = []
    for low, high in covered:
        if high < first or low > last:
            continue
        if low > first:
            parts.append((first, low - 1))
        first = high + 1
    if first <= last:
        parts.append((first, last))
    return parts


def find_book_batches(library: CalibreLibrary, registered: Iterable[str], batch_size: int) -> dict[str, BatchState]:
    """Every partition the library has now, registered or not, that holds a book: key -> state, in id order."""
    covered = sorted(parse_books_key(key) for key in registered)
    found = {}
    for state in library.states(batch_size):
        for first, last in _uncovered(state.first, state.last, covered):
            whole = (first, last) == (state.first, state.last)
            part = state if whole else library.state(first, last)
            if part.books:
                found[books_key(first, last)] = part
    for first, last in covered:
        part = library.state(first, last)
        if part.books:
            found[books_key(first, last)] = part
    return dict(sorted(found.items(), key=lambda item: item[1].first))


def _some(keys: Iterable[str], none: str = "none") -> str:
    """The first few of some keys, for a message."""
    known = list(keys)
    return (", ".join(known[:3]) or none) + (" ..." if len(known) > 3 else "")


def register(
    instance: dg.DagsterInstance, definition: dg.DynamicPartitionsDefinition, keys: Iterable[str]
) -> list[str]:
    """Register those of `keys` that are not; which these were."""
    assert definition.name is not None
    have = set(instance.get_dynamic_partitions(definition.name))
    new = [key for key in keys if key not in have]
    if new:
        instance.add_dynamic_partitions(definition.name, new)
    return new


def partition_states(
    instance: dg.DagsterInstance, asset: dg.AssetKey, definition: dg.DynamicPartitionsDefinition
) -> dict[str, str]:
    """Partition key -> materialized, failed, running or missing, in the order of registration."""
    assert definition.name is not None
    keys = list(instance.get_dynamic_partitions(definition.name))
    status = instance.get_status_by_partition(asset, keys, definition) or {}
    names = {"MATERIALIZED": "materialized", "FAILED": "failed", "IN_PROGRESS": "running"}
    return {key: names.get(s.value if (s := status.get(key)) else "", "missing") for key in keys}


def check_books_key(
    library: CalibreLibrary, instance: dg.DagsterInstance, key: str, batch_size: int
) -> tuple[int, int]:
    """The id range of a partition of this library, registered now if it was not.

    Launching a run does not validate its key, so this comes before any side effect: PartitionError for a key
    that is neither registered nor one the library has.
    """
    first, last = parse_books_key(key)
    name = calibre_batches.name
    assert name is not None
    if not instance.has_dynamic_partition(name, key):
        batches = find_book_batches(library, instance.get_dynamic_partitions(name), batch_size)
        if key not in batches:
            raise PartitionError(
                f"The Calibre library has no partition {key!r} (it has "
                f"{_some(batches, 'none: the library is empty')}). `bookpipe discover` registers and lists them."
            )
        register(instance, calibre_batches, [key])
    return first, last


def check_shard_key(shards: Mapping[str, Shard], instance: dg.DagsterInstance, key: str) -> Shard:
    """The shard of a partition, registered now if it was not; PartitionError when there is none, before any side
    effect."""
    if key not in shards:
        raise PartitionError(
            f"BOOKPIPE_TAR_DIR has no shard {key!r} (it has {_some(shards)}). One that was written within the last "
            "minute is not listed yet."
        )
    register(instance, tar_shards, [key])
    return shards[key]


NOTHING_LOADED = "nothing"


def check_loaded_key(
    loaded: Mapping[str, str], instance: dg.DagsterInstance, definition: dg.DynamicPartitionsDefinition, key: str
) -> str:
    """What `loaded` says of a partition, which is registered now if it was not: "nothing" when no load of it brought a
    book. PartitionError for one that nobody knows, before any side effect."""
    if key not in loaded and key in instance.get_dynamic_partitions(definition.name or ""):
        return NOTHING_LOADED
    if key not in loaded:
        raise PartitionError(
            f"MyBookshelf2 has no books of the partition {key!r} that bookpipe loaded: load them first. Covers are for "
            "books that are there."
        )
    register(instance, definition, [key])
    return loaded[key]


def listens_key(export: str, first: int, last: int) -> str:
    return f"{export}-{first:07d}-{last:07d}"


def parse_listens_key(key: str) -> tuple[str, int, int]:
    """Key of the export, first and last record; PartitionError for anything `listens_key` would not have made."""
    match = _LISTENS_KEY.fullmatch(key)
    export, first, last = (match[1], int(match[2]), int(match[3])) if match else ("", 0, 0)
    if not 0 < first <= last or listens_key(export, first, last) != key:
        raise PartitionError(
            f"{key!r} is no partition of an export of scrobbles: keys look like "
            f"{listens_key('maloja-1a2b3c4d', 1, 10_000)}. `bookpipe discover` registers and lists them."
        )
    return export, first, last


def find_listen_batches(
    exports: Mapping[str, int], registered: Iterable[str], batch_size: int
) -> dict[str, tuple[str, int, int]]:
    """Every partition of some exports (key -> records), registered or not: key -> (export, first, last record).

    In the order of the exports, and of the records in them. What is in an export never changes: one that does has
    another key.
    """
    covered: dict[str, list[tuple[int, int]]] = {}
    for key in registered:
        export, first, last = parse_listens_key(key)
        covered.setdefault(export, []).append((first, last))
    found = {}
    for export, rows in exports.items():
        parts = sorted(covered.get(export, ()))
        for low in range(1, rows + 1, batch_size):
            parts += _uncovered(low, min(low + batch_size - 1, rows), sorted(covered.get(export, ())))
        found.update({listens_key(export, first, last): (export, first, last) for first, last in sorted(parts)})
    return found


def check_listens_key(
    instance: dg.DagsterInstance, key: str, batches: Mapping[str, tuple[str, int, int]]
) -> tuple[str, int, int]:
    """The records of a partition, registered now if it was not; PartitionError for a key that the exports do not
    have, before any side effect."""
    export, first, last = parse_listens_key(key)
    if key not in batches:
        raise PartitionError(
            f"BOOKPIPE_SCROBBLE_DIR has no partition {key!r} (it has {_some(batches)}). An export that changed has "
            "other keys: `bookpipe discover` registers and lists them."
        )
    register(instance, scrobble_batches, [key])
    return export, first, last


def check_songs_key(batches: AudioBatches, instance: dg.DagsterInstance, key: str) -> list[bytes]:
    """The paths of a batch of audio files, registered now if it was not; PartitionError when there is none, before any
    side effect."""
    paths = batches.paths(key)
    if not paths:
        raise PartitionError(
            f"There is no batch {key!r} of audio files (there is {_some(batches.keys(), 'none yet')}). "
            "`bookpipe discover` finds new files and puts them into batches."
        )
    register(instance, audio_batches, [key])
    return paths
