"""mybookshelf2/books_from_calibre: Calibre's books in MyBookshelf2."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs.ops.books import CHECKS, bulk_insert, check_load, hash_files, look_up
from bookpipe.defs.partitions import calibre_batches

KEY = dg.AssetKey(["mybookshelf2", "books_from_calibre"])


def load_checks(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """What every load of books is checked for."""
    return [
        dg.AssetCheckSpec("counts_add_up", asset=key, description="Read = inserted + existing + rejected."),
        dg.AssetCheckSpec(
            "files_are_readable", asset=key, description="Behind every source row is a readable file of its size."
        ),
        dg.AssetCheckSpec("nothing_is_there_twice", asset=key, description="No two sources have the same bytes."),
    ]


@dg.graph_asset(
    key=KEY,
    ins={"books": dg.AssetIn(dg.AssetKey(["calibre", "books"]))},
    partitions_def=calibre_batches,
    group_name="books",
    kinds={"postgres"},
    description=(
        "Ebooks, authors, series and sources in MyBookshelf2's database, and a link or copy of every file in its book "
        "folder. Set BOOKPIPE_MYBOOKSHELF2_URL and BOOKPIPE_MYBOOKSHELF2_DATA_DIR; `bookpipe doctor` checks them."
    ),
    check_specs=load_checks(KEY),
)
def books_from_calibre(books: pa.Table) -> dict[str, pa.Table]:
    hashed = hash_files(books)
    loaded = bulk_insert(hashed, look_up(hashed))
    checks = check_load(books, loaded)
    # Dagster finds a check's output by this name.
    return {"result": loaded, **{f"{KEY.to_python_identifier()}_{name}": getattr(checks, name) for name in CHECKS}}
