"""mybookshelf2/covers_from_calibre: covers and thumbnails of the books that came from Calibre."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs.ops.covers import CHECKS, cover_ops
from bookpipe.defs.partitions import calibre_batches

KEY = dg.AssetKey(["mybookshelf2", "covers_from_calibre"])
_OPS = cover_ops("calibre", calibre_batches)


def cover_checks(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """What all covers are checked for."""
    return [
        dg.AssetCheckSpec("counts_add_up", asset=key, description="Read = inserted + existing + rejected."),
        dg.AssetCheckSpec(
            "covers_are_readable", asset=key, description="Every cover is a readable JPEG and has its thumbnail."
        ),
    ]


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
    check_specs=cover_checks(KEY),
)
def covers_from_calibre(loaded: dg.Nothing) -> dict[str, pa.Table]:  # type: ignore[valid-type]
    ebooks = _OPS.list_ebooks(loaded)
    made = _OPS.make_covers(ebooks)
    checks = _OPS.check_covers(ebooks, made)
    # Dagster finds a check's output by this name.
    return {"result": made, **{f"{KEY.to_python_identifier()}_{name}": getattr(checks, name) for name in CHECKS}}
