"""mybookshelf2/books_from_tars: the ebooks of tar shards in MyBookshelf2, one partition for each shard."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs.assets.books_from_calibre import load_checks
from bookpipe.defs.ops.books import CHECKS
from bookpipe.defs.ops.tars import KEY, check_shard, index_shard, load_shard
from bookpipe.defs.partitions import tar_shards


@dg.graph_asset(
    key=KEY,
    partitions_def=tar_shards,
    group_name="books",
    kinds={"postgres"},
    description=(
        "Ebooks out of tar shards, read in place and written once, straight into MyBookshelf2's book folder. Set "
        "BOOKPIPE_TAR_DIR, BOOKPIPE_MYBOOKSHELF2_URL and BOOKPIPE_MYBOOKSHELF2_DATA_DIR."
    ),
    check_specs=load_checks(KEY),
)
def books_from_tars() -> dict[str, pa.Table]:
    index = index_shard()
    loaded = load_shard(index)
    checks = check_shard(index, loaded)
    # Dagster finds a check's output by this name.
    return {"result": loaded, **{f"{KEY.to_python_identifier()}_{name}": getattr(checks, name) for name in CHECKS}}
