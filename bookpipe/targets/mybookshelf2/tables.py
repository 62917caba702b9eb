"""The tables of MyBookshelf2 a loader touches, and whether a database has them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import errors

from bookpipe.model.errors import ConfigError
from bookpipe.targets.postgres import Connection, translating

DB_VERSION = 2

# Columns a load reads or writes. A database that lacks one is not MyBookshelf2's, or of another version.
COLUMNS = {
    "author": ("id", "version_id", "created", "modified", "created_by_id", "modified_by_id", "last_name",
               "first_name"),
    "series": ("id", "version_id", "created", "modified", "created_by_id", "modified_by_id", "title"),
    "ebook": ("id", "version_id", "created", "modified", "created_by_id", "modified_by_id", "title", "language_id",
              "series_id", "series_index", "rating", "cover", "base_dir", "full_text"),
    "source": ("id", "version_id", "created", "modified", "created_by_id", "modified_by_id", "ebook_id", "location",
               "load_source", "format_id", "size", "hash"),
    "ebook_authors": ("ebook_id", "author_id"),
    "ebook_genres": ("ebook_id", "genre_id"),
    "format": ("id", "version_id", "mime_type", "name", "extension"),
    "language": ("id", "version_id", "code", "name"),
    "genre": ("id", "version_id", "name"),
    "synonym": ("other_name", "our_name", "category"),
    "user": ("id", "user_name"),
    "version": ("version",),
}  # fmt: skip

# Extra indexes that keep the cost of a batch flat: the application has none on the columns by which
# duplicates are found. Harmless to it, and its own duplicate check gets faster.
INDEXES = {
    "bookpipe_source_size_hash": ("source", "(size, hash)"),
    "bookpipe_author_name": ("author", "(last_name, first_name)"),
    "bookpipe_series_title": ("series", "(lower(title))"),
    "bookpipe_ebook_base_dir": ("ebook", "(hashtext(base_dir))"),
}
# Deleting an ebook looks for its sources, in the whole table otherwise.
UNDO_INDEXES = {"bookpipe_source_ebook": ("source", "(ebook_id)")}

_WHOLE_TABLE_WAYS = ("hashjoin", "mergejoin", "seqscan")

INDEX_WAIT = "2s"

# Row-level full-text triggers that would rewrite every new row once for itself and once for each author.
INSERT_TRIGGERS = {"ebook": "ebook_ts_insert", "ebook_authors": "ebook_ts_update"}


@dataclass(frozen=True, slots=True)
class Rights:
    """What the role may do beyond reading and inserting."""

    owns_tables: bool  # may set triggers aside
    may_index: bool
    journal: str | None  # prefix of the journal's tables, None: nowhere to create them


def check_schema(connection: Connection) -> None:
    """Raise ConfigError unless this is a MyBookshelf2 database of the version bookpipe knows."""
    with translating("looking at the tables"):
        rows = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        ).fetchall()
        found: dict[str, set[str]] = {}
        for table, column in rows:
            found.setdefault(table, set()).add(column)
        for table, columns in COLUMNS.items():
            if table not in found:
                raise ConfigError(
                    f"The database has no table {table} that this role can see: is it MyBookshelf2's, and did "
                    "`manage.py create_tables` run? Check BOOKPIPE_MYBOOKSHELF2_URL."
                )
            if missing := [c for c in columns if c not in found[table]]:
                raise ConfigError(
                    f"Table {table} lacks the columns {', '.join(missing)}: run MyBookshelf2's own migration "
                    "(`manage.py migrate_tables`), then try again."
                )
        row = connection.execute("SELECT max(version) FROM version").fetchone()
    version = row[0] if row else None
    if version != DB_VERSION:
        raise ConfigError(
            f"The database has MyBookshelf2's schema version {version}, bookpipe writes version {DB_VERSION}. "
            "Migrate it with the application's own command, or use a bookpipe made for that version."
        )


def find_user(connection: Connection, name: str) -> int:
    """Id of the user who will own what is loaded; ConfigError when there is no such user."""
    with translating("looking for the user"):
        row = connection.execute('SELECT id FROM "user" WHERE user_name = %s', (name,)).fetchone()
        if row is None:
            names = [r[0] for r in connection.execute('SELECT user_name FROM "user" ORDER BY id LIMIT 10')]
            raise ConfigError(
                f"MyBookshelf2 has no user {name!r}: set BOOKPIPE_MYBOOKSHELF2_USER to one of {', '.join(names)}."
            )
    return int(row[0])


def find_rights(connection: Connection) -> Rights:
    """What the role may do here."""
    with translating("looking at the role's rights"):
        row = connection.execute(
            """
            SELECT (SELECT bool_and(pg_has_role(current_user, c.relowner, 'USAGE')) FROM pg_class c
                     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
                       AND c.relname IN ('ebook', 'ebook_authors', 'source', 'author', 'series')),
                   to_regnamespace('bookpipe') IS NOT NULL
                       AND has_schema_privilege(to_regnamespace('bookpipe')::oid, 'USAGE')
                       AND (has_schema_privilege(to_regnamespace('bookpipe')::oid, 'CREATE') OR EXISTS (
                           SELECT FROM pg_class c  -- a journal that somebody else made
                            WHERE c.relnamespace = to_regnamespace('bookpipe') AND c.relname = 'placement')),
                   to_regnamespace('bookpipe') IS NULL
                       AND has_database_privilege(current_database(), 'CREATE'),
                   has_schema_privilege('public', 'CREATE'),
                   to_regclass('public.bookpipe_load') IS NOT NULL
            """
        ).fetchone()
    assert row is not None
    owns, own_schema, may_create_schema, public, in_public = row
    if in_public or (public and not own_schema and not may_create_schema):
        journal = "public.bookpipe_"
    elif own_schema or may_create_schema:
        journal = "bookpipe."
    else:
        journal = None
    return Rights(bool(owns), bool(owns and public), journal)


def create_indexes(connection: Connection, wanted: Mapping[str, tuple[str, str]] = INDEXES) -> list[str]:
    """Create what is missing of `wanted`; the names created. The application's writes go on meanwhile.

    Building one waits for transactions that are open: after a short while it is left for the next load, which
    is slower without, but not wrong.
    """
    with translating("creating indexes"):
        rows = connection.execute(
            "SELECT c.relname, i.indisvalid FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid "
            "WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY(%s)",
            (list(wanted),),
        ).fetchall()
        valid = {name for name, ok in rows if ok}
        created = []
        connection.execute(f"SET lock_timeout = '{INDEX_WAIT}'".encode())
        try:
            for name, (table, columns) in wanted.items():
                if name not in valid:
                    connection.execute(f"DROP INDEX IF EXISTS public.{name}".encode())  # one that was interrupted
                    connection.execute(f"CREATE INDEX CONCURRENTLY {name} ON public.{table} {columns}".encode())
                    created.append(name)
        except errors.LockNotAvailable:
            pass
        finally:
            connection.execute("RESET lock_timeout")
        return created


def prefer_indexes(connection: Connection) -> None:
    """Let look-ups of this session probe INDEXES, where all of them are there.

    For ten thousand keys the planner would rather read and hash or sort the whole table, and so the cost of a batch
    would grow with the database; ten thousand probes cost the same in a large one.
    """
    with translating("looking at the indexes"):
        row = connection.execute(
            "SELECT count(*) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid "
            "WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY(%s) AND i.indisvalid",
            (list(INDEXES),),
        ).fetchone()
        if row and row[0] == len(INDEXES):
            for way in _WHOLE_TABLE_WAYS:
                connection.execute(f"SET enable_{way} = off".encode())


@contextmanager
def whole_tables(connection: Connection) -> Iterator[None]:
    """A transaction for questions that have no index and read whole tables: what `prefer_indexes` set is undone."""
    with connection.transaction():
        for way in _WHOLE_TABLE_WAYS:
            connection.execute(f"SET LOCAL enable_{way} = on".encode())
        yield
