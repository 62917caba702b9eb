"""Uploads a folder in a process of its own, for tests that kill it.

    python -m bookpipe_tests.targets.upload_process URL FOLDER [OPTION=NUMBER ...]

Uploads FOLDER/music with the ledger FOLDER/state.sqlite. Says "uploading" before it asks the archive anything; SIGTERM
asks it to stop. At the end it says as JSON what became of the rows, and how much memory it took.
"""

import json
import re
import signal
import sys
import threading
from pathlib import Path

from bookpipe.demo.music_archive import MODERATOR, PASSWORD
from bookpipe.model.secrets import Secret
from bookpipe.runtime.state import State
from bookpipe.runtime.upload_ledger import UploadLedger
from bookpipe.targets.music_archive.server import MusicArchive
from bookpipe.targets.music_archive.uploads import upload_batch
from bookpipe_tests.targets.archive_uploads import QUICK, audio_rows


def most_memory() -> int:
    """KiB of this process alone: getrusage also counts what the parent had when it forked."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


def main(url: str, folder: str, *options: str) -> None:
    numbers = {name: float(value) for name, _, value in (option.partition("=") for option in options)}
    cap = int(numbers.pop("cap", 16))
    server = MusicArchive(url, MODERATOR.email, Secret(PASSWORD), **{**QUICK, **numbers})  # type: ignore[arg-type]
    root = Path(folder) / "music"
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    rows = audio_rows(root, names)
    ledger = UploadLedger(State(Path(folder) / "state.sqlite"), server.url)
    print("uploading", flush=True)
    result = upload_batch(server, rows, root, ledger, stop=stop, concurrency_cap=cap)
    print(
        json.dumps(
            {
                "inserted": result.counts.inserted,
                "existing": result.counts.existing,
                "rejections": dict(result.counts.rejections),
                "stopped": result.stopped,
                "sent_bytes": result.sent_bytes,
                "elapsed": result.elapsed,
                "window": result.window,
                "most_memory_kb": most_memory(),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
