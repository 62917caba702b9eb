"""Running an archive behind a real socket: in a thread of this process, or as a process of its own."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import uvicorn

from bookpipe.demo.music_archive.app import MusicArchive
from bookpipe.model.errors import ConfigError

_HOST = "127.0.0.1"
_STOP_SECONDS = 10.0


def make_server(archive: MusicArchive, listener: socket.socket) -> tuple[uvicorn.Server, str]:
    """A server that is not yet running, for a socket that is bound, and its URL."""
    config = uvicorn.Config(
        archive,
        http=archive.connections.protocol_class(),
        lifespan="off",
        ws="none",
        proxy_headers=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    address, port = listener.getsockname()[:2]
    return uvicorn.Server(config), f"http://{address}:{port}"


def bound_socket(port: int = 0) -> socket.socket:
    """A socket on `port` of this machine's own address, or on any free one. Raises ConfigError when it is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"{_HOST}:{port} cannot be used: {error.strerror}; choose another port") from error
    return listener


@contextmanager
def serve(archive: MusicArchive, *, port: int = 0) -> Iterator[str]:
    """Serve `archive` from a thread; its URL. Ends without waiting for clients."""
    with bound_socket(port) as listener:
        server, url = make_server(archive, listener)
        listener.listen(128)  # clients may connect from now on; they wait for the thread
        thread = threading.Thread(target=server.run, args=([listener],), name="music archive", daemon=True)
        thread.start()
        try:
            yield url
        finally:
            archive.faults.clear()
            server.should_exit = True
            archive.restart()
            thread.join(_STOP_SECONDS)


@dataclass(frozen=True)
class ArchiveProcess:
    """An archive in a process of its own."""

    url: str
    process: "subprocess.Popen[str]"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """End it at once, as the kernel does when memory is short. What it answered is kept."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


def start_process(directory: Path, *options: str, port: int = 0) -> ArchiveProcess:
    """`python -m bookpipe.demo.music_archive` with these options, as soon as it says its URL. ConfigError if not."""
    module = "bookpipe.demo.music_archive"
    command = [sys.executable, "-m", module, "--directory", str(directory), "--port", str(port), *options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    url = _first_line(process.stdout)
    if not url.startswith("http"):
        process.kill()
        process.wait()
        raise ConfigError(f"no archive could be started in {directory}; see what it said on standard error")
    return ArchiveProcess(url, process)


def _first_line(output: IO[str] | None) -> str:
    return "" if output is None else output.readline().strip()


@contextmanager
def archive_process(directory: Path, *options: str, port: int = 0) -> Iterator[ArchiveProcess]:
    """start_process, and its end."""
    started = start_process(directory, *options, port=port)
    try:
        yield started
    finally:
        started.stop()
        if started.process.stdout is not None:
            started.process.stdout.close()
