"""A music folder: which files are found, and what is known of each after one read."""

import hashlib
import os
import shutil
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bookpipe.demo.audio_collection import AudioCollection, make_audio_collection
from bookpipe.demo.audio_files import SampleSong, make_flac, make_mp3
from bookpipe.model.errors import ConfigError, TransientError
from bookpipe.model.rejections import Reason
from bookpipe.model.songs import TAGGED_FILES, is_likely_refused
from bookpipe.runtime import stopping
from bookpipe.runtime.audio_batches import Md5Cache, Md5Row
from bookpipe.runtime.stopping import StoppedError
from bookpipe.sources import audio
from bookpipe.sources.audio import MAX_SIZE, read_audio_files, walk_audio
from bookpipe.sources.audio_tags import read_tags
from bookpipe_tests.unprivileged import make_folder_too_deep, nobody, open_folder

SONG = make_mp3(SampleSong("Title", "Artist", "Album", "Rock", "3/12", 0.2))


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AudioCollection]:
    folder = tmp_path_factory.mktemp("music") / "collection"
    return folder, make_audio_collection(folder, files=120)


def put(root: Path, path: bytes, data: bytes = SONG) -> None:
    where = os.path.join(os.fsencode(root), path)
    os.makedirs(os.path.dirname(where), exist_ok=True)
    with open(where, "wb") as file:
        file.write(data)


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def only_row(root: Path, path: bytes) -> dict[str, object]:
    row: dict[str, object]
    [row] = read_audio_files(root, [path]).to_pylist()
    return row


class Memory(Md5Cache):
    """A cache in memory, that counts what it is given."""

    def __init__(self, rows: dict[bytes, Md5Row] | None = None) -> None:
        self.rows = rows or {}
        self.saved: list[bytes] = []

    def load(self, scope: str) -> dict[bytes, Md5Row]:
        return dict(self.rows)

    def save(self, scope: str, rows: Iterable[tuple[bytes, Md5Row]]) -> None:
        for path, row in rows:
            self.rows[path] = row
            self.saved.append(path)


# -- finding ------------------------------------------------------------------------------------------------------


def test_the_walk_finds_the_collection_and_nothing_else(collection: tuple[Path, AudioCollection]) -> None:
    folder, facts = collection
    assert facts.passed_over > 0
    assert tuple(walk_audio(folder)) == facts.paths


NAMES = st.binary(min_size=1, max_size=3).filter(lambda name: b"/" not in name and b"\0" not in name and name[0] != 46)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.lists(NAMES, min_size=1, max_size=3).map(tuple), max_size=12))
def test_paths_come_in_the_order_of_their_bytes(trees: set[tuple[bytes, ...]]) -> None:
    with TemporaryDirectory() as name:
        expected = []
        for parts in trees:
            path = b"/".join((*(b"d" + part for part in parts[:-1]), b"f" + parts[-1] + b".mp3"))
            put(Path(name), path, b"x")
            expected.append(path)
        assert list(walk_audio(Path(name))) == sorted(expected)


def test_names_are_never_changed(tmp_path: Path) -> None:
    names = [b"caf\xe9.mp3", "é.mp3".encode(), "e\u0301.mp3".encode(), b"new\nline.mp3", b"\xff\xfe/\x01.flac"]
    for name in names:
        put(tmp_path, name, SONG + name)
    found = list(walk_audio(tmp_path))
    assert found == sorted(names)
    assert read_audio_files(tmp_path, found).column("md5").to_pylist() == [md5(SONG + name) for name in found]


@pytest.mark.parametrize(
    "path",
    [
        *(b".hidden.mp3", b"._a.mp3", b".folder/a.mp3", b"@eaDir/a.mp3", b"#recycle/a.mp3", b"__MACOSX/a.mp3"),
        *(b"a.jpg", b"a.txt", b"mp3", b"a.mp3.part", b"$RECYCLE.BIN/a.mp3", b".Trash-1000/files/a.mp3"),
    ],
)
def test_hidden_files_junk_and_other_kinds_are_passed_over(tmp_path: Path, path: bytes) -> None:
    put(tmp_path, path)
    put(tmp_path, b"b.mp3")
    assert list(walk_audio(tmp_path)) == [b"b.mp3"]


@pytest.mark.parametrize(
    "name",
    [
        *("a.mp3", "A.MP3", "a.flac", "a.m4a", "a.m4b", "a.mp4", "a.ogg", "a.oga", "a.opus", "a.wav", "a.aac"),
        *("a.wma", "a.aiff", "a.Aif", "a.b.mp3", "a.amr"),
    ],
)
def test_extensions_of_audio_count_in_any_case(tmp_path: Path, name: str) -> None:
    put(tmp_path, name.encode())
    assert list(walk_audio(tmp_path)) == [name.encode()]


def test_links_lead_only_to_files_inside(tmp_path: Path) -> None:
    root = tmp_path / "music"
    put(root, b"album/a.mp3")
    put(tmp_path, b"outside.mp3")
    put(tmp_path, b"music2/b.mp3")
    for name, target in {
        "inside.mp3": "album/a.mp3",
        "twice.mp3": "inside.mp3",
        "out.mp3": "../outside.mp3",
        "neighbour.mp3": "../music2/b.mp3",  # starts with the same letters
        "broken.mp3": "nothing.mp3",
        "loop.mp3": "loop.mp3",
        "folder.mp3": "album",
        "folder": "album",
        "up": "..",
    }.items():
        (root / name).symlink_to(target)
    assert list(walk_audio(root)) == [b"album/a.mp3", b"inside.mp3", b"twice.mp3"]


def test_a_music_folder_behind_a_link_is_walked(tmp_path: Path) -> None:
    put(tmp_path, b"disk/music/a.mp3")
    (tmp_path / "music").symlink_to("disk/music")
    assert list(walk_audio(tmp_path / "music")) == [b"a.mp3"]
    assert only_row(tmp_path / "music", b"a.mp3")["md5"] == md5(SONG)


def test_a_folder_is_a_folder_whatever_it_is_called(tmp_path: Path) -> None:
    put(tmp_path, b"live.mp3/a.mp3")
    os.mkfifo(tmp_path / "pipe.mp3")
    assert list(walk_audio(tmp_path)) == [b"live.mp3/a.mp3"]


def test_an_unreadable_folder_is_reported_and_the_rest_is_walked() -> None:
    with open_folder() as root:
        for path in (b"a/1.mp3", b"b/2.mp3", b"c/3.mp3"):
            put(root, path)
        (root / "b").chmod(0)
        reported: list[tuple[bytes, str]] = []
        with nobody():
            found = list(walk_audio(root, on_unreadable=lambda *what: reported.append(what)))
        (root / "b").chmod(0o755)
    assert found == [b"a/1.mp3", b"c/3.mp3"]
    assert reported == [(b"b", "Permission denied")]


def test_a_folder_too_deep_for_the_system_is_reported(tmp_path: Path) -> None:
    put(tmp_path, b"z.mp3")
    make_folder_too_deep(tmp_path)
    reported: list[bytes] = []
    assert list(walk_audio(tmp_path, on_unreadable=lambda path, _: reported.append(path))) == [b"z.mp3"]
    assert len(reported) == 1


def test_the_walk_looks_into_a_folder_only_when_it_gets_there(tmp_path: Path) -> None:
    put(tmp_path, b"a/1.mp3")
    put(tmp_path, b"b/2.mp3")
    walk = walk_audio(tmp_path)
    assert next(walk) == b"a/1.mp3"
    put(tmp_path, b"b/3.mp3")
    assert list(walk) == [b"b/2.mp3", b"b/3.mp3"]


@pytest.mark.parametrize("name", ["missing", "file.mp3"])
def test_a_music_folder_that_is_none_is_an_error_of_the_settings(tmp_path: Path, name: str) -> None:
    put(tmp_path, b"file.mp3")
    with pytest.raises(ConfigError, match=name):
        list(walk_audio(tmp_path / name))


# -- reading ------------------------------------------------------------------------------------------------------


def test_a_row_says_what_the_file_is(tmp_path: Path) -> None:
    put(tmp_path, b"album/song.mp3")
    status = os.stat(tmp_path / "album/song.mp3")
    row = only_row(tmp_path, b"album/song.mp3")
    duration = row.pop("duration")
    assert isinstance(duration, float)
    assert abs(duration - 0.2) < 0.03
    assert row.pop("track") in ("3", "3/12")  # tinytag and mutagen
    assert row == {
        "item": 1,
        "path": b"album/song.mp3",
        "size": len(SONG),
        "mtime_ns": status.st_mtime_ns,
        "md5": md5(SONG),
        "content_type": "audio/mpeg",
        "sniffed_type": "audio/mpeg",
        "title": "Title",
        "artist": "Artist",
        "album": "Album",
        "genre": "Rock",
        "reason": None,
        "detail": None,
    }


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_are_in_the_order_of_the_paths(collection: tuple[Path, AudioCollection], threads: int) -> None:
    folder, facts = collection
    paths = list(reversed(facts.paths))
    rows = read_audio_files(folder, paths, threads=threads)
    assert rows.schema == TAGGED_FILES
    assert rows.column("path").to_pylist() == paths
    assert rows.column("item").to_pylist() == list(range(1, 1 + len(paths)))
    contents = [(folder / os.fsdecode(path)).read_bytes() for path in paths]
    assert rows.column("md5").to_pylist() == [md5(data) if data else None for data in contents]


def test_a_collection_adds_up(collection: tuple[Path, AudioCollection]) -> None:
    folder, facts = collection
    rows = read_audio_files(folder, facts.paths).to_pylist()
    assert [row["reason"] for row in rows if row["reason"]] == [Reason.EMPTY_FILE.value] * facts.empty
    read = [row for row in rows if row["reason"] is None]
    accepted = [row["md5"] for row in read if not is_likely_refused(row["sniffed_type"])]
    assert len(read) - len(accepted) == facts.refused
    assert len(set(accepted)) == facts.songs
    assert len(accepted) - len(set(accepted)) == facts.aliases
    assert facts.songs + facts.aliases + facts.refused + facts.empty == len(facts.paths)


def test_no_files_are_no_rows(tmp_path: Path) -> None:
    assert read_audio_files(tmp_path, []).equals(TAGGED_FILES.empty_table())


BAD_PATHS = [
    b"",
    b"/a.mp3",
    b"../a.mp3",
    b"x/../a.mp3",
    b"x//a.mp3",
    b"./a.mp3",
    b"a\0.mp3",
    b"x/",
    b"n" * 300 + b".mp3",
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_is_none_is_rejected(tmp_path: Path, path: bytes) -> None:
    put(tmp_path, b"a.mp3")
    assert only_row(tmp_path, path)["reason"] == Reason.BAD_PATH.value


def test_files_that_cannot_be_sent_end_with_a_reason(tmp_path: Path) -> None:
    root = tmp_path / "music"
    put(root, b"good.mp3")
    put(tmp_path, b"outside.mp3")
    put(root, b"empty.mp3", b"")
    (root / "folder.mp3").mkdir()
    (root / "out.mp3").symlink_to("../outside.mp3")
    os.mkfifo(root / "pipe.mp3")
    expected = {
        b"good.mp3": None,
        b"empty.mp3": Reason.EMPTY_FILE,
        b"folder.mp3": Reason.NOT_A_FILE,
        b"pipe.mp3": Reason.NOT_A_FILE,
        b"missing.mp3": Reason.MISSING_FILE,
        b"good.mp3/inner.mp3": Reason.MISSING_FILE,
        b"out.mp3": Reason.OUTSIDE_LIBRARY,
    }
    rows = read_audio_files(root, list(expected)).to_pylist()
    assert [row["reason"] for row in rows] == [reason and reason.value for reason in expected.values()]
    assert all(row["md5"] is None and row["title"] is None for row in rows[1:])


def test_a_file_without_rights_is_unreadable() -> None:
    with open_folder() as root:
        put(root, b"a.mp3")
        (root / "a.mp3").chmod(0)
        with nobody():
            row = only_row(root, b"a.mp3")
    assert (row["reason"], row["detail"]) == (Reason.UNREADABLE_FILE.value, "Permission denied")


def test_a_file_of_holes_is_too_large_and_not_read(tmp_path: Path) -> None:
    put(tmp_path, b"a.mp3")
    try:
        os.truncate(tmp_path / "a.mp3", MAX_SIZE + 1)
    except OSError:
        pytest.skip("this file system has no such files")
    row = only_row(tmp_path, b"a.mp3")
    assert (row["reason"], row["detail"]) == (Reason.TOO_LARGE.value, f"{MAX_SIZE + 1} bytes")


@pytest.mark.parametrize("change", ["grows", "shrinks", "is touched"])
def test_a_file_that_changes_while_it_is_read_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    put(tmp_path, b"a.mp3")
    where = tmp_path / "a.mp3"

    def read_and_change(fd: int, size: int, head: bytes, extension: str) -> object:
        tags = read_tags(fd, size, head, extension)
        if change == "is touched":
            os.utime(where, ns=(1, 1))
        else:
            os.truncate(where, size + 1 if change == "grows" else size - 1)
        return tags

    monkeypatch.setattr(audio, "read_tags", read_and_change)
    assert only_row(tmp_path, b"a.mp3")["reason"] == Reason.CHANGED_WHILE_READING.value


def test_damaged_tags_do_not_reject_a_file(tmp_path: Path) -> None:
    data = b"ID3\x03\0\0\x7f\x7f\x7f\x7fTIT2\xff\xff\xff\xff" + os.urandom(100)
    put(tmp_path, b"a.mp3", data)
    row = only_row(tmp_path, b"a.mp3")
    assert (row["reason"], row["title"], row["md5"]) == (None, None, md5(data))


def test_a_large_file_costs_no_memory(tmp_path: Path) -> None:
    put(tmp_path, b"a.flac", make_flac(SampleSong("Long"), pad_to=1_000_000))
    os.truncate(tmp_path / "a.flac", 200_000_000)
    read_audio_files(tmp_path, [b"a.flac"])  # what is made once
    tracemalloc.start()
    row = only_row(tmp_path, b"a.flac")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert row["title"] == "Long"
    assert peak < 3 << 20


def test_a_time_that_no_row_can_hold_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, b"a.mp3")
    os.utime(tmp_path / "a.mp3", (10**10, 10**10))  # the year 2286
    if os.stat(tmp_path / "a.mp3").st_mtime_ns < 2**63:
        pytest.skip("this file system has no such times")
    row = only_row(tmp_path, b"a.mp3")
    assert (row["mtime_ns"], row["md5"]) == (None, md5(SONG))


# -- the cache ----------------------------------------------------------------------------------------------------


def test_an_unchanged_file_is_not_hashed_again(tmp_path: Path) -> None:
    put(tmp_path, b"a.mp3")
    status = os.stat(tmp_path / "a.mp3")
    cache = Memory({b"a.mp3": (status.st_size, status.st_mtime_ns, "of the cache")})
    [row] = read_audio_files(tmp_path, [b"a.mp3"], cache=cache).to_pylist()
    assert (row["md5"], row["title"], row["sniffed_type"]) == ("of the cache", "Title", "audio/mpeg")
    assert cache.saved == []


@pytest.mark.parametrize("which", ["size", "mtime"])
def test_a_changed_file_is_hashed_again(tmp_path: Path, which: str) -> None:
    put(tmp_path, b"a.mp3")
    status = os.stat(tmp_path / "a.mp3")
    size, mtime = status.st_size + (which == "size"), status.st_mtime_ns + (which == "mtime")
    cache = Memory({b"a.mp3": (size, mtime, "stale")})
    [row] = read_audio_files(tmp_path, [b"a.mp3"], cache=cache).to_pylist()
    assert row["md5"] == md5(SONG)
    assert cache.rows == {b"a.mp3": (status.st_size, status.st_mtime_ns, md5(SONG))}


def test_only_digests_of_files_that_were_read_are_kept(collection: tuple[Path, AudioCollection]) -> None:
    folder, facts = collection
    cache = Memory()
    first = read_audio_files(folder, [*facts.paths, b"missing.mp3"], cache=cache, scope="s")
    assert len(cache.saved) == len(facts.paths) - facts.empty
    again = read_audio_files(folder, [*facts.paths, b"missing.mp3"], cache=cache, scope="s")
    assert again.equals(first)
    assert len(cache.saved) == len(facts.paths) - facts.empty


def test_a_requested_stop_ends_the_reading_and_keeps_the_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [b"%03d.mp3" % n for n in range(3 * audio.CHUNK)]
    for path in paths:
        put(tmp_path, path)
    cache = Memory()
    monkeypatch.setattr(stopping, "stop_requested", requested := threading.Event())
    requested.set()
    with pytest.raises(StoppedError, match=f"{audio.CHUNK} of {len(paths)}"):
        read_audio_files(tmp_path, paths, cache=cache, threads=1)
    assert cache.saved == paths[: audio.CHUNK]
    requested.clear()
    assert read_audio_files(tmp_path, paths, cache=cache).column("md5").null_count == 0
    assert cache.saved == paths


# -- when the folder goes away ------------------------------------------------------------------------------------


@contextmanager
def _gone(root: Path, how: str) -> Iterator[None]:
    shutil.rmtree(root)
    if how == "emptied":  # what an unmounted share looks like
        root.mkdir()
    yield


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_a_music_folder_that_has_gone_away_is_no_missing_files(tmp_path: Path, how: str) -> None:
    root = tmp_path / "music"
    put(root, b"a.mp3")
    with _gone(root, how), pytest.raises(TransientError, match="mounted"):
        read_audio_files(root, [b"a.mp3"])
