"""The journal says what each chunk made, in the transaction of the chunk."""

import json

from hypothesis import given
from hypothesis import strategies as st

from bookpipe.model.counts import LoadCounts
from bookpipe.targets.koito.journal import pack_pairs, unpack_pairs
from bookpipe_tests.targets.koito.music import START, Music, chunk, listen

NUMBERS = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(NUMBERS, NUMBERS)))
def test_pairs_come_back_as_they_were_packed(pairs: list[tuple[int, int]]) -> None:
    assert unpack_pairs(pack_pairs(pairs)) == pairs


def test_listens_take_few_bytes() -> None:
    pairs = [(n % 300 + 1, (START + 200 * n) * 1_000_000) for n in range(5_000)]
    assert len(pack_pairs(pairs)) < 12 * len(pairs)


def test_an_entry_says_what_its_chunk_made(music: Music) -> None:
    rows = [listen("A", "s", "R", START), listen("A", "s", "R", START), listen("A", "", "R", START)]
    music.load(rows, first=11)
    with music.koito.connect() as session:
        (entry,) = session.journal.entries("scrobbles", "one")
    assert entry.chunk == chunk("export", 11, 13)
    counts = json.loads(music.one(f"SELECT counts FROM {music.own('load')}"))
    assert LoadCounts(**counts) == LoadCounts(1, 1, {"empty_title": 1})
    assert entry.listens == [(1, START * 1_000_000)]
    assert music.journal() == {
        "load": 1, "load_artist": 1, "load_release": 1, "load_link": 0, "load_track": 1, "track_lookup": 1,
        "lookup_witness": 1, "lookup_chunk": 1, "lookup_export": 1,
    }  # fmt: skip


def test_a_chunk_that_makes_nothing_is_entered_once(music: Music) -> None:
    music.load([listen("A", "s")])
    for _ in range(2):
        music.load([listen("A", "s")], "another", partition="two")
    assert music.journal()["load"] == 2
    with music.koito.connect() as session:
        (entry,) = session.journal.entries("scrobbles", "two")
    assert entry.listens == []


def test_a_chunk_that_makes_something_later_is_entered_again(music: Music) -> None:
    rows = [listen("A", "s", at=START), listen("A", "t", at=START + 1)]
    music.load(rows)
    music.user.delete_listens(1)
    music.load(rows)
    with music.koito.connect() as session:
        first, second = session.journal.entries("scrobbles", "one")
    assert len(first.listens) == 2
    assert second.listens == [(1, START * 1_000_000)]


def test_entries_go_on_when_koito_deletes_what_they_name(music: Music) -> None:
    music.load([listen("A", "s", "R"), listen("B", "t", "R", START + 1, artist_names=["B", "A"])])
    music.load([listen("A", "u", "R", START + 2, artist_names=["A", "C"])], first=3)
    assert music.journal()["load_link"] == 1
    for artist in (1, 2, 3):
        music.user.delete_artist(artist)
    left = music.journal()
    assert left["load"] == 2
    assert left["load_artist"] == left["load_release"] == left["load_link"] == 0


def test_bookpipes_tables_do_not_stand_in_the_way_of_koitos_own(music: Music) -> None:
    """None of its tables refers to ours, and ours have names of their own."""
    music.load([listen("A", "s")])
    if music.sqlite:
        names = [n for (n,) in music.sql("SELECT name FROM sqlite_master WHERE sql IS NOT NULL") if "bookpipe" in n]
        assert names and all(name.startswith("bookpipe_") for name in names)
    else:
        names = [n for (n,) in music.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        assert names and not any("bookpipe" in name for name in names)
