"""The covers of a whole Calibre library inside one process, without Dagster: the work of `covers.make`, or its limit.

    python -m benchmarks.covers_load make <library>
    python -m benchmarks.covers_load limit <library> <folder>

The limit opens, fits and saves the same pictures with Pillow, in as many threads, into one folder: it trims nothing,
checks nothing and knows no database. Both say the seconds of their work; starting Python is none of it.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from benchmarks.calibre_load import BATCH
from bookpipe.pipelines.covers import list_ebooks, make_covers
from bookpipe.settings import Settings, require
from bookpipe.sources.calibre import CalibreLibrary
from bookpipe.targets.mybookshelf2.cover_images import COVER_SIZE, QUALITY, THUMBNAIL_SIZE
from bookpipe.targets.mybookshelf2.server import MyBookshelf2


def make(library_path: str) -> None:
    settings = Settings.load()
    target = MyBookshelf2(require(settings, "mybookshelf2_url"), require(settings, "mybookshelf2_data_dir"))
    library = CalibreLibrary(Path(library_path))
    made = 0
    start = time.perf_counter()
    for state in library.states(BATCH):
        partition = str(state.first)  # as benchmarks.calibre_load names them
        ebooks = list_ebooks(target, "calibre", partition)
        made += make_covers(
            target, ebooks, pipeline="calibre_covers", partition=partition, library=library
        ).counts.inserted  # fmt: skip
    print(made, time.perf_counter() - start, flush=True)


def limit(library_path: str, folder: str) -> None:
    def fit(job: tuple[int, Path]) -> None:
        number, path = job
        with Image.open(path) as image:
            ratio = min(COVER_SIZE[0] / image.width, COVER_SIZE[1] / image.height)
            cover = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.LANCZOS)
        cover.save(f"{folder}/{number}.jpg", quality=QUALITY)
        cover.thumbnail(THUMBNAIL_SIZE, Image.Resampling.LANCZOS)
        cover.save(f"{folder}/{number}-thumb.jpg", quality=QUALITY)

    os.makedirs(folder)
    paths = sorted(Path(library_path).glob("*/*/cover.jpg"))
    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(fit, enumerate(paths)))
    print(len(paths), time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    (make if sys.argv[1] == "make" else limit)(*sys.argv[2:])
