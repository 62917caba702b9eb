"""Faults that can be switched on: which requests they meet, and what then happens to these."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bookpipe.demo.music_archive.answers import error_page, failure, not_found_redirect
from bookpipe.demo.music_archive.connections import Connections

ANY_ENDPOINT = "*"
_FAULT_KEY = "bookpipe.fault"  # in the scope of a request, for the faults that the work itself has to show


class Action(str, Enum):
    """What happens to a request. "After" means: the work is done, and stays done."""

    CUT_BEFORE = "cut_before"  # the body is read, nothing is done, the connection is cut
    CUT_BODY = "cut_body"  # the connection is cut when `size` bytes of the body are read
    CUT_AFTER = "cut_after"  # the connection is cut instead of an answer
    ANSWER = "answer"  # `status` instead of the work, with `retry_after` and `message` where they fit
    ANSWER_AFTER = "answer_after"
    DELAY = "delay"  # `seconds` before the work
    DELAY_AFTER = "delay_after"
    HOLD = "hold"  # the work waits for Faults.release()
    HOLD_AFTER = "hold_after"
    SLOW_BODY = "slow_body"  # the body is read at `size` bytes per second
    DISK_FULL = "disk_full"  # 500; what the disk took of the file stays, as with the real Disk service
    PROCESSING_FAILS = "processing_fails"  # the song is made, and its status is "failed"
    RESTART = "restart"  # all connections are cut; tokens, songs and files stay


@dataclass(frozen=True)
class Fault:
    """One switch. It meets the requests to `endpoint` from the `nth` on (from 1, counted since it was set), `times`
    of them (None: for ever), and of these every `every`-th."""

    endpoint: str
    action: Action
    nth: int = 1
    times: int | None = 1
    every: int = 1
    status: int = 500
    seconds: float = 0.0
    size: int = 0
    retry_after: int | None = None
    message: str | None = None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Fault":
        """ValueError or TypeError when it is none."""
        return cls(**{**content, "action": Action(content.get("action"))})

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "action": self.action.value}

    def meets(self, number: int) -> bool:
        """Whether the `number`-th request to its endpoint is one of its own."""
        past = number - self.nth
        return past >= 0 and past % self.every == 0 and (self.times is None or past // self.every < self.times)


@dataclass
class _Switch:
    fault: Fault
    seen: int = 0


@dataclass
class Faults:
    """The faults of one server, set from any thread. A request meets the first that fits."""

    connections: Connections
    _switches: list[_Switch] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _held: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(default_factory=list)
    _released: bool = False

    def add(self, *faults: Fault) -> None:
        with self._lock:
            if any(fault.action in (Action.HOLD, Action.HOLD_AFTER) for fault in faults):
                self._released = False
            self._switches += [_Switch(fault) for fault in faults]

    def clear(self) -> None:
        """Forget all faults and let go what they hold."""
        with self._lock:
            self._switches.clear()
        self.release()

    def release(self) -> None:
        """Let the held requests go on, and those that would be held, until the next fault that holds is added."""
        with self._lock:
            held, self._held, self._released = self._held, [], True
        for loop, event in held:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def to_json(self) -> list[dict[str, Any]]:
        with self._lock:
            return [{**switch.fault.to_json(), "seen": switch.seen} for switch in self._switches]

    def take(self, endpoint: str) -> Fault | None:
        """The fault that the next request to `endpoint` meets; every fault that watches it counts it."""
        met = None
        with self._lock:
            for switch in self._switches:
                if switch.fault.endpoint in (endpoint, ANY_ENDPOINT):
                    switch.seen += 1
                    if met is None and switch.fault.meets(switch.seen):
                        met = switch.fault
        return met

    async def run(self, endpoint: str, work: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request by `work`, or as its fault will have it."""
        fault = self.take(endpoint)
        if fault is None:
            await work(scope, receive, send)
            return
        action = fault.action
        if action is Action.RESTART:
            self.connections.cut_all()
            await self.connections.cut(scope, receive)
        elif action is Action.CUT_BEFORE:
            await drain(receive)
            await self.connections.cut(scope, receive)
        elif action is Action.CUT_BODY:
            await _read(receive, fault.size)
            await self.connections.cut(scope, receive)
        elif action is Action.ANSWER:
            await drain(receive)
            await _answer(fault, endpoint, scope)(scope, receive, send)
        elif action in (Action.DELAY, Action.HOLD):
            await self._pause(fault)
            await work(scope, receive, send)
        elif action is Action.SLOW_BODY:
            await work(scope, _slowly(receive, fault.size), send)
        elif action in (Action.DISK_FULL, Action.PROCESSING_FAILS):
            await work({**scope, _FAULT_KEY: action}, receive, send)
        else:
            answer = _Recorded()
            await work(scope, receive, answer)
            if action is Action.CUT_AFTER:
                await self.connections.cut(scope, receive)
            elif action is Action.ANSWER_AFTER:
                await _answer(fault, endpoint, scope)(scope, receive, send)
            else:
                await self._pause(fault)
                await answer.play(send)

    async def _pause(self, fault: Fault) -> None:
        if fault.action not in (Action.HOLD, Action.HOLD_AFTER):
            await asyncio.sleep(fault.seconds)
            return
        event = asyncio.Event()
        with self._lock:
            if self._released:
                return
            self._held.append((asyncio.get_running_loop(), event))
        await event.wait()


def is_struck_by(request: Request, action: Action) -> bool:
    """Whether this request's work has to show the fault."""
    return request.scope.get(_FAULT_KEY) is action


async def drain(receive: Receive) -> None:
    """Read a body to its end, as Puma does before the application sees it."""
    await _read(receive, None)


async def _read(receive: Receive, limit: int | None) -> None:
    done = 0
    while limit is None or done < limit:
        message = await receive()
        done += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


def _slowly(receive: Receive, bytes_per_second: int) -> Callable[[], Awaitable[Message]]:
    async def slow_receive() -> Message:
        message = await receive()
        await asyncio.sleep(len(message.get("body", b"")) / max(bytes_per_second, 1))
        return message

    return slow_receive


@dataclass
class _Recorded:
    """An answer that is kept back."""

    messages: list[Message] = field(default_factory=list)

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    async def play(self, send: Send) -> None:
        for message in self.messages:
            await send(message)


def _answer(fault: Fault, endpoint: str, scope: Scope) -> Response:
    request = Request(scope)
    if endpoint == "put":
        response = Response(status_code=fault.status)
    elif fault.status == 302:
        response = not_found_redirect(request)
    elif fault.status == 401:
        response = failure(401, fault.message or "Invalid API token")
    elif fault.status == 403:
        response = failure(403, fault.message or "Insufficient permissions")
    elif fault.status == 422:
        response = failure(422, fault.message or "Failed to save song", ["Title is invalid"])
    elif fault.status in (502, 503, 504):  # a proxy's, or Puma's own
        response = PlainTextResponse(fault.message or "Service Unavailable", fault.status)
    elif fault.status == 500 and fault.message:
        response = failure(500, fault.message)
    else:
        response = error_page(request, fault.status)
    if fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response
