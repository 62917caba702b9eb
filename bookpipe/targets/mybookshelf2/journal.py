"""The journal: which rows and files each load made, in MyBookshelf2's own database.

Its rows commit together with the rows they name, so it is never ahead of the truth nor behind it. It
holds no foreign keys into the application's tables: the application may delete what it likes, and
whoever reads the journal joins it with the living rows.
"""

import json
from collections.abc import Sequence

from bookpipe.model.book_plans import PlannedEbook, PlannedSource
from bookpipe.model.counts import LoadCounts
from bookpipe.model.errors import ConfigError
from bookpipe.targets.mybookshelf2.tables import Rights
from bookpipe.targets.postgres import Connection, as_array, joined, translating

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
            number = self.find_origin(name)
            if number is None:
                self.connection.execute(
                    f"INSERT INTO {self.name('origin')} (name) VALUES (%s) ON CONFLICT DO NOTHING".encode(), (name,)
                )
                number = self.find_origin(name)
        assert number is not None
        return number

    def find_origin(self, name: str) -> int | None:
        """The number of an origin; None when it has none yet."""
        row = self.connection.execute(
            f"SELECT id FROM {self.name('origin')} WHERE name = %s".encode(), (name,)
        ).fetchone()
        return None if row is None else int(row[0])

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
                f"INSERT INTO {self.name('created')} VALUES (%s, %s, {as_array('bigint')})".encode(),
                (load, kind, joined(ids)),
            )

    def add_books(self, load: int, books: Sequence[PlannedEbook], ids: Sequence[int]) -> None:
        """The ids of new ebooks. Entries of ebooks that are gone are replaced."""
        columns: dict[str, Sequence[object]] = {"item": [book.item for book in books], "ebook_id": ids}
        self._replace("book", load, [book.origin for book in books], columns)

    def add_files(self, load: int, files: Sequence[PlannedSource], ids: Sequence[int]) -> None:
        """The ids of new sources. Entries of sources that are gone are replaced."""
        columns: dict[str, Sequence[object]] = {
            "item": [file.item for file in files],
            "format": [file.given_format for file in files],
            "source_id": ids,
        }
        self._replace("file", load, [file.origin for file in files], columns)

    def _replace(self, table: str, load: int, origins: Sequence[str], columns: dict[str, Sequence[object]]) -> None:
        """Rows whose last column is the value, and those before it with the origin the key."""
        if not origins:
            return
        numbers = {name: self.origin_id(name) for name in set(origins)}  # not kept: this transaction may be rolled back
        columns = {"origin_id": [numbers[name] for name in origins], **columns}
        *key, value = columns
        names = ", ".join(columns)
        arrays = ", ".join(as_array("text" if name == "format" else "bigint") for name in columns)
        self.connection.execute(
            f"INSERT INTO {self.name(table)} (load_id, {names}) SELECT %s, * FROM unnest({arrays}) AS k({names}) "
            f"ON CONFLICT ({', '.join(key)}) "
            f"DO UPDATE SET load_id = excluded.load_id, {value} = excluded.{value}".encode(),
            (load, *map(joined, columns.values())),
        )
