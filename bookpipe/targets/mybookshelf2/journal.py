"""The journal: which rows and files each load made, in MyBookshelf2's own database.

Its rows commit together with the rows they name, so it is never ahead of the truth nor behind it. It
holds no foreign keys into the application's tables: the application may delete what it likes, and
whoever reads the journal joins it with the living rows.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from bookpipe.model.counts import LoadCounts
from bookpipe.model.errors import ConfigError
from bookpipe.targets.mybookshelf2.tables import Rights
from bookpipe.targets.postgres import Connection, as_array, copy_table, joined, translating

# The application's own set-up still runs PostgreSQL 9.6: nothing here is newer than that.
_TABLES = """
CREATE TABLE IF NOT EXISTS {p}load (
    id bigserial PRIMARY KEY,
    pipeline text NOT NULL, partition text NOT NULL, run_id text NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    inserted int NOT NULL, existing int NOT NULL, rejected int NOT NULL);
CREATE INDEX IF NOT EXISTS {i}load_partition ON {p}load (pipeline, partition);
CREATE TABLE IF NOT EXISTS {p}origin (
    id serial PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS {p}book (
    origin_id int NOT NULL, item bigint NOT NULL, ebook_id bigint NOT NULL, load_id bigint NOT NULL,
    PRIMARY KEY (origin_id, item));
CREATE INDEX IF NOT EXISTS {i}book_load ON {p}book (load_id);
CREATE INDEX IF NOT EXISTS {i}book_ebook ON {p}book (ebook_id);
CREATE TABLE IF NOT EXISTS {p}file (
    origin_id int NOT NULL, item bigint NOT NULL, format text NOT NULL, source_id bigint NOT NULL,
    load_id bigint NOT NULL,
    PRIMARY KEY (origin_id, item, format));
CREATE INDEX IF NOT EXISTS {i}file_load ON {p}file (load_id);
CREATE TABLE IF NOT EXISTS {p}created (load_id bigint NOT NULL, kind text NOT NULL, ids bigint[] NOT NULL);
CREATE INDEX IF NOT EXISTS {i}created_load ON {p}created (load_id);
CREATE TABLE IF NOT EXISTS {p}placement (
    id bigserial PRIMARY KEY,
    pipeline text NOT NULL, partition text NOT NULL, mode text NOT NULL, files text NOT NULL);
ALTER TABLE {p}placement ALTER COLUMN files SET STORAGE EXTERNAL;
"""


class Journal:
    """The journal's tables under `prefix`: a schema of their own where the role may make one, else in public."""

    def __init__(self, connection: Connection, rights: Rights) -> None:
        if rights.journal is None:
            raise ConfigError(
                "The role may create tables neither in schema bookpipe nor in public, so bookpipe cannot keep its "
                "journal. As a superuser: CREATE SCHEMA bookpipe AUTHORIZATION <the role in BOOKPIPE_MYBOOKSHELF2_URL>."
            )
        self.connection = connection
        self.prefix = rights.journal

    def name(self, table: str) -> str:
        return f"{self.prefix}{table}"

    def exists(self) -> bool:
        """Whether the tables are there: the last of them is made last."""
        row = self.connection.execute("SELECT to_regclass(%s)", (self.name("placement"),)).fetchone()
        return bool(row and row[0])

    def create(self) -> None:
        """Create the tables that are missing."""
        with translating("creating the journal"):
            if self.exists():
                return
            if self.prefix == "bookpipe.":
                found = self.connection.execute("SELECT to_regnamespace('bookpipe')").fetchone()
                if not (found and found[0]):  # IF NOT EXISTS would ask for a right on the database even then
                    self.connection.execute("CREATE SCHEMA bookpipe")
            indexes = "" if self.prefix == "bookpipe." else "bookpipe_"
            self.connection.execute(_TABLES.format(p=self.prefix, i=indexes).encode())

    def origin_id(self, name: str) -> int:
        """The number of an origin, made on first use."""
        with translating("writing the journal"):
            self.connection.execute(
                f"INSERT INTO {self.name('origin')} (name) VALUES (%s) ON CONFLICT DO NOTHING".encode(), (name,)
            )
            row = self.connection.execute(
                f"SELECT id FROM {self.name('origin')} WHERE name = %s".encode(), (name,)
            ).fetchone()
        assert row is not None
        return int(row[0])

    def _origin_ids(self, names: Iterable[str]) -> dict[str, int]:
        # Not kept: the transaction that made one may be rolled back.
        return {name: self.origin_id(name) for name in set(names)}

    def plan_placement(self, pipeline: str, partition: str, mode: str, files: Sequence[tuple[str, str]]) -> int:
        """Announce files that are about to be placed: (location, what it will stand for). Commits at once."""
        with translating("writing the journal"):
            row = self.connection.execute(
                f"INSERT INTO {self.name('placement')} (pipeline, partition, mode, files) VALUES (%s, %s, %s, %s) "
                "RETURNING id".encode(),
                (pipeline, partition, mode, json.dumps(files)),
            ).fetchone()
        assert row is not None
        return int(row[0])

    def planned_placements(self) -> list[tuple[int, str, list[tuple[str, str]]]]:
        """Placements whose rows never committed: (id, mode, files)."""
        with translating("reading the journal"):
            rows = self.connection.execute(f"SELECT id, mode, files FROM {self.name('placement')} ORDER BY id".encode())
            return [(i, mode, [(a, b) for a, b in json.loads(files)]) for i, mode, files in rows]

    def is_planned(self, placement: int) -> bool:
        """Whether an announcement still stands: its rows have not committed."""
        with translating("reading the journal"):
            found = self.connection.execute(
                f"SELECT 1 FROM {self.name('placement')} WHERE id = %s".encode(), (placement,)
            ).fetchone()
        return found is not None

    def forget_placement(self, placement: int) -> None:
        with translating("writing the journal"):
            self.connection.execute(f"DELETE FROM {self.name('placement')} WHERE id = %s".encode(), (placement,))

    def add_load(self, pipeline: str, partition: str, run_id: str, counts: LoadCounts) -> int:
        """A new load's id. Inside the load's transaction."""
        row = self.connection.execute(
            f"INSERT INTO {self.name('load')} (pipeline, partition, run_id, inserted, existing, rejected) "
            "VALUES (%s, %s, %s, %s, %s, %s) RETURNING id".encode(),
            (pipeline, partition, run_id, counts.inserted, counts.existing, counts.rejected),
        ).fetchone()
        assert row is not None
        return int(row[0])

    def add_created(self, load: int, kind: str, ids: Sequence[int]) -> None:
        if ids:
            self.connection.execute(
                f"INSERT INTO {self.name('created')} VALUES (%s, %s, %s)".encode(), (load, kind, list(ids))
            )

    def add_books(self, load: int, books: Sequence[tuple[str, int, int]]) -> None:
        """(origin, item, ebook id) of new ebooks. Entries of ebooks that are gone are replaced."""
        ids = self._origin_ids(origin for origin, _, _ in books)
        rows = [(ids[origin], item, ebook, load) for origin, item, ebook in books]
        self._replace("book", ("origin_id", "item", "ebook_id", "load_id"), rows)

    def add_files(self, load: int, files: Sequence[tuple[str, int, str, int]]) -> None:
        """(origin, item, given format, source id) of new sources."""
        ids = self._origin_ids(origin for origin, _, _, _ in files)
        rows = [(ids[origin], item, kind, source, load) for origin, item, kind, source in files]
        self._replace("file", ("origin_id", "item", "format", "source_id", "load_id"), rows)

    def _replace(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        if not rows:
            return
        values = list(zip(*rows, strict=True))
        key = columns[: columns.index("item") + 1] if table == "book" else columns[:3]
        arrays = ", ".join(as_array("text" if c == "format" else "bigint") for c in key)
        self.connection.execute(
            f"DELETE FROM {self.name(table)} t USING unnest({arrays}) AS k({', '.join(key)}) "
            f"WHERE {' AND '.join(f't.{c} = k.{c}' for c in key)}".encode(),
            [joined(v) for v in values[: len(key)]],
        )
        copy_table(
            self.connection,
            self.name(table),
            pa.table({c: pa.array(v) for c, v in zip(columns, values, strict=True)}),
        )
