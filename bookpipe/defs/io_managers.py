"""Arrow tables as Parquet files: assets by partition, op outputs by run.

<parquet>/calibre/books/books-0000001-0010000.parquet
<parquet>/<run id>/<op>/result.parquet                  removed when the run has loaded its partition
"""

import glob
import shutil
from contextlib import suppress
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from bookpipe.settings import Settings

_COLUMNS = "bookpipe/columns"


def columns(*names: str) -> dict[str, list[str]]:
    """Metadata of an input that needs only these columns."""
    return {_COLUMNS: list(names)}


class ParquetFiles(dg.UPathIOManager):
    """One Parquet file for each output. `compression` is Parquet's name for it."""

    extension = ".parquet"

    def __init__(self, base_path: UPath, compression: str) -> None:
        super().__init__(base_path)
        self.compression = compression

    def dump_to_path(self, context: dg.OutputContext, obj: pa.Table, path: UPath) -> None:
        part = path.parent / f"{path.name}.{context.run_id}.part"
        with part.open("wb") as file:
            pq.write_table(obj, file, compression=self.compression)
        part.rename(path)  # a crash leaves the old file or the new one, never half of one

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pa.Table:
        with path.open("rb") as file:
            return pq.read_table(file, columns=context.definition_metadata.get(_COLUMNS))

    def get_metadata(self, context: dg.OutputContext, obj: pa.Table) -> dict[str, Any]:  # noqa: ARG002
        return {"dagster/row_count": obj.num_rows}


class ParquetIOManager(dg.ConfigurableIOManagerFactory):  # type: ignore[type-arg]
    """Parquet under DAGSTER_HOME. zstd for what is kept, none for what only crosses from op to op."""

    compression: str = "zstd"

    def create_io_manager(self, context: dg.InitResourceContext) -> ParquetFiles:  # noqa: ARG002
        return ParquetFiles(UPath(Settings.load().parquet_dir), self.compression)


def remove_scratch(context: dg.OpExecutionContext) -> None:
    """Remove what the ops of an asset that is finished handed to each other. Other assets of the run may not be."""
    run, asset = Settings.load().parquet_dir / context.run_id, str(context.op_handle).rpartition(".")[0]
    for folder in run.glob(f"{glob.escape(asset)}.*"):
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        run.rmdir()
