"""A MyBookshelf2 installation: its database and its book folder."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import errors

from bookpipe.model.secrets import Secret
from bookpipe.targets import postgres
from bookpipe.targets.mybookshelf2 import tables
from bookpipe.targets.mybookshelf2.journal import Journal
from bookpipe.targets.mybookshelf2.load import LOADER_LOCK, SHORT_WAIT, Writer
from bookpipe.targets.mybookshelf2.storage import BookFolder, parse_link_prefix
from bookpipe.targets.postgres import Connection, translating


@dataclass(frozen=True)
class MyBookshelf2:
    """Where the installation is and how to write into it. Opens nothing by itself."""

    url: Secret
    data_dir: Path
    user: str = "admin"
    file_mode: str = "symlink"
    link_prefix: str = ""
    create_indexes: bool = True
    folder: BookFolder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        folder = BookFolder(self.data_dir, self.file_mode, parse_link_prefix(self.link_prefix))
        object.__setattr__(self, "folder", folder)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """An autocommit connection, closed at the end."""
        with closing(postgres.connect(self.url, "BOOKPIPE_MYBOOKSHELF2_URL")) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[tuple[Connection, Journal | None]]:
        """A connection to a checked database, and its journal if there is one. Writes nothing."""
        with self.connect() as connection:
            tables.check_schema(connection)
            tables.prefer_indexes(connection)
            rights = tables.find_rights(connection)
            journal = Journal(connection, rights) if rights.journal else None
            with translating("looking for the journal"):
                yield connection, journal if journal and journal.exists() else None

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """A writer, once every other loader of this database is done. Journal and indexes are made if missing."""
        self.folder.check()
        with self.connect() as connection:
            tables.check_schema(connection)
            user_id = tables.find_user(connection, self.user)
            rights = tables.find_rights(connection)
            _wait_for_other_loaders(connection)
            with self.folder.locked():
                journal = Journal(connection, rights)
                journal.create()
                if self.create_indexes and rights.may_index:
                    tables.create_indexes(connection)
                tables.prefer_indexes(connection)
                yield Writer(connection, journal, self.folder, rights, user_id)


def _wait_for_other_loaders(connection: Connection) -> None:
    """Take the loader lock. A session lock: it ends with the connection, however this process ends.

    Waits are short, one after the other: a statement that waits holds a snapshot, and a loader that is making
    indexes waits until all older snapshots are gone. One long wait would be a deadlock of the two.
    """
    with translating("waiting for other loaders"):
        connection.execute(f"SET lock_timeout = '{SHORT_WAIT}'".encode())
        while True:
            with suppress(errors.LockNotAvailable):
                connection.execute("SELECT pg_advisory_lock(%s)", (LOADER_LOCK,))
                break
        connection.execute("RESET lock_timeout")
