"""The ops between a folder of audio files and the music archive."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs import checks, metadata
from bookpipe.defs.errors import RETRY, explained
from bookpipe.defs.heartbeat import Heartbeat
from bookpipe.defs.io_managers import remove_scratch
from bookpipe.defs.partitions import check_songs_key
from bookpipe.defs.resources import Configured
from bookpipe.defs.runs import claim_run
from bookpipe.pipelines import songs
from bookpipe.pipelines.configured import music_archive
from bookpipe.pipelines.seconds import seconds_of, timed_table
from bookpipe.runtime.audio_batches import AudioBatches
from bookpipe.runtime.stopping import check_stop
from bookpipe.settings import require
from bookpipe.targets.music_archive.audit import audit_songs

SHOWN = 20


@dg.op(retry_policy=RETRY, out=dg.Out(io_manager_key="scratch"))
def hash_songs(context: dg.OpExecutionContext, configured: Configured) -> pa.Table:
    """MD5, tags and type of every file of the batch; unchanged files come from the digest cache."""
    with explained(context):
        claim_run(context)
        settings = configured.settings()
        root = require(settings, "music_dir")
        key = context.partition_key
        paths = check_songs_key(AudioBatches(configured.state()), context.instance, key)
        with timed_table("hash_songs") as timed:
            timed.table = songs.read_songs(
                root, paths, configured.state(), key, threads=settings.hash_threads,
                progress=Heartbeat(context, "read_audio_files", rows="files read"),
            )  # fmt: skip
        sizes = timed.table.column("size").drop_null().to_pylist()
        context.add_output_metadata({"files": len(paths), "bytes": sum(sizes)})
        return timed.table


@dg.op(retry_policy=RETRY)  # the last op keeps the default IO manager, or asset-subset launches die
def upload_songs(context: dg.OpExecutionContext, configured: Configured, hashed: pa.Table) -> pa.Table:
    """Reserve, put and commit what the archive has not got; the outcome of every file."""
    with explained(context):
        settings = configured.settings()
        result = songs.upload_songs(
            music_archive(settings),
            hashed,
            require(settings, "music_dir"),
            configured.state(),
            concurrency=settings.archive_concurrency,
            skip_likely_refused=settings.skip_likely_refused,
            progress=Heartbeat(context, "upload", hashed.num_rows, rows="songs"),
        )
        configured.state().replace_rejections(songs.PIPELINE, context.partition_key, songs.rejections(result.outcomes))
        if result.stopped:
            check_stop(f"{result.counts.inserted} songs were uploaded.")
        seconds = {**seconds_of(hashed), "upload": result.elapsed}
        failed = songs.failed_songs(result.outcomes)
        context.add_output_metadata(
            {
                **metadata.load_metadata(result.counts, seconds),
                "sent_bytes": result.sent_bytes,
                "mb_per_s": round(result.sent_bytes / 1e6 / result.elapsed, 2) if result.elapsed else 0.0,
                "uploads_at_a_time": result.window,
                "strategy": result.strategy or "nothing had to be sent",
                "processing_failed": len(failed),
                metadata.FINGERPRINT: context.partition_key,
                **{f"thread_seconds_{phase}": round(s, 3) for phase, s in result.seconds.items()},
            }
        )
        return result.outcomes


@dg.op(retry_policy=RETRY, out=checks.check_outputs(checks.SONG_CHECKS))
def check_songs(context: dg.OpExecutionContext, configured: Configured, loaded: pa.Table):  # type: ignore[no-untyped-def]
    """Ask the archive for what it says it has: every song with our checksum and size, and processed."""
    with explained(context):
        files = len(AudioBatches(configured.state()).paths(context.partition_key))
        yield checks.counts_add_up("files", files, checks.outcomes_of(loaded))
        found = audit_songs(music_archive(configured.settings()), songs.songs_to_read_back(loaded))
        yield dg.AssetCheckResult(
            check_name="songs_are_whole",
            passed=found.ok,
            metadata={
                "checked": found.checked,
                "gone": len(found.gone),
                "different": len(found.different),
                "examples": dg.MetadataValue.json([*found.different, *found.gone][:SHOWN]),
            },
        )
        failed = songs.failed_songs(loaded)
        yield dg.AssetCheckResult(
            check_name="songs_are_processed",
            passed=not failed,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"failed": len(failed), "examples": dg.MetadataValue.json(failed[:SHOWN])},
        )
        remove_scratch(context)
