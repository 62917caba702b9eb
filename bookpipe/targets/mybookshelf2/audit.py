"""Whether what a load made is really there: readable files of the right size, nothing twice, covers that show."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from bookpipe.targets.mybookshelf2.cover_images import is_jpeg
from bookpipe.targets.mybookshelf2.server import MyBookshelf2
from bookpipe.targets.mybookshelf2.storage import THUMBS, BookFolder
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


@dataclass
class CoverFindings:
    """What is wrong with the covers of some ebooks. Nothing when all is well."""

    checked: int = 0
    without: int = 0  # ebooks that are gone by now, or have no cover any more
    bad_covers: list[str] = field(default_factory=list)  # paths below the data directory
    bad_thumbnails: list[str] = field(default_factory=list)


def audit_covers(target: MyBookshelf2, ebook_ids: Iterable[int]) -> CoverFindings:
    """Whether these ebooks have a cover and a thumbnail, each of them a JPEG to its end."""
    wanted = sorted(set(ebook_ids))
    with target.connect() as connection, translating("checking covers"):
        rows = connection.execute(
            f"SELECT id, cover FROM ebook WHERE cover IS NOT NULL AND id = ANY({as_array('bigint')})".encode(),
            (joined(wanted),),
        ).fetchall()
    folder = target.folder
    thumbnails = [f"{THUMBS}/{ebook}.jpg" for ebook, _ in rows]
    return CoverFindings(
        checked=len(rows),
        without=len(wanted) - len(rows),
        bad_covers=[f"books/{cover}" for _, cover in rows if not is_jpeg(folder.full_path(cover))],
        bad_thumbnails=[name.removeprefix("../") for name in thumbnails if not is_jpeg(folder.full_path(name))],
    )


def _readable(folder: BookFolder, location: str, size: int) -> bool:
    try:
        full = folder.host_path(location)
        return os.stat(full).st_size == size and os.access(full, os.R_OK)
    except OSError:
        return False
