"""Whether what a load made is really there: readable files of the right size, nothing twice."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from bookpipe.targets.mybookshelf2.server import MyBookshelf2
from bookpipe.targets.mybookshelf2.storage import BookFolder
from bookpipe.targets.postgres import as_array, joined, translating

SHOWN = 20  # findings listed by name; all are counted


@dataclass
class Findings:
    """What is wrong with some sources. Nothing when all is well."""

    checked: int = 0
    gone: int = 0  # source rows that are not in the database any more
    unreadable: list[str] = field(default_factory=list)  # locations without a readable file of the row's size
    twice: list[str] = field(default_factory=list)  # "sha1 size" of bytes that another source has, too

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(
            self.checked + other.checked,
            self.gone + other.gone,
            self.unreadable + other.unreadable,
            self.twice + other.twice,
        )


def audit_sources(target: MyBookshelf2, source_ids: Iterable[int]) -> Findings:
    """Whether these source rows are there, each with a readable file of its size, and none twice."""
    wanted = sorted(set(source_ids))
    ids = joined(wanted)
    with target.connect() as connection, translating("checking sources"):
        rows = connection.execute(
            f"SELECT location, size FROM source WHERE id = ANY({as_array('bigint')})".encode(), (ids,)
        ).fetchall()
        twice = connection.execute(
            "SELECT s.hash, s.size FROM (SELECT DISTINCT hash, size FROM source "
            f"WHERE id = ANY({as_array('bigint')})) k JOIN source s ON s.size = k.size AND s.hash = k.hash "
            "GROUP BY 1, 2 HAVING count(*) > 1".encode(),
            (ids,),
        ).fetchall()
    return Findings(
        checked=len(wanted),
        gone=len(wanted) - len(rows),
        unreadable=[location for location, size in rows if not _readable(target.folder, location, size)],
        twice=[f"{sha1} {size}" for sha1, size in twice],
    )


def _readable(folder: BookFolder, location: str, size: int) -> bool:
    full = os.fsencode(os.path.join(folder.root, location))
    try:
        if folder.link_prefix and os.path.islink(full):
            full = folder.host_target(os.readlink(full))
        return os.stat(full).st_size == size and os.access(full, os.R_OK)
    except OSError:
        return False
