"""Loads one shard in a process of its own, for tests that kill it or look at its memory.

    python -m bookpipe_tests.pipelines.load_shard_process URL DATA_DIR STATE KEY PATH MEMBERS BYTES

Says "loading" before it opens anything of the target, "chunk N" behind each chunk, and at the end "done", the
outcomes and the largest resident set in KB.
"""

import sys
from pathlib import Path

from bookpipe.model.secrets import Secret
from bookpipe.pipelines.tars import Limits, load_shard
from bookpipe.resolve.books import BookOptions
from bookpipe.runtime.state import State
from bookpipe.sources.tar_shards import Shard
from bookpipe.targets.mybookshelf2.server import MyBookshelf2


class Talking:
    """A progress that prints."""

    def advance(self, step: str, done: int, total: int | None) -> None:
        if step == "members":
            print("chunk", done, flush=True)


def main(url: str, data_dir: str, state: str, key: str, path: str, members: str, size: str) -> None:
    target = MyBookshelf2(Secret(url), Path(data_dir))
    limits = Limits(members=int(members), bytes=int(size))
    print("loading", flush=True)
    result = load_shard(
        target, Shard(key, Path(path), "tar"), BookOptions(), State(Path(state)), progress=Talking(), limits=limits
    )
    # Not ru_maxrss: that starts with what the process had that started this one.
    status = Path("/proc/self/status").read_text() if sys.platform == "linux" else "VmHWM: 0"
    peak = status.partition("VmHWM:")[2].split()[0]
    print("done", result.counts.inserted, result.counts.existing, result.counts.rejected, peak, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
