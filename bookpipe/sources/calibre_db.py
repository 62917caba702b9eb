"""Opening Calibre's metadata.db without ever disturbing it.

Calibre may have the library open: the database is opened read-only with `query_only`, and every batch is one
short read transaction. `immutable=1`, which takes no lock and can read half a change, is used for one case
only (see `_stamp_at_rest`) and checked afterwards. No query names a view, a trigger or a collation of Calibre's,
so plain sqlite3 is enough. The file is never opened by anything but sqlite3: closing any other descriptor of
it would drop the locks of every reader in this process.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
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
    "identifiers": {"id", "book", "type", "val"},
    "comments": {"book", "text"},
    "data": {"id", "book", "format", "name", "uncompressed_size"},
    "library_id": {"uuid"},
}


def translate(error: sqlite3.Error, database: Path) -> BookpipeError:
    """The bookpipe error for what sqlite3 said about a metadata.db."""
    text = str(error).lower()
    if "locked" in text or "busy" in text:
        return TransientError(
            f"{database} is locked: another program is writing to it. Close long-running Calibre jobs; bookpipe "
            "tries again by itself."
        )
    if "disk i/o" in text or "locking protocol" in text:
        return TransientError(
            f"{database} cannot be read now ({error}): is the disk or network share still there? bookpipe tries again "
            "by itself."
        )
    if ("readonly" in text or "unable to open" in text) and os.path.exists(f"{database}-wal"):
        return ConfigError(
            f"{database} is in WAL mode and open in another program, and this user may not use the -shm file beside "
            "it. Let bookpipe run as a user who may write there, or stop that program and try again."
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


def _find_database(library: Path) -> Path:
    database = library / "metadata.db"
    if not os.path.isdir(library):
        raise ConfigError(
            f"There is no Calibre library at {library} (or this user may not see it): set BOOKPIPE_CALIBRE_LIBRARY to "
            "its folder."
        )
    if not os.path.isfile(database):
        raise ConfigError(
            f"{library} has no metadata.db, so it is not a Calibre library: set BOOKPIPE_CALIBRE_LIBRARY to the folder "
            "that holds metadata.db."
        )
    return database


def _open(database: Path, options: str, timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(os.fsencode(database.absolute()))}?mode=ro{options}",
        uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False,
    )  # fmt: skip


def _stamp_at_rest(database: Path) -> tuple[int, int] | None:
    """Time and size of a database in WAL mode that no program has open, so that its one file holds everything.

    Calibre does not use WAL, but web servers for its libraries switch it on. An ordinary reader would leave a
    -wal and a -shm file behind, which the server's user may then not be allowed to write.
    """
    if os.path.exists(f"{database}-wal") or os.path.exists(f"{database}-journal"):
        return None
    try:
        status = os.stat(database)
        # Without locks there is no WAL: sqlite3 refuses such a file before it makes another.
        with closing(_open(database, "&nolock=1", 0)) as connection:
            connection.execute("PRAGMA user_version").fetchone()
    except OSError:
        return None
    except sqlite3.Error as error:
        return (status.st_mtime_ns, status.st_size) if "unable to open" in str(error) else None
    return None


def _check_shape(connection: sqlite3.Connection, database: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if not version:
        raise ConfigError(
            f"{database} is empty, cut short or was not made by Calibre: set BOOKPIPE_CALIBRE_LIBRARY to the folder "
            "of a Calibre library, or restore metadata.db from a backup."
        )
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


def _check_still(database: Path, at_rest: tuple[int, int] | None) -> None:
    if at_rest and _stamp_at_rest(database) != at_rest:
        raise TransientError(f"{database} was opened by another program while it was read; bookpipe tries again.")


@contextmanager
def reading(library: Path, timeout_s: float = 30.0) -> Iterator[sqlite3.Connection]:
    """One short read transaction on the library's metadata.db, its shape checked; text comes as bytes.

    Names and paths need not be UTF-8, and sqlite3 would refuse the whole batch for one that is not.

    Raises ConfigError when the library is not there, too old or hot-journalled, TransientError when it stays
    locked for `timeout_s` seconds, TerminalError when it is corrupt. sqlite3's errors leave the block as these.
    """
    database = _find_database(library)
    at_rest = _stamp_at_rest(database)
    try:
        with closing(_open(database, "&immutable=1" if at_rest else "", timeout_s)) as connection:
            connection.execute("PRAGMA query_only=1")
            connection.execute("BEGIN")
            _check_shape(connection, database)
            connection.text_factory = bytes
            yield connection
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        _check_still(database, at_rest)
        raise translate(error, database) from error
    _check_still(database, at_rest)
