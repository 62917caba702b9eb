"""Undo on a shelf, and what is there before and after it."""

from pathlib import Path
from typing import Any

from bookpipe.resolve.books import BookOptions
from bookpipe.targets.mybookshelf2.undo import Undone, undo_partition
from bookpipe_tests.targets.shelf import Shelf

JOURNAL = ("load", "book", "file", "created", "placement", "origin")
GENRES = BookOptions(create_genres=True)


def undo(shelf: Shelf, partition: str = "books-1", *, dry_run: bool = False, **settings: Any) -> Undone:
    return undo_partition(shelf.using(**settings), "calibre", partition, dry_run=dry_run)


def journal(shelf: Shelf) -> dict[str, Any]:
    """All entries, those of a kind and load together."""
    found = {table: sorted(shelf.sql(f"SELECT * FROM bookpipe.{table}"), key=repr) for table in JOURNAL}
    found["created"] = shelf.sql(
        "SELECT load_id, kind, array_agg(i ORDER BY i) FROM bookpipe.created, unnest(ids) AS i "
        "GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return found


def everything(shelf: Shelf) -> tuple[Any, Any]:
    return shelf.exactly(), shelf.tree(ids=True)


def use(shelf: Shelf, table: str, **columns: Any) -> None:
    """A row the application adds."""
    values = {"version_id": 1, "created": "now", "modified": "now", **columns}
    marks = ", ".join(["%s"] * len(values))
    names = ", ".join(f'"{name}"' for name in values)
    shelf.sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", *values.values())


def book(shelf: Shelf, title: str) -> int:
    return int(shelf.one("SELECT id FROM ebook WHERE title = %s", title))


def put_instead(shelf: Shelf, location: str) -> Path:
    """Somebody replaces a placed file by one of his own."""
    place = shelf.books / location
    place.unlink()
    place.write_bytes(b"with notes of mine")
    return place
