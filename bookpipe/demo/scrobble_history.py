"""A made-up listening history: as skewed, many-scripted and repetitive as a real one, and the same for a seed."""

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

END = 1_748_736_000  # 2025-06-01, in seconds since 1970
_MEAN_GAP = 3_600  # seconds from one listen to the next
_LONGEST = 15 * 365 * 86_400  # seconds of a history

_SCRIPTS = (
    (70, ("ba", "lo", "ri", "sten", "mor", "ka", "vel", "dun", "sha", "pe", "nox", "tri", "lum", "or", "wen", "fay")),
    (10, ("é", "bjö", "rün", "ña", "ça", "løv", "škar", "ží", "ou", "åse", "tž", "mœ")),
    (10, ("ва", "ли", "мор", "ко", "сне", "го", "луч", "пти", "дым", "ря", "жа", "сё")),
    (10, ("東", "夜", "猫", "ミ", "ク", "音", "星", "か", "すぅ", "雪", "光", "ア")),
)
_ARTIST_FORMS = (
    (60, "{0} {1}"),
    (12, "The {0}{1}"),
    (10, "{0}"),
    (6, "{0} & {1}"),
    (4, "{0} and the {1}s"),
    (3, "{0}, {1}"),
    (3, "{0} {1} Orchestra"),
    (2, "{0}/{1}"),
)
_TITLE_FORMS = (
    (50, "{0} {1}"),
    (25, "{0}"),
    (10, "{0} of {1}"),
    (8, "{0} ({1} Remix)"),
    (4, "{0}!"),
    (3, "{0} - Live"),
)


@dataclass(frozen=True, slots=True)
class SampleListen:
    """One listen. `time` is in seconds since 1970, `duration` in seconds, 0 = unknown; MBIDs are in artists' order."""

    time: int
    title: str
    artists: tuple[str, ...]
    album: str | None = None
    duration: int = 0
    recording_mbid: str | None = None
    release_mbid: str | None = None
    artist_mbids: tuple[str | None, ...] = ()
    client: str = ""


@dataclass(frozen=True, slots=True)
class _Track:
    title: str
    artists: tuple[int, ...]
    album: int | None
    duration: int
    mbid: str | None


def draw_history(listens: int, artists: int, albums: int, seed: int) -> Iterator[SampleListen]:
    """So many listens in the order of time, with exactly so many main artists and albums if there are listens enough.

    A few artists have most of the listens. Artists beyond the number of albums have single tracks without an album;
    some albums are shared by several artists, and some tracks have guests, in the title or as a second artist.
    """
    rng = random.Random(f"history {seed}")
    names = _Names(rng)
    artist_names = [names.draw(_ARTIST_FORMS) for _ in range(artists)]
    artist_mbids = [_mbid(rng, 0.7) for _ in range(artists)]
    album_names = [names.draw(_TITLE_FORMS) for _ in range(albums)]
    album_mbids = [_mbid(rng, 0.6) for _ in range(albums)]
    tracks, weights, needed = _draw_tracks(rng, artist_names, albums)
    chosen = needed[:listens]
    chosen += rng.choices(range(len(tracks)), cum_weights=list(accumulate(weights)), k=listens - len(chosen))
    rng.shuffle(chosen)
    for time, position in zip(_draw_times(rng, listens), chosen, strict=True):
        track = tracks[position]
        yield SampleListen(
            time=time,
            title=track.title,
            artists=tuple(artist_names[artist] for artist in track.artists),
            album=None if track.album is None else album_names[track.album],
            duration=track.duration,
            recording_mbid=track.mbid,
            release_mbid=None if track.album is None else album_mbids[track.album],
            artist_mbids=tuple(artist_mbids[artist] for artist in track.artists),
            client=("Navidrome", "Pano Scrobbler", "multi-scrobbler", "")[position % 4],
        )


def _draw_tracks(
    rng: random.Random, artist_names: list[str], albums: int
) -> tuple[list[_Track], list[float], list[int]]:
    """All tracks, their weights, and positions that name every artist and every album once."""
    artists = len(artist_names)
    popularity = [1 / (n + 1) ** 0.9 for n in range(artists)]
    cumulated = list(accumulate(popularity))
    owners = rng.choices(range(artists), cum_weights=cumulated, k=albums)
    tracks: list[_Track] = []
    weights: list[float] = []
    needed: list[int] = []
    heard = set()

    def add(owner: int, album: int | None, rank: int, popular: int) -> None:
        guest = rng.randrange(artists)
        title = _fill(rng, _TITLE_FORMS)
        both: tuple[int, ...] = (owner,)
        if guest != owner and rng.random() < 0.06:
            title += f" (feat. {artist_names[guest]})"
        elif guest != owner and rng.random() < 0.03:
            both = (owner, guest)
        tracks.append(_Track(title, both, album, rng.randrange(95, 420), _mbid(rng, 0.5)))
        weights.append(popularity[popular] / (rank + 1) ** 0.6)

    for album, owner in enumerate(owners):
        shared = rng.random() < 0.02
        needed.append(len(tracks))
        heard.add(owner)
        for rank in range(rng.randrange(5, 15)):
            add(rng.randrange(artists) if shared and rank else owner, album, rank, owner)
    for owner in range(artists):
        if owner not in heard:
            needed.append(len(tracks))
            for rank in range(rng.randrange(1, 4)):
                add(owner, None, rank, owner)
    return tracks, weights, needed


def _draw_times(rng: random.Random, listens: int) -> Iterator[int]:
    """Times up to END: runs of tracks with pauses in between; all but never two in one second."""
    mean = min(_MEAN_GAP, _LONGEST // max(1, listens))
    pause = max(1, 12 * (mean - 230))
    gaps = [
        rng.randrange(60, 400) if rng.random() < 11 / 12 else rng.randrange(60, 2 * pause + 61) for _ in range(listens)
    ]
    time = END - sum(gaps)
    for gap in gaps:
        time += gap
        yield time


class _Names:
    """Draws names out of syllables, never the same twice in whatever case."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._used: set[str] = set()

    def draw(self, forms: tuple[tuple[int, str], ...]) -> str:
        name = _fill(self._rng, forms)
        while name.lower() in self._used:
            name = f"{name} {_word(self._rng)}"
        self._used.add(name.lower())
        return name


def _fill(rng: random.Random, forms: tuple[tuple[int, str], ...]) -> str:
    (form,) = rng.choices([form for _, form in forms], [weight for weight, _ in forms])
    return form.format(_word(rng), _word(rng))


def _word(rng: random.Random) -> str:
    (syllables,) = rng.choices([syllables for _, syllables in _SCRIPTS], [weight for weight, _ in _SCRIPTS])
    return "".join(rng.choices(syllables, k=rng.randrange(1, 4))).capitalize()


def _mbid(rng: random.Random, share: float) -> str | None:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4)) if rng.random() < share else None
