"""Whether a Koito installation can be loaded into, and what to do where it cannot. Nothing is written."""

import os
from collections.abc import Callable

from bookpipe.model.errors import BookpipeError, UnreachableError
from bookpipe.model.findings import Finding, failure, skipped
from bookpipe.targets import sqlite
from bookpipe.targets.koito import tables
from bookpipe.targets.koito.database import Database
from bookpipe.targets.koito.journal import Journal
from bookpipe.targets.koito.lookup_cache import LookupCache
from bookpipe.targets.koito.postgres import LOCKED_TABLES, PostgresDatabase
from bookpipe.targets.koito.server import SETTING, Koito

SPACE_PER_LISTEN = 1024  # bytes: rows and their indexes, the journal, the lookup cache, the log

# (ok, detail, remedy): a Finding without its subject
_Answer = tuple[bool | None, str, str]
_Check = Callable[[Database, Koito], _Answer]


def examine(koito: Koito) -> list[Finding]:
    """Findings about the file or server, then about what is in it.

    What depends on something that failed is skipped. Raises nothing for what is wrong with an installation.
    """
    checks = _FILE_CHECKS if koito.path else _SERVER_CHECKS
    place = "Koito: file" if koito.path else "Koito: server"
    after = [subject for subject, _ in checks]
    try:
        with koito.open(write=False) as database:
            findings = [Finding(place, True, str(koito.path) if koito.path else "answers, and the login works")]
            for n, (subject, check) in enumerate(checks):
                findings.append(_asked(subject, check, database, koito))
                if check is _version and not findings[-1].ok:
                    return [*findings, *skipped(after[n + 1 :], "the schema version")]
            return findings
    except UnreachableError as error:
        return [failure(place, error), *skipped(after, "the server")]
    except BookpipeError as error:
        return [failure(place, error), *skipped(after, f"the {place.removeprefix('Koito: ')}")]


def _asked(subject: str, check: _Check, database: Database, koito: Koito) -> Finding:
    try:
        with database.reading():
            return Finding(subject, *check(database, koito))
    except BookpipeError as error:
        return failure(subject, error)


def _version(database: Database, _: Koito) -> _Answer:
    tables.check_schema(database)
    return True, f"schema version {database.version} ({database.flavour})", ""


def _user(database: Database, koito: Koito) -> _Answer:
    return True, f"listens go to {tables.check_user(database, koito.user_id)} (id {koito.user_id})", ""


def _journal(database: Database, _: Koito) -> _Answer:
    journal = Journal(database)
    if not journal.exists():
        return True, "not there yet; the first load makes it", ""
    ((chunks, listens),) = database.run(
        f"SELECT (SELECT count(*) FROM {database.own('load')}), (SELECT count(*) FROM listens)"
    )
    return True, f"{chunks:,} chunks were loaded; Koito has {listens:,} listens", ""


def _lookups(database: Database, koito: Koito) -> _Answer:
    if not koito.lookup_cache:
        return None, "off: strictly Koito's own rules", ""
    if not LookupCache(database, koito.user_id).exists():
        return True, "not there yet; the first load makes it", ""
    ((rows,),) = database.run(f"SELECT count(*) FROM {database.own('track_lookup')}")
    return True, f"{rows:,} resolutions are remembered", ""


def _names(database: Database, _: Koito) -> _Answer:
    """Koito shows nothing without a primary name, and what has two of them twice."""
    wrong = []
    for kind in ("artist", "release", "track"):
        ((count,),) = database.run(
            f"SELECT count(*) FROM (SELECT x.id FROM {kind}s x LEFT JOIN {kind}_aliases n ON n.{kind}_id = x.id "
            "AND n.is_primary GROUP BY x.id HAVING count(n.alias) <> 1) w"
        )
        if count:
            wrong.append(f"{count:,} {kind}s")
    if wrong:
        return True, f"{', '.join(wrong)} without exactly one primary name", "Koito hides them or shows them twice."
    return True, "every artist, release and track has one primary name", ""


# The SQLite file


def _writable(_: Database, koito: Koito) -> _Answer:
    assert koito.path is not None
    sqlite.check_file(koito.path, SETTING, write=True)
    owner, me = koito.path.stat().st_uid, os.geteuid()
    if me in (owner, 0):  # SQLite gives what root makes beside a file to the file's owner
        return True, "the file and its folder", ""
    return (
        True, f"the file belongs to user {owner}, this is user {me}",
        f"SQLite makes files beside it that both must be able to write: better run bookpipe as user {owner}.",
    )  # fmt: skip


def _log(database: Database, koito: Koito) -> _Answer:
    ((mode,),) = database.run("PRAGMA journal_mode")
    # A file that is opened as unchangeable, because we may not write beside it, has no mode of its own.
    if mode not in ("wal", "off"):
        return True, f"the file is in mode {mode}", "Koito switches to a write-ahead log (wal) when it starts."
    assert koito.path is not None
    log = f"{os.path.realpath(koito.path)}-wal"
    size = os.path.getsize(log) if os.path.exists(log) else 0
    return True, f"a write-ahead log, {size // 1024:,} KiB large", ""


def _file_system(_: Database, koito: Koito) -> _Answer:
    assert koito.path is not None
    status = os.statvfs(koito.path)
    free = status.f_bavail * status.f_frsize
    return (
        True, f"a local one; {free // 1024**2:,} MiB free, enough for about {free // SPACE_PER_LISTEN:,} listens", ""
    )  # fmt: skip


def _running(_: Database, koito: Koito) -> _Answer:
    assert koito.path is not None
    used = sqlite.in_use_elsewhere(koito.path)
    if used is None:
        return None, "cannot be seen from here", ""
    if used:
        return True, "another program has the file open: Koito seems to run, and may go on", ""
    return True, "nobody else has the file open", ""


def _foreign_keys(database: Database, _: Koito) -> _Answer:
    rows = database.run('SELECT "table", count(*) FROM pragma_foreign_key_check() GROUP BY 1 ORDER BY 1')
    if rows:
        found = ", ".join(f"{count:,} in {table}" for table, count in rows)
        return (
            False, f"rows that refer to nothing: {found}",
            "Something deleted rows with foreign keys off. Restore a backup, or remove these rows after one.",
        )  # fmt: skip
    return True, "all rows refer to rows that are there", ""


# The PostgreSQL server


def _rights(database: Database, _: Koito) -> _Answer:
    written = (*LOCKED_TABLES, "listens")
    lacking = [
        f"{privilege} on {table}"
        for table, privilege in database.run(
            "SELECT t.name, p.name FROM unnest(?::text[]) AS t(name) "
            "CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'REFERENCES']) AS p(name) "
            "WHERE NOT has_table_privilege('public.' || t.name, p.name)",
            list(written),
        )
    ]
    if lacking:
        return (
            False, f"no {', no '.join(lacking)}",
            f"Put the role that owns Koito's tables (Koito's own) into {SETTING}.",
        )  # fmt: skip
    if isinstance(database, PostgresDatabase) and database.prefix != "bookpipe.":
        return True, "may write; bookpipe's own tables go into public, as bookpipe_*", ""
    return True, "may read, write and lock what a load writes", ""


def _read_only(database: Database, _: Koito) -> _Answer:
    ((standby, version),) = database.run("SELECT pg_is_in_recovery(), current_setting('server_version')")
    if standby:
        return False, f"PostgreSQL {version}, a standby", "Use the primary server."
    return True, f"PostgreSQL {version}", ""


def _connected(database: Database, _: Koito) -> _Answer:
    ((others,),) = database.run(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND application_name IS DISTINCT FROM 'bookpipe' "  # null where this role may not see it
        "AND coalesce(backend_type, 'client backend') = 'client backend'"
    )
    if others:
        return True, f"{others:,} other connections: Koito seems to run, and may go on", ""
    return True, "nobody else is connected", ""


def _enforced(database: Database, _: Koito) -> _Answer:
    rows = database.run(
        "SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND NOT convalidated "
        "AND connamespace = 'public'::regnamespace"
    )
    if rows:
        return False, f"not checked on {', '.join(t for (t,) in rows)}", "ALTER TABLE ... VALIDATE CONSTRAINT ..."
    return True, "the server checks them", ""


_FILE_CHECKS: tuple[tuple[str, _Check], ...] = (
    ("Koito: schema version", _version),
    ("Koito: user", _user),
    ("Koito: writable", _writable),
    ("Koito: log", _log),
    ("Koito: file system", _file_system),
    ("Koito: in use", _running),
    ("Koito: journal", _journal),
    ("Koito: lookup cache", _lookups),
    ("Koito: names", _names),
    ("Koito: foreign keys", _foreign_keys),
)
_SERVER_CHECKS: tuple[tuple[str, _Check], ...] = (
    ("Koito: server version", _read_only),
    ("Koito: schema version", _version),
    ("Koito: user", _user),
    ("Koito: rights", _rights),
    ("Koito: in use", _connected),
    ("Koito: journal", _journal),
    ("Koito: lookup cache", _lookups),
    ("Koito: names", _names),
    ("Koito: foreign keys", _enforced),
)
