"""mybookshelf2/books_from_tars: the ebooks of tar shards in MyBookshelf2, one partition for each shard."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs.checks import BOOK_CHECKS, check_specs, loaded_and_checked
from bookpipe.defs.ops.tars import check_shard, index_shard, load_shard
from bookpipe.defs.partitions import tar_shards

KEY = dg.AssetKey(["mybookshelf2", "books_from_tars"])


@dg.graph_asset(
    key=KEY,
    partitions_def=tar_shards,
    group_name="books",
    kinds={"postgres"},
    description=(
        "Ebooks out of tar shards, read in place and written once, straight into MyBookshelf2's book folder. Set "
        "BOOKPIPE_TAR_DIR, BOOKPIPE_MYBOOKSHELF2_URL and BOOKPIPE_MYBOOKSHELF2_DATA_DIR."
    ),
    check_specs=check_specs(KEY, BOOK_CHECKS),
)
def books_from_tars() -> dict[str, pa.Table]:
    index = index_shard()
    loaded = load_shard(index)
    return loaded_and_checked(KEY, BOOK_CHECKS, loaded, check_shard(index, loaded))
