"""The ops between a source of books and MyBookshelf2."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs import checks, metadata
from bookpipe.defs.errors import RETRY, explained
from bookpipe.defs.heartbeat import Heartbeat
from bookpipe.defs.io_managers import columns, remove_scratch
from bookpipe.defs.partitions import check_books_key
from bookpipe.defs.resources import Configured
from bookpipe.defs.runs import claim_run
from bookpipe.model.schemas import BOOK_FILES
from bookpipe.pipelines import books, calibre
from bookpipe.pipelines.configured import book_options
from bookpipe.pipelines.seconds import seconds_of, timed_table
from bookpipe.targets.mybookshelf2.audit import audit_sources

SCRATCH = dg.Out(io_manager_key="scratch")


@dg.op(retry_policy=RETRY, ins={"books": dg.In(metadata=columns(*BOOK_FILES.names))}, out=SCRATCH)
def hash_files(context: dg.OpExecutionContext, configured: Configured, books: pa.Table) -> pa.Table:
    """SHA-1, size and format by content of every file; unchanged files come from the digest cache."""
    with explained(context):
        claim_run(context)
        settings = configured.settings()
        key = context.partition_key
        check_books_key(configured.library(), context.instance, key, settings.batch_size)
        with timed_table("hash_files", books) as timed:
            timed.table = calibre.hash_files(
                configured.library(), books, configured.state(), key, threads=settings.hash_threads,
                progress=Heartbeat(context, "hash_files", rows="files"),
            )  # fmt: skip
        context.add_output_metadata({"files": timed.table.num_rows - timed.table.column("sha1").null_count})
        return timed.table


@dg.op(retry_policy=RETRY, out=SCRATCH)
def look_up(context: dg.OpExecutionContext, configured: Configured, hashed: pa.Table) -> pa.Table:
    """What MyBookshelf2 has of this batch."""
    with explained(context):
        with timed_table("look_up", hashed) as timed:
            timed.table = books.look_up(configured.mybookshelf2(), hashed)
        kinds = timed.table.column("kind").value_counts().to_pylist()
        context.add_output_metadata({f"known_{kind['values']}": kind["counts"] for kind in kinds})
        return timed.table


@dg.op(retry_policy=RETRY)  # the last op keeps the default IO manager, or asset-subset launches die
def bulk_insert(
    context: dg.OpExecutionContext, configured: Configured, hashed: pa.Table, known: pa.Table
) -> pa.Table:  # fmt: skip
    """Everything that is missing, in one transaction; the outcome of every row."""
    with explained(context):
        key = context.partition_key
        result = books.bulk_insert(
            configured.mybookshelf2(),
            hashed,
            known,
            book_options(configured.settings()),
            pipeline="calibre",
            partition=key,
            run_id=context.run_id,
        )
        configured.state().replace_rejections("calibre", key, result.rejections())
        context.add_output_metadata(
            {
                **metadata.load_metadata(result.counts, {**seconds_of(known), **result.seconds}),
                "new_ebooks": result.new_ebooks,
                "new_authors": result.new_authors,
                "new_series": result.new_series,
                "dropped_tags": result.dropped_tags,
                "retyped_files": result.retyped,
                "refreshed_files": result.refreshed,
            }
        )
        return result.outcomes


# (Dagster takes no AssetCheckResult as a return annotation here.)
@dg.op(
    retry_policy=RETRY,
    ins={"read": dg.In(metadata=columns("item"))},
    out=checks.check_outputs(checks.BOOK_CHECKS),
)
def check_load(context: dg.OpExecutionContext, configured: Configured, read: pa.Table, loaded: pa.Table):  # type: ignore[no-untyped-def]
    """Look at what the load says it made: every row has ended, every source has its file, none is there twice."""
    with explained(context):
        yield checks.counts_add_up("read", read.num_rows, checks.outcomes_of(loaded))
        sources = loaded.column("source_id").drop_null().to_pylist()
        yield from checks.books_are_there(audit_sources(configured.mybookshelf2(), sources))
        remove_scratch(context)  # what is still needed are assets
