"""A folder of audio files into a music archive inside one process, without Dagster: the work of `audio.cycle`.

python -m benchmarks.audio_load <folder> <URL> <state file> <uploads at a time, 0: as many as turn out best>
"""

import json
import sys
import time
from pathlib import Path

from bookpipe.demo.music_archive import MODERATOR, PASSWORD
from bookpipe.model.secrets import Secret
from bookpipe.pipelines.songs import read_songs, upload_songs
from bookpipe.runtime.state import State
from bookpipe.targets.music_archive import uploads
from bookpipe.targets.music_archive.server import MusicArchive
from bookpipe.targets.music_archive.window import Window


class FixedWindow(Window):
    """Does not learn."""

    @property
    def size(self) -> int:
        return self.cap

    def succeeded(self, size: int, now: float, *, full: bool) -> None:
        """Nothing is learned."""

    def failed(self, now: float) -> None:
        """Nothing is learned."""


def main(folder: str, url: str, state_path: str, fixed: str) -> None:
    if int(fixed):
        vars(uploads)["Window"] = FixedWindow
    archive = MusicArchive(url=url, email=MODERATOR.email, password=Secret(PASSWORD))
    state, root = State(Path(state_path)), Path(folder)
    start = time.perf_counter()
    songs = read_songs(root, sorted(path.name.encode() for path in root.iterdir()), state, "bench")
    result = upload_songs(archive, songs, root, state, concurrency=int(fixed) or 16)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "inserted": result.counts.inserted, "window": result.window}))


if __name__ == "__main__":
    main(*sys.argv[1:])
