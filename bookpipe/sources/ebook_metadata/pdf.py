"""PDF: the Info dictionary, read by PDFium in processes of its own.

PDFium is not thread-safe and no parser of PDF is safe against every file, so a file that crashes its worker or
takes too long is one unreadable file and a new worker, never the end of a load. XMP is only read where Info has neither
title nor author: writers that fill it mostly fill Info too.
"""

import json
import math
import queue
import socket
import subprocess
import sys
import time
from typing import Any

from bookpipe.model.errors import TerminalError, TransientError
from bookpipe.sources.ebook_metadata.fields import (
    MAX_TITLE,
    EbookMetadata,
    clean_text,
    found,
    people,
    people_in_list,
    refused,
    split_tags,
)
from bookpipe.sources.ebook_metadata.pdf_worker import (
    ANSWER,
    BLOCK,
    BLOCK_HEADER,
    DONE,
    MAX_ANSWER,
    REQUEST,
    WANTED,
    GoneError,
    receive,
    seconds_until,
)
from bookpipe.sources.ebook_metadata.text_encodings import decode_mislabelled
from bookpipe.sources.zip_directory import ReadAt

TIME_LIMIT_S = 10.0
_START_LIMIT_S = 60.0  # the first import of PDFium on a cold and busy disk
_SENT_WHOLE = 4  # blocks; of a longer file the first one and the last two go with the request
_MODULE = "bookpipe.sources.ebook_metadata.pdf_worker"


class PdfReader:
    """A pool of worker processes, started when they are first needed. Any number of threads may share it.

    Each thread that reads holds one worker; when all are taken the next thread waits. Close it, or use it as a
    context manager, to end the workers; they also end by themselves when this process does.
    """

    def __init__(self, workers: int = 1, time_limit_s: float = TIME_LIMIT_S) -> None:
        self.time_limit_s = time_limit_s
        self._workers = workers
        # Last in, first out: few files keep few workers busy and never start the others.
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(None)

    def read(self, size: int, read_at: ReadAt) -> EbookMetadata:
        """Title, authors, keywords and language of a PDF; unreadable when its worker crashes or takes too long.

        Raises what `read_at` raises, and TerminalError or TransientError when no worker can be started.
        """
        worker = self._idle.get()
        try:
            worker, answer = self._ask(worker, size, read_at)
        except BaseException:
            self._idle.put(None)
            raise
        self._idle.put(worker)
        return _metadata(answer)

    def _ask(self, worker: "_Worker | None", size: int, read_at: ReadAt) -> "tuple[_Worker | None, dict[str, str]]":
        for is_new in (worker is None, True):
            if worker is None:
                worker = _Worker(self.time_limit_s)
            try:
                return worker, worker.ask(size, read_at, self.time_limit_s)
            except _TooSlowError:
                worker.kill()
                return None, {"error": f"the PDF was not read within {self.time_limit_s:g} s"}
            except _CrashedError as error:
                worker.kill()
                worker = None
                # A worker that has read other files may have died of those, or been killed while idle.
                if is_new:
                    return None, {"error": str(error)}
            except BaseException:  # of read_at: the worker is in the middle of a file
                worker.kill()
                raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the workers, after the reads under way. The reader may be used again: it starts new ones."""
        workers = [self._idle.get() for _ in range(self._workers)]
        for worker in workers:
            if worker is not None:
                worker.kill()
            self._idle.put(None)

    def __enter__(self) -> "PdfReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _CrashedError(Exception):
    """The worker ended in the middle of a file or answers nonsense."""


class _TooSlowError(Exception):
    """The worker has not answered in time."""


class _Worker:
    """One process and the socket to it."""

    def __init__(self, time_limit_s: float) -> None:
        ours, theirs = socket.socketpair()
        alarm_s = math.ceil(time_limit_s) + 5
        # The same path as here, or the working directory would come first: who knows what lies there.
        program = f"import sys; sys.path[:] = {sys.path!r}; from {_MODULE} import main; main(*map(int, sys.argv[1:]))"
        command = [sys.executable, "-c", program, str(theirs.fileno()), str(alarm_s)]
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            ours.close()
            raise TransientError(
                f"cannot start a process that reads PDFs: {error}; is the system overloaded?"
            ) from error
        finally:
            theirs.close()
        self._socket = ours
        try:
            problem = self._receive_answer(time.monotonic() + _START_LIMIT_S, 0, None).get("error")
        except (_CrashedError, _TooSlowError) as error:
            problem = str(error) or f"no sign of life within {_START_LIMIT_S:g} s"
        if problem:
            self.kill()
            raise TerminalError(f"the process that reads PDFs does not start: {problem}; is pypdfium2 installed?")

    def ask(self, size: int, read_at: ReadAt, time_limit_s: float) -> dict[str, str]:
        """The worker's answer. Raises _TooSlowError, _CrashedError, and what `read_at` raises."""
        blocks = -(-size // BLOCK)
        sent = range(blocks) if blocks <= _SENT_WHOLE else (0, blocks - 2, blocks - 1)
        request = [REQUEST.pack(size, len(sent)), *(_block(index, read_at) for index in sent)]
        deadline = time.monotonic() + time_limit_s
        self._send(b"".join(request), deadline)
        return self._receive_answer(deadline, blocks, read_at)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def _send(self, data: bytes, deadline: float) -> None:
        try:
            self._socket.settimeout(seconds_until(deadline))
            self._socket.sendall(data)
        except TimeoutError as error:
            raise _TooSlowError from error
        except OSError as error:
            raise self._crashed() from error

    def _receive(self, length: int, deadline: float) -> bytes:
        try:
            return receive(self._socket, length, deadline)
        except TimeoutError as error:
            raise _TooSlowError from error
        except (OSError, GoneError) as error:
            raise self._crashed() from error

    def _receive_answer(self, deadline: float, blocks: int, read_at: ReadAt | None) -> dict[str, str]:
        while True:
            kind, number = ANSWER.unpack(self._receive(ANSWER.size, deadline))
            if kind == WANTED and number < blocks and read_at is not None:
                started = time.monotonic()
                block = _block(number, read_at)
                deadline += time.monotonic() - started  # a slow disk is not the worker's fault
                self._send(block, deadline)
            elif kind == DONE and number <= MAX_ANSWER:
                return self._parsed(self._receive(number, deadline))
            else:
                raise _CrashedError("the PDF reader answers nonsense")

    def _parsed(self, data: bytes) -> dict[str, str]:
        # A file may have taken the worker over: believe nothing but texts.
        try:
            answer: Any = json.loads(data)
        except ValueError as error:
            raise _CrashedError("the PDF reader answers nonsense") from error
        return {str(key): str(value) for key, value in answer.items()} if isinstance(answer, dict) else {}

    def _crashed(self) -> _CrashedError:
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return _CrashedError("the PDF reader closed its connection")
        return _CrashedError(f"the PDF reader ended with {f'signal {-code}' if code < 0 else f'code {code}'}")


def _block(index: int, read_at: ReadAt) -> bytes:
    data = read_at(index * BLOCK, BLOCK)
    return BLOCK_HEADER.pack(index, len(data)) + data


def _metadata(answer: dict[str, str]) -> EbookMetadata:
    if "encrypted" in answer:
        return refused("encrypted", f"the PDF needs a password or key: {answer['encrypted']}")
    if "error" in answer:
        return refused("unreadable", answer["error"])
    title, author, keywords = (_info_text(answer.get(key, "")) for key in ("Title", "Author", "Keywords"))
    creators = answer.get("dc:creator", "").split("\n")  # one person each
    return found(
        title=title or answer.get("dc:title"),
        authors=people_in_list(author, joined_by_words=True) if author else people(*creators, joined_by_words=True),
        languages=[answer.get("Lang")] if answer.get("Lang") else answer.get("dc:language", "").split("\n"),
        tags=split_tags(keywords, answer.get("dc:subject")),
    )


# PDFDocEncoding (ISO 32000-1, D.2) where it is not Latin-1. Three codes have no character: PDFium gives NUL for them.
_PDF_DOC = {
    **dict(zip("•†‡…—–ƒ⁄‹›−‰„“”‘’‚™ﬁﬂŁŒŠŸŽıłœšž", range(0x80, 0x9F), strict=True)),
    "€": 0xA0,
}
# The lead bytes of UTF-8 behind which NUL was 9F, as in the Russian П, ğ and ş, and not AD, as in í and 中.
_BEFORE_9F = b"\xc4\xc5\xd0"


def _info_text(text: str) -> str:
    """An Info entry as it was meant, '' for one that says nothing.

    It ought to be in PDFDocEncoding or UTF-16; writers put UTF-8 and windows-1251 there.
    """
    if not clean_text(text, MAX_TITLE):
        return ""
    if text.isascii():
        return text
    data = bytearray()
    for character in text:
        code = _PDF_DOC.get(character, ord(character))
        if code > 0xFF:
            return text
        data.append((0x9F if data[-1:] in _BEFORE_9F else 0xAD) if character == "\0" and data else code)
    return decode_mislabelled(bytes(data)) or text
