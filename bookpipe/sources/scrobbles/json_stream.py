"""The records of a JSON document, one after the other, in bounded memory.

Records are decoded by the standard library's C decoder where they stand in a window over the file, which was measured
faster than an event parser by far. A record that is no JSON, too large or nested too deeply becomes a Problem and the
next one is read; where the document itself is broken (it ends early, a separator is missing), a last Problem says so
and reading stops. Nothing is raised but what the stream raises.

Bytes that are no UTF-8 are kept as surrogates (PEP 383), so that offsets in the text are offsets in the file; whoever
keeps the text replaces surrogates, one for each byte, as Go's decoder does.
"""

import codecs
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from bookpipe.model.rejections import Reason
from bookpipe.sources.scrobbles.json_blocks import Block, Quota, cut_block

CHUNK = 1 << 18  # bytes of one read
BLOCK = 1 << 18  # bytes of a block at most
MAX_RECORD = 4 << 20  # characters, of a line bytes; real records have hundreds, rarely more than 64 Ki

_GLANCE = 256  # bytes that are decoded behind a block
_SHORTEST_PAUSE, _LONGEST_PAUSE = 8, 1_024  # records

_BLANK = re.compile(r"[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_QUOTE = re.compile(r'["\\]')
_NESTED = re.compile(r'["\[\]{}]')
_SCALAR_END = re.compile(r'["\[\]{},]')
_NUMBER_END = re.compile(r"[ \t\r\n,\]}]")
BOM = "\ufeff"

_decode = json.JSONDecoder().raw_decode


class ByteStream(Protocol):
    """What is read from: at least one byte for each call until the end, how many ever are asked for.

    A broken one raises StreamDamageError, again and again, after what is before the damage.
    """

    def read(self, size: int, /) -> bytes: ...


class StreamDamageError(Exception):
    """The bytes themselves cannot be read on: a broken member of a zip."""


class JsonDamageError(Exception):
    """The document is broken at this place, and what follows cannot be made sense of."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Stands in the place of a record that cannot be read."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the records are: in the top array, or in the arrays that an object has under `keys`.

    With `pages` there is an array of such objects, and a single record may stand in place of an array of records.
    """

    keys: frozenset[str] = frozenset()  # lower case
    pages: bool = False


class Records(Protocol):
    """The records of one stream: decoded values, and Problems. To be iterated once."""

    def __iter__(self) -> Iterator[Any]: ...

    def in_blocks(self, quota: Quota | None) -> Iterator[Any]:
        """The same, but with Blocks in the places of records where that can be. `quota` is looked at before each."""

    def resume_offset(self) -> int | None:
        """Where in the stream to begin again behind what was yielded last; None where one cannot."""


TOO_LARGE = Problem(Reason.BAD_RECORD, f"it is larger than {MAX_RECORD >> 20} MiB")


class _Extent:
    """Finds where a value ends without decoding it, across windows."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, text: str, at: int) -> int | None:
        """The index behind the value, or None when the text ends before."""
        if self._escaped and at < len(text):
            at += 1
            self._escaped = False
        while True:
            if self._in_string:
                found = _QUOTE.search(text, at)
                if found is None:
                    return None
                at = found.end()
                if found[0] == "\\":
                    if at == len(text):
                        self._escaped = True
                        return None
                    at += 1
                    continue
                self._in_string = False
                if self._depth == 0:
                    return at
            found = (_NESTED if self._depth else _SCALAR_END).search(text, at)
            if found is None:
                return None
            at = found.end()
            if found[0] == '"':
                self._in_string = True
            elif found[0] in "[{":
                self._depth += 1
            elif self._depth == 0:
                return found.start()
            else:
                self._depth -= 1
                if self._depth == 0:
                    return at


class JsonReader:
    """Walks through one JSON document from `offset`, value by value."""

    def __init__(self, stream: ByteStream, offset: int = 0) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text = ""  # the window
        self._at = 0
        # Bytes before a character of the window.
        self._counted = 0
        self._base = offset
        self._ended = False
        self._ahead = b""  # bytes behind the window that were read already, from `_ahead_at` on
        self._ahead_at = 0
        self._block_size = BLOCK
        self._pause = 0  # records that are read one by one after a place without blocks
        self._next_pause = _SHORTEST_PAUSE

    def offset(self) -> int:
        """Bytes before the next character."""
        self._base += _byte_length(self._text[self._counted : self._at])
        self._counted = self._at
        return self._base

    def peek(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            self._at = _BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._read_on(CHUNK)

    def expect(self, char: str) -> None:
        """Step over this character; JsonDamageError when another one is next."""
        if self.peek() != char:
            raise self._damage(f"{char} is missing")
        self._at += 1

    def value(self) -> Any:
        """The next value decoded, or the Problem it is. JsonDamageError when the document ends in it."""
        self.peek()
        return self._value()

    def skip(self) -> None:
        """Step over the next value, whatever its size. JsonDamageError when the document ends in it."""
        self.peek()
        self._skip_rest(_Extent())

    def key(self) -> str | None:
        """The next key of an object that was entered, or None when it ends; then the object is stepped over."""
        char = self.peek()
        if char == ",":
            self._at += 1
            char = self.peek()
        if char == "}":
            self._at += 1
            return None
        if char != '"':
            raise self._damage("a key is missing")
        key = self.value()
        if not isinstance(key, str):
            raise self._damage("a key cannot be read")
        self.expect(":")
        return key

    def array(self, *, behind_one: bool = False, quota: Quota | None = None, pages: bool = False) -> Iterator[Any]:
        """The values of an array that was entered; `behind_one` of them when reading begins in its middle.

        With a quota, Blocks are in the places of values where that can be; `pages`: see `cut_block`.
        """
        while True:
            # One match instead of three looks at the next character, for the usual case.
            comma = _COMMA.match(self._text, self._at) if behind_one else None
            if comma is not None and comma.end() < len(self._text) and self._text[comma.end()] != "]":
                self._at = comma.end()
            elif not self._find_item(behind_one):
                return
            block = None if quota is None else self._block(quota, pages)
            yield self._value() if block is None else block
            behind_one = True

    def _block(self, quota: Quota, pages: bool) -> Block | None:
        """Step over the block that begins here, if one does."""
        if self._pause:
            self._pause -= 1
            return None
        at = self._give_back(self._block_size // 2 if pages else self._block_size)
        end = min(len(self._ahead), at + self._block_size)
        block = cut_block(self._ahead, at, end, quota, _decode, pages=pages)
        if block is None:
            self._pause = self._next_pause
            self._next_pause = min(2 * self._next_pause, _LONGEST_PAUSE)
            self._block_size = max(self._block_size // 4, BLOCK >> 5)
            self._read_on(CHUNK)
            return None
        self._ahead_at += len(block.text)
        self._base += len(block.text)
        self._next_pause = _SHORTEST_PAUSE
        self._block_size = min(2 * self._block_size, BLOCK)
        if self._ahead_at < len(self._ahead):
            self._read_on(_GLANCE)
        return block

    def _give_back(self, size: int) -> int:
        """Put the bytes of the window back before those ahead, and read on when these are less than `size`.

        Returns where in `_ahead` they begin. The window is empty then.
        """
        self.offset()
        undecoded, _ = self._decoder.getstate()
        window = self._text[self._at :].encode("utf-8", "surrogateescape") + undecoded
        self._decoder.reset()
        self._text, self._at, self._counted = "", 0, 0
        self._ended = False
        self._ahead_at -= len(window)  # that is where they came from, if anything is left of it
        if not self._ahead or self._ahead_at < 0 or len(self._ahead) - self._ahead_at < size:
            pieces = [window, self._ahead[self._ahead_at + len(window) :]]
            size -= sum(map(len, pieces))
            with suppress(StreamDamageError):  # it comes again, behind the records that are here
                while size > 0 and (piece := self._stream.read(CHUNK)):
                    pieces.append(piece)
                    size -= len(piece)
            self._ahead, self._ahead_at = b"".join(pieces), 0
        return self._ahead_at

    def _find_item(self, behind_one: bool) -> bool:
        """Go to the next value of an array, or behind its end."""
        if behind_one:
            char = self.peek()
            if char == ",":
                self._at += 1
            elif char != "]":
                raise self._damage("a comma or ] is missing")
        if self.peek() != "]":
            return True
        self._at += 1
        return False

    def _value(self) -> Any:
        try:
            value, end = _decode(self._text, self._at)
            if end < len(self._text) and end - self._at <= MAX_RECORD and not isinstance(value, int | float):
                self._at = end
                return value
        except (ValueError, RecursionError):
            pass
        return self._value_across_windows()

    def _read_on(self, size: int) -> None:
        """Drop what was read and read `size` bytes more, or somewhat over."""
        pieces = [self._ahead[self._ahead_at : self._ahead_at + size]] if self._ahead else []
        if pieces:
            self._ahead_at += len(pieces[0])
            size -= len(pieces[0])
            if self._ahead_at == len(self._ahead):
                self._ahead, self._ahead_at = b"", 0
        try:
            while size > 0 and (piece := self._stream.read(size)):
                pieces.append(piece)
                size -= len(piece)
            self._ended = size > 0
        except StreamDamageError:
            if not pieces:
                raise
        more = self._decoder.decode(b"".join(pieces), final=self._ended)
        if self._base == 0 and not self._text and more.startswith(BOM):
            more = more[1:]
            self._base = len(BOM.encode())
        self.offset()
        self._text = self._text[self._at :] + more
        self._at = self._counted = 0

    def _value_across_windows(self) -> Any:
        extent = _Extent()
        fed = 0  # characters of the value that its extent has seen
        while True:
            problem = ""
            try:
                value, end = _decode(self._text, self._at)
                if isinstance(value, int | float):  # what looks like one may go on in the next window
                    whole = _NUMBER_END.match(self._text, end) is not None
                    problem = "" if whole else "it is no JSON (a broken number)"
                else:
                    whole = end < len(self._text) or self._ended
                if whole:
                    return self._end_value(end, value)
            except RecursionError:
                problem = "it is nested too deeply"
            except ValueError as error:
                problem = f"it is no JSON ({getattr(error, 'msg', error)})"
            if problem:
                behind = extent.feed(self._text, self._at + fed)
                if behind is not None:
                    return self._end_value(behind, Problem(Reason.BAD_RECORD, problem))
                fed = len(self._text) - self._at
            if self._ended:
                raise self._damage("the file ends in the middle of a record")
            if fed > MAX_RECORD:
                self._at += fed
                self._skip_rest(extent)
                return TOO_LARGE
            self._read_on(max(CHUNK, fed))  # twice as much each time: the work stays linear

    def _end_value(self, end: int, value: Any) -> Any:
        """The value that ends there. A large one may fit into the window by chance, and must not be read by chance."""
        large = end - self._at > MAX_RECORD
        self._at = end
        return TOO_LARGE if large else value

    def _skip_rest(self, extent: _Extent) -> None:
        while True:
            behind = extent.feed(self._text, self._at)
            if behind is not None:
                self._at = behind
                return
            self._at = len(self._text)
            if self._ended:
                raise self._damage("the file ends in the middle of a value")
            self._read_on(CHUNK)

    def _damage(self, what: str) -> JsonDamageError:
        if self._ended and self._at >= len(self._text):
            what = "the file ends too early"
        return JsonDamageError(f"{what} (at byte {self.offset()})")


class JsonRecords:
    """The records of a JSON document with this layout, from an offset that `resume_offset` gave."""

    def __init__(self, stream: ByteStream, layout: Layout, offset: int = 0) -> None:
        self._reader = JsonReader(stream, offset)
        self._layout = layout
        self._inside = offset > 0  # of an array of records, behind one of them

    def resume_offset(self) -> int | None:
        return self._reader.offset() if self._inside else None

    def __iter__(self) -> Iterator[Any]:
        return self.in_blocks(None)

    def in_blocks(self, quota: Quota | None) -> Iterator[Any]:
        try:
            if not self._layout.keys:
                yield from self._array(quota)
            elif self._layout.pages:
                yield from self._pages(quota)
            else:
                yield from self._object(quota)
        except JsonDamageError as damage:
            self._inside = False
            yield Problem(Reason.DAMAGED_FILE, str(damage))

    def _array(self, quota: Quota | None) -> Iterator[Any]:
        if not self._inside:
            self._reader.expect("[")
        for record in self._reader.array(behind_one=self._inside, quota=quota, pages=self._layout.pages):
            self._inside = True
            yield record
        self._inside = False

    def _object(self, quota: Quota | None) -> Iterator[Any]:
        reader = self._reader
        if self._inside:
            yield from self._array(quota)
        else:
            reader.expect("{")
        while (key := reader.key()) is not None:
            if key.casefold() not in self._layout.keys:
                reader.skip()
                continue
            char = reader.peek()
            if char == "[":
                yield from self._array(quota)
            elif char == "{" and self._layout.pages:
                yield reader.value()
            elif reader.value() is not None:
                yield Problem(Reason.BAD_RECORD, f"{key!r} holds no list")

    def _pages(self, quota: Quota | None) -> Iterator[Any]:
        reader = self._reader
        between = self._inside
        if self._inside:
            yield from self._object(quota)
        else:
            reader.expect("[")
        while True:
            char = reader.peek()
            if between and char != "]":
                reader.expect(",")
                char = reader.peek()
            if char == "]":
                return
            if char == "{":
                yield from self._object(quota)
            else:
                yield reader.value()
            between = True


def _byte_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))
