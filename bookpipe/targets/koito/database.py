"""What the two flavours of a Koito database have in common: questions and rows are asked and written alike.

SQL is written once, with `?` for values. Where the flavours differ, a Database fills in a fragment or does the work.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

# Values of columns by name, each with its type in PostgreSQL's words: bigint, text, boolean, uuid, bytea.
Columns = Mapping[str, tuple[str, Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Given:
    """Rows of ours that a query joins: `sql` stands where a table would, `values` are for the marks in it."""

    sql: str
    values: tuple[Any, ...]


class Database(ABC):
    """An open connection. Not for several threads at once."""

    flavour: ClassVar[str]
    alias_joint: ClassVar[str | None]
    version: ClassVar[int]  # the schema version that bookpipe knows
    # Types for the definitions of our own tables, and what stands before their names.
    key_type: ClassVar[str]
    bytes_type: ClassVar[str]
    without_rowid: ClassVar[str]
    prefix: str
    index_prefix: str

    def own(self, table: str) -> str:
        """The full name of a table of bookpipe's own."""
        return f"{self.prefix}{table}"

    @abstractmethod
    def run(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query; none for other statements."""

    @abstractmethod
    def change(self, statement: str, *values: object) -> int:
        """Run an INSERT, UPDATE or DELETE; the number of rows it changed."""

    @abstractmethod
    def given(self, name: str, columns: Columns) -> Given:
        """Rows for a query to join. Those of an earlier call of the same name may be gone afterwards."""

    @abstractmethod
    def put(self, table: str, columns: Columns, *, ignore: bool = False) -> None:
        """Insert rows in their order. With `ignore`, those whose key is there already are left out."""

    @abstractmethod
    def replace(self, table: str, columns: Columns, key: Sequence[str], where: str) -> None:
        """Insert rows, also in the place of those with the same values in the columns `key`, its primary key, where
        this condition holds between `excluded`, which is the new row, and the old one."""

    @abstractmethod
    def new_ids(self, table: str, count: int) -> list[int]:
        """Ids for new rows of one of Koito's tables, ascending. Only inside `writing`."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[None]:
        """A transaction that nobody else's new or changed entities can come between. Commits at a normal end."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[None]:
        """A transaction that sees one state of the database and changes nothing."""

    @abstractmethod
    def probing(self) -> AbstractContextManager[None]:
        """Queries inside look for each given row in an index, however small the planner takes the table to be."""

    @abstractmethod
    def insert_listens(self, listens: pa.Table, user_id: int) -> list[int]:
        """Insert listens (NEW_LISTENS with ids); the positions of those whose track and time are taken already."""

    @abstractmethod
    def has_table(self, table: str) -> bool:
        """Whether there is such a table. `table` as it stands in a query."""

    @abstractmethod
    def columns(self, table: str) -> set[str]:
        """The names of the columns of one of Koito's tables."""

    @abstractmethod
    def prepare_own_tables(self) -> None:
        """What has to be there before bookpipe's own tables can be made."""

    # Fragments

    @abstractmethod
    def alias_order(self, aliases: str) -> str:
        """The order in which Koito meets the rows of an alias table, in a query whose first column is their owner."""

    @abstractmethod
    def instant(self, microseconds: str) -> str:
        """The value of listens.listened_at for microseconds since 1970."""

    @abstractmethod
    def microseconds(self, listened_at: str) -> str:
        """Microseconds since 1970 of a listens.listened_at."""

    @abstractmethod
    def within_second(self, listened_at: str, second: str) -> str:
        """The condition that a listens.listened_at lies in a second since 1970."""

    # Shorthands

    def texts(self, name: str, values: Sequence[str], kind: str = "text") -> Given:
        """One column `value`."""
        return self.given(name, {"value": (kind, values)})

    def integers(self, name: str, values: Sequence[int]) -> Given:
        """One column `value`."""
        return self.given(name, {"value": ("bigint", values)})


def replacing(columns: Columns, key: Sequence[str], where: str) -> str:
    """The end of an INSERT that replaces what has the same key, under a condition."""
    updates = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    return f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {updates} WHERE {where}"
