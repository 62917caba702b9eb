"""A MyBookshelf2 installation under test: loads go in, what is there comes out without ids and times."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa

from bookpipe.model.book_plans import Placement
from bookpipe.model.secrets import Secret
from bookpipe.pipelines.books import LoadResult, bulk_insert, look_up
from bookpipe.resolve.books import BookOptions
from bookpipe.targets.mybookshelf2.server import MyBookshelf2

Connection = psycopg.Connection[tuple[Any, ...]]
Rows = list[tuple[Any, ...]]

# What a book is, in the application's terms. %s of an id in a path is struck out afterwards.
_EBOOKS = """
SELECT e.id, e.base_dir, e.version_id, e.title, e.description, l.code, s.title, e.series_index, e.rating,
       e.rating_count, e.downloads, e.cover, creator.user_name, editor.user_name, e.created = e.modified,
       array(SELECT (a.last_name, a.first_name)::text FROM ebook_authors x JOIN author a ON a.id = x.author_id
              WHERE x.ebook_id = e.id ORDER BY 1),
       array(SELECT g.name::text FROM ebook_genres x JOIN genre g ON g.id = x.genre_id
              WHERE x.ebook_id = e.id ORDER BY 1),
       (SELECT array_agg(lexeme ORDER BY lexeme) FROM unnest(tsvector_to_array(e.full_text)) AS lexeme)
FROM ebook e JOIN language l ON l.id = e.language_id LEFT JOIN series s ON s.id = e.series_id
LEFT JOIN "user" creator ON creator.id = e.created_by_id LEFT JOIN "user" editor ON editor.id = e.modified_by_id
"""
_NAMES = {
    "author": "SELECT a.version_id, a.last_name, a.first_name, a.description, u.user_name FROM author a "
    'LEFT JOIN "user" u ON u.id = a.created_by_id',
    "series": "SELECT s.version_id, s.title, s.rating, s.description, u.user_name FROM series s "
    'LEFT JOIN "user" u ON u.id = s.created_by_id',
    "language": "SELECT version_id, code, name FROM language",
    "genre": "SELECT version_id, name FROM genre",
    "format": "SELECT version_id, extension, mime_type, name FROM format",
    "triggers": "SELECT tgrelid::regclass::text, tgname, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal",
}


@dataclass
class Shelf:
    """One installation; `target` is how it is reached."""

    url: str
    data_dir: Path
    superuser_url: str = ""  # of the same database; for locks and looks that the owner may not take
    target: MyBookshelf2 = field(init=False)

    def __post_init__(self) -> None:
        self.target = MyBookshelf2(Secret(self.url), self.data_dir)

    def using(self, **changes: Any) -> MyBookshelf2:
        """The target with other settings."""
        return replace(self.target, **changes)

    @property
    def books(self) -> Path:
        return self.data_dir / "books"

    def connect(self, **options: Any) -> Connection:
        return psycopg.connect(self.superuser_url or self.url, autocommit=True, **options)

    def sql(self, query: str, *values: object) -> Rows:
        with closing(self.connect()) as connection:
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def one(self, query: str, *values: object) -> Any:
        return self.sql(query, *values)[0][0]

    def load(
        self,
        table: pa.Table,
        partition: str = "books-1",
        *,
        target: MyBookshelf2 | None = None,
        options: BookOptions | None = None,
        known: pa.Table | None = None,
    ) -> LoadResult:
        """Both steps of a load, as the ops take them."""
        target = target or self.target
        known = look_up(target, table) if known is None else known
        return bulk_insert(
            target, table, known, options or BookOptions(), pipeline="calibre", partition=partition, run_id="test"
        )

    def meaning(self) -> dict[str, Any]:
        """Everything in the database without ids, times and the order of rows."""
        with closing(self.connect()) as connection:
            sources: dict[int, list[Any]] = {}
            for ebook, location, *rest in connection.execute(
                "SELECT s.ebook_id, s.location, s.version_id, s.load_source, f.extension, s.size, s.hash, s.quality, "
                "s.quality_count, u.user_name, s.created = s.modified "
                "FROM source s JOIN format f ON f.id = s.format_id "
                'LEFT JOIN "user" u ON u.id = s.created_by_id'
            ):
                sources.setdefault(ebook, []).append((without_id(location, ebook), *rest))
            ebooks = [
                (without_id(base_dir, i), *rest, sorted(sources.get(i, []), key=repr))
                for i, base_dir, *rest in connection.execute(_EBOOKS.encode())
            ]
            names = {name: sorted(connection.execute(query.encode()), key=repr) for name, query in _NAMES.items()}
        return {"ebooks": sorted(ebooks, key=repr), **names}

    def exactly(self) -> dict[str, list[str]]:
        """Every row of every table of the application, ids and times included."""
        with closing(self.connect()) as connection:
            tables = connection.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' "
                "AND table_name NOT LIKE 'bookpipe%' ORDER BY 1"
            ).fetchall()
            return {
                table: [text for (text,) in connection.execute(f'SELECT t::text FROM public."{table}" t ORDER BY 1')]
                for (table,) in tables
            }

    def tree(self, *, ids: bool = False) -> list[tuple[str, str]]:
        """What is under the data folder: relative path and content, link target or "folder". Ids are struck out."""
        known = {base_dir: i for i, base_dir in self.sql("SELECT id, base_dir FROM ebook")}
        found = []
        for folder, names, files in os.walk(self.data_dir):
            for name in [*names, *files]:
                full = os.path.join(folder, name)
                path = os.path.relpath(full, self.data_dir)
                inside = path.removeprefix("books/")
                for base_dir, i in known.items():
                    if not ids and (inside == base_dir or inside.startswith(base_dir + "/")):
                        path = "books/" + without_id(inside, i)
                found.append((path, _content(full)))
        return sorted(found)

    def placements(self) -> int:
        """Announcements of files whose rows have not come."""
        tables = self.sql("SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relname LIKE '%placement'")
        return sum(self.one(f"SELECT count(*) FROM {table}") for (table,) in tables)

    def triggers(self) -> dict[tuple[str, str], str]:
        return {(table, name): enabled for table, name, enabled in self.sql(_NAMES["triggers"])}

    @contextmanager
    def transaction(self, *statements: str) -> Iterator["Transaction"]:
        """Somebody else's transaction: it has done the statements, and ends with the block or with `commit`."""
        with closing(self.connect()) as connection, closing(self.connect()) as watcher:
            connection.autocommit = False
            for statement in statements:
                connection.execute(statement.encode())
            transaction = Transaction(connection, watcher)
            yield transaction
            transaction.commit()

    def holding(self, table: str, mode: str = "SHARE") -> AbstractContextManager["Transaction"]:
        """Somebody else holds a lock on a table. Mode SHARE lets others read and not write."""
        return self.transaction(f"LOCK TABLE {table} IN {mode} MODE")


@dataclass
class Transaction:
    """An open transaction of somebody else, whose locks a load may have to wait for."""

    connection: Connection
    watcher: Connection

    def wait_for_loader(self, count: int = 1) -> list[int]:
        """Server process ids of the loaders that wait for a lock (not for each other), once there are."""
        for _ in range(2_000):
            rows = self.watcher.execute(
                "SELECT pid, pg_sleep(0.01) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name = 'bookpipe' AND wait_event_type = 'Lock' AND wait_event <> 'advisory'"
            ).fetchall()
            if len(rows) >= count:
                return [pid for pid, _ in rows]
            self.watcher.execute("SELECT pg_sleep(0.01)")
        raise AssertionError("no loader came to wait")

    @contextmanager
    def before(self, work: Any, *arguments: Any, **options: Any) -> Iterator["Future[Any]"]:
        """A load in a thread of its own; the block runs once that waits for a lock of ours. Then the transaction
        commits, and the load's end is waited for."""
        with ThreadPoolExecutor(1) as pool:
            try:
                loading = pool.submit(work, *arguments, **options)
                self.wait_for_loader()
                yield loading
            finally:
                self.commit()

    def kill_loaders(self) -> None:
        self.watcher.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'bookpipe'"
        )

    def bury_loaders(self) -> None:
        """End the connections of a loader that was killed: a server notices that only when it writes to it."""
        while self.watcher.execute(
            "SELECT FROM pg_stat_activity WHERE application_name = 'bookpipe' AND datname = current_database()"
        ).fetchone():
            self.kill_loaders()

    def commit(self) -> None:
        with suppress(psycopg.OperationalError):  # a test may have stopped the server
            self.connection.commit()


def all_at_once(*jobs: Any) -> list[Any]:
    """Run the jobs in threads that start together; results or the exceptions raised."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(job) for job in jobs]
        return [future.exception() or future.result() for future in futures]


def without_id(path: str, ebook_id: int) -> str:
    """A path with the ebook's id replaced by #, where bookpipe puts one: after "(language)", and in "_ 12/"."""
    return re.sub(rf"(\)|^_) {ebook_id}(?=/|$)", r"\1 #", path)


def _content(full: str) -> str:
    if os.path.islink(full):
        return f"-> {os.readlink(full)}"
    if os.path.isdir(full):
        return "folder"
    with open(full, "rb") as file:
        return hashlib.sha1(file.read()).hexdigest()


def outcomes(result: LoadResult) -> Sequence[str]:
    return result.outcomes.column("outcome").to_pylist()  # type: ignore[no-any-return]


def names_under(folder: Path) -> list[str]:
    """Relative paths of all files."""
    return sorted(os.path.relpath(os.path.join(top, f), folder) for top, _, found in os.walk(folder) for f in found)


def files_under(folder: Path, base: Path | None = None) -> dict[str, str]:
    """Path below `base` -> "folder", what a link says, or content and inode of a file."""
    found = {}
    for top, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(top, name)
            if path.is_symlink():
                what = os.readlink(path)
            else:
                what = "folder" if path.is_dir() else f"{path.read_bytes()!r} {path.stat().st_ino}"
            found[str(path.relative_to(base or folder))] = what
    return found


def placement(folder: Path, location: str, content: bytes) -> Placement:
    """A file in `folder` that is to be placed at `location`."""
    path = folder / hashlib.sha1(location.encode()).hexdigest()
    path.write_bytes(content)
    return Placement(0, location, os.fsencode(path), len(content))
