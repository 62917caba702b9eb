"""A batch of files ends as songs, once per content, and every row ends somehow."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bookpipe.demo.music_archive import Action, Fault, archive_process
from bookpipe.model.rejections import Reason
from bookpipe.model.songs import SONG_OUTCOMES
from bookpipe.runtime.progress import Progress
from bookpipe.runtime.upload_ledger import Content
from bookpipe.targets.music_archive.uploads import FREE
from bookpipe_tests.targets.archive_uploads import Uploads, details, outcomes, reasons, song_bytes, uploads
from bookpipe_tests.unprivileged import nobody, open_folder


@pytest.fixture(params=["direct", "multipart"])
def up(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Uploads]:
    """An archive, with each of the ways in."""
    with uploads(tmp_path, direct_upload=request.param == "direct") as started:
        yield started


def test_every_file_becomes_one_song_with_its_bytes(up: Uploads) -> None:
    names = up.many(30)
    result = up.upload(names)
    assert (result.counts.inserted, result.counts.read, result.stopped) == (30, 30, False)
    assert result.sent_bytes == 30 * 3_000
    assert result.strategy in ("direct", "multipart")
    assert result.outcomes.schema == SONG_OUTCOMES
    up.assert_holds(names)
    ids = {song["title"]: song["id"] for song in up.archive.songs()}
    assert result.outcomes.column("song_id").to_pylist() == [ids[Path(name).stem] for name in names]
    assert result.outcomes.column("sent_bytes").to_pylist() == [3_000] * 30


def test_a_second_run_asks_nobody_and_sends_nothing(up: Uploads) -> None:
    names = up.many(20)
    first = up.upload(names)
    up.archive.counters.reset()
    second = up.upload(names)
    assert outcomes(second) == ["existing"] * 20
    assert second.outcomes.column("song_id").to_pylist() == first.outcomes.column("song_id").to_pylist()
    assert (second.sent_bytes, second.strategy) == (0, "")
    assert up.count("requests") == {}


def test_what_the_archive_is_told_is_what_the_row_says(up: Uploads) -> None:
    [name] = up.write("x.mp3")
    rows = up.rows(
        [name], filename=["Näme.mp3"], title=["Tïtle"], artist=["Ärtist"], album=["Album – 1"], genre=["G"],
        track_number=[7], duration=[61],
    )  # fmt: skip
    up.upload(rows)
    [song] = up.archive.songs()
    told = ("title", "artist", "album", "genre", "track_number", "duration", "original_filename", "processing_status")
    assert [song[key] for key in told] == ["Tïtle", "Ärtist", "Album – 1", "G", 7, 61, "Näme.mp3", "completed"]


def test_names_that_are_no_text_are_uploaded_all_the_same(up: Uploads) -> None:
    path = bytes(up.root) + b"/na\xffme.mp3"
    with open(path, "wb") as file:
        file.write(song_bytes("x"))
    [other] = up.write("other.mp3")
    rows = up.rows([other])
    content = Content(rows["md5"][0].as_py(), 3_000)
    shutil.copyfile(path, up.root / other)
    rows = up.rows([other], path=[b"na\xffme.mp3"], mtime_ns=[None], filename=["na\ufffdme.mp3"], title=["na\ufffdme"])
    assert outcomes(up.upload(rows)) == ["inserted"]
    assert [song["title"] for song in up.archive.songs()] == ["na\ufffdme"]
    assert content.size == 3_000


def test_copies_of_a_file_are_one_song(up: Uploads) -> None:
    names = up.write("a.mp3", "b.mp3")
    for copy in ("copy.mp3", "folder/copy.mp3"):
        (up.root / copy).parent.mkdir(exist_ok=True)
        shutil.copyfile(up.root / "a.mp3", up.root / copy)
    result = up.upload(["copy.mp3", "a.mp3", "b.mp3", "folder/copy.mp3"])
    assert outcomes(result) == ["inserted", "existing", "inserted", "existing"]
    assert len(set(result.outcomes.column("song_id").to_pylist())) == 2
    assert result.outcomes.column("sent_bytes").to_pylist() == [3_000, 0, 3_000, 0]
    assert len(up.archive.songs()) == 2
    content = Content(result.outcomes["md5"][0].as_py(), 3_000)
    assert up.ledger.aliases(content) == [b"a.mp3", b"copy.mp3", b"folder/copy.mp3"]
    assert names


def test_a_file_that_was_moved_is_known(up: Uploads) -> None:
    up.upload(up.write("a.mp3"))
    shutil.move(up.root / "a.mp3", up.root / "moved.mp3")
    assert outcomes(up.upload(["moved.mp3"])) == ["existing"]
    assert len(up.archive.songs()) == 1


def test_rows_that_are_rejected_already_stay_so(up: Uploads) -> None:
    names = up.write("a.mp3", "b.mp3", "c.mp3")
    rows = up.rows(
        names, reason=["unreadable_file", None, None], detail=["why", None, None], md5=[None, "0" * 32, None],
        size=[None, 0, None],
    )  # fmt: skip
    result = up.upload(rows)
    assert reasons(result) == ["unreadable_file", "empty_file", "unreadable_file"]
    assert details(result)[0] == "why"
    assert (result.counts.rejected, result.counts.read) == (3, 3)
    assert up.count("requests") == {}


def test_what_the_archive_will_refuse_may_be_kept_back(up: Uploads) -> None:
    names = up.write("a.wav", "b.mp3", "c.mp3")
    rows = up.rows(names, sniffed_type=["audio/x-wav", "audio/mpeg", None])
    result = up.upload(rows, skip_likely_refused=True)
    assert reasons(result) == ["likely_refused", None, None]
    assert "audio/x-wav" in details(result)[0]
    assert len(up.archive.songs()) == 2


def test_what_the_archive_refuses_keeps_its_words_and_is_not_sent_again(up: Uploads) -> None:
    (up.root / "a.mp3").write_bytes(b"%PDF-1.7\n" + bytes(100))
    names = ["a.mp3", *up.write("b.mp3")]
    rows = up.rows(names, sniffed_type=["application/pdf", "audio/mpeg"])
    result = up.upload(rows)
    assert reasons(result) == ["refused", None]
    assert "422" in details(result)[0] and "must be an audio file" in details(result)[0]
    up.archive.counters.reset()
    second = up.upload(rows)
    assert (reasons(second), details(second)) == (reasons(result), details(result))
    assert up.count("requests") == {}
    up.ledger.forget_refusals()
    assert reasons(up.upload(rows)) == ["refused", None]
    assert "bulk_upload 422" in up.count("statuses") or "create_from_blob 422" in up.count("statuses")


def test_a_song_that_could_not_be_processed_is_there_and_reported(up: Uploads) -> None:
    endpoint = "create_from_blob" if up.archive.state.direct_upload else "bulk_upload"
    up.archive.faults.add(Fault(endpoint, Action.PROCESSING_FAILS))
    names = up.write("a.mp3")
    for outcome in ("inserted", "existing"):
        result = up.upload(names)
        assert outcomes(result) == [outcome]
        [error] = result.outcomes["processing_error"].to_pylist()
        assert "could not process the file" in error
    assert len(up.archive.songs()) == 1


# Albums


def album_rows(up: Uploads, albums: list[str]) -> tuple[Any, list[int]]:
    names = up.many(len(albums))
    leaders: dict[str, int] = {}
    waits_for = [leaders.setdefault(album, n) for n, album in enumerate(albums)]
    return up.rows(names, album=albums), [FREE if n == leader else leader for n, leader in enumerate(waits_for)]


def test_an_albums_first_track_is_there_before_the_others_begin(up: Uploads) -> None:
    rows, waits_for = album_rows(up, ["A", "A", "A", "A", "B", "B"] * 5)
    endpoint = "create_from_blob" if up.archive.state.direct_upload else "bulk_upload"
    up.archive.faults.add(Fault(endpoint, Action.HOLD, times=2))
    thread = threading.Thread(target=up.upload, args=(rows,), kwargs={"waits_for": waits_for})
    thread.start()
    while up.count("requests").get(endpoint, 0) < 2:
        pass
    assert not up.archive.songs()
    begun = up.count("requests")
    assert begun.get("direct_upload", 0) + begun.get("bulk_upload", 0) == 3  # one of them asks for the strategy
    up.archive.faults.release()
    thread.join()
    songs = up.archive.songs()
    assert len(songs) == 30
    assert len({song["album_id"] for song in songs}) == 2


def test_when_the_first_track_is_refused_the_next_one_leads(up: Uploads) -> None:
    rows, waits_for = album_rows(up, ["A"] * 6)
    (up.root / "song 0000.mp3").write_bytes(b"%PDF-1.7\n" + bytes(100))
    rows = up.rows([f"song {n:04d}.mp3" for n in range(6)], album=["A"] * 6)
    endpoint = "create_from_blob" if up.archive.state.direct_upload else "bulk_upload"
    up.archive.faults.add(Fault(endpoint, Action.HOLD, nth=2))
    results = []
    thread = threading.Thread(target=lambda: results.append(up.upload(rows, waits_for=waits_for)))
    thread.start()
    while up.count("requests").get(endpoint, 0) < 2:
        pass
    assert not up.archive.songs()
    up.archive.faults.release()
    thread.join()
    assert outcomes(results[0]) == ["rejected"] + ["inserted"] * 5


@pytest.mark.parametrize("first", ["rejected before", "existing", "a copy of another", "refused before"])
def test_albums_are_complete_whatever_their_first_track_is(up: Uploads, first: str) -> None:
    rows, waits_for = album_rows(up, ["A"] * 6)
    reason: list[str | None] = [None] * 6
    if first == "rejected before":
        reason[0] = "unreadable_file"
    elif first == "existing":
        up.upload(["song 0000.mp3"])
    elif first == "a copy of another":
        shutil.copyfile(up.root / "song 0003.mp3", up.root / "song 0000.mp3")
    else:
        (up.root / "song 0000.mp3").write_bytes(b"%PDF-1.7\n" + bytes(100))
        up.upload(["song 0000.mp3"])
    rows = up.rows([f"song {n:04d}.mp3" for n in range(6)], album=["A"] * 6, reason=reason)
    result = up.upload(rows, waits_for=waits_for)
    assert result.counts.read == 6
    assert result.counts.inserted == 5
    assert len({song["checksum"] for song in up.archive.songs()}) == len(up.archive.songs())


# Looking up


def test_songs_that_others_uploaded_are_found_when_asked_for(up: Uploads, tmp_path: Path) -> None:
    names = up.write("Some title 100%.mp3", "a\\b_c.mp3", "three.mp3")
    up.upload(names)
    (up.folder / "state.sqlite").unlink()
    up.write("four.mp3")
    up.archive.counters.reset()
    result = up.upload([*names, "four.mp3"], look_up_remote=True)
    assert outcomes(result) == ["existing"] * 3 + ["inserted"]
    assert result.sent_bytes == 3_000
    assert outcomes(up.upload(names)) == ["existing"] * 3
    assert len(up.archive.songs()) == 4


def test_a_song_of_the_same_title_is_not_the_same_song(up: Uploads) -> None:
    names = up.write("a/Intro.mp3", "b/Intro.mp3", "c/Intro.mp3")
    up.upload(names[:2])
    result = up.upload(names, look_up_remote=True)
    assert outcomes(result) == ["existing", "existing", "inserted"]


# Many at once


class _Heard(Progress):
    def __init__(self) -> None:
        self.last: tuple[str, int, int | None] | None = None

    def advance(self, step: str, done: int, total: int | None) -> None:
        assert self.last is None or done == self.last[1] + 1
        self.last = (step, done, total)


def test_progress_is_heard_row_by_row(up: Uploads) -> None:
    heard = _Heard()
    up.upload(up.many(12), progress=heard)
    assert heard.last == ("upload", 12, 12)


def test_there_are_never_more_at_once_than_the_cap(up: Uploads) -> None:
    up.archive.faults.add(Fault("*", Action.DELAY, times=None, seconds=0.005))
    result = up.upload(up.many(60, size=500), concurrency_cap=5)
    assert result.counts.inserted == 60
    assert up.archive.counters.snapshot()["most_at_once"] <= 5
    assert 1 <= result.window <= 5


def test_two_runs_of_the_same_files_at_once_make_one_song_of_each(up: Uploads) -> None:
    names = up.many(30, size=500)
    up.archive.faults.add(Fault("*", Action.DELAY, times=None, seconds=0.003))
    results = []
    threads = [threading.Thread(target=lambda: results.append(up.upload(names))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.counts.read for result in results] == [30] * 3
    assert sum(result.counts.inserted for result in results) == 30
    assert sum(result.counts.rejected for result in results) == 0
    up.assert_holds(names)
    assert sum(up.count("received_bytes").values()) == 30 * 500
    assert not [path for path in up.folder.iterdir() if "uploader" in path.name]


def test_a_stop_finishes_what_was_begun_and_begins_nothing_more(up: Uploads) -> None:
    names = up.many(40, size=500)
    stop = threading.Event()

    class StopAtTen(_Heard):
        def advance(self, step: str, done: int, total: int | None) -> None:
            if done == 10:
                stop.set()

    result = up.upload(names, stop=stop, progress=StopAtTen())
    assert result.stopped
    assert 10 <= result.counts.inserted < 40
    assert result.counts.read == result.outcomes.num_rows == len(up.archive.songs())
    assert set(up.ledger.count()) == {"created"}
    up.upload(names)
    up.assert_holds(names)
    assert sum(up.count("received_bytes").values()) == 40 * 500


# Files


def test_files_that_cannot_be_sent_do_not_stop_the_others(up: Uploads, tmp_path: Path) -> None:
    # The archive is a process of its own here, as this one becomes nobody.
    with open_folder() as folder, archive_process(tmp_path / "process") as process:
        (folder / "music").mkdir()
        here = Uploads(up.archive, process.url, folder)
        names = here.write("good.mp3", "gone.mp3", "secret.mp3", "folder.mp3", "outside.mp3", "empty.mp3", "pipe.mp3")
        rows = here.rows(names)
        (here.root / "gone.mp3").unlink()
        (here.root / "secret.mp3").chmod(0)
        (here.root / "folder.mp3").unlink()
        (here.root / "folder.mp3").mkdir()
        outside = folder / "outside.mp3"
        (here.root / "outside.mp3").rename(outside)
        (here.root / "outside.mp3").symlink_to(outside)
        (here.root / "empty.mp3").write_bytes(b"")
        (here.root / "pipe.mp3").unlink()
        os.mkfifo(here.root / "pipe.mp3")
        ledger = here.ledger
        ledger.count()
        for path in (folder, *folder.iterdir()):
            path.chmod(0o777)
        with nobody():
            result = here.upload(rows)
        (here.root / "secret.mp3").chmod(0o600)
        again = here.upload(["secret.mp3"])
    assert outcomes(again) == ["inserted"]
    assert reasons(result) == [
        None,
        *(Reason.MISSING_FILE, Reason.UNREADABLE_FILE, Reason.NOT_A_FILE, Reason.OUTSIDE_LIBRARY),
        *(Reason.EMPTY_FILE, Reason.NOT_A_FILE),
    ]


@pytest.mark.parametrize("change", ["longer", "shorter", "touched"])
def test_a_file_that_changed_since_it_was_hashed_is_not_sent(up: Uploads, change: str) -> None:
    names = up.write("a.mp3", "b.mp3")
    rows = up.rows(names)
    content = (up.root / "a.mp3").read_bytes()
    changed = {"longer": content + b"x", "shorter": content[:-1], "touched": content}[change]
    (up.root / "a.mp3").write_bytes(changed)
    result = up.upload(rows)
    assert reasons(result) == ["changed_while_reading", None]
    assert result.sent_bytes == 3_000
    assert outcomes(up.upload(names)) == ["inserted", "existing"]


def test_bytes_that_changed_behind_the_same_time_and_size_are_found_on_their_way(up: Uploads) -> None:
    names = up.write("a.mp3", "b.mp3", size=400_000)
    rows = up.rows(names)
    status = (up.root / "a.mp3").stat()
    (up.root / "a.mp3").write_bytes(song_bytes("other", 400_000))
    os.utime(up.root / "a.mp3", ns=(status.st_atime_ns, status.st_mtime_ns))
    result = up.upload(rows)
    assert reasons(result) == ["changed_while_reading", None]
    assert len(up.archive.songs()) == 1
    assert outcomes(up.upload(names)) == ["inserted", "existing"]
    up.assert_holds(names)
