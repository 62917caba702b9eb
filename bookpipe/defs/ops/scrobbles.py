"""The ops between an export of scrobbles and Koito."""

import time

import dagster as dg
import pyarrow as pa

from bookpipe.defs import checks, metadata
from bookpipe.defs.errors import RETRY, explained
from bookpipe.defs.io_managers import remove_scratch
from bookpipe.defs.partitions import (
    check_listens_key,
    find_listen_batches,
    parse_listens_key,
    scrobble_batches,
)
from bookpipe.defs.resources import Configured
from bookpipe.defs.runs import claim_run
from bookpipe.pipelines import scrobbles
from bookpipe.pipelines.configured import koito, listen_options
from bookpipe.pipelines.listen_summary import listens_by_month, top_artists
from bookpipe.pipelines.seconds import seconds_of, timed_table
from bookpipe.settings import Settings, require
from bookpipe.sources.scrobbles import Export, read_listens
from bookpipe.targets.koito.audit import audit_partition


def exports_and_batches(
    settings: Settings, instance: dg.DagsterInstance
) -> tuple[dict[str, Export], dict[str, tuple[str, int, int]]]:
    """The exports by key, and every partition they have: key -> (export, first, last record)."""
    exports = scrobbles.exports_by_key(require(settings, "scrobble_dir"))
    assert scrobble_batches.name is not None
    registered = instance.get_dynamic_partitions(scrobble_batches.name)
    records = scrobbles.count_records(exports, settings.index_dir)
    return exports, find_listen_batches(records, registered, settings.batch_size)


@dg.op(retry_policy=RETRY, out=dg.Out(io_manager_key="scratch"))
def parse_listens(context: dg.OpExecutionContext, configured: Configured) -> pa.Table:
    """The partition's records of the export, as Koito's importer of that format would hand them on."""
    with explained(context):
        claim_run(context)
        settings = configured.settings()
        parse_listens_key(context.partition_key)  # before every export is counted
        exports, batches = exports_and_batches(settings, context.instance)
        export, first, last = check_listens_key(context.instance, context.partition_key, batches)
        with timed_table("parse_listens") as timed:
            timed.table = read_listens(
                exports[export],
                first,
                last,
                after=settings.import_after,
                before=settings.import_before,
                now=time.time(),
                index_dir=settings.index_dir,
            )
        context.add_output_metadata({"records": timed.table.num_rows, "kind": exports[export].kind})
        return timed.table


@dg.op(retry_policy=RETRY)  # the last op keeps the default IO manager, or asset-subset launches die
def load_listens(context: dg.OpExecutionContext, configured: Configured, listens: pa.Table) -> pa.Table:
    """Look up, resolve and write, chunk by chunk; the outcome of every record."""
    with explained(context):
        settings = configured.settings()
        result = scrobbles.load_listens(
            koito(settings), listens, listen_options(settings), partition=context.partition_key, run_id=context.run_id
        )
        configured.state().replace_rejections(scrobbles.PIPELINE, context.partition_key, result.rejections())
        export = context.partition_key.rsplit("-", 2)[0]
        context.add_output_metadata(
            {
                **metadata.load_metadata(result.counts, {**seconds_of(listens), **result.seconds}),
                "new_artists": result.new_artists,
                "new_albums": result.new_releases,
                "new_tracks": result.new_tracks,
                "known_listens": result.known,
                "listens_by_month": metadata.counts_table("month", "listens", listens_by_month(result.outcomes)),
                "top_artists": metadata.counts_table("artist", "listens", top_artists(result.outcomes)),
                metadata.FINGERPRINT: export,
            }
        )
        return result.outcomes


@dg.op(retry_policy=RETRY, out=checks.check_outputs(checks.LISTEN_CHECKS))
def check_listens(context: dg.OpExecutionContext, configured: Configured, loaded: pa.Table):  # type: ignore[no-untyped-def]
    """Look at what the load says it made: every record has ended, its listens are there, nothing has lost its name."""
    with explained(context):
        _, first, last = parse_listens_key(context.partition_key)
        yield checks.counts_add_up("records", last - first + 1, checks.outcomes_of(loaded))
        found = audit_partition(koito(configured.settings()), scrobbles.PIPELINE, context.partition_key)
        yield dg.AssetCheckResult(
            check_name="listens_are_there",
            passed=not found.missing_listens,
            severity=dg.AssetCheckSeverity.WARN,  # the user may have moved or deleted them since
            metadata={"inserted": found.listens, "missing": found.missing_listens},
        )
        yield dg.AssetCheckResult(
            check_name="names_are_whole",
            passed=not found.problem_count,
            metadata={
                "checked": found.entities,
                "problems": found.problem_count,
                "examples": dg.MetadataValue.json(found.problems),
            },
        )
        remove_scratch(context)
