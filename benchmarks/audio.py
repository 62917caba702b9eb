"""Uploads to a real Active Storage: bare PUTs against curl, whole batches against the best number of uploads by hand.

Needs Rails (Debian: ruby-rails ruby-sqlite3 puma) and curl.
"""

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.measure import DATA, Result, run_process
from bookpipe.demo.audio_files import SampleSong, make_mp3
from bookpipe.demo.music_archive import MODERATOR, PASSWORD
from bookpipe.model.secrets import Secret
from bookpipe.runtime.upload_ledger import Content
from bookpipe.targets.music_archive.client import ArchiveClient
from bookpipe.targets.music_archive.server import MusicArchive
from bookpipe.targets.music_archive.strategies import Place, Song, put, reserve
from bookpipe_tests.music_archive.rails_server import rails_server, why_unavailable

SETS = {"1mb": (200, 1_000_000), "5mb": (40, 5_000_000)}
AT_ONCE = 3  # the threads of the server, for bare PUTs
BY_HAND = (1, 2, 3, 4, 6, 8, 12, 16)
ROUNDS = 3  # of each side of the PUTs, one after the other
GOAL = 1 / 0.9


def make_files(name: str) -> Path:
    """A folder of files of one size, no two of the same bytes. Made once and kept."""
    folder = DATA / f"audio-{name}"
    count, size = SETS[name]
    if not folder.exists():
        folder.mkdir(parents=True)
        for n in range(count):
            song = SampleSong(f"Song {n}", "The Benchmarks", f"Album {n // 10}", "Test", str(n % 10 + 1), 1.0)
            (folder / f"{n:03d}.mp3").write_bytes(make_mp3(song, pad_to=size))
    return folder


def reserved(client: ArchiveClient, files: list[Path]) -> list[tuple[Path, Content, Place]]:
    """A place for each file. They are good for five minutes."""
    found = []
    for file in files:
        data = file.read_bytes()
        content = Content(md5(data, usedforsecurity=False).hexdigest(), len(data))
        place = reserve(client, Song(content, file.name, "audio/mpeg", file.stem, None, None, None, None, None))
        assert isinstance(place, Place), place
        found.append((file, content, place))
    return found


def put_ours(client: ArchiveClient, places: list[tuple[Path, Content, Place]], at_once: int) -> float:
    """Seconds of our PUTs."""

    def one(item: tuple[Path, Content, Place]) -> int:
        file, content, place = item
        with file.open("rb") as opened:
            return put(client, place, opened.fileno(), content).status

    start = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        statuses = set(pool.map(one, places))
    seconds = time.perf_counter() - start
    assert statuses == {204}, statuses
    return seconds


def put_curl(places: list[tuple[Path, Content, Place]], at_once: int) -> float:
    """Seconds of curl's."""
    lines = []
    for file, _, place in places:
        lines += ["next", f'url = "{place.url}"', f'upload-file = "{file}"', 'output = "/dev/null"', "fail"]
        lines += [f'header = "{name}: {value}"' for name, value in place.headers.items()]
    command = ["curl", "--silent", "--parallel", "--parallel-max", str(at_once), "--config", "-"]
    start = time.perf_counter()
    subprocess.run(command, input="\n".join(lines[1:]), text=True, check=True, capture_output=True)
    return time.perf_counter() - start


def cycle(folder: Path, url: str, state: Path, fixed: int | None) -> tuple[dict[str, float], float]:
    """What one process says that uploads a folder, and its peak memory in MB. `fixed` uploads at a time, or as many as
    turn out best."""
    command = [sys.executable, "-m", "benchmarks.audio_load", str(folder), url, str(state), str(fixed or 0)]
    _, peak, output = run_process(command)
    told: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    return told, peak


def run(console: Console) -> dict[str, Result]:
    """All of `audio.*`."""
    missing = why_unavailable() or (None if shutil.which("curl") else "curl is not installed")
    if missing:
        console.print(f"audio: skipped: {missing}")
        return {}
    run_folder = DATA / f"run-{int(time.time())}"
    results = {}
    with rails_server(run_folder / "rails", direct_upload=True) as url:
        server = MusicArchive(url=url, email=MODERATOR.email, password=Secret(PASSWORD))
        for name, (count, size) in SETS.items():
            folder = make_files(name)
            files = sorted(folder.iterdir())
            console.print(f"audio.put_{name}: {count} files of {size / 1e6:.0f} MB, {AT_ONCE} at a time ...")
            ours, theirs = [], []
            with ArchiveClient(server) as client:
                put_ours(client, reserved(client, files), AT_ONCE)  # the server warms up
                for _ in range(ROUNDS):
                    ours.append(put_ours(client, reserved(client, files), AT_ONCE))
                    theirs.append(put_curl(reserved(client, files), AT_ONCE))
            speed = f"{count * size / 1e6 / median(ours):,.0f} MB/s; limit: curl --parallel"
            results[f"audio.put_{name}"] = Result(median(ours), median(theirs), GOAL, None, speed)

            console.print(f"audio.cycle_{name}: by hand, then by itself ...")
            by_hand = {n: cycle(folder, url, run_folder / f"{name}-{n}.sqlite", n)[0]["seconds"] for n in BY_HAND}
            best = min(by_hand, key=lambda n: by_hand[n])
            state = run_folder / f"{name}-own.sqlite"
            told, peak = cycle(folder, url, state, None)
            detail = f"{count / told['seconds']:.1f} files/s, {told['window']:.0f} at a time; best by hand: {best}"
            results[f"audio.cycle_{name}"] = Result(told["seconds"], by_hand[best], GOAL, peak, detail)
            again, again_mb = cycle(folder, url, state, None)
            assert again["inserted"] == 0
            results[f"audio.again_{name}"] = Result(
                again["seconds"], told["seconds"], 0.05, again_mb, "a second run, against the first"
            )
    return results
