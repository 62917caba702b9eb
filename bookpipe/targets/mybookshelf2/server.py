"""A MyBookshelf2 installation: its database and its book folder."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import errors

from bookpipe.model.secrets import Secret
from bookpipe.targets import postgres
from bookpipe.targets.mybookshelf2 import tables
from bookpipe.targets.mybookshelf2.files import parse_link_prefix
from bookpipe.targets.mybookshelf2.journal import Journal
from bookpipe.targets.mybookshelf2.load import LOADER_LOCK, Writer
from bookpipe.targets.mybookshelf2.storage import BookFolder
from bookpipe.targets.mybookshelf2.tables import Rights
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
    def session(self) -> Iterator["Session"]:
        """Reading and writing again and again, on connections that are made and checked once."""
        with closing(Session(self)) as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[tuple[Connection, Journal | None]]:
        """A connection to a checked database, and its journal if there is one. Writes nothing."""
        with self.session() as session, session.reading() as found:
            yield found

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """A writer, once every other loader of this database is done. Journal and indexes are made if missing."""
        with self.session() as session, session.writing() as writer:
            yield writer


@dataclass
class _Checked:
    """A connection to a database that is MyBookshelf2's."""

    connection: Connection
    rights: Rights
    user_id: int = 0
    prepared: bool = False  # journal and indexes are there


class Session:
    """Two connections to an installation, one to read and one to write, made when they are first needed.

    One thread may read while another writes. A connection is given up when the block that uses it fails.
    """

    def __init__(self, target: MyBookshelf2) -> None:
        self.target = target
        self._reader: _Checked | None = None
        self._writer: _Checked | None = None

    def close(self) -> None:
        """Close the connections. The session may be used again."""
        for checked in (self._reader, self._writer):
            if checked is not None:
                checked.connection.close()
        self._reader = self._writer = None

    def _connect(self) -> _Checked:
        connection = postgres.connect(self.target.url, "BOOKPIPE_MYBOOKSHELF2_URL")
        try:
            tables.check_schema(connection)
            return _Checked(connection, tables.find_rights(connection))
        except BaseException:
            connection.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[tuple[Connection, Journal | None]]:
        """A connection to a checked database, and its journal if there is one. Writes nothing."""
        if self._reader is None:
            self._reader = self._connect()
            tables.prefer_indexes(self._reader.connection)
        connection, rights = self._reader.connection, self._reader.rights
        try:
            journal = Journal(connection, rights) if rights.journal else None
            with translating("looking for the journal"):
                yield connection, journal if journal and journal.exists() else None
        except BaseException:
            self._reader = None
            connection.close()
            raise

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """A writer, once every other loader of this database is done. Journal and indexes are made if missing."""
        folder = self.target.folder
        folder.check()
        checked = self._lock()
        connection = checked.connection
        try:
            with folder.locked():
                journal = Journal(connection, checked.rights)
                if not checked.prepared:
                    journal.create()
                    if self.target.create_indexes and checked.rights.may_index:
                        tables.create_indexes(connection)
                    tables.prefer_indexes(connection)
                    checked.prepared = True
                yield Writer(connection, journal, folder, checked.rights, checked.user_id)
        except BaseException:
            self._writer = None
            connection.close()
            raise
        try:
            connection.execute("SELECT pg_advisory_unlock(%s)", (LOADER_LOCK,))
        except psycopg.Error:  # the lock ends with the connection
            self._writer = None
            connection.close()

    def _lock(self) -> _Checked:
        """The writing connection with the loader lock. One that was lost since its last use is made anew."""
        if self._writer is not None:
            try:
                _wait_for_other_loaders(self._writer.connection)
                return self._writer
            except BaseException as error:
                self._writer.connection.close()
                self._writer = None
                if not isinstance(error.__cause__, errors.OperationalError):
                    raise
        checked = self._connect()
        try:
            checked.user_id = tables.find_user(checked.connection, self.target.user)
            _wait_for_other_loaders(checked.connection)
        except BaseException:
            checked.connection.close()
            raise
        self._writer = checked
        return checked


def _wait_for_other_loaders(connection: Connection) -> None:
    """Take the loader lock. A session lock: it ends with the connection, however this process ends.

    Waits are short, one after the other: a statement that waits holds a snapshot, and a loader that is making
    indexes waits until all older snapshots are gone. One long wait would be a deadlock of the two.
    """
    with translating("waiting for other loaders"):
        connection.execute(f"SET lock_timeout = '{postgres.SHORT_WAIT}'".encode())
        while True:
            with suppress(errors.LockNotAvailable):
                connection.execute("SELECT pg_advisory_lock(%s)", (LOADER_LOCK,))
                break
        connection.execute("RESET lock_timeout")
