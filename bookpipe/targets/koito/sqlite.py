"""Koito 0.2 and later: a SQLite file in WAL mode."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pyarrow as pa

from bookpipe.targets.koito.database import Columns, Database, Given, replacing
from bookpipe.targets.sqlite import in_use_elsewhere, translating

# How long the file is left to others between two transactions. A writer that waits looks ten times a second.
BREATH_S = 0.11
SHORT_WAIT_MS = 20
ROWS_AT_ONCE = 16  # that a statement inserts; with more there is no more to gain

_TYPES = {"bigint": "integer", "boolean": "integer", "text": "text", "uuid": "text", "bytea": "blob"}


class SqliteDatabase(Database):
    """`path` is the file of `connection`."""

    flavour = "sqlite"
    alias_joint = "||"
    version = 2
    key_type = "integer"
    bytes_type = "blob"
    without_rowid = "WITHOUT ROWID"
    prefix = index_prefix = "bookpipe_"

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path
        self._given: dict[str, tuple[str, ...]] = {}
        self._left_at: float | None = None

    def run(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with translating("reading and writing Koito's database"):
            return self.connection.execute(query, values).fetchall()

    def change(self, statement: str, *values: object) -> int:
        with translating("writing Koito's database"):
            return self.connection.execute(statement, values).rowcount

    def given(self, name: str, columns: Columns) -> Given:
        table = f"temp.given_{name}"
        shape = tuple(columns)
        with translating("preparing a question"):
            if self._given.get(name) == shape:
                self.connection.execute(f"DELETE FROM {table}")
            else:
                definitions = ", ".join(f"{column} {_TYPES[kind]}" for column, (kind, _) in columns.items())
                self.connection.execute(f"DROP TABLE IF EXISTS {table}")
                self.connection.execute(f"CREATE TABLE {table} ({definitions})")
                self._given[name] = shape
            self._insert("INSERT", table, columns)
        return Given(table, ())

    def put(self, table: str, columns: Columns, *, ignore: bool = False) -> None:
        with translating(f"writing {table}"):
            self._insert("INSERT OR IGNORE" if ignore else "INSERT", table, columns)

    def replace(self, table: str, columns: Columns, key: Sequence[str], where: str) -> None:
        with translating(f"writing {table}"):
            self._insert("INSERT", table, columns, replacing(columns, key, where))

    def _insert(self, verb: str, table: str, columns: Columns, end: str = "") -> None:
        self._insert_rows(
            f"{verb} INTO {table} ({', '.join(columns)})",
            len(columns),
            list(chain.from_iterable(zip(*(values for _, values in columns.values()), strict=True))),
            end,
        )

    def _insert_rows(self, start: str, width: int, values: list[object], end: str = "") -> None:
        """Rows of `width` values each, one after the other, some of them with each statement."""
        row = f"({', '.join('?' * width)})"
        several = width * ROWS_AT_ONCE
        rest = len(values) - len(values) % several
        pieces = (values[at : at + several] for at in range(0, rest, several))
        self.connection.executemany(f"{start} VALUES {', '.join([row] * ROWS_AT_ONCE)} {end}", pieces)
        self.connection.executemany(
            f"{start} VALUES {row} {end}", (values[at : at + width] for at in range(rest, len(values), width))
        )

    def new_ids(self, table: str, count: int) -> list[int]:
        ((highest,),) = self.run(f"SELECT coalesce(max(id), 0) FROM {table}")
        return list(range(highest + 1, highest + 1 + count))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Koito's own writers give up after five seconds: between our transactions they get a turn."""
        self._let_others_in()
        with translating("waiting for Koito's other writers"):
            self._begin()
        try:
            yield
            with translating("committing"):
                self.connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._left_at = time.monotonic()

    def _begin(self) -> None:
        """SQLite itself soon looks only every 100 ms, and may never see the gap between two writes of a busy Koito."""
        ((patience,),) = self.run("PRAGMA busy_timeout")
        until = time.monotonic() + patience / 1000
        self.connection.execute(f"PRAGMA busy_timeout = {min(patience, SHORT_WAIT_MS)}")
        try:
            while not self.connection.in_transaction:
                try:
                    self.connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error) or time.monotonic() > until:
                        raise
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {patience}")

    def _let_others_in(self) -> None:
        if self._left_at is not None and in_use_elsewhere(self.path) is not False:
            time.sleep(max(0.0, BREATH_S - (time.monotonic() - self._left_at)))

    @contextmanager
    def reading(self) -> Iterator[None]:
        with translating("reading Koito's database"):
            self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self._roll_back()

    @contextmanager
    def probing(self) -> Iterator[None]:
        yield  # CROSS JOIN says it

    def _roll_back(self) -> None:
        self._given.clear()  # tables made in the transaction go with it
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def insert_listens(self, listens: pa.Table, user_id: int) -> list[int]:
        tracks, times, clients = (listens[name].to_pylist() for name in ("track", "listened_at", "client"))
        taken = set(self._taken(tracks, times))
        first: dict[tuple[int, int], int] = {}
        for n, listen in enumerate(zip(tracks, times, strict=True)):
            if first.setdefault(listen, n) != n:  # they differ only by the fraction of a second, which is dropped here
                taken.add(n)
        rows = zip(tracks, times, repeat(user_id), clients)
        kept = (row for n, row in enumerate(rows) if n not in taken) if taken else rows
        with translating("writing listens"):
            start = "INSERT INTO listens (track_id, listened_at, user_id, client)"
            self._insert_rows(start, 4, list(chain.from_iterable(kept)))
        return sorted(taken)

    def _taken(self, tracks: Sequence[int], times: Sequence[int]) -> list[int]:
        given = self.given(
            "listen", {"n": ("bigint", range(len(tracks))), "track": ("bigint", tracks), "at": ("bigint", times)}
        )
        query = (
            f"SELECT k.n FROM {given.sql} k CROSS JOIN listens l WHERE l.track_id = k.track AND l.listened_at = k.at"
        )
        return [n for (n,) in self.run(query)]

    def has_table(self, table: str) -> bool:
        return bool(self.run("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", table))

    def columns(self, table: str) -> set[str]:
        return {name for (name,) in self.run("SELECT name FROM pragma_table_info(?)", table)}

    def prepare_own_tables(self) -> None:
        pass

    def alias_order(self, aliases: str) -> str:
        return f"{aliases}.rowid"

    def instant(self, microseconds: str) -> str:
        return f"({microseconds}) / 1000000"

    def microseconds(self, listened_at: str) -> str:
        return f"{listened_at} * 1000000"

    def within_second(self, listened_at: str, second: str) -> str:
        return f"{listened_at} = {second}"
