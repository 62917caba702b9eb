"""mybookshelf2/covers_from_calibre and covers_from_tars: covers and thumbnails of the books that are loaded."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs.assets import books_from_calibre, books_from_tars
from bookpipe.defs.checks import COVER_CHECKS, check_specs, loaded_and_checked
from bookpipe.defs.ops.covers import cover_ops
from bookpipe.defs.partitions import calibre_batches, tar_shards


def _covers_of(
    books: str, loaded_asset: dg.AssetKey, partitions: dg.DynamicPartitionsDefinition, pictures: str
) -> dg.AssetsDefinition:
    """The covers of the books that the pipeline `books` loads, with the same partitions."""
    key = dg.AssetKey(["mybookshelf2", f"covers_from_{books}"])
    ops = cover_ops(books, partitions)

    @dg.graph_asset(
        key=key,
        ins={"loaded": dg.AssetIn(loaded_asset, dagster_type=dg.Nothing)},
        partitions_def=partitions,
        group_name="books",
        kinds={"postgres"},
        description=(
            f"{pictures}, trimmed and fitted as MyBookshelf2 does it, each with its thumbnail. Only for books that "
            "have none."
        ),
        check_specs=check_specs(key, COVER_CHECKS),
    )
    def covers(loaded: dg.Nothing) -> dict[str, pa.Table]:  # type: ignore[valid-type]
        ebooks = ops.list_ebooks(loaded)
        made = ops.make_covers(ebooks)
        return loaded_and_checked(key, COVER_CHECKS, made, ops.check_covers(ebooks, made))

    return covers


covers_from_calibre = _covers_of(
    "calibre",
    books_from_calibre.KEY,
    calibre_batches,
    "The covers that are beside the books in the Calibre library, else those inside of their files",
)
covers_from_tars = _covers_of("tars", books_from_tars.KEY, tar_shards, "The covers that are inside of the books")
