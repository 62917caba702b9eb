"""Whether MyBookshelf2's database can be loaded into, and what to do where it cannot. It is only read."""

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from bookpipe.model.errors import BookpipeError, UnreachableError
from bookpipe.model.findings import Finding, failure, skipped
from bookpipe.model.secrets import Secret
from bookpipe.targets.mybookshelf2 import tables
from bookpipe.targets.mybookshelf2.journal import Journal
from bookpipe.targets.mybookshelf2.load import LOCKED_TABLES
from bookpipe.targets.mybookshelf2.server import MyBookshelf2
from bookpipe.targets.postgres import Connection, translating

OLDEST_SERVER = 100_000  # PostgreSQL 10. What is used is in 9.6 already, which nobody mends any more
ROLES = ("user", "trusted_user", "superuser", "admin")  # who may edit and delete what they own, least first

_INSERTED = ("author", "series", "ebook", "source", "ebook_authors", "ebook_genres", "format", "language", "genre")
_NUMBERED = ("author", "series", "ebook", "source", "format", "language", "genre")  # tables whose ids are drawn
_UPDATED = LOCKED_TABLES  # UPDATE is also what lets a role lock a table
_SEARCHED = ("author", "series", "ebook", "ebook_authors")  # tables whose triggers keep the search text
_JOURNAL = ("load", "origin", "book", "file", "created", "placement")
_SHARDS = ("shard", "shard_chunk")  # made by the first load of a shard

# (ok, detail, remedy): a Finding without its subject
_Answer = tuple[bool | None, str, str]
_Check = Callable[[Connection, MyBookshelf2], _Answer]


def examine_database(target: MyBookshelf2) -> tuple[list[Finding], int]:
    """Findings about the server, the schema and the role's rights; and how many books earlier loads made.

    What depends on something that failed is skipped. Raises nothing for what is wrong with the database.
    """
    after = [subject for subject, _ in _CHECKS]
    address, problem = _address(target.url)
    first = Finding("MyBookshelf2: address", not problem, problem or address, problem and _URL_REMEDY)
    if problem:
        return [first, *skipped(["MyBookshelf2: server", "MyBookshelf2: login", *after], "the address")], 0
    findings = [first]
    try:
        with target.connect() as connection:
            findings.append(Finding("MyBookshelf2: server", True, "answers"))
            findings.append(Finding("MyBookshelf2: login", True, f"as {connection.info.user}"))
            for n, (subject, check) in enumerate(_CHECKS):
                findings.append(_asked(subject, check, connection, target))
                if check in _FIRST and not findings[-1].ok:
                    return [*findings, *skipped(after[n + 1 :], f"the {_short(subject)}")], 0
            return findings, _loaded_books(connection)
    except UnreachableError as error:
        findings.append(failure("MyBookshelf2: server", error))
        return [*findings, *skipped(["MyBookshelf2: login", *after], "the server")], 0
    except BookpipeError as error:
        findings += [Finding("MyBookshelf2: server", True, "answers"), failure("MyBookshelf2: login", error)]
        return [*findings, *skipped(after, "the login")], 0


def _short(subject: str) -> str:
    return subject.removeprefix("MyBookshelf2: ")


def _asked(subject: str, check: _Check, connection: Connection, target: MyBookshelf2) -> Finding:
    try:
        with translating(f"looking at the {_short(subject)}"):
            return Finding(subject, *check(connection, target))
    except BookpipeError as error:
        return failure(subject, error)


_URL_REMEDY = (
    "BOOKPIPE_MYBOOKSHELF2_URL must look like postgresql://user:password@host:5432/database, with @ / : % and blanks "
    "in the password written as %40 %2F %3A %25 %20."
)


def _address(url: Secret) -> tuple[str, str]:
    """(address, what is wrong with it). Of a URL that is read in another way than it was meant nothing is quoted:
    a password with an @ or a slash ends up in any other part of it."""
    try:
        parts = {k: str(v) for k, v in conninfo_to_dict(url.reveal()).items()}
    except psycopg.Error:
        return "", "the setting is no PostgreSQL URL"
    host, port, database = parts.get("host", ""), parts.get("port", ""), parts.get("dbname", "")
    if "@" in host + database or (port and not port.replace(",", "").isdigit()):
        return "", "the password in the URL has characters that end it too early"
    where = f"{host or parts.get('hostaddr') or 'local socket'}{':' if port else ''}{port}"
    return f"{where}, database {database or '(default)'}", ""


def _server(connection: Connection, _: MyBookshelf2) -> _Answer:
    version = connection.info.server_version
    name = f"PostgreSQL {version // 10_000}.{version % 10_000}"
    if version < OLDEST_SERVER:
        name = f"PostgreSQL {version // 10_000}.{version // 100 % 100}"
        return False, name, f"bookpipe needs PostgreSQL {OLDEST_SERVER // 10_000} or newer: upgrade the server."
    row = connection.execute("SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')").fetchone()
    if row and (row[0] or row[1] == "on"):
        return False, f"{name}, read-only", "Use the primary server, and a role whose transactions may write."
    return True, name, ""


def _tables(connection: Connection, _: MyBookshelf2) -> _Answer:
    # From pg_class, which also shows tables the role has no right to: rights are looked at on their own.
    rows = connection.execute(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
        "WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p') AND a.attnum > 0 "
        "AND NOT a.attisdropped"
    ).fetchall()
    found = {(str(table), str(column)) for table, column in rows}
    existing = {table for table, _ in found}
    if missing := [table for table in tables.COLUMNS if table not in existing]:
        return (
            False, f"schema public has no {', '.join(missing)}",
            "Is this MyBookshelf2's database? Check BOOKPIPE_MYBOOKSHELF2_URL; in a new one run the application's "
            "`manage.py create_tables`.",
        )  # fmt: skip
    wanted = [(table, column) for table, columns in tables.COLUMNS.items() for column in columns]
    if absent := [f"{table}.{column}" for table, column in wanted if (table, column) not in found]:
        return False, f"without {', '.join(absent)}", "Run the application's own migration: `manage.py migrate_tables`."
    return True, f"all {len(tables.COLUMNS)} that a load uses", ""


def _version(connection: Connection, _: MyBookshelf2) -> _Answer:
    row = connection.execute("SELECT max(version) FROM public.version").fetchone()
    version = row[0] if row else None
    if version == tables.DB_VERSION:
        return True, f"schema version {version}", ""
    if version is not None and version > tables.DB_VERSION:
        remedy = "It is newer: use a bookpipe made for that version."
    else:
        remedy = "Run the application's own migration: `manage.py migrate_tables`."
    return False, f"schema version {version}, bookpipe writes version {tables.DB_VERSION}", remedy


def _rights(connection: Connection, _: MyBookshelf2) -> _Answer:
    """Each right asked for by itself: a list in one question would be answered with 'any of them'."""
    wanted = [
        *((table, "SELECT") for table in tables.COLUMNS),
        *((table, "INSERT") for table in _INSERTED),
        *((table, "UPDATE") for table in _UPDATED),
    ]
    rows = connection.execute(
        "SELECT k.privilege, quote_ident(k.name) FROM unnest(%s::text[], %s::text[]) AS k(name, privilege) "
        "WHERE NOT has_table_privilege(format('public.%%I', k.name), k.privilege)",
        ([table for table, _ in wanted], [privilege for _, privilege in wanted]),
    ).fetchall()
    role, database, temporary = _one(
        connection,
        "SELECT quote_ident(current_user), quote_ident(current_database()), "
        "has_database_privilege(current_database(), 'TEMPORARY')",
    )
    lacking = {p: [name for privilege, name in rows if privilege == p] for p in ("SELECT", "INSERT", "UPDATE")}
    details = [f"no {privilege} on {', '.join(names)}" for privilege, names in lacking.items() if names]
    grants = [f"GRANT {p} ON {', '.join(names)} TO {role};" for p, names in lacking.items() if names]
    if not temporary:
        details.append("no temporary tables")
        grants.append(f"GRANT TEMPORARY ON DATABASE {database} TO {role};")
    if not details:
        return True, "may read, insert, update and lock what a load writes", ""
    return False, "; ".join(details), f"As the tables' owner or a superuser: {' '.join(grants)}"


def _sequences(connection: Connection, _: MyBookshelf2) -> _Answer:
    unusable, behind = [], []
    for table in _NUMBERED:
        # Either of the two listed rights will do for nextval.
        name, usable, readable = _one(
            connection,
            "SELECT s.name, has_sequence_privilege(s.name, 'USAGE, UPDATE'), has_sequence_privilege(s.name, 'SELECT') "
            "FROM pg_get_serial_sequence(%s, 'id') AS s(name)",
            f"public.{table}",
        )
        if name is None:
            return (
                False, f"{table}.id has no sequence of its own",
                f"As the owner: ALTER SEQUENCE {table}_id_seq OWNED BY {table}.id;",
            )  # fmt: skip
        if not usable:
            unusable.append(name)
            continue
        if readable:
            last, highest = _one(
                connection,
                "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END, "
                f"(SELECT coalesce(max(id), 0) FROM public.{table}) FROM {name}",
            )
            if last < highest:
                behind.append(f"SELECT setval('{name}', (SELECT max(id) FROM {table}));")
    if unusable:
        (role,) = _one(connection, "SELECT quote_ident(current_user)")
        return (
            False, f"may not draw ids from {', '.join(unusable)}",
            f"As the tables' owner: GRANT USAGE, SELECT ON SEQUENCE {', '.join(unusable)} TO {role};",
        )  # fmt: skip
    if behind:
        return False, "some would give ids that are in use", f"As the tables' owner: {' '.join(behind)}"
    return True, "ids can be drawn", ""


def _user(connection: Connection, target: MyBookshelf2) -> _Answer:
    row = connection.execute(
        "SELECT id, active, has_table_privilege(to_regclass('public.user_roles')::oid, 'SELECT') "
        "AND has_table_privilege(to_regclass('public.role')::oid, 'SELECT') "
        'FROM public."user" WHERE user_name = %s',
        (target.user,),
    ).fetchone()
    if row is None:
        names = [r[0] for r in connection.execute('SELECT user_name FROM public."user" ORDER BY id LIMIT 10')]
        return (
            False, f"there is no user {target.user!r}",
            f"Set BOOKPIPE_MYBOOKSHELF2_USER to one of {', '.join(names) or 'none: make a user first'}.",
        )  # fmt: skip
    user, active, readable = row
    if not readable:
        return True, f"{target.user} is there; this role may not see the user's roles", ""
    held = connection.execute(
        "WITH RECURSIVE held AS (SELECT r.id, r.name, r.parent_id FROM public.user_roles l "
        "JOIN public.role r ON r.id = l.role_id WHERE l.user_id = %s "
        "UNION SELECT r.id, r.name, r.parent_id FROM held h JOIN public.role r ON r.id = h.parent_id) "
        "SELECT name FROM held",
        (user,),
    ).fetchall()
    best = [role for role in reversed(ROLES) if (role,) in held]
    if not best:
        return (
            False, f"{target.user} may only look: none of the roles {', '.join(ROLES)}",
            "Give the user the role `user` in MyBookshelf2, or set BOOKPIPE_MYBOOKSHELF2_USER to somebody else.",
        )  # fmt: skip
    advice = "The user is not active and cannot log in; others still see the books." if active is False else ""
    return True, f"{target.user}, with the role {best[0]}", advice


def _trigger_rights(connection: Connection, _: MyBookshelf2) -> _Answer:
    if tables.find_rights(connection).owns_tables:
        return True, "owns the tables: each batch's search text is written once", ""
    role, owners, superuser = _one(
        connection,
        "SELECT quote_ident(current_user), string_agg(DISTINCT quote_ident(r.rolname), ', '), bool_or(r.rolsuper) "
        "FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner "
        "WHERE c.relnamespace = to_regnamespace('public') AND c.relname = ANY(%s)",
        ["author", "series", "ebook", "source", "ebook_authors"],
    )
    # Membership in a superuser would be more than a loader should have.
    how = (
        "let MyBookshelf2's own role own its tables (ALTER TABLE ... OWNER TO ...) and put that role into "
        "BOOKPIPE_MYBOOKSHELF2_URL."
        if superuser
        else f"put {owners} into BOOKPIPE_MYBOOKSHELF2_URL, or as a superuser: GRANT {owners} TO {role};"
    )
    return (
        True, f"the tables belong to {owners}: loads take the slow way, through the row triggers",
        f"About ten times faster for a large load: {how}",
    )  # fmt: skip


def _triggers(connection: Connection, _: MyBookshelf2) -> _Answer:
    rows = connection.execute(
        "SELECT c.relname, t.tgname, t.tgenabled::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "WHERE c.relnamespace = to_regnamespace('public') AND NOT t.tgisinternal AND c.relname = ANY(%s) ORDER BY 1, 2",
        (list(_SEARCHED),),
    ).fetchall()
    found = {(table, trigger) for table, trigger, _ in rows}
    if missing := [f"{trigger} on {table}" for table, trigger in tables.INSERT_TRIGGERS.items()
                   if (table, trigger) not in found]:  # fmt: skip
        return (
            False, f"missing: {', '.join(missing)}",
            "Books added in the application are not found by its search: make its triggers again with its own scripts.",
        )  # fmt: skip
    # O fires in ordinary sessions, A always; D is off and R fires only in replication.
    if off := [(table, trigger) for table, trigger, enabled in rows if enabled not in ("O", "A")]:
        return (
            False, f"off: {', '.join(f'{trigger} on {table}' for table, trigger in off)}",
            "Books the application adds meanwhile are not found by its search. As the owner: "
            + " ".join(f"ALTER TABLE {table} ENABLE TRIGGER {trigger};" for table, trigger in off)
            + " UPDATE ebook SET full_text = to_tsvector('custom', ebook_full_title(id)) WHERE full_text IS NULL;",
        )  # fmt: skip
    return True, f"all {len(rows)} that keep the search text are on", ""


def _text_search(connection: Connection, _: MyBookshelf2) -> _Answer:
    (found,) = _one(
        connection,
        "SELECT count(*) FROM pg_ts_config WHERE cfgname = 'custom' AND cfgnamespace = to_regnamespace('public')",
    )
    mapping = (
        "ALTER TEXT SEARCH CONFIGURATION public.custom ALTER MAPPING FOR word, hword, hword_part "
        "WITH unaccent, english_stem;"
    )
    if not found:
        return (
            False, "there is no text search configuration public.custom",
            "As a superuser: CREATE EXTENSION IF NOT EXISTS unaccent; "
            f"CREATE TEXT SEARCH CONFIGURATION public.custom (COPY = pg_catalog.english); {mapping}",
        )  # fmt: skip
    (plain,) = _one(
        connection, "SELECT to_tsvector('public.custom', 'Žížala') = to_tsvector('public.custom', 'Zizala')"
    )
    if not plain:
        return True, "public.custom keeps diacritics", f"MyBookshelf2's own ignores them; as its owner: {mapping}"
    return True, "public.custom", ""


def _journal(connection: Connection, _: MyBookshelf2) -> _Answer:
    prefix = tables.find_rights(connection).journal
    role, database, made, schema, create, database_create = _one(
        connection,
        "SELECT quote_ident(current_user), quote_ident(current_database()), to_regnamespace('bookpipe') IS NOT NULL, "
        "has_schema_privilege(n.name, 'USAGE'), has_schema_privilege(n.name, 'CREATE'), "
        "has_database_privilege(current_database(), 'CREATE') "
        "FROM (SELECT CASE WHEN %s OR to_regnamespace('bookpipe') IS NULL THEN 'public' ELSE 'bookpipe' END) n(name)",
        prefix == "public.bookpipe_",
    )
    may_grant = f"As a superuser: {'GRANT USAGE, CREATE ON' if made else 'CREATE'} SCHEMA bookpipe " + (
        f"TO {role};" if made else f"AUTHORIZATION {role};"
    )
    if prefix is None or not schema:
        return False, "no place for it: the role may create tables neither in schema bookpipe nor in public", may_grant
    where = "schema bookpipe" if prefix == "bookpipe." else "tables bookpipe_* in schema public"
    if Journal(connection, tables.Rights(owns_tables=False, may_index=False, journal=prefix)).exists():
        rows = connection.execute(
            "SELECT k.name FROM unnest(%s::text[]) AS k(name) WHERE to_regclass(k.name) IS NOT NULL "
            "AND NOT (has_table_privilege(k.name, 'SELECT') AND has_table_privilege(k.name, 'INSERT') "
            "AND has_table_privilege(k.name, 'DELETE') "
            "AND (k.name <> %s OR has_table_privilege(k.name, 'UPDATE')))",
            ([f"{prefix}{table}" for table in (*_JOURNAL, *_SHARDS)], f"{prefix}shard"),
        ).fetchall()
        if rows:
            names = ", ".join(name for (name,) in rows)
            return (
                False, f"made by another role; this one may not write {names}",
                f"As a superuser: GRANT SELECT, INSERT, UPDATE, DELETE ON {names} TO {role};",
            )  # fmt: skip
        return True, f"{where}, {_loaded_books(connection):,} books loaded so far", ""
    if prefix == "bookpipe." and not made:
        create = database_create
    if not create:
        return False, f"not made yet, and the role may not create tables ({where})", may_grant
    return True, f"the first load makes it ({where} of database {database})", ""


def _loaded_books(connection: Connection) -> int:
    """How many books earlier loads made; 0 when that cannot be known."""
    try:
        rights = tables.find_rights(connection)
        if rights.journal is None or not Journal(connection, rights).exists():
            return 0
        return int(_one(connection, f"SELECT count(*) FROM {rights.journal}book")[0])
    except (BookpipeError, psycopg.Error):
        return 0


def _indexes(connection: Connection, target: MyBookshelf2) -> _Answer:
    rows = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid AND i.indisvalid "
        "WHERE c.relnamespace = to_regnamespace('public') AND c.relname = ANY(%s)",
        (list(tables.INDEXES),),
    ).fetchall()
    missing = {name: tables.INDEXES[name] for name in tables.INDEXES if (name,) not in rows}
    if not missing:
        return True, f"all {len(tables.INDEXES)} are there", ""
    owns = tables.find_rights(connection).owns_tables
    role, may_create = _one(connection, "SELECT quote_ident(current_user), has_schema_privilege('public', 'CREATE')")
    statements = " ".join(f"CREATE INDEX {n} ON public.{table} {columns};" for n, (table, columns) in missing.items())
    slower = "Without them each batch takes longer the more books there are."
    if target.create_indexes and owns and may_create:
        return True, f"the first load makes {len(missing)}", ""
    if target.create_indexes and owns:
        return (
            False, f"{len(missing)} are missing and the role may not create them",
            f"As a superuser: GRANT CREATE ON SCHEMA public TO {role}; or set BOOKPIPE_MYBOOKSHELF2_INDEXES=false.",
        )  # fmt: skip
    if owns:
        return True, f"{len(missing)} are missing", f"{slower} Set BOOKPIPE_MYBOOKSHELF2_INDEXES=true."
    return True, f"{len(missing)} are missing", f"{slower} As the tables' owner: {statements}"


def _one(connection: Connection, query: str, *values: object) -> tuple[Any, ...]:
    row = connection.execute(query.encode(), values).fetchone()
    assert row is not None
    return row


_FIRST = (_server, _tables)  # the others need these
_CHECKS: tuple[tuple[str, _Check], ...] = (
    ("MyBookshelf2: server version", _server),
    ("MyBookshelf2: tables", _tables),
    ("MyBookshelf2: schema version", _version),
    ("MyBookshelf2: rights", _rights),
    ("MyBookshelf2: sequences", _sequences),
    ("MyBookshelf2: user", _user),
    ("MyBookshelf2: triggers", _triggers),
    ("MyBookshelf2: trigger rights", _trigger_rights),
    ("MyBookshelf2: text search", _text_search),
    ("MyBookshelf2: journal", _journal),
    ("MyBookshelf2: indexes", _indexes),
)
