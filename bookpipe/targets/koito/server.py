"""A Koito installation: which flavour of database it has, and how to read it and write into it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bookpipe.model.errors import ConfigError
from bookpipe.model.secrets import Secret
from bookpipe.targets import postgres, sqlite
from bookpipe.targets.koito import tables
from bookpipe.targets.koito.database import Database
from bookpipe.targets.koito.journal import Journal
from bookpipe.targets.koito.lookup_cache import LookupCache
from bookpipe.targets.koito.postgres import PostgresDatabase
from bookpipe.targets.koito.sqlite import SqliteDatabase
from bookpipe.targets.koito.writer import Reader, Writer

SETTING = "BOOKPIPE_KOITO_URL"
# A chunk is about this many pages: SQLite empties its log after every fourth chunk or so instead of after each.
_LOG_PAGES = 4000


@dataclass(frozen=True)
class Koito:
    """Where the installation is and how to write into it. Opens nothing by itself; made by `open_koito`."""

    url: Secret
    user_id: int = 1
    lookup_cache: bool = True
    busy_timeout_s: float = sqlite.BUSY_TIMEOUT_S
    path: Path | None = field(init=False)  # of the SQLite file; None: it is PostgreSQL

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", _file_of(self.url.reveal()))

    @property
    def flavour(self) -> str:
        """ "sqlite" or "postgresql"."""
        return PostgresDatabase.flavour if self.path is None else SqliteDatabase.flavour

    @contextmanager
    def open(self, *, write: bool) -> Iterator[Database]:
        """The database, unchecked. Closed at the end."""
        if self.path is None:
            with closing(postgres.connect(self.url, SETTING)) as server:
                yield PostgresDatabase(server)
        else:
            with closing(sqlite.open_file(self.path, SETTING, write=write, busy_timeout_s=self.busy_timeout_s)) as file:
                if write:
                    file.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
                    file.execute("PRAGMA cache_size = -65536")
                yield SqliteDatabase(file, self.path)

    @contextmanager
    def connect(self) -> Iterator["Session"]:
        """A connection to a checked database, for many chunks. Bookpipe's own tables are made if missing."""
        with self.open(write=True) as database:
            tables.check_schema(database)
            tables.check_user(database, self.user_id)
            session = Session(database, self)
            session.create_own_tables()
            yield session

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """One transaction that sees one state of a checked database. Nothing is written, and nothing left behind."""
        with self.open(write=False) as database, database.reading():
            tables.check_schema(database)
            tables.check_user(database, self.user_id)
            cache = LookupCache(database, self.user_id) if self.lookup_cache else None
            yield Reader(database, self.user_id, cache if cache and cache.exists() else None)


class Session:
    """An open connection that writes chunk after chunk."""

    def __init__(self, database: Database, koito: Koito) -> None:
        self.database = database
        self.journal = Journal(database)
        self.cache = LookupCache(database, koito.user_id) if koito.lookup_cache else None
        self._user_id = koito.user_id

    def create_own_tables(self) -> None:
        missing = [kept for kept in (self.journal, self.cache) if kept is not None and not kept.exists()]
        if missing:
            with self.database.writing():
                for kept in missing:
                    kept.create()

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """The transaction of one chunk: commits at a normal end, and leaves nothing otherwise.

        Raises TransientError when other writers do not let us in for long.
        """
        with self.database.writing():
            yield Writer(self.database, self._user_id, self.cache, self.journal)


def open_koito(url: Secret | str, *, user_id: int = 1, lookup_cache: bool = True) -> Koito:
    """The installation whose database is at `url`: sqlite:////absolute/path/koito.db or postgresql://...

    `user_id` is whose listens are loaded. ConfigError for any other URL; nothing is opened yet.
    """
    return Koito(url if isinstance(url, Secret) else Secret(url), user_id, lookup_cache)


def _file_of(url: str) -> Path | None:
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        if path.is_absolute():
            return path
    elif url.startswith(("postgresql://", "postgres://")):
        return None
    raise ConfigError(  # without the URL, which may hold a password
        f"{SETTING} is no address of a Koito database. It must read sqlite:////absolute/path/koito.db (four slashes) "
        "or postgresql://user:password@host:5432/database."
    )
