"""`bookpipe load`: partitions run through Dagster in a few warm worker processes, with progress."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from types import FrameType

from bookpipe.cli.worker import PartitionResult, work
from bookpipe.model.counts import LoadCounts


@dataclass
class LoadSummary:
    """A load so far: partitions and rows by outcome."""

    total: int
    done: int = 0
    counts: LoadCounts = field(default_factory=LoadCounts)
    rows_done: int = 0  # those of the counts that were read now
    failed: list[PartitionResult] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    stopping: bool = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        finished = self.done + len(self.failed)
        return None if not finished else self.seconds / finished * (self.total - finished)

    def add(self, result: PartitionResult) -> None:
        """A partition that a worker has run."""
        if not result.success:
            self.failed.append(result)
        else:
            self.add_loaded(result.counts, result.rows_done)

    def add_loaded(self, counts: LoadCounts, rows_done: int | None = None) -> None:
        """A partition that is loaded, or planned in a dry run."""
        self.done += 1
        self.counts += counts
        self.rows_done += counts.read if rows_done is None else rows_done


class _Worker:
    def __init__(self, context: ForkServerContext | SpawnContext, pipeline: str) -> None:
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=work, args=(theirs, pipeline, dict(os.environ)), daemon=True)
        self.process.start()
        theirs.close()
        self.ready = False
        self.key: str | None = None

    def give(self, key: str | None) -> None:
        self.key = key
        self.pipe.send(key)


def _context() -> ForkServerContext | SpawnContext:
    """Workers forked from one server that has imported everything; spawned where there is no fork."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["bookpipe.definitions", "bookpipe.cli.worker"])
        return context
    return multiprocessing.get_context("spawn")


class WorkerPool:
    """Worker processes for one pipeline. Started before there is work, so that imports overlap with the planning."""

    def __init__(self, pipeline: str, workers: int) -> None:
        self.pipeline = pipeline
        self._context = _context()
        self._workers = [_Worker(self._context, pipeline) for _ in range(workers)]

    def run(
        self,
        keys: Sequence[str],
        on_result: Callable[[LoadSummary, PartitionResult], None],
        on_tick: Callable[[LoadSummary], None],
    ) -> LoadSummary:
        """Run every partition once. `on_tick` is called twice a second or more often.

        An interrupt (Ctrl-C or TERM) stops giving out partitions and asks the running ones to end in good order; a
        second one kills the workers, whose transactions are rolled back.
        """
        summary = LoadSummary(total=len(keys))
        waiting = list(reversed(keys))
        workers = self._workers
        with _interrupts(summary, workers):
            while any(worker.key for worker in workers) or (waiting and not summary.stopping):
                on_tick(summary)
                for connection in wait([worker.pipe for worker in workers], timeout=0.5):
                    worker = next(w for w in workers if w.pipe is connection)
                    try:
                        answer = worker.pipe.recv()
                    except (EOFError, ConnectionResetError):
                        result = self._bury(worker)
                        if result is not None:
                            summary.add(result)
                            on_result(summary, result)
                        continue
                    worker.ready = True
                    if isinstance(answer, PartitionResult):
                        worker.key = None
                        summary.add(answer)
                        on_result(summary, answer)
                for worker in workers:
                    if worker.ready and worker.key is None and waiting and not summary.stopping:
                        worker.give(waiting.pop())
                if not workers:
                    break
        return summary

    def _bury(self, worker: _Worker) -> PartitionResult | None:
        worker.process.join(5)
        code = worker.process.exitcode
        self._workers.remove(worker)
        if worker.ready:  # one that never came up would only die again
            self._workers.append(_Worker(self._context, self.pipeline))
        if worker.key is None:
            return None
        return PartitionResult(worker.key, "", False, message=f"The worker process died (exit code {code}).")

    def close(self) -> None:
        for worker in self._workers:
            try:
                worker.pipe.send(None)
            except OSError:
                worker.process.kill()
        for worker in self._workers:
            worker.process.join(10)


@contextmanager
def _interrupts(summary: LoadSummary, workers: list[_Worker]) -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        for worker in workers:
            if summary.stopping:
                worker.process.kill()
            else:
                worker.process.terminate()  # workers take it as a request
        summary.stopping = True

    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
