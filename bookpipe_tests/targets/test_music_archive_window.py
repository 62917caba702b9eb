"""The window finds the server's own number, and gets out of the way when the server is in trouble."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.targets.music_archive.window import START, Window

MB = 1_000_000
CAP = 16


@dataclass(frozen=True)
class Model:
    """A server for a simulation: `threads` work at a time, a file costs them `seconds_per_file` and its bytes; each
    request is `latency` on its way; every request beyond the threads slows all by the share `crowding`."""

    threads: int
    seconds_per_file: float
    latency: float = 0.0
    crowding: float = 0.0
    bytes_per_second: float = 500 * MB

    def seconds(self, sizes: list[int], window: Window | int, seed: int, *, begin: float = 0.0) -> float:
        """How long it takes for these files, from a moment of the clock on."""
        chance = random.Random(seed)
        waiting, now = list(reversed(sizes)), begin
        flying: list[list[float]] = []  # seconds of latency left, seconds of work left, bytes
        while waiting or flying:
            limit = window if isinstance(window, int) else window.size
            while waiting and len(flying) < limit:
                size = waiting.pop()
                work = (size / self.bytes_per_second + self.seconds_per_file) * chance.uniform(0.7, 1.3)
                flying.append([self.latency * chance.uniform(0.5, 1.5), work, size])
            working = [file for file in flying if file[0] <= 0]
            crowd = 1 + self.crowding * max(0, len(flying) - self.threads)
            share = min(len(working), self.threads) / crowd / len(working) if working else 0.0
            step = min([file[0] for file in flying if file[0] > 0] + [file[1] / share for file in working])
            now += step
            for file in flying:
                if file in working:
                    file[1] -= step * share
                else:
                    file[0] -= step
            full = len(flying) >= limit and bool(waiting)
            for file in [file for file in working if file[1] <= 1e-9]:
                flying.remove(file)
                if not isinstance(window, int):
                    window.succeeded(int(file[2]), now, full=full)
        return now - begin


MODELS = {
    "a Rails of three threads": Model(3, 0.1, 0.005, 0.03),
    "one thread that suffers": Model(1, 0.05, 0.0, 0.1),
    "eight threads": Model(8, 0.1, 0.02, 0.03),
    "a long way": Model(64, 0.05, 0.2),
    "a large server": Model(16, 0.2, 0.02),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("seed", range(2))
def test_it_is_nearly_as_fast_as_the_best_fixed_number(model: Model, seed: int) -> None:
    chance = random.Random(seed)
    sizes = [int(chance.uniform(0.3, 1.7) * 3 * MB) for _ in range(2_000)]
    best = min(model.seconds(sizes, fixed, seed) for fixed in (1, 2, 3, 4, 6, 8, 10, 12, 16))
    assert best >= 0.9 * model.seconds(sizes, Window(CAP), seed)


def test_it_starts_small() -> None:
    assert Window(CAP).size == START == 2


@given(st.integers(1, 200), st.lists(st.sampled_from(["ok", "fail", "idle"]), max_size=400), st.randoms())
def test_it_is_never_over_the_cap_and_never_under_one(cap: int, events: list[str], chance: random.Random) -> None:
    window, now = Window(cap), 0.0
    for event in events:
        now += chance.uniform(0.0, 0.3)
        if event == "fail":
            window.failed(now)
        else:
            window.succeeded(chance.randrange(5 * MB), now, full=event == "ok")
        assert 1 <= window.size <= cap


def grown(cap: int = CAP) -> Window:
    """A window on a server that gets faster with every request more."""
    window = Window(cap)
    MODELS["a large server"].seconds([MB] * 500, window, 1)
    return window


def test_trouble_halves_it() -> None:
    window = grown()
    before = window.size
    window.failed(1_000.0)
    assert before // 4 < window.size <= before // 2


def test_trouble_of_many_requests_at_once_counts_once() -> None:
    window = grown()
    before = window.size
    for _ in range(before):
        window.failed(1_000.0)
    assert window.size > before // 4


def test_trouble_that_stays_leads_to_one_at_a_time() -> None:
    window = grown()
    for n in range(50):
        window.failed(1_000.0 + n)
    assert window.size == 1


def test_it_grows_again_after_trouble() -> None:
    window = grown()
    for n in range(50):
        window.failed(1_000.0 + n)
    MODELS["a large server"].seconds([MB] * 1_000, window, 2, begin=2_000.0)
    assert window.size >= 8


def test_what_is_known_of_a_server_is_begun_with() -> None:
    assert [Window(CAP, known).size for known in (1, 5, 12, 99)] == [1, 4, 12, 16]
    model, sizes = MODELS["a large server"], [MB] * 200
    assert model.seconds(sizes, Window(CAP, 16), 1) < model.seconds(sizes, Window(CAP), 1)


def test_what_is_known_may_have_become_wrong() -> None:
    window = Window(CAP, 16)
    MODELS["one thread that suffers"].seconds([MB] * 3_000, window, 1)
    assert window.best <= 2


def test_what_was_not_full_says_nothing() -> None:
    window = Window(CAP)
    for n in range(1_000):
        window.succeeded(MB, n * 0.01, full=False)
    assert window.size == START


def test_a_cap_below_the_start_holds() -> None:
    assert [Window(cap).size for cap in (1, 2, 3, 5)] == [1, 2, 2, 2]
