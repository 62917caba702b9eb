"""A range of a Calibre library's books -> hashed book files."""

import os

import pyarrow as pa

from bookpipe.runtime import digests
from bookpipe.runtime.progress import Progress
from bookpipe.runtime.state import State
from bookpipe.sources import ebook_types
from bookpipe.sources.calibre import CalibreLibrary, find_file

MAX_SIZE = 2**31 - 1  # bytes: source.size is an int4


def hash_files(
    library: CalibreLibrary,
    books: pa.Table,
    state: State,
    partition: str,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> pa.Table:
    """HASHED_FILES of a batch's CALIBRE_BOOKS rows. Digests are kept by partition."""
    folder = os.fsencode(library.path)
    return digests.hash_files(
        books,
        state,
        f"calibre/{partition}",
        folder=folder,
        anchor=folder + b"/metadata.db",
        identify=ebook_types.identify,
        relocate=find_file,
        max_size=MAX_SIZE,
        threads=threads,
        progress=progress,
    )
