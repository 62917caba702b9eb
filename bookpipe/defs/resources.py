"""What ops are given. Nothing here is configuration Dagster would store or show: everything comes from the
environment when a run uses it, so definitions load while nothing is set, and secrets stay where they are."""

import dagster as dg

from bookpipe.pipelines.configured import calibre_library, mybookshelf2, tar_shards
from bookpipe.runtime.state import State
from bookpipe.settings import Settings
from bookpipe.sources.calibre import CalibreLibrary
from bookpipe.sources.tar_shards import Shard
from bookpipe.targets.mybookshelf2.server import MyBookshelf2


class Configured(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The settings of this run's process, and what they configure."""

    def settings(self) -> Settings:
        return Settings.load()

    def library(self) -> CalibreLibrary:
        return calibre_library(self.settings())

    def tar_shards(self) -> dict[str, Shard]:
        return tar_shards(self.settings())

    def mybookshelf2(self) -> MyBookshelf2:
        return mybookshelf2(self.settings())

    def state(self) -> State:
        return State(self.settings().state_path)
