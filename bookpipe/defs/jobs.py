"""Jobs: one to load each pipeline's partitions, one to register what is new."""

import dagster as dg

from bookpipe.defs.discovery import register_found
from bookpipe.defs.errors import explained
from bookpipe.defs.pipelines import PIPELINES
from bookpipe.settings import Settings

load_jobs = {
    pipeline.name: dg.define_asset_job(
        pipeline.job_name,
        selection=dg.AssetSelection.assets(*pipeline.assets),
        description=(
            f"Make the covers of one loaded partition of {pipeline.follows}."
            if pipeline.follows
            else f"Load one partition of {pipeline.name}, from the source to the target."
        ),
        tags={"bookpipe/pipeline": pipeline.name},
    )
    for pipeline in PIPELINES.values()
}


@dg.op
def register_partitions(context: dg.OpExecutionContext) -> None:
    """Register the partitions every configured source has and the instance does not know yet."""
    with explained(context):
        register_found(Settings.load(), context.instance, tell=context.log.info, warn=context.log.warning)


@dg.job(description="Register the partitions of every configured source.")
def discover() -> None:
    register_partitions()
