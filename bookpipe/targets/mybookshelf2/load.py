"""Writing a plan into MyBookshelf2: one batch, one transaction, as the application would have made the rows.

A batch goes through these steps, while a session lock keeps other loaders out (not the application):

1. leftovers of loads that died are removed, ids are drawn, paths settled;
2. the files about to be placed are announced in the journal (committed), then placed;
3. one transaction under table locks: what the application added meanwhile is looked for, rows are copied
   in, the journal's entry is made and the announcement withdrawn.

Killed anywhere, either the announcement is still there (and no row: the next load removes the files), or
everything is.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from psycopg import errors

from bookpipe.model.book_plans import BookPlan, Known, Placement
from bookpipe.model.counts import LoadCounts
from bookpipe.model.errors import BookpipeError, TransientError
from bookpipe.targets.mybookshelf2 import lookups
from bookpipe.targets.mybookshelf2.formats import FORMAT_NAMES, mime_type
from bookpipe.targets.mybookshelf2.journal import Journal
from bookpipe.targets.mybookshelf2.storage import CONTENT, UNDONE, BookFolder, NameTakenError
from bookpipe.targets.mybookshelf2.tables import INSERT_TRIGGERS, Rights
from bookpipe.targets.postgres import Connection, as_array, copy_table, joined, lock_tables, translating

LOADER_LOCK = 0x626F_6F6B_7069_7065  # "bookpipe": one loader at a time per database
# ebook_authors for its trigger, which only the owner sets aside; without UPDATE on it nobody else could lock it.
LOCKED_TABLES = ("author", "series", "ebook", "source")
OWNERS_LOCKED_TABLES = (*LOCKED_TABLES, "ebook_authors")


class ChangedMeanwhileError(TransientError):
    """The application added one of the plan's rows, or deleted one it refers to, between our look and our write."""


@dataclass(slots=True)
class Ids:
    """Ids drawn for a plan's new rows, in the plan's order; `of` turns a reference into an id."""

    ebooks: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    authors: list[int] = field(default_factory=list)
    series: list[int] = field(default_factory=list)
    languages: list[int] = field(default_factory=list)
    genres: list[int] = field(default_factory=list)
    formats: list[int] = field(default_factory=list)

    @staticmethod
    def of(ref: int, new: list[int]) -> int:
        return ref if ref > 0 else new[-ref - 1]


class Writer:
    """Writes the batches of one partition; made by `writing()`, which holds the loader lock for it."""

    def __init__(
        self, connection: Connection, journal: Journal, folder: BookFolder, rights: Rights, user_id: int
    ) -> None:  # fmt: skip
        self.connection = connection
        self.journal = journal
        self.folder = folder
        self.rights = rights
        self.user_id = user_id

    def remove_leftovers(self) -> int:
        """Take away files of loads that died before their rows came, and of undos that died after theirs went.

        Only while the loader lock is held.
        """
        removed = 0
        for placement, mode, files in self.journal.planned_placements():
            # The application may have made a book of one of these names meanwhile.
            named = lookups.named_files(self.connection, [location for location, _ in files])
            left = [file for file in files if file[0] not in named]
            if mode == UNDONE:
                removed += self.folder.remove_undone(left)
            else:
                removed += self.folder.remove_leftovers(mode, left)
            self.journal.forget_placement(placement)
        return removed

    def draw_ids(self, plan: BookPlan) -> Ids:
        """Ids for every new row of the plan. Sequences never give one twice, whatever becomes of the load."""
        tables: dict[str, Sequence[object]] = {
            "ebook": plan.ebooks, "source": plan.sources, "author": plan.authors, "series": plan.series,
            "language": plan.languages, "genre": plan.genres, "format": plan.formats,
        }  # fmt: skip
        # The sequence's name is asked for once, not for each id.
        drawn = ", ".join(
            f"ARRAY(SELECT nextval((SELECT pg_get_serial_sequence('public.{table}', 'id'))::regclass) "
            "FROM generate_series(1, %s))"
            for table in tables
        )
        with translating("drawing ids"):
            row = self.connection.execute(
                f"SELECT {drawn}".encode(), [len(rows) for rows in tables.values()]
            ).fetchone()
        assert row is not None
        return Ids(*map(list, row))

    @contextmanager
    def placing(self, pipeline: str, partition: str, placements: Sequence[Placement]) -> Iterator[Callable[[], None]]:
        """Announce files and place them beside the block, which calls what it is given before it commits.

        The file system and the database work at the same time. When the block or the placing fails, what was
        placed is taken away again; should that fail too, the announcement stays, and the next load sees to it.
        """
        if not placements:
            yield lambda: None
            return
        files = [self.folder.describe(p) for p in placements]
        mode = CONTENT if placements[0].content else self.folder.mode  # a batch is of one kind
        announced = self.journal.plan_placement(pipeline, partition, mode, files)
        with ThreadPoolExecutor(1, "place_files") as thread:
            placed = thread.submit(self.folder.place, placements)

            def finish() -> None:
                placed.result()
                self.journal.forget_placement(announced)

            try:
                yield finish
            except BaseException:
                wait([placed])
                with suppress(BookpipeError):
                    # Asked of the server: the end of the transaction may be what was lost, and without a
                    # connection there is no loader lock.
                    if self.journal.is_planned(announced):
                        failure = placed.exception()
                        if failure is None:
                            self.folder.take_back(placements)
                        # After other failures what was placed may be there still.
                        if failure is None or isinstance(failure, NameTakenError):
                            self.journal.forget_placement(announced)
                raise

    def insert(
        self,
        *,
        plan: BookPlan,
        ids: Ids,
        base_dirs: Sequence[str],
        locations: Sequence[str],
        finish_files: Callable[[], None],
        counts: LoadCounts,
        pipeline: str,
        partition: str,
        run_id: str,
    ) -> None:
        """All rows of the plan, the journal's entry and the end of the announcement, in one transaction.

        Raises ChangedMeanwhileError when the application made one of the new authors, series or sources.
        """
        with translating("writing the batch"), _noticing_deletions(), self.connection.transaction():
            lock_tables(self.connection, OWNERS_LOCKED_TABLES if self.rights.owns_tables else LOCKED_TABLES)
            self._update_changed(plan)  # first: what a changed source was may come back from another file
            self._check_unchanged(plan)
            row = self.connection.execute("SELECT clock_timestamp()::timestamp").fetchone()
            assert row is not None
            rows = _Rows(self.user_id, row[0])
            load = self.journal.add_load(pipeline, partition, run_id, counts)
            self._insert_names(plan, ids, load)
            copy_table(self.connection, "author", rows.authors(plan, ids))
            copy_table(self.connection, "series", rows.series(plan, ids))
            with self._triggers_set_aside():
                self._insert_ebooks(plan, ids, base_dirs, rows.start)
                copy_table(self.connection, "ebook_authors", rows.links(plan, ids, "author"))
            copy_table(self.connection, "ebook_genres", rows.links(plan, ids, "genre"))
            copy_table(self.connection, "source", rows.sources(plan, ids, locations))
            self.journal.add_created(load, "author", ids.authors)
            self.journal.add_created(load, "series", ids.series)
            self.journal.add_books(load, plan.ebooks, ids.ebooks)
            self.journal.add_files(load, plan.sources, ids.sources)
            finish_files()

    def _check_unchanged(self, plan: BookPlan) -> None:
        now = Known()
        lookups.look_up_sources(self.connection, now, [(s.sha1, s.size) for s in plan.sources])
        lookups.look_up_authors(self.connection, now, plan.authors)
        lookups.look_up_series(self.connection, now, plan.series)
        if now.sources or now.authors or now.series:
            raise ChangedMeanwhileError("MyBookshelf2 added some of the same rows a moment ago: the batch is redone.")

    def _insert_names(self, plan: BookPlan, ids: Ids, load: int) -> None:
        """Languages, genres and formats. Others may add the same names at any time: then theirs are used."""
        for table, key, columns, rows, new in (
            ("language", "code", "code, name", [(code, name) for code, name in plan.languages], ids.languages),
            ("genre", "name", "name", [(name,) for name in plan.genres], ids.genres),
            (
                "format",
                "extension",
                "extension, mime_type, name",
                [(e, mime_type(e), FORMAT_NAMES.get(e, f"{e.upper()} file")) for e in plan.formats],
                ids.formats,
            ),
        ):
            made = []
            for n, values in enumerate(rows):
                marks = ", ".join(["%s"] * len(values))
                inserted = self.connection.execute(
                    f"INSERT INTO {table} (id, version_id, {columns}) VALUES (%s, 1, {marks}) "
                    f"ON CONFLICT ({key}) DO NOTHING".encode(),
                    (new[n], *values),
                ).rowcount
                if inserted:
                    made.append(new[n])
                else:
                    row = self.connection.execute(
                        f"SELECT id FROM {table} WHERE {key} = %s".encode(), (values[0],)
                    ).fetchone()
                    assert row is not None
                    new[n] = row[0]
            self.journal.add_created(load, table, made)

    @contextmanager
    def _triggers_set_aside(self) -> Iterator[None]:
        """Inside the transaction, the two row-level triggers that rewrite new rows are off: full_text comes with
        the row. Off and on again commit together, so they are never off for anybody else. A role that does
        not own the tables leaves them on, which costs about ten times as much and ends in the same rows."""
        disabled: list[tuple[str, str]] = []
        if self.rights.owns_tables:
            tables, triggers = list(INSERT_TRIGGERS), list(INSERT_TRIGGERS.values())
            disabled = self.connection.execute(
                "SELECT k.tab, k.trigger FROM unnest(%s::text[], %s::text[]) AS k(tab, trigger) JOIN pg_trigger t "
                "ON t.tgrelid = ('public.' || k.tab)::regclass AND t.tgname = k.trigger AND t.tgenabled = 'O'",
                (tables, triggers),
            ).fetchall()
        self._alter_triggers(disabled, "DISABLE")
        yield
        self._alter_triggers(disabled, "ENABLE")

    def _alter_triggers(self, triggers: Sequence[tuple[str, str]], what: str) -> None:
        statements = [f"ALTER TABLE {table} {what} TRIGGER {trigger}" for table, trigger in triggers]
        if statements:
            self.connection.execute("; ".join(statements).encode())

    def _insert_ebooks(self, plan: BookPlan, ids: Ids, base_dirs: Sequence[str], start: datetime) -> None:
        """One statement with the columns as arrays: full_text is for the server to make."""
        books = plan.ebooks
        columns: dict[str, tuple[str, Iterable[object]]] = {
            "id": ("bigint", ids.ebooks),
            "title": ("text", (b.title for b in books)),
            "language_id": ("bigint", (ids.of(b.language, ids.languages) for b in books)),
            "series_id": ("bigint", (None if b.series is None else ids.of(b.series, ids.series) for b in books)),
            "series_index": ("int", (b.series_index for b in books)),
            "rating": ("float8", (b.rating for b in books)),
            "base_dir": ("text", base_dirs),
            "full_text": ("text", (b.full_text for b in books)),
        }
        names = ", ".join(columns)
        values = names.replace("full_text", "to_tsvector('public.custom', full_text)")
        self.connection.execute(
            "INSERT INTO ebook (version_id, created, modified, created_by_id, modified_by_id, "
            f"{names}) SELECT 1, at, at, %s, %s, {values} "
            "FROM (SELECT *, %s + (row - 1) * interval '1 microsecond' AS at "
            f"FROM unnest({', '.join(as_array(kind) for kind, _ in columns.values())}) WITH ORDINALITY "
            f"AS k({names}, row)) AS k".encode(),
            (self.user_id, self.user_id, start, *(joined(column) for _, column in columns.values())),
        )

    def _update_changed(self, plan: BookPlan) -> None:
        changed = [kept for kept in plan.kept if kept.changed]
        if changed:
            self.connection.execute(
                "UPDATE source s SET hash = k.hash, size = k.size, modified = clock_timestamp()::timestamp, "
                "version_id = s.version_id + 1 "
                "FROM unnest(%s::bigint[], %s::text[], %s::int[]) AS k(id, hash, size) WHERE s.id = k.id",
                ([k.source for k in changed], [k.sha1 for k in changed], [k.size for k in changed]),
            )


@contextmanager
def _noticing_deletions() -> Iterator[None]:
    """A row that the plan refers to is gone: that is a change of the application's, too."""
    try:
        yield
    except errors.ForeignKeyViolation as error:
        raise ChangedMeanwhileError("MyBookshelf2 deleted rows the batch refers to: the batch is redone.") from error


class _Rows:
    """The plan as Arrow tables of the target's columns. All texts are final."""

    def __init__(self, user_id: int, start: datetime) -> None:
        self.user_id = user_id
        self.start = start
        self.start_us = (start - datetime(1970, 1, 1)) // timedelta(microseconds=1)

    def _audit(self, n: int) -> dict[str, pa.Array]:
        # Every row has its own time: the front page orders by it alone, so ties would make pages overlap.
        # A view, for the sake of a quick start: a cast imports all of Arrow's functions.
        created = pa.array(range(self.start_us, self.start_us + n), pa.int64()).view(pa.timestamp("us"))
        user = pa.repeat(pa.scalar(self.user_id, pa.int64()), n)
        return {
            "version_id": pa.repeat(pa.scalar(1, pa.int32()), n),
            "created": created,
            "modified": created,
            "created_by_id": user,
            "modified_by_id": user,
        }

    def authors(self, plan: BookPlan, ids: Ids) -> pa.Table:
        return pa.table(
            {
                "id": pa.array(ids.authors, pa.int64()),
                **self._audit(len(plan.authors)),
                "last_name": pa.array([last for last, _ in plan.authors], pa.string()),
                "first_name": pa.array([first for _, first in plan.authors], pa.string()),
            }
        )

    def series(self, plan: BookPlan, ids: Ids) -> pa.Table:
        return pa.table(
            {
                "id": pa.array(ids.series, pa.int64()),
                **self._audit(len(plan.series)),
                "title": pa.array(plan.series, pa.string()),
            }
        )

    def links(self, plan: BookPlan, ids: Ids, kind: str) -> pa.Table:
        new = ids.authors if kind == "author" else ids.genres
        pairs = [
            (ebook, ids.of(ref, new))
            for book, ebook in zip(plan.ebooks, ids.ebooks, strict=True)
            for ref in (book.authors if kind == "author" else book.genres)
        ]
        return pa.table(
            {
                "ebook_id": pa.array([ebook for ebook, _ in pairs], pa.int64()),
                f"{kind}_id": pa.array([other for _, other in pairs], pa.int64()),
            }
        )

    def sources(self, plan: BookPlan, ids: Ids, locations: Sequence[str]) -> pa.Table:
        files = plan.sources
        columns: dict[str, Any] = {
            "id": pa.array(ids.sources, pa.int64()),
            **self._audit(len(files)),
            "ebook_id": pa.array([ids.of(s.ebook, ids.ebooks) for s in files], pa.int64()),
            "location": pa.array(locations, pa.string()),
            "load_source": pa.array([s.load_source for s in files], pa.string()),
            "format_id": pa.array([ids.of(s.format, ids.formats) for s in files], pa.int64()),
            "size": pa.array([s.size for s in files], pa.int32()),
            "hash": pa.array([s.sha1 for s in files], pa.string()),
        }
        return pa.table(columns)
