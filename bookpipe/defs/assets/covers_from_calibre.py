"""mybookshelf2/covers_from_calibre: covers and thumbnails of the books that came from Calibre."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs.checks import COVER_CHECKS, check_specs, loaded_and_checked
from bookpipe.defs.ops.covers import cover_ops
from bookpipe.defs.partitions import calibre_batches

KEY = dg.AssetKey(["mybookshelf2", "covers_from_calibre"])
_OPS = cover_ops("calibre", calibre_batches)


@dg.graph_asset(
    key=KEY,
    ins={"loaded": dg.AssetIn(dg.AssetKey(["mybookshelf2", "books_from_calibre"]), dagster_type=dg.Nothing)},
    partitions_def=calibre_batches,
    group_name="books",
    kinds={"postgres"},
    description=(
        "The covers that are beside the books in the Calibre library, else those inside of their files, "
        "trimmed and fitted as MyBookshelf2 does it, each with its thumbnail. Only for books that have none."
    ),
    check_specs=check_specs(KEY, COVER_CHECKS),
)
def covers_from_calibre(loaded: dg.Nothing) -> dict[str, pa.Table]:  # type: ignore[valid-type]
    ebooks = _OPS.list_ebooks(loaded)
    made = _OPS.make_covers(ebooks)
    return loaded_and_checked(KEY, COVER_CHECKS, made, _OPS.check_covers(ebooks, made))
