"""Covers of 600x900 pixels and about 100 KB into MyBookshelf2, against a plain loop of Pillow's."""

import io
import random
import sys
import time
from pathlib import Path
from statistics import median

from PIL import Image, ImageFilter
from rich.console import Console

from benchmarks.calibre import Side
from benchmarks.measure import DATA, Result, run_process, scaled
from bookpipe.demo.calibre_writer import CalibreWriter, SampleBook
from bookpipe.demo.ebook_files import BookText, make_epub
from bookpipe.demo.embedded_server import start_server

COVERS = 2_000
SIZE = (600, 900)
ROUNDS = 3  # of each side, one after the other


def make_library(covers: int, console: Console) -> Path:
    """A library of so many books with covers as detailed as photographs, no two alike. Made once and kept."""
    path = DATA / f"covers-{covers}"
    if (path / "metadata.db").exists():
        return path
    console.print(f"Making a library of {covers:,} covers (kept in {path}) ...")
    chance = random.Random("covers")
    grain = Image.effect_noise((SIZE[0] * 2, SIZE[1] * 2), 60).filter(ImageFilter.GaussianBlur(1.2))
    with CalibreWriter(path, commit_every=1_000) as writer:
        for number in range(1, covers + 1):
            corner = chance.randrange(SIZE[0]), chance.randrange(SIZE[1])
            bands = [
                grain.crop((corner[0] + shift, corner[1], corner[0] + shift + SIZE[0], corner[1] + SIZE[1]))
                for shift in (0, 1, 2)
            ]
            buffer = io.BytesIO()
            Image.merge("RGB", bands).save(buffer, "JPEG", quality=85)
            text = BookText(f"Book {number}", ("Ann Author",), "en", None, None, (), None, f"Text {number}")
            writer.add(
                SampleBook(
                    id=number,
                    title=text.title,
                    authors=text.authors,
                    formats=(("EPUB", make_epub(text)),),
                    cover=buffer.getvalue(),
                )
            )
    return path


def run(console: Console) -> dict[str, Result]:
    """`covers.make`. Trimming, two files and a row in a transaction, syncing: all that is more than the limit does."""
    covers = scaled(COVERS)
    DATA.mkdir(exist_ok=True)
    library = make_library(covers, console)
    superuser_url = start_server(DATA / "server").superuser_url
    folder = DATA / f"run-{int(time.time())}"
    ours, limits, peaks = [], [], []
    for n in range(ROUNDS):
        side = Side(f"covers_{n}", folder, superuser_url)
        environment = side.environment(library)
        command = [sys.executable, "-m", "benchmarks.calibre_load", str(library), str(side.home / "state.sqlite")]
        run_process(command, environment)
        console.print(f"covers.make: round {n + 1} of {ROUNDS} ...")
        limits.append(_seconds("limit", covers, [str(library), str(folder / f"limit-{n}")], environment)[0])
        seconds, peak = _seconds("make", covers, [str(library)], environment)
        ours.append(seconds)
        peaks.append(peak)
    speeds = f"{covers / median(ours):,.0f} covers/s; limit: Pillow alone, {covers / median(limits):,.0f} covers/s"
    return {"covers.make": Result(median(ours), median(limits), 1.5, max(peaks), speeds)}


def _seconds(what: str, covers: int, arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds of the work itself, and peak memory in MB."""
    _, peak, output = run_process([sys.executable, "-m", "benchmarks.covers_load", what, *arguments], environment)
    made, seconds = output.split()[-2:]
    assert int(made) == covers, output
    return float(seconds), peak
