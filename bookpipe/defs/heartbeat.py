"""A long run shows that it is alive, and how far it is."""

import threading
import time
from types import TracebackType

import dagster as dg

from bookpipe.defs.runs import PROGRESS_TAG

HEARTBEAT_S = 5.0


class Heartbeat:
    """Progress as the UI and `bookpipe status` show it: a line in the run's log and a tag, every few seconds.

    As a context manager it also tells when nothing advances for long: the run is slow, not dead.
    """

    def __init__(
        self, context: dg.OpExecutionContext, counted: str, total: int | None = None, *, rows: str | None = None
    ) -> None:
        """`counted` is the step whose rows are told, besides "bytes" where there is such a step; `total` how many there
        are, when it is known; `rows` what people call them."""
        self.context = context
        self.counted = counted
        self.rows = rows or counted
        self.total = total
        self.started = self.told = time.monotonic()
        self.done: dict[str, tuple[int, int | None]] = {}
        self.first: dict[str, int] = {}  # a resumed shard begins far in
        self._telling = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Heartbeat":
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            self._tell()

    def advance(self, step: str, done: int, total: int | None) -> None:
        self.first.setdefault(step, done)
        self.done[step] = (done, total)
        self._tell()

    def _tell(self) -> None:
        with self._telling:
            now = time.monotonic()
            if now - self.told >= HEARTBEAT_S:
                self.told = now
                text = self.text(now - self.started)
                self.context.log.info(text)
                self.context.instance.add_run_tags(self.context.run_id, {PROGRESS_TAG: text})

    def text(self, seconds: float) -> str:
        """Rows, bytes if they are known, rate and what is left."""
        done, known = self.done.get(self.counted, (0, None))
        of = f" of {self.total or known:,}" if self.total or known else ""
        text = f"{done:,}{of} {self.rows}"
        if "bytes" in self.done:
            size, total = self.done["bytes"]
            rate = (size - self.first["bytes"]) / seconds if seconds else 0.0
            share = f" of {total / 1e6:,.0f}" if total else ""
            text += f", {size / 1e6:,.0f}{share} MB, {rate / 1e6:,.0f} MB/s"
            left = (total or size) - size
        else:
            rate = done / seconds if seconds else 0.0
            text += f", {rate:,.0f}/s"
            left = max(0, (self.total or known or done) - done)
        return f"{text}, {left / rate:,.0f} s left" if left and rate else text
