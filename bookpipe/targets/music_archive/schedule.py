"""Who is next: jobs in a sliding window, with waits, leaders and limits to patience. One thread decides for all."""

import heapq
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count

from bookpipe.model.errors import TransientError
from bookpipe.model.rejections import Reason
from bookpipe.targets.music_archive.cycle import Again, Ended, Job
from bookpipe.targets.music_archive.server import MusicArchive
from bookpipe.targets.music_archive.window import Window

ATTEMPTS = 5  # of one file that may go wrong before it is left to the next run
FILES_IN_TROUBLE = 10  # different ones beyond a full window, and none in between that works: it is not the files
FILES_WITHOUT_ANSWER = 3  # different ones are enough when they take so long that two of them must have timed out
LONGEST_BACKOFF_S = 8.0
LONGEST_REQUEST_TO_WAIT_S = 600.0  # a server that asks for more is asked again by the next run
POLL_S = 0.1  # how often a stop is looked for


@dataclass
class Task:
    """A job and the tasks that must not begin before it has ended."""

    job: Job
    followers: list["Task"] = field(default_factory=list)


@dataclass
class Schedule:
    """Runs tasks through `step`, each again and again until it ends; `ended` hears of each, in the calling thread.

    A file that goes wrong ATTEMPTS times is rejected as UPLOAD_FAILED: the next run tries it again. When many different
    files go wrong one after the other, or the server cannot be reached for `server.outage` seconds, it is the server:
    TransientError. Either way every step that was begun is finished first.
    """

    server: MusicArchive
    window: Window
    step: Callable[[Job], Ended | Again]
    ended: Callable[[Job, Ended], None]
    stop: threading.Event  # set: nothing more is begun
    _ready: deque[Task] = field(default_factory=deque)
    _later: list[tuple[float, int, Task]] = field(default_factory=list)
    _running: int = 0
    _done: "queue.SimpleQueue[tuple[Task, Future[Ended | Again]]]" = field(default_factory=queue.SimpleQueue)
    _tie: "count[int]" = field(default_factory=count)
    _troubled: set[int] = field(default_factory=set)
    _trouble_began: float = 0.0
    _paused_until: float = 0.0
    _outage_began: float | None = None
    _outages: int = 0

    def run(self, tasks: Iterable[Task]) -> bool:
        """False when it was stopped before everything had ended."""
        self._ready.extend(tasks)
        # Leaving the pool waits for what is running, whatever happened here.
        with ThreadPoolExecutor(self.window.cap, "music_archive") as pool:
            while self._ready or self._later or self._running:
                stopping = self.stop.is_set()
                if stopping and not self._running:
                    return False
                now = time.monotonic()
                while self._later and self._later[0][0] <= now:
                    self._ready.append(heapq.heappop(self._later)[2])
                if not stopping and now >= self._paused_until:
                    self._fill(pool)
                self._collect(now)
        return True

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        # While nobody answers, one asks whether that is over.
        size = 1 if self._outage_began is not None else self.window.size
        while self._ready and self._running < size:
            self._start(pool, self._ready.popleft())

    def _start(self, pool: ThreadPoolExecutor, task: Task) -> None:
        self._running += 1
        pool.submit(self.step, task.job).add_done_callback(lambda future: self._done.put((task, future)))

    def _collect(self, now: float) -> None:
        wait = POLL_S
        if self._later:
            wait = min(wait, max(0.0, self._later[0][0] - now))
        if self._ready and not self._running:
            wait = min(wait, max(0.0, self._paused_until - now))
        try:
            task, future = self._done.get(timeout=wait) if wait else self._done.get_nowait()
        except queue.Empty:
            return
        full = self._running >= self.window.size
        self._running -= 1
        result = future.result()
        if isinstance(result, Ended) or not result.outage:
            self._outage_began, self._outages = None, 0
        if isinstance(result, Ended):
            self._end(task, result, full=full)
        else:
            self._postpone(task, result)

    def _end(self, task: Task, result: Ended, *, full: bool) -> None:
        if result.reason is not Reason.UPLOAD_FAILED:
            self._troubled.clear()
        if task.job.sent:
            self.window.succeeded(task.job.content.size, time.monotonic(), full=full)
        self.ended(task.job, result)
        self._release(task, made=result.outcome != "rejected")

    def _release(self, task: Task, *, made: bool) -> None:
        """Let the followers go; when their leader made nothing, only the first of them, as their new leader."""
        if made or not task.followers:
            self._ready.extend(task.followers)
            return
        leader, *rest = task.followers
        leader.followers = rest
        self._ready.append(leader)

    def _postpone(self, task: Task, result: Again) -> None:
        now = time.monotonic()
        if result.after > LONGEST_REQUEST_TO_WAIT_S:
            raise TransientError(f"The music archive asks to be left alone for {result.after:.0f} s: {result.why}")
        if result.why is None:
            self._put(task, now + result.after)
            return
        self.window.failed(now)
        if result.outage:
            self._note_outage(now, result)
            self._put(task, self._paused_until)
            return
        job = task.job
        job.attempts += 1
        if not self._troubled:
            self._trouble_began = now
        self._troubled.add(id(job))
        if self._is_servers(now):
            raise TransientError(
                f"{len(self._troubled)} files one after the other could not be uploaded; the last one: {result.why}"
            )
        if job.attempts >= ATTEMPTS:
            self._end(task, Ended("rejected", Reason.UPLOAD_FAILED, result.why), full=False)
            return
        self._put(task, now + max(result.after, self._backoff(job.attempts)))

    def _is_servers(self, now: float) -> bool:
        """Whether the trouble is the server's and not that of some files."""
        # A restart cuts a whole window of them at once.
        if len(self._troubled) >= FILES_IN_TROUBLE + self.window.cap:
            return True
        hung = self.server.outage + 2 * self.server.answer_timeout
        return len(self._troubled) >= FILES_WITHOUT_ANSWER and now - self._trouble_began > hung

    def _note_outage(self, now: float, result: Again) -> None:
        if self._outage_began is None:
            self._outage_began = now
        elif now - self._outage_began > self.server.outage:
            raise TransientError(
                f"The music archive has not been there for {self.server.outage:.0f} s. The last attempt: {result.why}"
            )
        if now >= self._paused_until or result.after:  # the others of the same window say nothing new
            self._outages += 1
            self._paused_until = max(self._paused_until, now + (result.after or self._backoff(self._outages)))

    def _put(self, task: Task, at: float) -> None:
        heapq.heappush(self._later, (at, next(self._tie), task))

    def _backoff(self, attempts: int) -> float:
        # Not all at the same moment: those that failed together would fail together again.
        longest: float = min(LONGEST_BACKOFF_S, self.server.backoff * 2 ** (attempts - 1))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311
