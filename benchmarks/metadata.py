"""What files of all formats say about their books, against starting Calibre's ebook-meta for each of them."""

import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from rich.console import Console

from benchmarks.measure import Result, scaled
from bookpipe.demo.ebook_files import MAKERS, BookText
from bookpipe.sources.ebook_metadata import read_metadata
from bookpipe.sources.ebook_types import HEAD_BYTES, identify

FILES = 4_000  # of all formats together
EBOOK_META_S = 0.37  # for one file, start included: the fastest of all formats with Calibre 6.13 on two cores
GOAL = 1 / 50
FILE_BYTES = 100_000
PAGES = ("pdf",)  # slower than all others


def run(console: Console) -> dict[str, Result]:
    """`metadata.mix`, and `metadata.text` without PDFs. One process and one thread; the files are in memory."""
    each = max(1, scaled(FILES) // len(MAKERS))
    console.print(f"Making {each} files of each of {len(MAKERS)} formats ...")
    seconds, failed = {}, 0
    for extension, make in MAKERS.items():
        files = [make(_text(n)) for n in range(each)]
        _read(files[0], extension)  # imports
        start = time.perf_counter()
        statuses = [_read(data, extension) for data in files]
        seconds[extension] = time.perf_counter() - start
        failed += sum(status == "unreadable" for status in statuses)
    for extension, s in sorted(seconds.items(), key=lambda item: -item[1]):
        console.print(f"  {extension:6s} {each / s:10,.0f} files/s", highlight=False)
    if failed:
        raise RuntimeError(f"{failed} files of our own making could not be read")
    theirs, whose = _ebook_meta(console)
    text = [s for extension, s in seconds.items() if extension not in PAGES]
    return {
        "metadata.mix": _result(sum(seconds.values()), len(seconds) * each, theirs, whose),
        "metadata.text": _result(sum(text), len(text) * each, theirs, whose + ", without PDFs"),
    }


def _result(ours: float, files: int, theirs: float, detail: str) -> Result:
    faster = files * theirs / ours
    return Result(ours, files * theirs, GOAL, None, f"{files / ours:,.0f} files/s, {faster:,.0f} times {detail}")


def _text(number: int) -> BookText:
    return BookText(
        title=f"Příběh {number}",
        authors=("Karel Čapek", f"Author {number}"),
        language="cs",
        series="Řada",
        series_index=float(number),
        tags=("Fantasy", "Román"),
        year=1924,
        body="Příliš žluťoučký kůň. " * 50,
        pad_to=FILE_BYTES,
    )


def _read(data: bytes, given: str) -> str:
    """As a load does it: find out what the file is, then read it."""

    def read_at(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    kind = identify(data[:HEAD_BYTES], len(data), read_at, given)
    return read_metadata(kind or given, data, len(data), read_at).status


def _ebook_meta(console: Console) -> tuple[float, str]:
    """Seconds of one ebook-meta, measured now where there is one: the median over all formats it takes."""
    command = shutil.which("ebook-meta")
    if command is None:
        return EBOOK_META_S, f"ebook-meta ({EBOOK_META_S} s a file, measured before; there is none here)"
    console.print("ebook-meta, once for each format ...")
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for extension, make in MAKERS.items():
            path = Path(folder, f"book.{extension}")
            path.write_bytes(make(_text(1)))
            start = time.perf_counter()
            done = subprocess.run([command, path], check=False, capture_output=True)
            if done.returncode == 0:
                times.append(time.perf_counter() - start)
    one = statistics.median(times)
    return one, f"ebook-meta ({one:.2f} s a file, measured now)"
