"""The music archive's endpoints over a real Active Storage, run by puma as a process of its own."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bookpipe.demo.music_archive import PASSWORD

_APPLICATION = Path(__file__).with_name("archive.ru")
_LISTENING = "* Listening on "
_START_SECONDS, _STOP_SECONDS = 60.0, 20.0
_GEMS = "require 'rails'; require 'active_storage'; require 'sqlite3'; exit(Rails.version.start_with?('6.1') ? 0 : 1)"


def why_unavailable() -> str | None:
    """What is missing on this machine, None when the server can be started."""
    for program in ("ruby", "puma"):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install ruby-rails ruby-sqlite3 puma"
    found = subprocess.run(["ruby", "-W0", "-e", _GEMS], capture_output=True, text=True, check=False)
    if found.returncode:
        return "Rails 6.1 with Active Storage and sqlite3 is not installed: apt-get install ruby-rails ruby-sqlite3"
    return None


def available() -> bool:
    """Whether the server can be started here."""
    return why_unavailable() is None


@contextmanager
def rails_server(directory: Path, *, direct_upload: bool = False, threads: int = 3) -> Iterator[str]:
    """Start it in `directory`; its URL. RuntimeError, with the end of its log, when it does not start."""
    directory.mkdir(parents=True, exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("BUNDLE", "RUBY", "DATABASE"))},
        "RAILS_ENV": "production",
        "RUBYOPT": "-W0",
        "ARCHIVE_DIRECTORY": str(directory),
        "ARCHIVE_PASSWORD": PASSWORD,
        "ARCHIVE_DIRECT_UPLOAD": "1" if direct_upload else "0",
    }
    # Puma chooses the port and says which, so that nobody can take it in between.
    bound = ["--bind", "tcp://127.0.0.1:0", "--threads", f"{threads}:{threads}", "--config", "-"]
    with (directory / "server.log").open("w") as log:
        process = subprocess.Popen(
            ["puma", *bound, "--environment", "production", str(_APPLICATION)],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, "")
        url = next((line.partition(_LISTENING)[2].strip() for line in lines if _LISTENING in line), None)
        if url is None or httpx.get(f"{url}/up", trust_env=False, timeout=_START_SECONDS).status_code != 200:
            said = (directory / "server.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the Rails application did not start; its log ends with:\n{said}")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
