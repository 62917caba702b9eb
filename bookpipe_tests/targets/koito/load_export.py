"""Loads an export in a process of its own, for tests that kill it or run it beside others.

    python -m bookpipe_tests.targets.koito.load_export URL ORIGIN SEED LISTENS SIZE

Says "chunk" before each chunk of SIZE listens.
"""

import random
import sys
from typing import Any

from bookpipe_tests.targets.koito.music import START, Music, listen


def export(seed: int, count: int) -> list[dict[str, Any]]:
    """Listens in which few artists and albums meet in all ways, each a minute after the one before."""
    chance = random.Random(seed)
    rows = []
    for n in range(count):
        artist = f"Artist {chance.randrange(20)}"
        guests = [f"Artist {chance.randrange(20)}"] if chance.random() < 0.2 else []
        rows.append(
            listen(
                artist, f"Song {chance.randrange(40)}", f"Album {chance.randrange(8)}", START + 60 * n,
                artist_names=[artist, *guests], duration=chance.choice([0, 0, 180]),
            )
        )  # fmt: skip
    return rows


def load_export(music: Music, origin: str, rows: list[dict[str, Any]], size: int, *, say: bool = False) -> int:
    """The number of listens that were inserted."""
    inserted = 0
    with music.koito.connect() as session:
        for first in range(0, len(rows), size):
            if say:
                print("chunk", flush=True)
            result = music.load_chunk(session, rows[first : first + size], origin, first + 1, partition=origin)
            inserted += result.counts.inserted
    return inserted


if __name__ == "__main__":
    address, name, *numbers = sys.argv[1:]
    seed, count, size = map(int, numbers)
    load_export(Music(address), name, export(seed, count), size, say=True)
