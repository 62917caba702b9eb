"""The ops between a tar shard and MyBookshelf2."""

import os
from typing import Any

import dagster as dg
import pyarrow as pa

from bookpipe.defs import checks, metadata
from bookpipe.defs.errors import RETRY, explained
from bookpipe.defs.heartbeat import Heartbeat
from bookpipe.defs.io_managers import remove_scratch
from bookpipe.defs.partitions import check_shard_key
from bookpipe.defs.resources import Configured
from bookpipe.defs.runs import claim_run
from bookpipe.model.schemas import SHARD_INDEX, SHARD_LOADS
from bookpipe.pipelines import tars
from bookpipe.pipelines.configured import book_options
from bookpipe.sources.shard_folders import latest_changes
from bookpipe.sources.tar_shards import Shard
from bookpipe.targets.mybookshelf2.audit import SHOWN, Findings, audit_sources


def fingerprint(shard: Shard) -> str:
    """What changes when a shard does, as far as that can be seen without reading it."""
    if shard.kind == "folder":
        return f"folder:{latest_changes(shard.path)}"
    status = os.stat(shard.path)
    return f"{shard.kind}:{status.st_size}@{status.st_mtime_ns}"


@dg.op(retry_policy=RETRY, out=dg.Out(io_manager_key="scratch"))
def index_shard(context: dg.OpExecutionContext, configured: Configured) -> pa.Table:
    """Count the members by their headers; a packed shard would have to be unpacked for that, and is not."""
    with explained(context):
        claim_run(context)
        key = context.partition_key
        shard = check_shard_key(configured.tar_shards(), context.instance, key)
        index = tars.index_shard(shard) if shard.kind in ("tar", "folder") else None
        members, size = (index.members, index.bytes) if index else (None, None)
        context.add_output_metadata({"members": members or 0, "bytes": size or 0, "kind": shard.kind})
        return pa.table({"key": [key], "members": [members], "bytes": [size]}, schema=SHARD_INDEX)


@dg.op(retry_policy=RETRY)  # the last op keeps the default IO manager, or asset-subset launches die
def load_shard(context: dg.OpExecutionContext, configured: Configured, index: pa.Table) -> pa.Table:
    """Read, hash, look up and insert chunk by chunk; a load that died goes on where it was."""
    with explained(context):
        key = context.partition_key
        shard = check_shard_key(configured.tar_shards(), context.instance, key)
        settings = configured.settings()
        seen = fingerprint(shard)  # as it is before it is read: what comes later is for another run
        try:
            with Heartbeat(context, "members", index.column("members")[0].as_py()) as progress:
                result = tars.load_shard(
                    configured.mybookshelf2(),
                    shard,
                    book_options(settings),
                    configured.state(),
                    partition=key,
                    run_id=context.run_id,
                    progress=progress,
                    workers=settings.hash_threads,
                )
        except tars.DamagedShardError as error:
            # The run fails, so there will be no materialization to tell what is loaded all the same.
            told = shard_metadata(error.result, seen)
            context.log_event(dg.AssetObservation(context.asset_key, partition=key, metadata=told))
            raise
        context.add_output_metadata(shard_metadata(result, seen))
        counts = result.counts
        return pa.table(
            {
                "key": [key],
                "inserted": [counts.inserted],
                "existing": [counts.existing],
                "rejected": [counts.rejected],
            },
            schema=SHARD_LOADS,
        )


def shard_metadata(result: tars.ShardResult, seen: str) -> dict[str, Any]:
    """What a shard's load says of itself: the counts of all attempts, the rates of this one."""
    damage = {"damage": dg.MetadataValue.json(result.problems[:SHOWN])} if result.problems else {}
    return {
        **metadata.load_metadata(result.counts, {"load_shard": result.seconds.get("total", 0.0)}, result.members),
        metadata.FINGERPRINT: seen,
        "members_read": result.members,
        "bytes_read": result.bytes,
        "chunks": result.chunks,
        "resumed_at": result.resumed_at,
        "new_ebooks": result.new_ebooks,
        "new_authors": result.new_authors,
        "retyped_files": result.retyped,
        **{f"metadata_{status}": n for status, n in result.metadata.items()},
        **{f"seconds_{phase}": s for phase, s in result.seconds.items() if phase != "total"},
        **damage,
    }


@dg.op(retry_policy=RETRY, out=checks.check_outputs(checks.BOOK_CHECKS))
def check_shard(context: dg.OpExecutionContext, configured: Configured, index: pa.Table, loaded: pa.Table):  # type: ignore[no-untyped-def]
    """Look at what the load says it made: every member has ended, every source has its file, none is there twice."""
    with explained(context):
        (ended,) = loaded.drop_columns("key").to_pylist()
        yield checks.counts_add_up("members", index.column("members")[0].as_py(), ended)
        found = Findings()
        for sources in tars.loaded_sources(configured.mybookshelf2(), context.partition_key):
            found += audit_sources(configured.mybookshelf2(), sources)
        yield from checks.books_are_there(found)
        remove_scratch(context)
