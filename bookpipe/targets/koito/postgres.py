"""Koito 0.1: a PostgreSQL database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bookpipe.model.errors import ConfigError
from bookpipe.targets.koito.database import Columns, Database, Given, replacing
from bookpipe.targets.postgres import Connection, copy_table, lock_tables, translating

# Always in this order, so that two loaders never wait for each other.
LOCKED_TABLES = (
    "artists", "artist_aliases", "releases", "release_aliases", "artist_releases", "tracks", "track_aliases",
    "artist_tracks",
)  # fmt: skip

_NULL = "NULL"
_ARROW = {"bigint": pa.int64(), "boolean": pa.bool_(), "text": pa.string(), "uuid": pa.string()}


class PostgresDatabase(Database):
    flavour = "postgresql"
    alias_joint = None
    version = 5
    key_type = "bigint GENERATED ALWAYS AS IDENTITY"
    bytes_type = "bytea"
    without_rowid = ""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.prefix, self.index_prefix = self._find_place()

    def _find_place(self) -> tuple[str, str]:
        """Where our tables are or can be: a schema of their own, or, without the right to make one, public."""
        with translating("looking at the role's rights"):
            row = self.connection.execute(
                """
                SELECT to_regclass('public.bookpipe_load') IS NOT NULL,
                       CASE WHEN to_regnamespace('bookpipe') IS NULL
                            THEN has_database_privilege(current_database(), 'CREATE')
                            ELSE has_schema_privilege(to_regnamespace('bookpipe')::oid, 'USAGE')
                             AND (to_regclass('bookpipe.load') IS NOT NULL
                                  OR has_schema_privilege(to_regnamespace('bookpipe')::oid, 'CREATE')) END
                """
            ).fetchone()
        assert row is not None
        in_public, own_schema = row
        return ("bookpipe.", "") if own_schema and not in_public else ("public.bookpipe_", "bookpipe_")

    def run(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with translating("reading and writing Koito's database"):
            cursor = self.connection.execute(query.replace("?", "%s").encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def change(self, statement: str, *values: object) -> int:
        with translating("writing Koito's database"):
            return self.connection.execute(statement.replace("?", "%s").encode(), values or None).rowcount

    def given(self, name: str, columns: Columns) -> Given:
        arrays = ", ".join(f"?::{kind}[]" for kind, _ in columns.values())
        return Given(
            f"(SELECT * FROM unnest({arrays}) AS given_{name} ({', '.join(columns)}))",
            tuple(_array(kind, values) for kind, values in columns.values()),
        )

    def put(self, table: str, columns: Columns, *, ignore: bool = False) -> None:
        if not any(len(values) for _, values in columns.values()):
            return
        if ignore:
            self._insert(table, columns, "ON CONFLICT DO NOTHING")
            return
        with translating(f"writing {table}"):
            copy_table(
                self.connection,
                table,
                pa.table({name: pa.array(values, _ARROW[kind]) for name, (kind, values) in columns.items()}),
            )

    def replace(self, table: str, columns: Columns, key: Sequence[str], where: str) -> None:
        self._insert(table, columns, replacing(columns, key, where))

    def _insert(self, table: str, columns: Columns, on_conflict: str) -> None:
        given = self.given("row", columns)
        self.change(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM {given.sql} k {on_conflict}", *given.values
        )

    def new_ids(self, table: str, count: int) -> list[int]:
        if not count:
            return []
        # COPY takes them as they are, although the columns are GENERATED ALWAYS.
        rows = self.run(
            "SELECT nextval(s.name) FROM (SELECT pg_get_serial_sequence(?, 'id')::regclass AS name) s, "
            "generate_series(1, ?)",
            f"public.{table}",
            count,
        )
        return sorted(int(row[0]) for row in rows)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Others go on reading, and adding listens to tracks that are there."""
        with translating("writing Koito's database"), self.connection.transaction():
            lock_tables(self.connection, LOCKED_TABLES)
            # The alias tables have trigram indexes, which can answer for equal texts as well, one by one and slowly.
            self.connection.execute("SET LOCAL enable_bitmapscan = off")
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        with translating("reading Koito's database"), self.connection.transaction(force_rollback=True):
            self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            self.connection.execute("SET LOCAL enable_bitmapscan = off")
            yield

    @contextmanager
    def probing(self) -> Iterator[None]:
        self.change("SET LOCAL enable_seqscan = off")
        yield
        self.change("SET LOCAL enable_seqscan = on")

    def insert_listens(self, listens: pa.Table, user_id: int) -> list[int]:
        """Koito may add listens at the same time: those that are in the way are found by not coming back."""
        if listens.num_rows == 0:
            return []
        tracks, clients = listens["track"].to_pylist(), listens["client"].to_pylist()
        at = pc.add(pc.multiply(listens["listened_at"], 1_000_000), listens["listened_us"]).to_pylist()
        given = self.given(
            "listen",
            {"n": ("bigint", range(len(at))), "track": ("bigint", tracks), "at": ("bigint", at),
             "client": ("text", clients)},
        )  # fmt: skip
        rows = self.run(
            "INSERT INTO listens (track_id, listened_at, client, user_id) "
            f"SELECT k.track, {self.instant('k.at')}, nullif(k.client, ''), ? FROM {given.sql} k ORDER BY k.n "
            f"ON CONFLICT DO NOTHING RETURNING track_id, {self.microseconds('listened_at')}",
            user_id,
            *given.values,
        )
        if len(rows) == len(at):
            return []
        inserted = set(rows)
        taken = []
        for n, pair in enumerate(zip(tracks, at, strict=True)):
            if pair in inserted:
                inserted.remove(pair)
            else:
                taken.append(n)
        return taken

    def has_table(self, table: str) -> bool:
        return bool(self.run("SELECT 1 WHERE to_regclass(?) IS NOT NULL", table))

    def columns(self, table: str) -> set[str]:
        query = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped"
        return {name for (name,) in self.run(query, f"public.{table}")}

    def prepare_own_tables(self) -> None:
        if self.prefix == "bookpipe.":
            if not self.run("SELECT 1 WHERE to_regnamespace('bookpipe') IS NOT NULL"):
                self.change("CREATE SCHEMA IF NOT EXISTS bookpipe")
            return
        if not self.run("SELECT 1 WHERE has_schema_privilege('public', 'CREATE')"):
            raise ConfigError(
                "The role may create tables neither in schema bookpipe nor in public, so bookpipe cannot keep its "
                "journal. As a superuser: CREATE SCHEMA bookpipe AUTHORIZATION <the role in BOOKPIPE_KOITO_URL>."
            )

    def alias_order(self, aliases: str) -> str:  # noqa: ARG002
        return "1"

    def instant(self, microseconds: str) -> str:
        return f"(timestamptz 'epoch' + ({microseconds}) * interval '1 microsecond')"

    def microseconds(self, listened_at: str) -> str:
        return f"(extract(epoch FROM {listened_at}) * 1000000)::bigint"

    def within_second(self, listened_at: str, second: str) -> str:
        return f"{listened_at} >= to_timestamp({second}) AND {listened_at} < to_timestamp({second} + 1)"


def _array(kind: str, values: Sequence[Any]) -> str:
    """PostgreSQL's notation of an array. psycopg writes it too, several times slower."""
    if kind in ("text", "uuid"):
        items = (_NULL if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values)
    elif kind == "bytea":
        items = (_NULL if v is None else f'"\\\\x{v.hex()}"' for v in values)
    else:
        items = (_NULL if v is None else str(v) for v in values)
    return "{" + ",".join(items) + "}"
