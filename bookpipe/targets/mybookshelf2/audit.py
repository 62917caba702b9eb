"""Whether what a load made is really there: readable files of the right size, nothing twice."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from bookpipe.targets.mybookshelf2.server import MyBookshelf2
from bookpipe.targets.mybookshelf2.storage import BookFolder
from bookpipe.targets.postgres import translating

SHOWN = 20  # findings listed by name; all are counted


@dataclass
class Findings:
    """What is wrong with a batch's sources. Empty when all is well."""

    checked: int = 0
    gone: int = 0  # source rows that are not in the database any more
    unreadable: list[str] = field(default_factory=list)  # locations without a readable file of the row's size
    twice: list[str] = field(default_factory=list)  # "sha1 size" that more than one source has


def audit_sources(target: MyBookshelf2, source_ids: Sequence[int]) -> Findings:
    """Check these source rows, their files, and that no other row has the same bytes."""
    findings = Findings(checked=len(source_ids))
    with target.connect() as connection, translating("checking sources"):
        rows = connection.execute(
            "SELECT location, size FROM source WHERE id = ANY(%s)", (list(source_ids),)
        ).fetchall()  # fmt: skip
        findings.gone = len(source_ids) - len(rows)
        for location, size in rows:
            if not _readable(target.folder, location, size):
                findings.unreadable.append(location)
        twice = connection.execute(
            "SELECT s.hash, s.size FROM (SELECT DISTINCT hash, size FROM source WHERE id = ANY(%s)) k "
            "JOIN source s ON s.size = k.size AND s.hash = k.hash GROUP BY 1, 2 HAVING count(*) > 1",
            (list(source_ids),),
        )
        findings.twice = [f"{sha1} {size}" for sha1, size in twice]
    return findings


def _readable(folder: BookFolder, location: str, size: int) -> bool:
    full = os.fsencode(os.path.join(folder.root, location))
    try:
        if folder.link_prefix and os.path.islink(full):
            full = folder.host_target(os.readlink(full))
        return os.stat(full).st_size == size and os.access(full, os.R_OK)
    except OSError:
        return False
