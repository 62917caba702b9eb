"""One shard into MyBookshelf2 inside one process, without Dagster: the work of `tars.load`.

python -m benchmarks.tars_load <shard> <state file>
"""

import sys
from pathlib import Path

from bookpipe.pipelines.tars import load_shard
from bookpipe.resolve.books import BookOptions
from bookpipe.runtime.state import State
from bookpipe.settings import Settings, require
from bookpipe.sources.tar_shards import Shard
from bookpipe.targets.mybookshelf2.server import MyBookshelf2


def main(shard_path: str, state_path: str) -> None:
    settings = Settings.load()
    target = MyBookshelf2(require(settings, "mybookshelf2_url"), require(settings, "mybookshelf2_data_dir"))
    path = Path(shard_path)
    result = load_shard(target, Shard(path.stem, path, "tar"), BookOptions(), State(Path(state_path)), run_id="bench")
    print(result.counts, result.from_journal, result.seconds, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
