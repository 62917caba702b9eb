"""Real files in a folder, and the HASHED_FILES rows that name them."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bookpipe_tests.factories import hashed_row, hashed_table

ORIGIN = "calibre:11111111-2222-3333-4444-555555555555"

Row = dict[str, Any]


def book_rows(
    library: Path,
    item: int,
    title: str = "A Title",
    *,
    authors: Sequence[str] = ("Ann Author",),
    series: str | None = None,
    series_index: float | None = None,
    languages: Sequence[str] = ("eng",),
    tags: Sequence[str] = (),
    rating: int | None = None,
    files: Mapping[str, bytes] | None = None,
    origin: str = ORIGIN,
) -> list[Row]:
    """One row for each of a book's files, by extension; the files are written into `library`/`item`."""
    if files is None:
        files = {"epub": f"{origin} {item}".encode()}
    folder = library / str(item)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for extension, content in files.items():
        path = folder / f"book {item}.{extension}"
        path.write_bytes(content)
        rows.append(
            hashed_row(
                origin=origin,
                item=item,
                title=title,
                authors=list(authors),
                series=series,
                series_index=series_index,
                languages=list(languages),
                tags=list(tags),
                rating=rating,
                path=os.fsencode(path),
                file_name=path.name,
                given_format=extension,
                sha1=hashlib.sha1(content).hexdigest(),
                size=len(content),
            )
        )
    return rows


def many_books(library: Path, first: int, count: int, *, people: int = 7, origin: str = ORIGIN) -> pa.Table:
    """`count` books that share authors, series and languages, some with two files, some with the bytes of another."""
    rows = []
    for item in range(first, first + count):
        files = {"epub": f"{origin} {item}".encode()}
        if item % 3 == 0:
            files["mobi"] = f"{origin} {item} as mobi".encode() * 3
        if item % 11 == 0:
            files["pdf"] = f"{origin} every eleventh, of {item // 22}".encode()
        rows += book_rows(
            library,
            item,
            f"Book {item % 50}" if item % 5 else f"Книга {item}",
            authors=[f"First{n} Last{n}" for n in {item % people, item * 3 % people}],
            series=f"Series {item % 6}" if item % 4 == 0 else None,
            series_index=item / 2 if item % 4 == 0 else None,
            languages=[("eng", "ces", "deu", "jpn")[item % 4]],
            tags=["Fantasy", f"Tag {item % 3}"],
            rating=item % 10 + 1,
            files=files,
            origin=origin,
        )
    return hashed_table(rows)
