"""LISTENS rows for tests: one at a time, and random ones that get in each other's way as much as they can.

Few names, in several cases and with guests, few albums that are shared, MBIDs that contradict each other, few seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from bookpipe.model.listens import LISTENS

Row = dict[str, Any]

START = 1_700_000_000  # seconds since 1970

NAMES = ("A", "a", "B", "C", "Straße", "STRASSE", "İ", "I", "ı", "A||B", "b", "K", "\u212a")
UNTRIMMED = ("A ", "\u3000B", "\x1fA")  # the last one is not white space to Koito
ARTISTS = (
    *NAMES,
    "A feat. B",
    "B Feat. A & C",
    "A (feat. C and b) feat. K",
    "A · B",
    "Sandra [feat. A]",
    "A ft. B",
    " ",
    "(feat. )",
)
TITLES = ("s", "S", "t (feat. B)", "t feat. C", "u [Feat. a]", "Hits", " ", "s ", "t feat. C (feat. B)")
ALBUMS = ("", "Hits", "hits", "Hits ", "s", "R")
EXTRA = ("A", "B", "Alias", "alias ", "s", "Hits", "Other")


def mbid(kind: int, number: int) -> str:
    """A valid MBID: kinds and numbers tell them apart."""
    return f"{kind:08x}-0000-4000-8000-{number:012x}"


def listen_row(**fields: Any) -> Row:
    """A LISTENS row of kind "spotify": A's track s on R, unless it is said otherwise. Null is what the kind lacks."""
    row: Row = dict.fromkeys(LISTENS.names)
    row |= {
        "origin": "spotify:test",
        "row": 1,
        "kind": "spotify",
        "listened_at": START,
        "listened_us": 0,
        "title": "s",
        "artist": "A",
        "album": "R",
        "duration": 0,
        "client": "spotify",
    }
    assert fields.keys() <= row.keys()
    return row | fields


def exported_row(
    artists: Sequence[tuple[str, str | None, Sequence[str]]] = (("A", None, ("A",)),), **fields: Any
) -> Row:
    """A LISTENS row of kind "koito". `artists`: name, MBID and all aliases of each."""
    title, album = fields.get("title", "s"), fields.get("album", "R")
    row = {
        "origin": "koito:test",
        "kind": "koito",
        "client": "",
        "artist": artists[0][0] if artists else "",
        "artist_names": [name for name, _, _ in artists],
        "artist_mbids": [mbid for _, mbid, _ in artists],
        "artist_aliases": [list(aliases) for _, _, aliases in artists],
        "artist_images": ["" for _ in artists],
        "track_aliases": [title],
        "album_aliases": [album] if album else [],
        "album_image": "",
        "various_artists": False,
    }
    return listen_row(**(row | fields))


def listens_table(rows: Sequence[Row]) -> pa.Table:
    """LISTENS of rows, which are numbered from 1."""
    return pa.Table.from_pylist([row | {"row": n} for n, row in enumerate(rows, start=1)], schema=LISTENS)


@dataclass(frozen=True)
class Pools:
    """What the rows of one history are drawn from: the fewer, the more they collide."""

    names: tuple[str, ...] = NAMES + UNTRIMMED
    artists: tuple[str, ...] = ARTISTS
    titles: tuple[str, ...] = TITLES
    albums: tuple[str, ...] = ALBUMS
    mbids: int = 4

    def mbid(self, kind: int) -> st.SearchStrategy[str | None]:
        known = [mbid(kind, n) for n in range(self.mbids)]
        return st.sampled_from([None] * 3 + known)


def _some(values: tuple[str, ...], most: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most).map(tuple)


def _pools() -> st.SearchStrategy[Pools]:
    return st.one_of(
        st.just(Pools()),
        st.builds(
            Pools,
            _some(NAMES + UNTRIMMED, 3),
            _some(ARTISTS, 3),
            _some(TITLES, 2),
            _some(ALBUMS, 2),
            st.integers(0, 3),
        ),
    )


_SECONDS = st.integers(START, START + 5)
_DURATIONS = st.sampled_from([0, 0, 180, 200])
_CLIENTS = st.sampled_from(["", "x", "y"])


@st.composite
def submitted_rows(draw: st.DrawFn, pools: Pools) -> Row:
    """A row of any kind but Koito's own, with what no single importer would put together."""
    names = st.sampled_from(pools.names)
    credits = draw(st.lists(st.tuples(names, pools.mbid(1)), max_size=2))
    return listen_row(
        kind=draw(st.sampled_from(["spotify", "maloja", "lastfm", "listenbrainz"])),
        listened_at=draw(_SECONDS),
        title=draw(st.sampled_from(pools.titles)),
        artist=draw(st.sampled_from(pools.artists)),
        artist_names=draw(st.none() | st.lists(names, max_size=3)),
        artist_mbids=draw(st.none() | st.lists(pools.mbid(1), max_size=3)),
        credit_names=[name for name, _ in credits] or None,
        credit_mbids=[mbid for _, mbid in credits] or None,
        album=draw(st.sampled_from(pools.albums)),
        recording_mbid=draw(pools.mbid(3)),
        release_mbid=draw(pools.mbid(2)),
        duration=draw(_DURATIONS),
        client=draw(_CLIENTS),
    )


@st.composite
def simple_rows(draw: st.DrawFn, pools: Pools) -> Row:
    """A row as most exports have it: names and titles only."""
    return listen_row(
        listened_at=draw(_SECONDS),
        title=draw(st.sampled_from(pools.titles)),
        artist=draw(st.sampled_from(pools.artists)),
        artist_names=draw(st.none() | st.lists(st.sampled_from(pools.names), max_size=2)),
        album=draw(st.sampled_from(pools.albums)),
        duration=draw(_DURATIONS),
    )


@st.composite
def exported_rows(draw: st.DrawFn, pools: Pools) -> Row:
    """A row of Koito's own export, with aliases that are others' names."""
    aliases = st.lists(st.sampled_from(EXTRA), max_size=3)
    names = draw(st.lists(st.sampled_from(pools.names), max_size=3))
    images = st.sampled_from(["", "https://example.org/a.jpg", "User Upload"])
    title, album = draw(st.sampled_from(pools.titles)), draw(st.sampled_from(pools.albums))
    return exported_row(
        [(name, draw(pools.mbid(1)), draw(st.permutations([name, *draw(aliases)]))) for name in names],
        artist_images=[draw(images) for _ in names],
        title=title,
        album=album,
        recording_mbid=draw(pools.mbid(3)),
        release_mbid=draw(pools.mbid(2)),
        listened_at=draw(_SECONDS),
        listened_us=draw(st.sampled_from([0, 0, 1, 999_999])),
        track_aliases=draw(aliases),
        album_aliases=draw(aliases),
        album_image=draw(images),
        various_artists=draw(st.booleans()),
        duration=draw(_DURATIONS),
    )


def rejected_rows(pools: Pools) -> st.SearchStrategy[Row]:
    """Rows that were rejected when they were read."""
    return st.builds(
        lambda row, reason: row | {"reason": reason, "detail": "why"},
        simple_rows(pools),
        st.sampled_from(["bad_time", "not_a_listen"]),
    )


@st.composite
def listen_lists(draw: st.DrawFn, *, max_size: int = 14, pools: Pools | None = None) -> list[Row]:
    """Rows of one kind or of all kinds."""
    drawn = draw(_pools()) if pools is None else pools
    kinds = [simple_rows(drawn), submitted_rows(drawn), exported_rows(drawn)]
    rows = draw(st.sampled_from([kinds[0], kinds[1], kinds[2], st.one_of(*kinds, rejected_rows(drawn))]))
    return draw(st.lists(rows, max_size=max_size))
