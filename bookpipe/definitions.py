"""Everything Dagster loads: `-m bookpipe.definitions`."""

import dagster as dg

from bookpipe.defs.io_managers import ParquetIOManager
from bookpipe.defs.jobs import discover, load_jobs
from bookpipe.defs.pipelines import PIPELINES
from bookpipe.defs.resources import Configured
from bookpipe.defs.sensors import discover_partitions, retry_failed_partitions

defs = dg.Definitions(
    assets=[asset for pipeline in PIPELINES.values() for asset in pipeline.assets],
    jobs=[discover, *load_jobs.values()],
    sensors=[discover_partitions, retry_failed_partitions],
    resources={
        "configured": Configured(),
        "io_manager": ParquetIOManager(),
        "scratch": ParquetIOManager(compression="none"),
    },
    # A spawned step costs seconds; work inside an op is parallel by threads, partitions are parallel runs.
    executor=dg.in_process_executor,
)
