"""The process that reads PDFs: PDFium, which hostile files crash, hang and fill memory with, and nothing else.

PdfReader starts it with the number of an inherited socket. A file is named by its size and read in blocks: some come
with the request, the others are asked for, so that a file of gigabytes costs a few blocks. Messages:

    request   b"M" for metadata or b"P" for a picture, size, number of blocks, then each block: index, length, bytes
    answer    b"R", index: send me that block (index, length, bytes)
              b"D", length: done; so many bytes of JSON follow: the Info entries and those of XMP, or {"picture": the
              first page as a JPEG in base64}, or {"error": what}
"""

import base64
import contextlib
import ctypes
import io
import json
import signal
import socket
import struct
import time
from typing import Any

from bookpipe.sources.ebook_metadata.fields import MAX_TITLE, clean_text
from bookpipe.sources.ebook_metadata.pdf_xmp import read_xmp

BLOCK = 64 << 10  # bytes
REQUEST = struct.Struct("<cQI")
METADATA, PICTURE = b"M", b"P"
BLOCK_HEADER = struct.Struct("<QI")
ANSWER = struct.Struct("<cQ")
WANTED, DONE = b"R", b"D"
MAX_ANSWER = 4 << 20  # bytes of JSON

_MAX_BLOCKS = 256  # kept
_MAX_MEMORY = 1 << 30  # bytes of address space; PDFium ends the process when it gets no more
_MAX_TEXT = 100_000  # characters of one entry
_PAGE = (640, 904)  # pixels of a picture at most: twice what a cover needs
_KEYS = ("Title", "Author", "Keywords")


class GoneError(Exception):
    """The other end has closed the socket, as it does when it dies."""


def receive(connection: socket.socket, length: int, deadline: float | None = None) -> bytes:
    """Exactly `length` bytes. Raises TimeoutError at `deadline` (of time.monotonic) and GoneError."""
    parts = bytearray()
    while len(parts) < length:
        if deadline is not None:
            connection.settimeout(seconds_until(deadline))
        part = connection.recv(min(length - len(parts), 1 << 20))
        if not part:
            raise GoneError
        parts += part
    return bytes(parts)


def seconds_until(deadline: float) -> float:
    """As a timeout: never zero, which would mean not to wait at all."""
    return max(0.001, deadline - time.monotonic())


class _RemoteFile(io.RawIOBase):
    """The file at the other end of the socket."""

    def __init__(self, connection: socket.socket, size: int, alarm_s: int) -> None:
        self._connection = connection
        self._size = size
        self._alarm_s = alarm_s
        self._at = 0
        self._blocks: dict[int, bytes] = {}

    def receive_block(self) -> None:
        index, length = BLOCK_HEADER.unpack(receive(self._connection, BLOCK_HEADER.size))
        if len(self._blocks) >= _MAX_BLOCKS:
            del self._blocks[next(iter(self._blocks))]  # the oldest
        self._blocks[index] = receive(self._connection, length)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            index, start = divmod(self._at, BLOCK)
            part = self._block(index)[start : start + len(view) - done]
            if not part:
                break
            view[done : done + len(part)] = part
            done += len(part)
            self._at += len(part)
        return done

    def _block(self, index: int) -> bytes:
        if index not in self._blocks:
            if index * BLOCK >= self._size:
                return b""
            signal.alarm(0)  # how long the disk takes is not the file's fault
            self._connection.sendall(ANSWER.pack(WANTED, index))
            self.receive_block()
            signal.alarm(self._alarm_s)
        return self._blocks[index]


def _limit_resources() -> None:
    try:
        import resource  # noqa: PLC0415  not everywhere
    except ImportError:
        return
    for what, limit in ((resource.RLIMIT_AS, _MAX_MEMORY), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # a lower limit holds already, or the system knows none
            resource.setrlimit(what, (limit, limit))


def _read(pdfium: Any, file: _RemoteFile, wanted: bytes) -> dict[str, str]:
    try:
        document = pdfium.PdfDocument(file)
    except pdfium.PdfiumError as error:
        locked = error.err_code in (pdfium.raw.FPDF_ERR_PASSWORD, pdfium.raw.FPDF_ERR_SECURITY)
        return {"encrypted" if locked else "error": str(error)}
    try:
        if wanted == PICTURE:
            return _draw_first_page(pdfium, document)
        entries = {key: document.get_metadata_value(key)[:_MAX_TEXT] for key in _KEYS}
        entries["Lang"] = _language(pdfium.raw, document)
        # Of an encrypted file the stream may be, too: only PDFium could read it, and it does not.
        says = any(clean_text(entries[key], MAX_TITLE) for key in ("Title", "Author"))
        if not says and pdfium.raw.FPDF_GetSecurityHandlerRevision(document) < 0:
            entries |= {name: text[:_MAX_TEXT] for name, text in read_xmp(file).items()}
        return entries
    finally:
        document.close()


def _draw_first_page(pdfium: Any, document: Any) -> dict[str, str]:
    try:
        page = document[0]
        width, height = page.get_size()
        scale = min(_PAGE[0] / width, _PAGE[1] / height)
        image = page.render(scale=scale).to_pil().convert("RGB")
    except (pdfium.PdfiumError, IndexError, ZeroDivisionError, OverflowError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    if all(low == high for low, high in image.getextrema()):
        return {}  # an empty page
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return {"picture": base64.b64encode(buffer.getvalue()).decode("ascii")}


def _language(raw: Any, document: Any) -> str:
    units = (ctypes.c_ushort * 128)()
    length = raw.FPDFCatalog_GetLanguage(document, units, ctypes.sizeof(units))  # bytes, with the NUL at the end
    return bytes(units)[: max(0, length - 2)].decode("utf-16-le", "replace") if length <= ctypes.sizeof(units) else ""


def main(descriptor: int, alarm_s: int) -> None:
    """Answer requests until the other end closes. A file that takes `alarm_s` seconds ends the process.

    The one who asks kills it earlier; this is for when that one has died.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends even what runs in C
    _limit_resources()
    with socket.socket(fileno=descriptor) as connection, contextlib.suppress(GoneError, ConnectionError):
        try:
            import pypdfium2  # noqa: PLC0415  its absence is an answer
        except Exception as error:
            _send(connection, {"error": f"{type(error).__name__}: {error}"})
            return
        _send(connection, {})
        while True:
            _answer(connection, pypdfium2, alarm_s)


def _answer(connection: socket.socket, pdfium: Any, alarm_s: int) -> None:
    wanted, size, count = REQUEST.unpack(receive(connection, REQUEST.size))
    signal.alarm(alarm_s)
    file = _RemoteFile(connection, size, alarm_s)
    for _ in range(count):
        file.receive_block()
    try:
        answer = _read(pdfium, file, wanted)
    except (ValueError, TypeError, MemoryError) as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    _send(connection, answer)
    signal.alarm(0)


def _send(connection: socket.socket, answer: dict[str, str]) -> None:
    data = json.dumps(answer).encode("ascii")  # lone surrogates pass as escapes
    connection.sendall(ANSWER.pack(DONE, len(data)) + data)
