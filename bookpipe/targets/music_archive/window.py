"""How many uploads at a time: grows while that makes things faster, halves when the server is in trouble.

The best number is the server's secret (its threads, its disk, the way there), and one more than that is often slower.
It is found by trying. The size doubles at first, as long as that helps. Then the work done in a round is measured at
one size and at a neighbouring one, and the better is kept for more and more rounds until a neighbour wins. Pure: the
caller brings the clock.
"""

from dataclasses import dataclass, field

START = 2  # of a server with one thread, and one with three, neither is hurt much while nothing is known
_LADDER = (1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128)

FILE_COST = 1024 * 1024  # bytes: what a file costs on top of its own, so that small and large ones can be added up
ROUND_FILES = 4  # times the size: files of a round
START_FILES = 2  # the same as long as it doubles: the climb has to be short, and what it looks for is large
FEWEST_FILES = 4  # of any round
ROUND_S = 0.3  # seconds a round takes at least
GAIN = 1.06  # a larger window has to be this much faster
DOUBLED = 1.25  # twice the window has to be this much faster to be doubled again
LOSS = 1.02  # a smaller one has to be this much faster, too: noise must not shrink it
LONGEST_HOLD = 32  # rounds between one look at a neighbour and the next: from 1 on it doubles with each in vain
KNOWN_HOLD = 4  # rounds before the first look where the size is known


@dataclass
class Window:
    """`size` is how many uploads may be under way. Never over `cap`, never under 1.

    `known`: the best size of earlier uploads, to begin with and to search around. None: begin small and double.
    """

    cap: int
    known: int | None = None
    _sizes: list[int] = field(init=False, repr=False)
    _at: int = field(init=False, repr=False)
    _home: int = field(init=False, repr=False)  # the best size so far; `_at` is elsewhere while a neighbour is tried
    _speeds: dict[int, float] = field(init=False, repr=False, default_factory=dict)
    _rounds: int = field(init=False, repr=False, default=0)  # at home, since the last trial
    _hold: int = field(init=False, repr=False)  # of these rounds before a neighbour is tried
    _up_next: bool = field(init=False, repr=False, default=True)
    _began: float | None = field(init=False, repr=False, default=None)
    _files: int = field(init=False, repr=False, default=0)
    _work: int = field(init=False, repr=False, default=0)
    _doubling: bool = field(init=False, repr=False)
    _forgive: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        self._sizes = sorted({n for n in _LADDER if n < self.cap} | {self.cap})
        self._doubling = self.known is None
        self._hold = 1 if self._doubling else KNOWN_HOLD
        self._at = self._home = self._up_to(START if self.known is None else self.known)

    @property
    def size(self) -> int:
        return self._sizes[self._at]

    @property
    def best(self) -> int:
        """The best size so far; `size` may be next to it, on trial."""
        return self._sizes[self._home]

    def _up_to(self, size: int) -> int:
        """The place of the largest possible size that is not over `size`."""
        return max(i for i, n in enumerate(self._sizes) if n <= max(1, size))

    def succeeded(self, size: int, now: float, *, full: bool) -> None:
        """An upload of `size` bytes was done at `now` (seconds). `full`: all of the window was in use; a round in
        which it was not says nothing about its size."""
        self._forgive = max(0, self._forgive - 1)
        if not full:
            self._begin(None)
            return
        if self._began is None:
            self._begin(now)
            return
        self._files += 1
        self._work += size + FILE_COST
        files = max(FEWEST_FILES, (START_FILES if self._doubling else ROUND_FILES) * self.size)
        if self._files >= files and now - self._began >= ROUND_S:
            speed = self._work / (now - self._began)
            self._begin(now)
            self._decide(speed)

    def failed(self, now: float) -> None:
        """An upload met a 5xx, a time-out or a lost connection at `now`. What was under way together counts once."""
        if self._forgive:
            self._forgive -= 1
            return
        self._forgive = self.size - 1
        self._doubling = False
        self._move_home(self._up_to(self.size // 2))
        # What was measured before the trouble is no reason to go back into it at once.
        self._speeds.clear()
        self._begin(now)

    def _decide(self, speed: float) -> None:
        known = self._speeds.get(self._at)
        # At home, what was true an hour ago fades.
        self._speeds[self._at] = speed if known is None or self._at != self._home else (known + speed) / 2
        home = self._speeds.get(self._home, 0.0)
        if self._doubling:
            self._double(speed, home)
            return
        if self._at > self._home:
            self._answer(speed > home * GAIN)
        elif self._at < self._home:
            self._answer(speed > home * LOSS)
        else:
            self._rounds += 1
            if self._rounds >= self._hold:
                self._try_neighbour()

    def _double(self, speed: float, home: float) -> None:
        if self._at == self._home or speed > home * DOUBLED:
            self._home = self._at
            self._at = self._up_to(2 * self.size)
            self._doubling = self._at != self._home
            return
        self._doubling = False
        self._move_home(self._at if speed > home * GAIN else self._home)

    def _answer(self, better: bool) -> None:
        """The neighbour was tried. A winner is home now, and its own neighbour beyond is tried at once."""
        if not better:
            self._at = self._home
            self._rounds = 0
            self._hold = min(LONGEST_HOLD, 2 * self._hold)
            return
        up = self._at > self._home
        self._move_home(self._at)
        self._up_next = up
        self._try_neighbour()

    def _move_home(self, to: int) -> None:
        self._at = self._home = to
        self._rounds, self._hold, self._up_next = 0, 1, True

    def _try_neighbour(self) -> None:
        up, self._up_next = self._up_next, not self._up_next
        for step in (1, -1) if up else (-1, 1):
            if 0 <= self._home + step < len(self._sizes):
                self._at = self._home + step
                self._rounds = 0
                return

    def _begin(self, now: float | None) -> None:
        self._began = now
        self._files = self._work = 0
