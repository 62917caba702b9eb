"""The state file: what is saved is there again, for everybody at once, and trouble with it is explained."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.model.errors import BookpipeError, ConfigError, TransientError
from bookpipe.model.rejections import Reason, Rejection
from bookpipe.runtime.state import Digest, State
from bookpipe_tests.unprivileged import nobody, open_folder

SHA1 = "0" * 40


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "new" / "folders" / "state.sqlite")


def rejections(state: State, **which: str) -> list[tuple[str, str, str, str, str]]:
    return list(state.list_rejections(**which))


def test_a_new_state_knows_nothing(state: State) -> None:
    assert state.load_digests("any") == {}
    assert rejections(state) == []


@given(
    st.dictionaries(
        st.binary(),
        st.builds(
            Digest,
            st.integers(0, 2**63 - 1),
            st.integers(-(2**63) + 1, 2**63 - 1),
            st.just(SHA1),
            st.none() | st.sampled_from(["epub", "fb2.zip"]),
        ),
    )
)
def test_digests_come_back_as_they_were_saved(
    tmp_path_factory: pytest.TempPathFactory, digests: dict[bytes, Digest]
) -> None:
    state = State(tmp_path_factory.mktemp("state") / "state.sqlite")
    state.save_digests("a", digests.items())
    state.close()
    assert State(state.path).load_digests("a") == digests
    assert state.load_digests("b") == {}


def test_a_later_digest_replaces_the_earlier_one(state: State) -> None:
    state.save_digests("a", [(b"x", Digest(1, 1, SHA1, None)), (b"y", Digest(1, 1, SHA1, None))])
    state.save_digests("a", [(b"x", Digest(2, 2, SHA1, "epub"))])
    assert state.load_digests("a") == {b"x": Digest(2, 2, SHA1, "epub"), b"y": Digest(1, 1, SHA1, None)}


@pytest.mark.parametrize("mtime_ns", [2**63, -(2**63) - 1, 2**70])
def test_a_time_that_sqlite_cannot_hold_is_not_remembered(state: State, mtime_ns: int) -> None:
    state.save_digests("a", [(b"x", Digest(1, mtime_ns, SHA1, None)), (b"y", Digest(1, 1, SHA1, None))])
    assert list(state.load_digests("a")) == [b"y"]


def test_rejections_are_those_of_the_latest_load(state: State) -> None:
    state.replace_rejections(
        "p", "1", [Rejection("k1", Reason.MISSING_FILE), Rejection("k2", Reason.EMPTY_FILE, "why")]
    )
    state.replace_rejections("p", "2", [Rejection("k3", Reason.MISSING_FILE)])
    state.replace_rejections("q", "1", [Rejection("k4", Reason.BAD_PATH)])
    assert rejections(state) == [
        ("p", "1", "k1", "missing_file", ""),
        ("p", "1", "k2", "empty_file", "why"),
        ("p", "2", "k3", "missing_file", ""),
        ("q", "1", "k4", "bad_path", ""),
    ]
    state.replace_rejections("p", "1", [Rejection("k5", Reason.TOO_LARGE)])
    state.replace_rejections("p", "2", [])
    assert rejections(state, pipeline="p") == [("p", "1", "k5", "too_large", "")]
    assert rejections(state, pipeline="q", partition="1") == [("q", "1", "k4", "bad_path", "")]


def test_rejections_keep_their_order_and_can_be_chosen(state: State) -> None:
    many = [Rejection(f"key {n}", Reason.BAD_PATH if n % 3 else Reason.NOT_A_FILE, f"{n}") for n in range(1000)]
    state.replace_rejections("p", "1", many)
    assert [(key, detail) for _, _, key, _, detail in rejections(state)] == [(r.key, r.detail) for r in many]
    assert len(rejections(state, reason="not_a_file")) == 334
    assert rejections(state, reason="not_a_file", partition="2") == []


def test_the_same_key_may_be_rejected_twice(state: State) -> None:
    twice = [Rejection("same", Reason.BAD_PATH), Rejection("same", Reason.BAD_PATH)]
    state.replace_rejections("p", "1", twice)
    assert len(rejections(state)) == 2


def test_rejections_can_be_replaced_while_they_are_listed(state: State) -> None:
    state.replace_rejections("p", "1", [Rejection(f"{n}", Reason.BAD_PATH) for n in range(500)])
    listing = state.list_rejections()
    next(listing)
    other = threading.Thread(target=state.replace_rejections, args=("p", "1", []))
    other.start()
    other.join()
    assert sum(1 for _ in listing) == 499
    assert rejections(state) == []


def test_a_failed_save_changes_nothing(state: State) -> None:
    state.save_digests("a", [(b"x", Digest(1, 1, SHA1, None))])
    with pytest.raises(ConfigError):
        state.save_digests("a", [(b"x", Digest(9, 9, SHA1, None)), (b"y", Digest(1, 1, None, None))])  # type: ignore[arg-type]
    assert state.load_digests("a") == {b"x": Digest(1, 1, SHA1, None)}
    state.save_digests("a", [(b"y", Digest(2, 2, SHA1, None))])
    assert len(state.load_digests("a")) == 2


_WRITER = """
import sys
from pathlib import Path
from bookpipe.runtime.state import Digest, State
state = State(Path(sys.argv[1]))
for n in range(20):
    state.save_digests(sys.argv[2], [(b"%d" % (n * 50 + i), Digest(n, i, "0" * 40, None)) for i in range(50)])
"""


def test_processes_share_a_new_state_file(state: State) -> None:
    scopes = ["a", "b", "c", "d", "common", "common"]
    command = [sys.executable, "-c", _WRITER, str(state.path)]
    writers = [subprocess.Popen([*command, scope]) for scope in scopes]
    assert [writer.wait() for writer in writers] == [0] * len(scopes)
    assert [len(state.load_digests(scope)) for scope in scopes] == [1000] * len(scopes)


def test_every_thread_may_use_one_state(state: State) -> None:
    def save(n: int) -> None:
        state.save_digests("a", [(b"%d" % n, Digest(n, n, SHA1, None))])
        state.close()

    threads = [threading.Thread(target=save, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(state.load_digests("a")) == 8


def test_a_lost_state_file_only_loses_what_was_known(state: State) -> None:
    state.save_digests("a", [(b"x", Digest(1, 1, SHA1, None))])
    state.close()
    state.path.unlink()
    assert state.load_digests("a") == {}
    state.save_digests("a", [(b"x", Digest(1, 1, SHA1, None))])


def _corrupt_header(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 1000)


def _corrupt_pages(path: Path) -> None:
    state = State(path)
    state.save_digests("a", [(b"%d" % n, Digest(1, 1, SHA1, None)) for n in range(2000)])
    state.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))


def _folder_in_its_place(path: Path) -> None:
    path.mkdir()


def _other_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE digest (something TEXT)")


@pytest.mark.parametrize("spoil", [_corrupt_header, _corrupt_pages, _folder_in_its_place, _other_table])
def test_a_spoilt_state_file_is_explained_with_a_remedy(tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "state.sqlite"
    assert callable(spoil)
    spoil(path)
    state = State(path)
    for use in (lambda: state.load_digests("a"), lambda: state.save_digests("a", [(b"x", Digest(1, 1, SHA1, None))])):
        with pytest.raises(ConfigError) as caught:
            use()
        assert str(path) in str(caught.value)
        assert "may be deleted" in str(caught.value)


def test_a_file_in_the_place_of_its_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="BOOKPIPE_STATE_URL"):
        State(tmp_path / "file" / "state.sqlite").load_digests("a")


def test_a_state_file_that_may_not_be_written_is_explained() -> None:
    with open_folder() as folder:
        state = State(folder / "state.sqlite")
        state.save_digests("a", [(b"x", Digest(1, 1, SHA1, None))])
        state.close()
        state.path.chmod(0o444)
        folder.chmod(0o555)
        with nobody():
            with pytest.raises(ConfigError, match="writable"):
                State(folder / "state.sqlite").save_digests("a", [(b"y", Digest(1, 1, SHA1, None))])
            with pytest.raises(ConfigError, match="writable"):
                State(folder / "no" / "state.sqlite").load_digests("a")
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("database is locked", TransientError),
        ("database or disk is full", TransientError),
        ("disk I/O error", TransientError),
        ("file is not a database", ConfigError),
        ("attempt to write a readonly database", ConfigError),
    ],
)
def test_trouble_that_passes_is_transient(state: State, message: str, kind: type[BookpipeError]) -> None:
    with pytest.raises(kind) as caught, state.writing():
        raise sqlite3.OperationalError(message)
    assert type(caught.value) is kind


def test_closing_twice_is_harmless_and_a_closed_state_opens_again(state: State) -> None:
    state.close()
    state.save_digests("a", [(b"x", Digest(1, 1, SHA1, None))])
    state.close()
    state.close()
    assert len(state.load_digests("a")) == 1
    assert os.path.exists(state.path)


def test_a_dry_run_knows_the_digests_of_loads_and_adds_none(state: State) -> None:
    dry = State(state.path, read_only=True)
    dry.save_digests("a", [(b"new", Digest(1, 2, SHA1, None))])
    assert not state.path.exists()
    dry.close()
    state.save_digests("a", [(b"old", Digest(3, 4, SHA1, None))])
    dry.save_digests("a", [(b"new", Digest(1, 2, SHA1, None))])
    assert dry.load_digests("a") == state.load_digests("a") == {b"old": Digest(3, 4, SHA1, None)}
