"""Whatever is killed, cut off or written meanwhile: run again, the end is that of one clean run."""

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bookpipe.demo.koito_database import create_koito_sqlite
from bookpipe.model.errors import TransientError
from bookpipe.model.listen_plans import ListenPlan
from bookpipe.targets.koito.journal import LoadEntry
from bookpipe_tests.targets.koito.load_export import export, load_export
from bookpipe_tests.targets.koito.music import START, Music, listen

ROOT = Path(__file__).parents[3]  # where the packages are
LISTENS, SIZE = 600, 60


@contextmanager
def loading(music: Music, origin: str, seed: int) -> Iterator["subprocess.Popen[str]"]:
    """A process that loads an export. It is killed at the end, if it is still there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bookpipe_tests.targets.koito.load_export", music.url, origin, str(seed),
         str(LISTENS), str(SIZE)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def begins_chunk(process: "subprocess.Popen[str]", number: int) -> bool:
    """Wait until a chunk begins; False when the process was done before."""
    assert process.stdout is not None
    return all(process.stdout.readline() == "chunk\n" for _ in range(number))


@pytest.fixture
def clean(tmp_path: Path) -> Music:
    """Another Koito, to compare with."""
    (tmp_path / "clean").mkdir()
    return Music(create_koito_sqlite(tmp_path / "clean" / "koito.db"))


def test_loads_killed_at_any_moment_heal(music: Music, clean: Music) -> None:
    seed = random.randrange(2**32)
    chance, rows = random.Random(seed), export(seed, LISTENS)
    for _ in range(4):
        with loading(music, "export", seed) as process:
            number, delay = chance.randrange(1, 1 + LISTENS // SIZE), chance.random() * 0.03
            print(f"seed {seed}: killed {delay:.4f} s into chunk {number}")
            if begins_chunk(process, number):
                try:
                    process.wait(delay)
                except subprocess.TimeoutExpired:
                    process.kill()
        assert music.is_sound()
        listens = music.one("SELECT count(*) FROM listens")
        assert listens == sum(len(e.listens) for e in entries(music, "export"))
    load_export(music, "export", rows, SIZE)
    load_export(clean, "export", rows, SIZE)
    assert music.meaning() == clean.meaning()
    assert len(entries(music, "export")) == LISTENS // SIZE
    music.undo("export")
    assert not music.meaning()


def entries(music: Music, partition: str) -> list[LoadEntry]:
    with music.koito.connect() as session:
        return session.journal.entries("scrobbles", partition)


def test_the_same_export_loaded_twice_at_once_is_loaded_once(music: Music, clean: Music) -> None:
    rows = export(5, LISTENS)
    with loading(music, "export", 5) as one, loading(music, "export", 5) as two:
        assert (one.wait(), two.wait()) == (0, 0)
    load_export(clean, "export", rows, SIZE)
    assert music.meaning() == clean.meaning()
    assert music.is_sound()


def test_two_exports_loaded_at_once_are_both_there(music: Music) -> None:
    with loading(music, "e1", 1) as one, loading(music, "e2", 2) as two:
        assert (one.wait(), two.wait()) == (0, 0)
    assert music.is_sound()
    for origin, seed in (("e1", 1), ("e2", 2)):
        assert load_export(music, origin, export(seed, LISTENS), SIZE) == 0
    for origin in ("e1", "e2"):
        music.undo(origin)
    assert not music.meaning()


def test_koito_goes_on_adding_listens_while_an_export_is_loaded(music: Music) -> None:
    """None of its writes fails. It waits five seconds at most before it gives up."""
    music.load([listen("Live", "Live", "Live", START - 1)], "live", partition="live")
    added = 0
    with loading(music, "export", 3) as process:
        assert begins_chunk(process, 1)
        while process.poll() is None:
            added += 1
            music.user.scrobble(1, START + 60 * added + 30)
        assert process.returncode == 0
    assert added > 5
    assert len(music.listens_of(1)) == added + 1
    assert music.one("SELECT count(*) FROM listens") == added + 1 + LISTENS
    assert music.is_sound()


def test_a_merge_in_the_middle_of_an_import_does_no_harm(music: Music) -> None:
    """Its sweep removes every track without listens: ours come together with theirs."""
    rows = export(7, LISTENS)
    with loading(music, "export", 7) as process:
        for _ in range(5):
            assert begins_chunk(process, 1)
            tracks = [t for (t,) in music.sql("SELECT id FROM tracks ORDER BY id DESC LIMIT 2")]
            if len(tracks) == 2:
                music.user.merge_tracks(*tracks)
        assert process.wait() == 0
    assert music.one("SELECT count(*) FROM listens") == LISTENS
    assert load_export(music, "export", rows, SIZE) == 0
    assert music.is_sound()


def test_a_connection_cut_in_a_chunk_is_a_passing_trouble(postgres_music: Music) -> None:
    music = postgres_music
    music.load([listen("A", "s")])
    before = music.everything()
    with pytest.raises(TransientError), music.koito.connect() as session, session.writing() as writer:
        music.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bookpipe' "
                  "AND datname = current_database()")  # fmt: skip
        writer.existing_rows(ListenPlan())
    assert music.everything() == before
    assert music.load([listen("A", "t", at=START + 1)], first=2).counts.inserted == 1
