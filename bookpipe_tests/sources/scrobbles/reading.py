"""Exports as rows, for the tests."""

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bookpipe.demo import scrobble_exports as made
from bookpipe.sources.scrobbles import count_rows, open_export, read_listens

NOW = 1_760_000_000.0  # 2025-10-09
TIME = 1_600_000_000  # 2020-09-13
MBID = "b1c2d3e4-0000-4000-8000-00000000000"  # and one more digit

Row = dict[str, Any]

# The file and its maker for each kind of export.
MAKERS: dict[str, tuple[str, Callable[..., made.ExportFacts]]] = {
    "maloja": ("m.json", made.make_maloja),
    "spotify": ("s.zip", made.make_spotify),
    "lastfm": ("l.json", made.make_lastfm),
    "listenbrainz": ("b.zip", made.make_listenbrainz),
    "koito": ("k.json", made.make_koito),
}


def read_all(path: Path) -> list[Row]:
    """All rows of an export."""
    export = open_export(path)
    rows: list[Row] = read_listens(export, 1, count_rows(export), now=NOW).to_pylist()
    return rows


def read_bytes(folder: Path, name: str, data: bytes) -> list[Row]:
    path = folder / name
    path.write_bytes(data)
    return read_all(path)


def read_json(folder: Path, name: str, document: Any) -> list[Row]:
    return read_bytes(folder, name, json.dumps(document).encode())


def zip_bytes(members: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            archive.writestr(name, data)
    return buffer.getvalue()


def outcomes(rows: Iterable[Row]) -> list[str | None]:
    return [row["reason"] for row in rows]


def only(row: Row, *columns: str) -> tuple[Any, ...]:
    return tuple(row[column] for column in columns)
