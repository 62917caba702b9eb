"""What was asked of a server: requests and bytes, how many at once, and what a client must never do."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Counters:
    """Counts of one server. Safe to read from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._putting: Counter[str] = Counter()
        self._in_flight = 0
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._requests: Counter[str] = Counter()
            self._received: Counter[str] = Counter()
            self._statuses: Counter[str] = Counter()
            self._puts: Counter[str] = Counter()
            self._most = 0
            self._most_of: Counter[str] = Counter()
            self._violations: list[str] = []

    @contextmanager
    def request(self, endpoint: str) -> Iterator[None]:
        with self._lock:
            self._requests[endpoint] += 1
            self._running[endpoint] += 1
            self._in_flight += 1
            self._most = max(self._most, self._in_flight)
            self._most_of[endpoint] = max(self._most_of[endpoint], self._running[endpoint])
        try:
            yield
        finally:
            with self._lock:
                self._running[endpoint] -= 1
                self._in_flight -= 1

    @contextmanager
    def put(self, path: str) -> Iterator[None]:
        """A PUT to an upload url, from its first to its last byte."""
        with self._lock:
            self._puts[path] += 1
            self._putting[path] += 1
            if self._putting[path] > 1:
                self._violations.append(f"{self._putting[path]} PUTs at once to {path}")
        try:
            yield
        finally:
            with self._lock:
                self._putting[path] -= 1

    def received(self, endpoint: str, size: int) -> None:
        with self._lock:
            self._received[endpoint] += size

    def answered(self, endpoint: str, status: int) -> None:
        with self._lock:
            self._statuses[f"{endpoint} {status}"] += 1

    def snapshot(self) -> dict[str, Any]:
        """All of it as JSON: requests, received bytes and most at once per endpoint, statuses by "endpoint status"."""
        with self._lock:
            return {
                "requests": dict(self._requests),
                "received_bytes": dict(self._received),
                "statuses": dict(self._statuses),
                "most_at_once": self._most,
                "most_at_once_per_endpoint": dict(self._most_of),
                "puts_per_url": dict(self._puts),
                "violations": list(self._violations),
            }
