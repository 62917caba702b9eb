"""calibre/books: a Calibre library's records, one partition for each range of ids."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs.errors import RETRY, explained
from bookpipe.defs.metadata import FINGERPRINT
from bookpipe.defs.partitions import calibre_batches, check_books_key
from bookpipe.defs.resources import Configured
from bookpipe.defs.runs import claim_run
from bookpipe.pipelines.seconds import timed_table


@dg.asset(
    key=["calibre", "books"],
    partitions_def=calibre_batches,
    group_name="books",
    kinds={"sqlite", "parquet"},
    retry_policy=RETRY,
    description=(
        "Records and file paths of a Calibre library, read from metadata.db while Calibre may have it open. "
        "One row for each file. Set BOOKPIPE_CALIBRE_LIBRARY to the library's folder."
    ),
)
def calibre_books(context: dg.AssetExecutionContext, configured: Configured) -> pa.Table:
    op_context = context.op_execution_context
    with explained(op_context):
        claim_run(op_context)
        settings = configured.settings()
        library = configured.library()
        first, last = check_books_key(library, context.instance, context.partition_key, settings.batch_size)
        state = library.state(first, last)
        with timed_table("read") as timed:
            timed.table = library.read(first, last, without_files=settings.load_books_without_files)
        context.add_output_metadata(
            {"books": state.books, "rows": timed.table.num_rows, FINGERPRINT: state.fingerprint}
        )
        return timed.table
