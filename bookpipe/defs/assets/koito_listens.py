"""koito/listens: the listens of exports of scrobbles in Koito, one partition for each batch of records."""

import dagster as dg
import pyarrow as pa

from bookpipe.defs.ops.scrobbles import CHECKS, check_listens, load_listens, parse_listens
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
    check_specs=[
        dg.AssetCheckSpec("counts_add_up", asset=KEY, description="Read = inserted + existing + rejected."),
        dg.AssetCheckSpec("listens_are_there", asset=KEY, description="Every listen that was inserted is in Koito."),
        dg.AssetCheckSpec(
            "names_are_whole",
            asset=KEY,
            description="Everything has one primary name, and every track and album an artist.",
        ),
    ],
)
def koito_listens() -> dict[str, pa.Table]:
    listens = parse_listens()
    loaded = load_listens(listens)
    checks = check_listens(loaded)
    # Dagster finds a check's output by this name.
    return {"result": loaded, **{f"{KEY.to_python_identifier()}_{name}": getattr(checks, name) for name in CHECKS}}
