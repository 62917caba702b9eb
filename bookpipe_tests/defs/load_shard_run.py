"""Runs the job of one shard in a process of its own, for tests that kill it or hold it up.

    python -m bookpipe_tests.defs.load_shard_run KEY

The instance and the settings are those of the environment.
"""

import sys

import dagster as dg

from bookpipe.definitions import defs
from bookpipe.defs import heartbeat


def main(key: str) -> int:
    heartbeat.HEARTBEAT_S = 0.2
    with dg.DagsterInstance.get() as instance:
        job = defs.resolve_job_def("load_tars")
        result = job.execute_in_process(tags={"dagster/partition": key}, instance=instance, raise_on_error=False)
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
