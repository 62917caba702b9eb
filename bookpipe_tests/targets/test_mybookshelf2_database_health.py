"""What doctor says about real databases, whole and broken. Passwords must not appear in any of it."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from bookpipe.demo.embedded_server import ServerInfo
from bookpipe.model.findings import Finding
from bookpipe.model.secrets import Secret
from bookpipe.targets.mybookshelf2.health import examine
from bookpipe.targets.mybookshelf2.server import MyBookshelf2
from bookpipe.targets.mybookshelf2.shards import Identity, ShardJournal

PASSWORD = "rather-secret-77"  # of every role a test makes

_numbers = count(1)

# What a role needs that shall load without owning anything.
LOADER_GRANTS = (
    "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}",
)


@pytest.fixture
def admin(postgres: ServerInfo, mybookshelf2_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The superuser in the database under test."""
    database = mybookshelf2_url.rsplit("/", 1)[1]
    with closing(psycopg.connect(postgres.socket_url(database), autocommit=True)) as connection:
        yield connection


@pytest.fixture
def make_role(postgres: ServerInfo, admin: psycopg.Connection[Any]) -> Iterator[Callable[..., str]]:
    """A new role with some grants; gives its URL. The roles go at the end."""
    made = []

    def make(*grants: str) -> str:
        name = f"role_{next(_numbers)}"
        role = sql.Identifier(name)
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(PASSWORD)))
        made.append(role)
        for grant in grants:
            admin.execute(sql.SQL(grant).format(role=role))
        return postgres.url(admin.info.dbname, name, PASSWORD)

    yield make
    for role in made:
        admin.execute(sql.SQL("DROP OWNED BY {}").format(role))
        admin.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """The folders of a library: two books and a database, of which only the folders matter here."""
    path = tmp_path / "library"
    for author in ("Čapek", "Frank Herbert"):
        folder = path / author / "Title (1)"
        folder.mkdir(parents=True)
        (folder / "book.epub").write_bytes(b"x" * 500)
        (folder / "metadata.opf").write_bytes(b"x" * 50)
    (path / "metadata.db").write_bytes(b"")
    return path


def _findings(
    url: str, data_dir: Path, library: Path | None = None, books: int | None = None, **settings: Any
) -> dict[str, Finding]:
    """By subject, without its first word."""
    found = examine(MyBookshelf2(Secret(url), data_dir, **settings), library, books)
    assert len({f.subject for f in found}) == len(found)
    for finding in found:
        assert PASSWORD not in finding.detail + finding.remedy
        assert finding.ok is not False or finding.detail
    return {f.subject.removeprefix("MyBookshelf2: "): f for f in found}


def _failed(found: dict[str, Finding]) -> list[str]:
    return [subject for subject, finding in found.items() if finding.ok is False]


def test_a_healthy_installation_has_nothing_wrong(mybookshelf2_url: str, mybookshelf2_dir: Path, library: Path) -> None:
    found = _findings(mybookshelf2_url, mybookshelf2_dir, library, 2)
    assert {subject: f.ok for subject, f in found.items() if f.ok is not True} == {}
    # What remains is what nobody can see from here.
    assert [subject for subject, f in found.items() if f.remedy] == ["links"]
    assert found["user"].detail == "admin, with the role admin"
    assert found["indexes"].detail == "the first load makes 4"
    assert "schema bookpipe" in found["journal"].detail


def test_an_examination_leaves_nothing_behind(mybookshelf2_url: str, mybookshelf2_dir: Path, library: Path) -> None:
    def everything() -> Any:
        with closing(psycopg.connect(mybookshelf2_url)) as connection:
            relations = connection.execute("SELECT oid, relname FROM pg_class ORDER BY 1").fetchall()
        return relations, sorted(mybookshelf2_dir.rglob("*")), sorted(library.rglob("*"))

    before = everything()
    for mode in ("symlink", "hardlink", "copy"):
        assert _findings(mybookshelf2_url, mybookshelf2_dir, library, file_mode=mode)[f"{mode} works"].ok is True
    assert everything() == before


def test_a_loaded_installation_has_its_journal_and_indexes(
    mybookshelf2_url: str, mybookshelf2_dir: Path, library: Path
) -> None:
    with MyBookshelf2(Secret(mybookshelf2_url), mybookshelf2_dir).writing() as writer:
        writer.connection.execute(f"INSERT INTO {writer.journal.name('book')} VALUES (1, 1, 1, 1), (1, 2, 2, 1)")
    found = _findings(mybookshelf2_url, mybookshelf2_dir, library, 5)
    assert _failed(found) == []
    assert found["indexes"].detail == "all 4 are there"
    assert "2 books loaded so far" in found["journal"].detail
    assert "for 3 books" in found["free inodes"].detail + found["free space"].detail


DATABASE = [
    *("server version", "tables", "schema version", "rights", "sequences", "user", "triggers", "trigger rights"),
    *("text search", "journal", "indexes"),
]


def test_a_wrong_password_fails_the_login_only(postgres: ServerInfo, mybookshelf2_url: str, tmp_path: Path) -> None:
    database = mybookshelf2_url.rsplit("/", 1)[1]
    found = _findings(postgres.url(database, "ebooks", PASSWORD), tmp_path)
    assert found["server"].ok is True
    assert found["login"].ok is False
    assert "BOOKPIPE_MYBOOKSHELF2_URL" in found["login"].remedy
    assert {found[subject].ok for subject in DATABASE} == {None}


@pytest.mark.parametrize("missing", ["role", "database"])
def test_a_login_that_does_not_exist_is_told_apart_from_a_dead_server(
    postgres: ServerInfo, tmp_path: Path, missing: str
) -> None:
    url = postgres.url("nothing_here", "ebooks", "ebooks") if missing == "database" else postgres.socket_url("x", "y")
    found = _findings(url, tmp_path)
    assert [found[subject].ok for subject in ("server", "login")] == [True, False]
    assert missing in found["login"].detail


def test_a_server_that_does_not_answer_is_one_failure(mybookshelf2_dir: Path, library: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, never listening
        url = f"postgresql://ebooks:{PASSWORD}@127.0.0.1:{closed.getsockname()[1]}/ebooks"
        found = _findings(url, mybookshelf2_dir, library)
    assert _failed(found) == ["server"]
    assert found["server"].remedy
    assert {found[subject].ok for subject in ("login", *DATABASE)} == {None}
    # The folders do not need the server.
    assert found["book folder"].ok is True
    assert found["symlink works"].ok is True


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ebooks:50%zz{PASSWORD}@127.0.0.1/db",
        f"postgresql://ebooks:p@{PASSWORD}@127.0.0.1/db",
        f"postgresql://ebooks:p/{PASSWORD}@127.0.0.1/db",
        f"postgresql://ebooks:{PASSWORD}/x@127.0.0.1/db",
        f"postgresql://ebooks:a b {PASSWORD}@127.0.0.1/db",
        f"mysql://ebooks:{PASSWORD}@127.0.0.1/db",
        PASSWORD,
    ],
)
def test_a_url_that_says_something_else_than_meant_is_explained_without_quoting_it(url: str, tmp_path: Path) -> None:
    found = _findings(url, tmp_path)
    assert found["address"].ok is False
    assert "%40" in found["address"].remedy
    assert {found[subject].ok for subject in ("server", "login", *DATABASE)} == {None}


def test_the_database_of_another_application_is_noticed(postgres: ServerInfo, mybookshelf2_dir: Path) -> None:
    found = _findings(postgres.superuser_url, mybookshelf2_dir)
    assert _failed(found) == ["tables"]
    assert "author" in found["tables"].detail
    assert "BOOKPIPE_MYBOOKSHELF2_URL" in found["tables"].remedy
    assert {found[subject].ok for subject in DATABASE[2:]} == {None}


@pytest.mark.parametrize(
    ("change", "subject", "detail", "remedy"),
    [
        ("UPDATE version SET version = 1", "schema version", "version 1", "migrate_tables"),
        ("UPDATE version SET version = 3", "schema version", "version 3", "newer"),
        ("DELETE FROM version", "schema version", "None", "migrate_tables"),
        ("ALTER TABLE source DROP COLUMN load_source", "tables", "source.load_source", "migrate_tables"),
        (
            "ALTER TABLE ebook DISABLE TRIGGER ebook_ts_insert", "triggers", "ebook_ts_insert on ebook",
            "ALTER TABLE ebook ENABLE TRIGGER ebook_ts_insert;",
        ),
        (
            "ALTER TABLE author ENABLE REPLICA TRIGGER ebook_ts_update", "triggers", "ebook_ts_update on author",
            "ALTER TABLE author ENABLE TRIGGER ebook_ts_update;",
        ),
        ("DROP TRIGGER ebook_ts_update ON ebook_authors", "triggers", "missing: ebook_ts_update", "scripts"),
        ("DROP TEXT SEARCH CONFIGURATION public.custom", "text search", "no text search", "CREATE TEXT SEARCH"),
        ("SELECT setval('ebook_id_seq', 1, false)", "sequences", "in use", "setval('public.ebook_id_seq'"),
        ("ALTER SEQUENCE genre_id_seq OWNED BY NONE", "sequences", "genre.id", "OWNED BY genre.id"),
        ("REVOKE TEMPORARY ON DATABASE {database} FROM public, ebooks", "rights", "temporary", "GRANT TEMPORARY"),
        ("REVOKE CREATE ON SCHEMA public FROM public, ebooks", "indexes", "may not create", "GRANT CREATE ON SCHEMA"),
        ("UPDATE \"user\" SET user_name = 'root'", "user", "no user 'admin'", "root"),
        ("DELETE FROM user_roles", "user", "may only look", "role `user`"),
        ("UPDATE user_roles SET role_id = 1", "user", "may only look", "role `user`"),
        ("ALTER ROLE ebooks IN DATABASE {database} SET default_transaction_read_only = on", "server version",
         "read-only", "primary"),
    ],
)  # fmt: skip
def test_one_thing_that_is_wrong_is_one_failure_with_its_remedy(
    mybookshelf2_url: str, mybookshelf2_dir: Path, admin: psycopg.Connection[Any], change: str, subject: str,
    detail: str, remedy: str,
) -> None:  # fmt: skip
    now = "'2020-01-01', '2020-01-01'"
    admin.execute(f"INSERT INTO ebook (id, version_id, title, language_id, base_dir, created, modified) "
                  f"VALUES (7, 1, 'T', 1, 'A/T', {now})".encode())  # fmt: skip
    admin.execute("SELECT setval('ebook_id_seq', 7)")
    admin.execute(change.format(database=admin.info.dbname).encode())
    found = _findings(mybookshelf2_url, mybookshelf2_dir)
    assert _failed(found) == [subject]
    assert detail in found[subject].detail
    assert remedy in found[subject].remedy


def test_the_remedies_for_triggers_and_sequences_work(
    mybookshelf2_url: str, mybookshelf2_dir: Path, admin: psycopg.Connection[Any]
) -> None:
    admin.execute("ALTER TABLE ebook DISABLE TRIGGER USER")
    admin.execute("SELECT setval('language_id_seq', 1)")
    before = _findings(mybookshelf2_url, mybookshelf2_dir)
    assert _failed(before) == ["sequences", "triggers"]
    with closing(psycopg.connect(mybookshelf2_url, autocommit=True)) as owner:
        for subject in ("sequences", "triggers"):
            owner.execute(before[subject].remedy.partition("owner: ")[2].encode())
    assert _failed(_findings(mybookshelf2_url, mybookshelf2_dir)) == []


def test_a_user_of_the_application_with_the_role_user_will_do(
    mybookshelf2_url: str, mybookshelf2_dir: Path, admin: psycopg.Connection[Any]
) -> None:
    admin.execute("UPDATE user_roles SET role_id = 2")
    admin.execute('UPDATE "user" SET active = false')
    user = _findings(mybookshelf2_url, mybookshelf2_dir)["user"]
    assert (user.ok, user.detail) == (True, "admin, with the role user")
    assert "not active" in user.remedy


def test_a_configuration_without_unaccent_is_advice(
    mybookshelf2_url: str, mybookshelf2_dir: Path, admin: psycopg.Connection[Any]
) -> None:
    admin.execute("ALTER TEXT SEARCH CONFIGURATION public.custom ALTER MAPPING FOR word WITH english_stem")
    found = _findings(mybookshelf2_url, mybookshelf2_dir)["text search"]
    assert found.ok is True
    assert "unaccent" in found.remedy


def test_a_role_that_owns_nothing_takes_the_slow_way(
    make_role: Callable[..., str], admin: psycopg.Connection[Any], mybookshelf2_dir: Path
) -> None:
    url = make_role(*LOADER_GRANTS)
    found = _findings(url, mybookshelf2_dir)
    assert _failed(found) == ["journal"]
    assert found["rights"].ok is True
    assert found["sequences"].ok is True
    assert found["trigger rights"].ok is True
    assert "slow way" in found["trigger rights"].detail
    assert "GRANT ebooks TO role_" in found["trigger rights"].remedy
    assert "CREATE INDEX bookpipe_source_size_hash" in found["indexes"].remedy
    # What it says makes it right.
    admin.execute(found["journal"].remedy.removeprefix("As a superuser: ").encode())
    admin.execute(found["indexes"].remedy.partition("owner: ")[2].encode())
    admin.execute(found["trigger rights"].remedy.partition("superuser: ")[2].encode())
    found = _findings(url, mybookshelf2_dir)
    assert _failed(found) == []
    assert "owns the tables" in found["trigger rights"].detail
    assert found["indexes"].remedy == ""


def test_a_role_that_may_only_read_is_told_what_to_grant(
    make_role: Callable[..., str], admin: psycopg.Connection[Any], mybookshelf2_dir: Path
) -> None:
    url = make_role("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    found = _findings(url, mybookshelf2_dir)
    assert _failed(found) == ["rights", "sequences", "journal"]
    assert "no INSERT on author, series, ebook" in found["rights"].detail
    assert "no UPDATE on author, series, ebook, source" in found["rights"].detail
    for subject in ("rights", "sequences", "journal"):
        admin.execute(found[subject].remedy.partition(": ")[2].encode())
    assert _failed(_findings(url, mybookshelf2_dir)) == []


def test_the_rights_that_are_asked_for_let_a_load_begin_and_lock(
    make_role: Callable[..., str], admin: psycopg.Connection[Any], mybookshelf2_dir: Path
) -> None:
    url = make_role()
    found = _findings(url, mybookshelf2_dir)
    for subject in ("rights", "sequences", "journal"):
        admin.execute(found[subject].remedy.partition(": ")[2].encode())
    assert _failed(_findings(url, mybookshelf2_dir)) == []
    with MyBookshelf2(Secret(url), mybookshelf2_dir).writing() as writer, writer.connection.transaction():
        writer.connection.execute("LOCK TABLE author, series, ebook, source IN SHARE ROW EXCLUSIVE MODE")


def test_a_role_without_any_right_gets_findings_and_no_traceback(
    make_role: Callable[..., str], mybookshelf2_dir: Path
) -> None:
    found = _findings(make_role(), mybookshelf2_dir)
    assert found["tables"].ok is True
    assert _failed(found) == ["schema version", "rights", "sequences", "user", "journal"]
    assert "GRANT SELECT ON author" in found["rights"].remedy
    assert '"user"' in found["rights"].remedy


def test_a_journal_of_another_role_needs_grants(
    make_role: Callable[..., str], mybookshelf2_url: str, mybookshelf2_dir: Path, admin: psycopg.Connection[Any]
) -> None:
    with MyBookshelf2(Secret(mybookshelf2_url), mybookshelf2_dir).writing():
        pass
    url = make_role(*LOADER_GRANTS, "GRANT USAGE ON SCHEMA bookpipe TO {role}")
    found = _findings(url, mybookshelf2_dir)
    assert _failed(found) == ["journal"]
    assert "bookpipe.book" in found["journal"].detail
    admin.execute(found["journal"].remedy.removeprefix("As a superuser: ").encode())
    assert _failed(_findings(url, mybookshelf2_dir)) == []


def test_the_journal_of_shards_needs_grants_as_well(
    make_role: Callable[..., str], mybookshelf2_url: str, mybookshelf2_dir: Path, admin: psycopg.Connection[Any]
) -> None:
    identity = Identity("tar", 1, 1)
    own = MyBookshelf2(Secret(mybookshelf2_url), mybookshelf2_dir)
    with own.writing() as writer:
        ShardJournal(writer.journal, "tars", "1").begin(identity, own.folder, "tar:1")
    tables = ("load", "origin", "book", "file", "created", "placement", "shard_chunk", "shard")
    grants = [f"GRANT SELECT, INSERT, DELETE ON bookpipe.{table} TO {{role}}" for table in tables]
    sequences = "GRANT USAGE ON ALL SEQUENCES IN SCHEMA bookpipe TO {role}"
    url = make_role(*LOADER_GRANTS, "GRANT USAGE ON SCHEMA bookpipe TO {role}", sequences, *grants)
    found = _findings(url, mybookshelf2_dir)
    assert _failed(found) == ["journal"]
    assert found["journal"].detail.endswith("may not write bookpipe.shard")  # it is updated, too
    admin.execute(found["journal"].remedy.removeprefix("As a superuser: ").encode())
    assert _failed(_findings(url, mybookshelf2_dir)) == []
    other = MyBookshelf2(Secret(url), mybookshelf2_dir)
    with other.writing() as writer:
        assert ShardJournal(writer.journal, "tars", "1").begin(identity, other.folder, "tar:1").generation == 1


def test_indexes_that_are_switched_off_are_advice(mybookshelf2_url: str, mybookshelf2_dir: Path) -> None:
    found = _findings(mybookshelf2_url, mybookshelf2_dir, create_indexes=False)["indexes"]
    assert found.ok is True
    assert "BOOKPIPE_MYBOOKSHELF2_INDEXES=true" in found.remedy
