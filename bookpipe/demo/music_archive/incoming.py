"""Request bodies on their way to disk: plain ones and multipart forms, in pieces, never whole in memory."""

import base64
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from bookpipe.demo.music_archive.sniffing import SNIFFED_BYTES

_HEADER_LIMIT = 16 * 1024  # bytes of one part's headers
_FIELD_LIMIT = 1024 * 1024  # bytes of all fields that are not files


class MalformedBodyError(Exception):
    """The body is not the form that its Content-Type promises."""


@dataclass
class IncomingFile:
    """A file as it was received; `path` is temporary, `filename` and `declared_type` are what a form says of it."""

    path: Path
    filename: str = ""
    declared_type: str | None = None
    size: int = 0
    head: bytes = b""
    md5: bytes = b""

    @property
    def checksum(self) -> str:
        """Base64 of the 16 bytes of the MD5, as Active Storage writes it."""
        return base64.b64encode(self.md5).decode()

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)


@dataclass
class Form:
    """The parts of a form by name; the last of a name counts."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, IncomingFile] = field(default_factory=dict)

    def discard(self) -> None:
        for file in self.files.values():
            file.discard()


class _Writer:
    def __init__(self, incoming: IncomingFile, file: BinaryIO) -> None:
        self._incoming, self._file, self._digest = incoming, file, hashlib.md5(usedforsecurity=False)

    def write(self, data: bytes | bytearray) -> None:
        incoming = self._incoming
        self._file.write(data)
        self._digest.update(data)
        incoming.size += len(data)
        if len(incoming.head) < SNIFFED_BYTES:
            incoming.head += bytes(data[: SNIFFED_BYTES - len(incoming.head)])

    def close(self) -> None:
        self._file.close()
        self._incoming.md5 = self._digest.digest()


def _open_writer(folder: Path) -> tuple[IncomingFile, _Writer]:
    number, name = tempfile.mkstemp(prefix="incoming-", dir=folder)
    incoming = IncomingFile(Path(name))
    return incoming, _Writer(incoming, os.fdopen(number, "wb"))


async def receive_file(stream: AsyncIterator[bytes], folder: Path) -> IncomingFile:
    """The whole body as one file in `folder`. A cut connection leaves nothing behind."""
    incoming, writer = _open_writer(folder)
    try:
        async for data in stream:
            writer.write(data)
    except BaseException:
        incoming.discard()
        raise
    finally:
        writer.close()
    return incoming


async def receive_form(stream: AsyncIterator[bytes], content_type: str, folder: Path) -> Form:
    """A multipart form, its files in `folder`. Raises MalformedBodyError; then nothing is left behind."""
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        raise MalformedBodyError("not a multipart form")
    parser = _FormParser(boundary.encode("latin-1"), folder)
    try:
        async for data in stream:
            parser.feed(data)
        parser.finish()
    except BaseException:
        parser.abandon()
        raise
    return parser.form


class _FormParser:
    """Looks for one boundary after the other; between two of them are the headers and the content of one part."""

    def __init__(self, boundary: bytes, folder: Path) -> None:
        self.form = Form()
        self._mark = b"\r\n--" + boundary
        self._folder = folder
        self._buffer = bytearray(b"\r\n")  # the first boundary has no line before it
        self._state = "preamble"
        self._name = ""
        self._writer: _Writer | None = None
        self._open_file: IncomingFile | None = None
        self._value = bytearray()
        self._fields_size = 0

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while self._step():
            pass

    def finish(self) -> None:
        if self._state != "epilogue":
            raise MalformedBodyError("the form has no end")

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._open_file is not None:
            self._open_file.discard()
        self.form.discard()

    def _step(self) -> bool:
        if self._state in ("preamble", "content"):
            return self._read_to_boundary()
        if self._state == "boundary":
            return self._read_boundary_end()
        if self._state == "headers":
            return self._read_headers()
        self._buffer.clear()
        return False

    def _read_to_boundary(self) -> bool:
        end = self._buffer.find(self._mark)
        if end < 0:
            # A boundary may begin in what is there and end in what is still to come.
            safe = len(self._buffer) - len(self._mark) + 1
            if safe > 0:
                self._keep(self._buffer[:safe])
                del self._buffer[:safe]
            return False
        self._keep(self._buffer[:end])
        del self._buffer[: end + len(self._mark)]
        if self._state == "content":
            self._end_part()
        self._state = "boundary"
        return True

    def _read_boundary_end(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer.startswith(b"--"):
            self._state = "epilogue"
            return True
        if not self._buffer.startswith(b"\r\n"):
            raise MalformedBodyError("a boundary does not end its line")
        del self._buffer[:2]
        self._state = "headers"
        return True

    def _read_headers(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _HEADER_LIMIT:
                raise MalformedBodyError("a part has too many headers")
            return False
        self._begin_part(bytes(self._buffer[:end]).decode("utf-8", "replace"))
        del self._buffer[: end + 4]
        self._state = "content"
        return True

    def _begin_part(self, headers: str) -> None:
        values = dict(_header_lines(headers))
        parameters = _disposition(values.get("content-disposition", ""))
        if "name" not in parameters:
            raise MalformedBodyError("a part has no name")
        self._name = parameters["name"]
        if "filename" in parameters:
            self._open_file, self._writer = _open_writer(self._folder)
            self._open_file.filename = _base_name(parameters["filename"])
            self._open_file.declared_type = values.get("content-type")

    def _keep(self, data: bytes | bytearray) -> None:
        if self._state == "preamble":
            return
        if self._writer is not None:
            self._writer.write(data)
            return
        self._fields_size += len(data)
        if self._fields_size > _FIELD_LIMIT:
            raise MalformedBodyError("the fields are too long")
        self._value += data

    def _end_part(self) -> None:
        if self._writer is not None and self._open_file is not None:
            self._writer.close()
            previous = self.form.files.pop(self._name, None)
            if previous is not None:
                previous.discard()
            self.form.files[self._name] = self._open_file
            self._writer = self._open_file = None
        else:
            self.form.fields[self._name] = self._value.decode("utf-8", "replace")
            self._value = bytearray()


def _header_lines(headers: str) -> Iterator[tuple[str, str]]:
    for line in headers.split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip().lower(), value.strip()


def _disposition(value: str) -> dict[str, str]:
    """The parameters of a Content-Disposition."""
    found: dict[str, str] = {}
    rest = value.partition(";")[2]
    while rest.strip():
        name, _, rest = rest.lstrip("; ").partition("=")
        if rest.startswith('"'):
            end = 1
            while end < len(rest) and rest[end] != '"':
                end += 2 if rest[end] == "\\" else 1
            text, rest = rest[1:end].replace('\\"', '"').replace("\\\\", "\\"), rest[end + 1 :]
        else:
            text, _, rest = rest.partition(";")
        found[name.strip().lower()] = text
    return found


def _base_name(filename: str) -> str:
    """A file name as Rack reads it: percent signs are escapes where all of them could be, and folders are cut off."""
    escapes = re.findall("%.?.?", filename)
    if all(re.fullmatch("%[0-9a-fA-F]{2}", escape) for escape in escapes):
        filename = unquote(filename)
    return re.split(r"[/\\]", filename)[-1]


@contextmanager
def discarded(form: Form) -> Iterator[Form]:
    """The form; what nobody moved away of its files is removed in the end."""
    try:
        yield form
    finally:
        form.discard()
