"""mybookshelf2/books_from_calibre: Calibre's books in MyBookshelf2."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs.checks import BOOK_CHECKS, check_specs, loaded_and_checked
from bookpipe.defs.ops.books import bulk_insert, check_load, hash_files, look_up
from bookpipe.defs.partitions import calibre_batches

KEY = dg.AssetKey(["mybookshelf2", "books_from_calibre"])


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
    check_specs=check_specs(KEY, BOOK_CHECKS),
)
def books_from_calibre(books: pa.Table) -> dict[str, pa.Table]:
    hashed = hash_files(books)
    loaded = bulk_insert(hashed, look_up(hashed))
    return loaded_and_checked(KEY, BOOK_CHECKS, loaded, check_load(books, loaded))
