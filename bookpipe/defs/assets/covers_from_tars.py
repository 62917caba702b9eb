"""mybookshelf2/covers_from_tars: covers and thumbnails of the books that came from tar shards."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs.checks import COVER_CHECKS, check_specs, loaded_and_checked
from bookpipe.defs.ops.covers import cover_ops
from bookpipe.defs.partitions import tar_shards

KEY = dg.AssetKey(["mybookshelf2", "covers_from_tars"])
_OPS = cover_ops("tars", tar_shards)


@dg.graph_asset(
    key=KEY,
    ins={"loaded": dg.AssetIn(dg.AssetKey(["mybookshelf2", "books_from_tars"]), dagster_type=dg.Nothing)},
    partitions_def=tar_shards,
    group_name="books",
    kinds={"postgres"},
    description=(
        "The covers that are inside of the books, "
        "trimmed and fitted as MyBookshelf2 does it, each with its thumbnail. Only for books that have none."
    ),
    check_specs=check_specs(KEY, COVER_CHECKS),
)
def covers_from_tars(loaded: dg.Nothing) -> dict[str, pa.Table]:  # type: ignore[valid-type]
    ebooks = _OPS.list_ebooks(loaded)
    made = _OPS.make_covers(ebooks)
    return loaded_and_checked(KEY, COVER_CHECKS, made, _OPS.check_covers(ebooks, made))
