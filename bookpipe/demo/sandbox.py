"""Throw-away targets: an embedded PostgreSQL with an empty MyBookshelf2 and Koito, and a home for Dagster.

<directory>/server           the database server
<directory>/data             MyBookshelf2's data directory
<directory>/koito/koito.db   Koito's database, of the flavour on SQLite
<directory>/home             DAGSTER_HOME
"""

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from bookpipe.demo import embedded_server
from bookpipe.demo.koito_database import create_koito_postgres, create_koito_sqlite
from bookpipe.demo.mybookshelf2_database import create_mybookshelf2
from bookpipe.model.errors import ConfigError

DATA_FOLDERS = ("books", "thumbs", "uploads", "converted")


@dataclass(frozen=True)
class Sandbox:
    """The sandbox of a directory, running or not."""

    directory: Path

    @property
    def server(self) -> Path:
        return self.directory / "server"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def koito(self) -> Path:
        return self.directory / "koito" / "koito.db"

    @property
    def home(self) -> Path:
        return self.directory / "home"

    def start(self, *, fresh: bool = False) -> dict[str, str]:
        """Start it, made anew when `fresh` or not there yet; the environment that leads to it."""
        if fresh:
            self.delete()
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in DATA_FOLDERS:
            (self.data / name).mkdir(parents=True, exist_ok=True)
        self.home.mkdir(parents=True, exist_ok=True)
        info = embedded_server.start_server(self.server)
        create_mybookshelf2(info.superuser_url)
        self.koito.parent.mkdir(exist_ok=True)
        create_koito_sqlite(self.koito)
        create_koito_postgres(info.superuser_url)
        return self.environment()

    def stop(self) -> bool:
        """Stop the server; what is in it stays. False when it did not run."""
        return embedded_server.stop_server(self.server)

    def delete(self) -> None:
        """Stop the server and remove everything."""
        embedded_server.delete_server(self.server)
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def environment(self) -> dict[str, str]:
        """The settings that lead bookpipe and Dagster here. ConfigError when it does not run."""
        info = self._info()
        return {
            "BOOKPIPE_MYBOOKSHELF2_URL": info.url("mybookshelf2", "ebooks", "ebooks"),
            "BOOKPIPE_MYBOOKSHELF2_DATA_DIR": str(self.data.absolute()),
            "BOOKPIPE_KOITO_URL": f"sqlite:///{self.koito.absolute()}",
            "DAGSTER_HOME": str(self.home.absolute()),
        }

    def koito_postgres_url(self) -> str:
        """The URL of the Koito whose database is on PostgreSQL. ConfigError when the sandbox does not run."""
        return self._info().url("koito", "koito", "koito")

    def _info(self) -> embedded_server.ServerInfo:
        info = embedded_server.server_info(self.server)
        if info is None:
            raise ConfigError(f"No sandbox runs in {self.directory}: `bookpipe sandbox start` starts one.")
        return info


def shell_lines(environment: dict[str, str]) -> str:
    """NAME=value lines, quoted for a shell and for .env."""
    return "\n".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
