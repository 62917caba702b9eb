"""The records of JSON lines, and of blocks of any file, read as `json_stream` reads those of documents."""

import io
import json
from collections.abc import Iterator
from typing import Any

from bookpipe.model.rejections import Reason
from bookpipe.sources.scrobbles import json_stream
from bookpipe.sources.scrobbles.json_blocks import Block, Quota
from bookpipe.sources.scrobbles.json_stream import (
    BOM,
    MAX_RECORD,
    TOO_LARGE,
    ByteStream,
    JsonRecords,
    Layout,
    Problem,
)

_BLANK = object()
_decode_whole = json.JSONDecoder().decode


class JsonLines:
    """The records of a file with one JSON value on each line, of any length. Blank lines are no records."""

    def __init__(self, stream: ByteStream, offset: int = 0) -> None:
        self._stream = stream
        self._offset = offset

    def resume_offset(self) -> int | None:
        return self._offset

    def __iter__(self) -> Iterator[Any]:
        return self.in_blocks(None)

    def in_blocks(self, quota: Quota | None) -> Iterator[Any]:
        pieces: list[bytes] = []  # of the line at hand
        size = 0
        too_long = False
        while chunk := self._stream.read(json_stream.CHUNK):
            first, *others = chunk.split(b"\n")
            pieces.append(first)
            size += len(first)
            if others:
                last = others.pop()
                yield from self._whole_lines([b"".join(pieces), *others], too_long, quota)
                self._offset += 1
                pieces, size, too_long = [last], len(last), False
            if size > MAX_RECORD:
                self._offset += size
                pieces, size, too_long = [], 0, True
        yield from self._end_line(b"".join(pieces), too_long)

    def _whole_lines(self, lines: list[bytes], too_long: bool, quota: Quota | None) -> Iterator[Any]:
        """The records of lines, of which the first one may be the end of one that is too long."""
        at = 0
        if quota is not None and not too_long and {line[:1] for line in lines} == {b"{"}:  # each is a record
            while at < len(lines):
                self._offset += at > 0
                some = lines[at : at + quota.rows]
                text = b"\n".join(some)
                self._offset += len(text)
                yield Block(text, len(some), lines=True)
                at += len(some)
        for n, line in enumerate(lines[at:]):
            self._offset += n > 0
            yield from self._end_line(line, too_long and n == 0)

    def _end_line(self, line: bytes, too_long: bool) -> Iterator[Any]:
        record = TOO_LARGE if too_long else self._record(line)
        self._offset += len(line)
        if record is not _BLANK:
            yield record

    def _record(self, line: bytes) -> Any:
        if len(line) > MAX_RECORD:
            return TOO_LARGE
        text = line.decode("utf-8", "surrogateescape").strip(" \t\r")
        if self._offset == 0:
            text = text.removeprefix(BOM)
        if not text:
            return _BLANK
        try:
            return _decode_whole(text)
        except RecursionError:
            return Problem(Reason.BAD_RECORD, "it is nested too deeply")
        except ValueError as error:
            return Problem(Reason.BAD_RECORD, f"it is no JSON ({getattr(error, 'msg', error)})")


def decode_block(block: Block) -> Iterator[Any]:
    """The records of a block, and Problems, as they would have been read without it."""
    if block.lines:
        return iter(JsonLines(io.BytesIO(block.text)))
    try:
        return iter(_decode_whole(f"[{block.text.decode()}]"))
    except (ValueError, RecursionError):  # one of them is no JSON
        return iter(JsonRecords(io.BytesIO(b"[" + block.text + b"]"), Layout()))
