"""The ops that give loaded books their covers."""

from dataclasses import dataclass

import dagster as dg
import pyarrow as pa

from bookpipe.defs import metadata
from bookpipe.defs.checks import COVER_CHECKS, check_outputs, counts_add_up, outcomes_of
from bookpipe.defs.errors import RETRY, explained
from bookpipe.defs.heartbeat import Heartbeat
from bookpipe.defs.io_managers import remove_scratch
from bookpipe.defs.metadata import FINGERPRINT
from bookpipe.defs.partitions import check_loaded_key
from bookpipe.defs.resources import Configured
from bookpipe.defs.runs import claim_run
from bookpipe.pipelines import covers
from bookpipe.targets.mybookshelf2.audit import SHOWN, audit_covers


@dataclass(frozen=True)
class CoverOps:
    """The three ops of one pipeline's covers."""

    list_ebooks: dg.OpDefinition
    make_covers: dg.OpDefinition
    check_covers: dg.OpDefinition


def cover_ops(books: str, partitions: dg.DynamicPartitionsDefinition) -> CoverOps:
    """The ops for the books that the pipeline `books` loads, named after it: two graphs cannot share them, for an op
    is not told for which asset it runs."""

    @dg.op(
        name=f"list_{books}_ebooks",
        retry_policy=RETRY,
        ins={"loaded": dg.In(dg.Nothing)},
        out=dg.Out(io_manager_key="scratch"),
    )
    def list_ebooks(context: dg.OpExecutionContext, configured: Configured) -> pa.Table:
        """The ebooks that the partition's loads made, as far as they live."""
        with explained(context):
            claim_run(context)
            key = context.partition_key
            target = configured.mybookshelf2()
            # As it is before the ebooks are listed: what is loaded from now on is for another run.
            seen = check_loaded_key(covers.find_partitions(target, books), context.instance, partitions, key)
            ebooks = covers.list_ebooks(target, books, key)
            context.add_output_metadata({"ebooks": ebooks.num_rows, FINGERPRINT: seen})
            return ebooks.replace_schema_metadata({FINGERPRINT: seen})

    @dg.op(name=f"render_{books}_covers", retry_policy=RETRY)  # keeps the default IO manager, as every last op
    def make_covers(context: dg.OpExecutionContext, configured: Configured, ebooks: pa.Table) -> pa.Table:
        """Find, render and place the pictures of those that have none, chunk by chunk; how each ebook ended."""
        with explained(context):
            key = context.partition_key
            settings = configured.settings()
            with Heartbeat(context, "books", ebooks.num_rows) as progress:
                result = covers.make_covers(
                    configured.mybookshelf2(),
                    ebooks,
                    pipeline=covers.covers_pipeline(books),
                    partition=key,
                    library=configured.library() if books == "calibre" else None,
                    threads=settings.hash_threads,
                    progress=progress,
                )
            configured.state().replace_rejections(covers.covers_pipeline(books), key, result.rejections())
            context.add_output_metadata(
                {
                    **metadata.load_metadata(result.counts, result.seconds),
                    "from_library": result.from_library,
                    "from_files": result.from_files,
                    "written_bytes": result.bytes,
                    FINGERPRINT: (ebooks.schema.metadata or {})[FINGERPRINT.encode()].decode(),
                }
            )
            return result.outcomes

    @dg.op(name=f"check_{books}_covers", retry_policy=RETRY, out=check_outputs(COVER_CHECKS))
    def check_covers(context: dg.OpExecutionContext, configured: Configured, ebooks: pa.Table, made: pa.Table):  # type: ignore[no-untyped-def]
        """Look at what the run says it made: every ebook has ended, every cover is a JPEG and has its thumbnail."""
        with explained(context):
            yield counts_add_up("ebooks", ebooks.num_rows, outcomes_of(made))
            ended = zip(made.column("ebook_id").to_pylist(), made.column("outcome").to_pylist(), strict=True)
            with_cover = [ebook for ebook, outcome in ended if outcome != "rejected"]
            found = audit_covers(configured.mybookshelf2(), with_cover)
            yield dg.AssetCheckResult(
                check_name="covers_are_readable",
                passed=not found.bad_covers and not found.bad_thumbnails,
                severity=dg.AssetCheckSeverity.WARN,  # the application keeps pictures it cannot read as they are
                metadata={
                    "checked": found.checked,
                    "without": found.without,
                    "bad_covers": len(found.bad_covers),
                    "bad_thumbnails": len(found.bad_thumbnails),
                    "examples": dg.MetadataValue.json([*found.bad_covers, *found.bad_thumbnails][:SHOWN]),
                },
            )
            remove_scratch(context)

    return CoverOps(list_ebooks, make_covers, check_covers)
