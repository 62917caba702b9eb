"""Opening Calibre's metadata.db without ever disturbing it.

Calibre may have the library open: the database is opened read-only with `query_only`, every batch
is one short read transaction, and `immutable=1` (which reads half-written data) is never used.
No query names a view, a trigger or a collation of Calibre's, so plain sqlite3 is enough.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

from bookpipe.model.errors import BookpipeError, ConfigError, TerminalError, TransientError

OLDEST_USER_VERSION = 18  # identifiers, languages and library_id appeared here
NEWEST_KNOWN_USER_VERSION = 27

# Tables and columns a reader needs; checked instead of trusting user_version alone.
_NEEDED = {
    "books": {
        *("id", "title", "sort", "author_sort", "timestamp", "pubdate", "last_modified"),
        *("series_index", "path", "uuid", "has_cover"),
    },
    "authors": {"id", "name", "sort"},
    "books_authors_link": {"id", "book", "author"},
    "tags": {"id", "name"},
    "books_tags_link": {"id", "book", "tag"},
    "series": {"id", "name"},
    "books_series_link": {"id", "book", "series"},
    "publishers": {"id", "name"},
    "books_publishers_link": {"id", "book", "publisher"},
    "languages": {"id", "lang_code"},
    "books_languages_link": {"id", "book", "lang_code", "item_order"},
    "ratings": {"id", "rating"},
    "books_ratings_link": {"id", "book", "rating"},
    "identifiers": {"book", "type", "val"},
    "comments": {"book", "text"},
    "data": {"book", "format", "name", "uncompressed_size"},
    "library_id": {"uuid"},
}

# Names and paths need not be UTF-8: what cannot be decoded travels as surrogates, so that a path
# can still be opened; text for people is cleaned when it becomes Arrow.
_decode = partial(str, encoding="utf-8", errors="surrogateescape")


def translate(error: sqlite3.Error, database: Path) -> BookpipeError:
    """The bookpipe error for what sqlite3 said about a metadata.db."""
    text = str(error).lower()
    if "locked" in text or "busy" in text:
        return TransientError(
            f"{database} is locked: another program is writing to it. Close long-running Calibre jobs; bookpipe "
            "tries again by itself."
        )
    if "readonly" in text:
        return ConfigError(
            f"{database} has a hot journal beside it: a program that wrote to it was killed, and reading now could "
            "show half a change. Open the library once in Calibre (which repairs it), close Calibre, and try again."
        )
    if "unable to open" in text:
        return ConfigError(f"{database} cannot be opened: {error}. Check that this user may read the file and folder.")
    if "not a database" in text or "malformed" in text or "corrupt" in text:
        return TerminalError(
            f"{database} is corrupt ({error}). In Calibre use 'Library maintenance > Restore database', or restore "
            "metadata.db from a backup."
        )
    return TerminalError(f"{database} cannot be read: {error}. Check the library in Calibre ('Check library').")


def connect(library: Path, timeout_s: float = 30.0) -> sqlite3.Connection:
    """A read-only connection to the library's metadata.db, its shape checked.

    Raises ConfigError when the library is not there, too old or hot-journalled, TransientError when it
    stays locked for `timeout_s` seconds, TerminalError when it is corrupt.
    """
    database = library / "metadata.db"
    if not library.is_dir():
        raise ConfigError(f"There is no Calibre library at {library}: set BOOKPIPE_CALIBRE_LIBRARY to its folder.")
    if not database.is_file():
        raise ConfigError(
            f"{library} has no metadata.db, so it is not a Calibre library: set BOOKPIPE_CALIBRE_LIBRARY to the folder "
            "that holds metadata.db."
        )
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(database.absolute()))}?mode=ro", uri=True, timeout=timeout_s, isolation_level=None,
            check_same_thread=False,
        )  # fmt: skip
    except sqlite3.Error as error:
        raise translate(error, database) from error
    try:
        connection.text_factory = _decode
        connection.execute("PRAGMA query_only=1")
        _check_shape(connection, database)
    except sqlite3.Error as error:
        connection.close()
        raise translate(error, database) from error
    except BookpipeError:
        connection.close()
        raise
    return connection


def _check_shape(connection: sqlite3.Connection, database: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version < OLDEST_USER_VERSION:
        raise ConfigError(
            f"{database} has the old format {version} (bookpipe reads {OLDEST_USER_VERSION} and newer). Open the "
            "library once in a current Calibre, which upgrades it, and try again."
        )
    for table, columns in _NEEDED.items():
        found = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        if missing := columns - found:
            what = f"columns {', '.join(sorted(missing))} of table {table}" if found else f"table {table}"
            raise TerminalError(
                f"{database} lacks {what}: it was not written by a Calibre that bookpipe knows. Open it once in "
                "Calibre, or report its user_version."
            )


@contextmanager
def reading(library: Path, timeout_s: float = 30.0) -> Iterator[sqlite3.Connection]:
    """One short read transaction; sqlite3's errors leave it as bookpipe errors."""
    with closing(connect(library, timeout_s)) as connection:
        try:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise translate(error, library / "metadata.db") from error
