"""What a materialization says about itself: numbers Dagster plots over partitions, and tables for people."""

from collections.abc import Mapping, Sequence

import dagster as dg

from bookpipe.model.counts import LoadCounts
from bookpipe.model.rejections import REASON_HELP, Reason

FINGERPRINT = "fingerprint"  # a text that changes when the rows of the source do
ROWS_DONE = "rows_done"  # in those seconds: a load that went on where another had died tells the rows of both

_REJECTIONS = dg.TableSchema(
    columns=[
        dg.TableColumn("reason", "string"),
        dg.TableColumn("rows", "int"),
        dg.TableColumn("meaning", "string"),
    ]
)


def rejections_table(counts: LoadCounts) -> dg.TableMetadataValue:
    """Rejections by reason, most frequent first, with what each means and what to do."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"reason": reason, "rows": n, "meaning": REASON_HELP[Reason(reason)]})
            for reason, n in sorted(counts.rejections.items(), key=lambda item: (-item[1], item[0]))
        ],
        schema=_REJECTIONS,
    )


def load_metadata(
    counts: LoadCounts, seconds: Mapping[str, float], done: int | None = None
) -> dict[str, dg.MetadataValue]:
    """Counts, rate and seconds by phase of one partition's load. `done`: the rows that these seconds are of, when they
    are not all that were read."""
    total = sum(seconds.values())
    rows = counts.read if done is None else done
    found: dict[str, dg.MetadataValue] = {
        "read": dg.MetadataValue.int(counts.read),
        "inserted": dg.MetadataValue.int(counts.inserted),
        "existing": dg.MetadataValue.int(counts.existing),
        "rejected": dg.MetadataValue.int(counts.rejected),
        "rows_per_s": dg.MetadataValue.float(round(rows / total, 1) if total else 0.0),
        "seconds": dg.MetadataValue.float(round(total, 3)),
        ROWS_DONE: dg.MetadataValue.int(rows),
        "rejections": rejections_table(counts),
    }
    for phase, s in seconds.items():
        found[f"seconds_{phase}"] = dg.MetadataValue.float(round(s, 3))
    return found


def counts_table(what: str, counted: str, rows: Sequence[tuple[str, int]]) -> dg.TableMetadataValue:
    """A small table of names and numbers, as given."""
    return dg.MetadataValue.table(
        [dg.TableRecord({what: name, counted: n}) for name, n in rows],
        schema=dg.TableSchema(columns=[dg.TableColumn(what, "string"), dg.TableColumn(counted, "int")]),
    )
