"""Makes the covers of one shard's books in a process of its own, for tests that kill it.

    python -m bookpipe_tests.pipelines.make_covers_process URL DATA_DIR KEY CHUNK

Says "making" before it opens anything of the target, and "done" at the end.
"""

import sys
from pathlib import Path

from bookpipe.model.secrets import Secret
from bookpipe.pipelines.covers import list_ebooks, make_covers
from bookpipe.targets.mybookshelf2.server import MyBookshelf2


def main(url: str, data_dir: str, key: str, chunk: str) -> None:
    target = MyBookshelf2(Secret(url), Path(data_dir))
    print("making", flush=True)
    ebooks = list_ebooks(target, "tars", key)
    make_covers(target, ebooks, pipeline="tars_covers", partition=key, threads=2, chunk=int(chunk))
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
