"""What the configured sources have, registered: the same from a shell, as a job and in the UI."""

from collections.abc import Callable

import dagster as dg

from bookpipe.defs.partitions import register
from bookpipe.defs.pipelines import Warn, sources
from bookpipe.settings import Settings


def register_found(
    settings: Settings, instance: dg.DagsterInstance, *, tell: Callable[[str], None], warn: Warn
) -> None:
    """Register the partitions every configured source has and the instance does not know yet, and say how many."""
    for pipeline in sources():
        if not pipeline.configured(settings):
            tell(f"{pipeline.name}: not configured")
            continue
        found = pipeline.find(settings, instance, warn)
        new = register(instance, pipeline.partitions, found)
        tell(f"{pipeline.name}: {len(found)} partitions, {len(new)} of them new")
