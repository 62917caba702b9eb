"""A batch of listens as its owner would recognise it: listens for each month, and the artists heard most."""

from collections import Counter
from datetime import datetime, timezone

import pyarrow as pa
import pyarrow.compute as pc

TOP = 10


def listens_by_month(outcomes: pa.Table) -> list[tuple[str, int]]:
    """("2024-03", listens) of the rows of LISTEN_OUTCOMES that were not rejected, in order; months without any are
    left out."""
    times = _kept(outcomes).column("listened_at").drop_null()
    counts: Counter[str] = Counter()
    for day in pc.value_counts(pc.floor(pc.divide(pc.cast(times, pa.float64()), 86_400.0))).to_pylist():
        date = datetime.fromtimestamp(int(day["values"]) * 86_400, timezone.utc)
        counts[f"{date:%Y-%m}"] += day["counts"]
    return sorted(counts.items())


def top_artists(outcomes: pa.Table) -> list[tuple[str, int]]:
    """(artist as the export spells him, listens) of the TOP ones heard most."""
    found = pc.value_counts(_kept(outcomes).column("artist").drop_null()).to_pylist()
    ranked = sorted(found, key=lambda artist: (-artist["counts"], artist["values"]))
    return [(artist["values"], artist["counts"]) for artist in ranked[:TOP]]


def _kept(outcomes: pa.Table) -> pa.Table:
    return outcomes.filter(pc.not_equal(outcomes.column("outcome"), "rejected"))
