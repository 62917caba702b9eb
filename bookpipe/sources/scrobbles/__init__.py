"""Exports of scrobbles as LISTENS rows: Maloja, Spotify, Last.fm, ListenBrainz and Koito.

Each format is a module that says where its records are and what Koito's importer makes of one. An export is recognised
by what is in it; Koito itself goes by the name only.
"""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pyarrow as pa

from bookpipe.model.errors import BookpipeError, ConfigError, TerminalError, TransientError
from bookpipe.runtime.garbage import collector_paused
from bookpipe.sources.scrobbles import koito, lastfm, listenbrainz, maloja, spotify
from bookpipe.sources.scrobbles.export_file import Export, Member, OpenFile, open_file, readable, reopen, translating
from bookpipe.sources.scrobbles.json_blocks import Quota
from bookpipe.sources.scrobbles.json_stream import (
    ByteStream,
    JsonDamageError,
    JsonReader,
    Records,
    StreamDamageError,
)
from bookpipe.sources.scrobbles.listens_table import ListenRows, Parser
from bookpipe.sources.scrobbles.row_index import START, each_record, find_index, record_range

__all__ = ["FORMATS", "Export", "Member", "count_rows", "find_exports", "open_export", "read_listens"]


class Format(Parser, Protocol):
    """What a format's module has."""

    def records(self, stream: ByteStream, offset: int = 0) -> Records: ...


_MODULES: tuple[Format, ...] = (maloja, spotify, lastfm, listenbrainz, koito)
FORMATS = MappingProxyType({module.KIND: module for module in _MODULES})

_LOOKED_AT = 20  # first records that may tell the format
# What Koito knows the files by. Here names speak only where the content is silent: an empty list.
_SPOTIFY_NAME = "Streaming_History_Audio"
_NAMES = {_SPOTIFY_NAME: spotify.KIND, "recenttracks": lastfm.KIND}


def open_export(path: Path) -> Export:
    """The export in a file. TerminalError when it is none that is known, ConfigError when it cannot be read."""
    try:
        with open_file(path) as opened:
            kind, members = _plain_member(opened) if opened.infos is None else _zip_members(opened)
            return Export(path, kind, opened.key(kind), members, opened.size, opened.mtime_ns)
    except TerminalError as error:
        raise TerminalError(f"{readable(path)} cannot be loaded: {error}") from error


def find_exports(folder: Path) -> tuple[list[Export], list[tuple[Path, BookpipeError]]]:
    """The exports in a folder in the order in which Koito would import them, and the files that are none, with the
    reason. Hidden files and subfolders are passed over. ConfigError when the folder cannot be read."""
    exports = []
    others: list[tuple[Path, BookpipeError]] = []
    with translating(folder):
        paths = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=bytes)
        paths = [path for path in paths if not path.is_dir()]
    for path in paths:
        try:
            exports.append(open_export(path))
        except TransientError:
            raise
        except (TerminalError, ConfigError) as error:
            others.append((path, error))
    return exports, others


def count_rows(export: Export, *, index_dir: Path | None = None) -> int:
    """Records of an export, of whatever outcome. The first call reads all of it, unless its index is kept."""
    return find_index(export, FORMATS[export.kind].records, index_dir).rows


def read_listens(
    export: Export,
    first_row: int,
    last_row: int,
    *,
    after: int | None = None,
    before: int | None = None,
    now: float | None = None,
    index_dir: Path | None = None,
) -> pa.Table:
    """LISTENS rows of the records `first_row`..`last_row`, counted from 1, both included; fewer at the export's end.

    Every record is a row, with a `reason` when it is no listen. `after` and `before` are the time window in seconds
    since 1970, both included (a part of a second after `before` is outside); `now` is what is the present for times in
    the future. Raises TransientError when the file is not the one that was opened.
    """
    form = FORMATS[export.kind]
    first_row = max(1, first_row)
    rows = ListenRows(form)
    if first_row <= last_row:
        mark = START if first_row == 1 else find_index(export, form.records, index_dir).before(first_row)
        with collector_paused(), reopen(export) as opened:
            quota = Quota(0)
            records = each_record(opened, export, form.records, mark, quota)
            rows.add_all(record_range(records, quota, first_row - 1 - mark.rows, last_row - first_row + 1))
    return rows.table(origin=export.key, first_row=first_row, after=after, before=before, now=now)


def _plain_member(opened: OpenFile) -> tuple[str, tuple[Member, ...]]:
    member = Member(opened.path.name, opened.size)
    kind = _recognise(opened, member)
    if kind is None:
        kind = next((kind for part, kind in _NAMES.items() if part in opened.path.name), None)
    if kind is None:
        raise TerminalError("it holds an empty list, and its name does not say of what. Remove it.")
    return kind, (member,)


def _zip_members(opened: OpenFile) -> tuple[str, tuple[Member, ...]]:
    entries = opened.entries()
    for nested in (False, True):
        members = [entry for entry in entries if listenbrainz.is_member(entry.name, nested=nested)]
        if members:
            return listenbrainz.KIND, tuple(members)
    members = [entry for entry in entries if _is_spotify(opened, entry)]
    if not members:
        raise TerminalError(
            "it is a zip without listens: neither ListenBrainz' listens/*.jsonl nor Spotify's extended history."
        )
    members.sort(key=lambda member: _base_name(member).encode("utf-8", "surrogateescape"))
    return spotify.KIND, tuple(members)


def _base_name(member: Member) -> str:
    return member.name.rsplit("/", 1)[-1]


def _is_spotify(opened: OpenFile, member: Member) -> bool:
    name = _base_name(member)
    if not name.lower().endswith(".json") or name.startswith("."):
        return False
    if _SPOTIFY_NAME in name:
        return True  # even a damaged one: its damage is to be told when it is read
    try:
        return _recognise(opened, member) == spotify.KIND
    except TerminalError:
        return False


def _recognise(opened: OpenFile, member: Member) -> str | None:
    """The format of a JSON file, None for an empty list. TerminalError when it is none that is known."""
    if spotify.VIDEO in member.name:
        raise TerminalError("it is Spotify's history of videos, which are no listens.")
    try:
        reader = JsonReader(opened.stream(member))
        top = reader.peek()
        if not top:
            raise TerminalError("it is empty. Export it again.")
        kind = _recognise_object(reader) if top == "{" else _recognise_array(reader)
        if kind == koito.KIND:
            koito.check_version(opened.stream(member))
    except (JsonDamageError, StreamDamageError) as damage:
        raise TerminalError(f"it is no JSON of a known format ({damage}).") from damage
    if kind == "":
        raise TerminalError(
            "it is no export of listens that is known: Maloja's JSON, Spotify's extended streaming history, Last.fm's "
            "JSON of lastfm.ghan.nl, ListenBrainz' zip or Koito's JSON."
        )
    return kind


def _recognise_object(reader: JsonReader) -> str:
    for key in _keys(reader):
        if reader.peek() != "[":
            continue
        if key in koito.KEYS:
            return koito.KIND
        if key == "scrobbles":
            return maloja.KIND
        if key in maloja.KEYS:  # "list" may be of anything
            reader.expect("[")
            if reader.peek() == "]" or (
                reader.peek() == "{" and any(key in ("time", "track") for key in _keys(reader))
            ):
                return maloja.KIND
            return ""
    return ""


def _recognise_array(reader: JsonReader) -> str | None:
    reader.expect("[")
    for n in range(_LOOKED_AT):
        if n and reader.peek() == ",":
            reader.expect(",")
        if reader.peek() == "]":
            return "" if n else None
        if reader.peek() != "{":
            reader.skip()
            continue
        seen = set()
        for key in _keys(reader):
            seen.add(key)
            if key in lastfm.KEYS and reader.peek() in ("[", "{"):
                return lastfm.KIND
            if len(seen & spotify.KEYS) >= 2:
                return spotify.KIND
    return ""


def _keys(reader: JsonReader) -> Iterator[str]:
    """The folded keys of the next object; a value that was not stepped into is stepped over."""
    reader.expect("{")
    while (key := reader.key()) is not None:
        reader.peek()
        at = reader.offset()
        yield key.casefold()
        if reader.offset() == at:
            reader.skip()
