"""Small HASHED_FILES tables, and what a target has once a plan is written."""

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from itertools import count
from typing import Any

import pyarrow as pa

from bookpipe.model.book_plans import SEPARATOR, BookPlan, Known, author_key, book_key, file_key, source_key
from bookpipe.model.schemas import HASHED_FILES


def hashed_row(**overrides: Any) -> dict[str, Any]:
    """One file of one book. Its bytes, name and path follow from item and format unless they are given;
    a row with a reason has no digest unless one is given."""
    kind = overrides.get("given_format", "epub")
    item = overrides.get("item", 1)
    refused = overrides.get("reason") is not None
    row: dict[str, Any] = {
        "origin": "calibre:test",
        "item": 1,
        "title": "Dune",
        "authors": ["Frank Herbert"],
        "series": None,
        "series_index": None,
        "languages": ["eng"],
        "tags": [],
        "rating": None,
        "path": f"/library/{item}/book.{kind}".encode(),
        "file_name": f"book.{kind}",
        "given_format": kind,
        "reason": None,
        "detail": None,
        "sha1": None if refused else hashlib.sha1(f"{item} {kind}".encode()).hexdigest(),
        "size": None if refused else 1000,
        "format": None if refused else kind,
    }
    assert overrides.keys() <= row.keys()
    return row | overrides


def record_row(**overrides: Any) -> dict[str, Any]:
    """A book without files."""
    nothing = dict.fromkeys(("path", "file_name", "given_format", "sha1", "size", "format"))
    return hashed_row(**(nothing | overrides))


def hashed_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=HASHED_FILES)


def first_known() -> Known:
    """A MyBookshelf2 with a part of its first rows: small tables, no books."""
    return Known(
        languages={"cs": 1, "en": 2, "sk": 3, "ru": 4},
        language_names={"czech": 1, "english": 2, "slovak": 3, "russian": 4},
        language_synonyms={"eng": 2, "ces": 1, "slk": 3},
        genres={"fantasy": 20, "fiction": 21, "science fiction": 50, "sci-fi": 50},
        formats={"pdf": 1, "mobi": 6, "epub": 8, "azw3": 17},
    )


def applied(plan: BookPlan, known: Known) -> Known:
    """What a target that had `known` has once the plan is written. Asserts what its unique keys and ours ask."""
    after = deepcopy(known)
    numbers = count(1 + max((i for kind in Known.__slots__ for i in getattr(known, kind).values()), default=0))

    def draw(rows: Sequence[Any]) -> list[int]:
        return [next(numbers) for _ in rows]

    def add(kind: dict[str, int], key: str, i: int) -> None:
        assert key not in kind
        kind[key] = i

    def of(ref: int, new: list[int]) -> int:
        return ref if ref > 0 else new[-ref - 1]

    for (last, first), i in zip(plan.authors, draw(plan.authors), strict=True):
        add(after.authors, author_key(last, first), i)
    for title, i in zip(plan.series, draw(plan.series), strict=True):
        add(after.series, title.lower(), i)
    for (code, name), i in zip(plan.languages, draw(plan.languages), strict=True):
        add(after.languages, code, i)
        after.language_names[name.lower()] = i
    for name, i in zip(plan.genres, draw(plan.genres), strict=True):
        add(after.genres, name.lower(), i)
    for extension, i in zip(plan.formats, draw(plan.formats), strict=True):
        add(after.formats, extension, i)
    ebooks = draw(plan.ebooks)
    for book, i in zip(plan.ebooks, ebooks, strict=True):
        add(after.books, book_key(book.origin, book.item), i)
        after.base_dirs[f"{i}{SEPARATOR}folder {i}"] = i
    changed = {kept.source: source_key(kept.sha1, kept.size) for kept in plan.kept if kept.changed}
    after.sources = {key: i for key, i in after.sources.items() if i not in changed}
    for i, key in sorted(changed.items()):
        assert key not in after.sources or after.sources[key] in changed  # files an earlier load had may become alike
        after.sources.setdefault(key, i)
    for source, i in zip(plan.sources, draw(plan.sources), strict=True):
        key = source_key(source.sha1, source.size)
        add(after.sources, key, i)
        add(after.files, file_key(source.origin, source.item, source.given_format), i)
        after.locations[f"{i}{SEPARATOR}folder/file {i}"] = i
        ebook = of(source.ebook, ebooks)
        if ebook in known.source_ebooks.values():
            after.source_ebooks[key] = ebook
    return after
