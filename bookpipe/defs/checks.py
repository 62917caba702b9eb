"""What every load is checked for: the names and claims of the checks, and what several loads look at alike."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pyarrow as pa

from bookpipe.targets.mybookshelf2.audit import SHOWN, Findings

Checks = Mapping[str, str]  # name -> what it claims

_ALL: Checks = {"counts_add_up": "Read = inserted + existing + rejected."}
BOOK_CHECKS: Checks = {
    **_ALL,
    "files_are_readable": "Behind every source row is a readable file of its size.",
    "nothing_is_there_twice": "No two sources have the same bytes.",
}
COVER_CHECKS: Checks = {**_ALL, "covers_are_readable": "Every cover is a readable JPEG and has its thumbnail."}
LISTEN_CHECKS: Checks = {
    **_ALL,
    "listens_are_there": "Every listen that was inserted is in Koito.",
    "names_are_whole": "Everything has one primary name, and every track and album an artist.",
}
SONG_CHECKS: Checks = {
    **_ALL,
    "songs_are_whole": "The archive has every song with our checksum and size.",
    "songs_are_processed": "The archive could process every song.",
}


def check_specs(asset: dg.AssetKey, checks: Checks) -> list[dg.AssetCheckSpec]:
    return [dg.AssetCheckSpec(name, asset=asset, description=claim) for name, claim in checks.items()]


def check_outputs(checks: Checks) -> dict[str, dg.Out]:
    """The outputs of the op that makes all checks of a load. One op, because each further step costs Dagster's
    embedded storage about 0.1 s of writing events."""
    return {name: dg.Out() for name in checks}


def loaded_and_checked(asset: dg.AssetKey, checks: Checks, loaded: Any, checked: Any) -> dict[str, Any]:
    """What the graph of an asset returns: the output of the load, and those of `check_outputs` by the names under which
    Dagster looks for them."""
    prefix = asset.to_python_identifier()
    return {"result": loaded, **{f"{prefix}_{name}": getattr(checked, name) for name in checks}}


def outcomes_of(loaded: pa.Table) -> dict[str, int]:
    """Rows of a load's result by outcome."""
    return Counter(loaded.column("outcome").to_pylist())


def counts_add_up(counted: str, read: int | None, outcomes: Mapping[str, int]) -> dg.AssetCheckResult:
    """Whether every row that was read has ended in one of three ways. None: nobody knows how many there were."""
    ended = {name: outcomes.get(name, 0) for name in ("inserted", "existing", "rejected")}
    return dg.AssetCheckResult(
        check_name="counts_add_up",
        passed=read is None or read == sum(ended.values()) == sum(outcomes.values()),
        metadata={counted: -1 if read is None else read, **ended},
    )


def books_are_there(found: Findings) -> Iterator[dg.AssetCheckResult]:
    """Whether every source has its file, and none is there twice."""
    yield dg.AssetCheckResult(
        check_name="files_are_readable",
        passed=not found.unreadable and not found.gone,
        metadata={
            "checked": found.checked,
            "unreadable": len(found.unreadable),
            "gone": found.gone,
            "examples": dg.MetadataValue.json(found.unreadable[:SHOWN]),
        },
    )
    yield dg.AssetCheckResult(
        check_name="nothing_is_there_twice",
        passed=not found.twice,
        metadata={"twice": len(found.twice), "examples": dg.MetadataValue.json(found.twice[:SHOWN])},
    )
