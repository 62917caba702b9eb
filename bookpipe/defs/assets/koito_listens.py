"""koito/listens: the listens of exports of scrobbles in Koito, one partition for each batch of records."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs.checks import LISTEN_CHECKS, check_specs, loaded_and_checked
from bookpipe.defs.ops.scrobbles import check_listens, load_listens, parse_listens
from bookpipe.defs.partitions import scrobble_batches

KEY = dg.AssetKey(["koito", "listens"])


@dg.graph_asset(
    key=KEY,
    partitions_def=scrobble_batches,
    group_name="music",
    description=(
        "Listens with their artists, albums and tracks, as Koito's own importer would store them. Set "
        "BOOKPIPE_SCROBBLE_DIR to a folder of exports and BOOKPIPE_KOITO_URL to Koito's database."
    ),
    check_specs=check_specs(KEY, LISTEN_CHECKS),
)
def koito_listens() -> dict[str, pa.Table]:
    listens = parse_listens()
    loaded = load_listens(listens)
    return loaded_and_checked(KEY, LISTEN_CHECKS, loaded, check_listens(loaded))
