"""What is not a Koito that can be loaded is refused with a reason and a remedy; looking leaves nothing behind."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from bookpipe.demo.embedded_server import ServerInfo
from bookpipe.demo.koito_database import create_koito_sqlite
from bookpipe.model.errors import BookpipeError, ConfigError, TerminalError, TransientError, UnreachableError
from bookpipe.model.secrets import Secret
from bookpipe.runtime import file_systems
from bookpipe.targets import sqlite
from bookpipe.targets.koito.server import Koito, open_koito
from bookpipe.targets.sqlite import in_use_elsewhere
from bookpipe_tests.targets.koito.music import START, Music, listen
from bookpipe_tests.unprivileged import nobody, open_folder


def refusal(koito: Koito) -> str:
    """What reading and writing both say."""
    said = set()
    for opened in (koito.connect, koito.reading):
        with pytest.raises(ConfigError) as caught, opened():
            pass
        said.add(str(caught.value))
    assert len(said) == 1
    return said.pop()


def at(path: Path) -> Koito:
    return open_koito(f"sqlite:///{path}")


ROOT = Path(__file__).parents[3]  # where the packages are


# Addresses


@pytest.mark.parametrize(
    "url",
    ["", "koito.db", "/srv/koito.db", "sqlite://koito.db", "sqlite:///koito.db", "mysql://u:secret@h/d", "file:/x"],
)
def test_an_address_of_another_kind_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="BOOKPIPE_KOITO_URL") as caught:
        open_koito(url)
    assert "secret" not in str(caught.value)


def test_the_flavour_is_told_by_the_address() -> None:
    assert open_koito("sqlite:////srv/koito/koito.db").flavour == "sqlite"
    assert open_koito("sqlite:////srv/koito/koito.db").path == Path("/srv/koito/koito.db")
    assert open_koito(Secret("postgresql://u:p@h/d")).flavour == "postgresql"
    assert "p@h" not in repr(open_koito("postgresql://u:p@h/d"))


def test_a_path_may_hold_any_characters(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20?#ü"
    folder.mkdir()
    with open_koito(create_koito_sqlite(folder / "koito.db")).connect() as session:
        assert session.journal.exists()


# Files


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert "is not there" in refusal(at(tmp_path / "koito.db"))
    assert os.listdir(tmp_path) == []


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "is a folder" in refusal(at(tmp_path))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "koito.db").touch()
    assert "is empty" in refusal(at(tmp_path / "koito.db"))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "koito.db").write_bytes(b"not a database at all" * 100)
    assert "not a database" in refusal(at(tmp_path / "koito.db"))


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "koito.db")) as connection:
        connection.execute("CREATE TABLE books (id integer)")
    assert "goose_db_version" in refusal(at(tmp_path / "koito.db"))


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(file_systems, "MOUNTS", tmp_path / "mounts")
    return tmp_path / "mounts"


def test_a_file_on_a_network_file_system_is_refused(sqlite_music: Music, mounts: Path) -> None:
    assert sqlite_music.koito.path is not None
    mounts.write_text(
        f"/dev/sda1 / ext4 rw 0 0\nserver:/x {os.path.realpath(sqlite_music.koito.path.parent)} nfs4 rw 0 0\n"
    )
    assert "network file system (nfs4)" in refusal(sqlite_music.koito)


def test_a_system_that_runs_on_a_network_file_system_as_a_whole_is_local(sqlite_music: Music, mounts: Path) -> None:
    mounts.write_text("none / 9p rw 0 0\n")
    with sqlite_music.koito.reading():
        pass


# Rights


@contextmanager
def read_only_koito(change: Callable[[Path], None]) -> Iterator[Path]:
    with open_folder() as folder:
        path = folder / "koito.db"
        create_koito_sqlite(path)
        change(path)
        with nobody():
            yield path
        folder.chmod(0o755)


def test_a_file_that_may_not_be_written_is_refused_for_loading_but_can_be_looked_at() -> None:
    with read_only_koito(lambda path: path.chmod(0o444)) as path:
        with pytest.raises(ConfigError, match=r"koito\.db cannot be written"), at(path).connect():
            pass
        with at(path).reading() as reader:
            assert reader.image.__name__ == "image"
        assert os.listdir(path.parent) == ["koito.db"]


def test_a_folder_that_may_not_be_written_is_refused_for_loading_but_can_be_looked_at() -> None:
    def protect(path: Path) -> None:
        path.chmod(0o666)
        path.parent.chmod(0o555)

    with read_only_koito(protect) as path:
        with pytest.raises(ConfigError, match="keeps its log beside the file"), at(path).connect():
            pass
        with at(path).reading():
            pass
        assert os.listdir(path.parent) == ["koito.db"]


def test_a_file_that_may_not_be_read_is_refused() -> None:
    with read_only_koito(lambda path: path.chmod(0o000)) as path:
        assert "cannot be read" in refusal(at(path))


def test_a_log_that_belongs_to_somebody_else_is_refused_with_a_remedy() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can play two users")

    def protect(path: Path) -> None:
        path.chmod(0o666)
        path.parent.chmod(0o777)
        for ending in ("-wal", "-shm"):
            Path(f"{path}{ending}").touch(mode=0o600)

    with read_only_koito(protect) as path, pytest.raises(ConfigError, match="owner"), at(path).connect():
        pass


# Versions and users, both flavours


@pytest.mark.parametrize(("step", "says"), [(-1, "Start"), (1, "newer Koito")])
def test_another_schema_version_is_refused_by_its_number(music: Music, step: int, says: str) -> None:
    version = (2 if music.sqlite else 5) + step
    if step > 0:
        music.sql("INSERT INTO goose_db_version (version_id, is_applied) VALUES (?, ?)", version, True)
    else:
        music.sql("DELETE FROM goose_db_version WHERE version_id > ?", version)
    before = music.everything()
    said = refusal(music.koito)
    assert f"schema version {version}," in said and says in said
    assert music.everything() == before


def test_a_version_that_was_taken_back_does_not_count(music: Music) -> None:
    music.sql("INSERT INTO goose_db_version (version_id, is_applied) VALUES (?, ?)", 99, False)
    with music.koito.reading():
        pass


def test_a_database_without_a_table_or_a_column_is_refused(music: Music) -> None:
    music.sql("ALTER TABLE listens RENAME COLUMN client TO player")
    assert "client" in refusal(music.koito)
    music.sql("DROP TABLE listens")
    assert "no table listens" in refusal(music.koito)


def test_a_missing_user_is_refused_with_those_that_are_there(music: Music) -> None:
    music.options["user_id"] = 7
    assert "1 (admin)" in refusal(music.koito)
    music.sql("DELETE FROM users")
    assert "Start Koito once" in refusal(music.koito)


def test_indexes_are_not_required(sqlite_music: Music) -> None:
    for (name,) in sqlite_music.sql("SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'idx%'"):
        sqlite_music.sql(f"DROP INDEX {name}")
    assert sqlite_music.load([listen("A", "s")]).counts.inserted == 1


def test_a_server_that_does_not_answer_is_unreachable() -> None:
    with pytest.raises(UnreachableError), open_koito("postgresql://u:p@127.0.0.1:1/koito").connect():
        pass


def test_a_refused_login_is_a_matter_of_the_settings(postgres_music: Music) -> None:
    koito = open_koito(postgres_music.url.replace("koito:koito@", "koito:wrong@"))
    with pytest.raises(ConfigError, match="BOOKPIPE_KOITO_URL") as caught, koito.connect():
        pass
    assert "wrong" not in str(caught.value)


# Looking


def test_looking_writes_nothing_and_leaves_nothing(sqlite_music: Music) -> None:
    sqlite_music.load([listen("A", "s")])
    sqlite_music.close()
    before, content = sqlite_music.files(), sqlite_music.path.read_bytes()
    assert before == ["koito.db"]
    assert sqlite_music.look_up([listen("A", "s")]).loaded == {0}
    assert sqlite_music.files() == before
    assert sqlite_music.path.read_bytes() == content


def test_looking_at_what_a_killed_koito_left_leaves_it_so(sqlite_music: Music, tmp_path: Path) -> None:
    """What is only in the log is seen, and stays there."""
    sqlite_music.load([listen("A", "s")])
    sqlite_music.sql("PRAGMA wal_autocheckpoint = 0")
    sqlite_music.user.scrobble(1, START + 5)
    for name in ("koito.db", "koito.db-wal"):
        shutil.copy(sqlite_music.path.parent / name, tmp_path / name)
    copy = Music(f"sqlite:///{tmp_path}/koito.db")
    before = {name: (tmp_path / name).read_bytes() for name in ("koito.db", "koito.db-wal")}
    assert copy.look_up([listen("A", "s", at=START + 5)]).loaded == {0}
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_link_to_the_file_is_followed(sqlite_music: Music, tmp_path: Path) -> None:
    """The log lies beside the real file, and is the same whoever opens it."""
    link = tmp_path / "link.db"
    link.symlink_to(sqlite_music.path)
    sqlite_music.sql("SELECT 1 FROM users")  # the log is there now
    linked = Music(f"sqlite:///{link}")
    assert linked.load([listen("A", "s")]).counts.inserted == 1
    assert linked.look_up([listen("A", "s")]).loaded == {0}
    assert sqlite_music.titles() == ["s"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["koito", "link.db"]


def test_looking_does_not_make_our_tables(music: Music) -> None:
    with music.koito.reading():
        pass
    tables = "SELECT name FROM sqlite_master" if music.sqlite else "SELECT nspname FROM pg_namespace"
    assert not [name for (name,) in music.sql(tables) if "bookpipe" in name]


def test_a_reader_cannot_write(music: Music) -> None:
    before = music.everything()
    with music.koito.open(write=False) as database:
        try:
            with database.reading():
                database.change("INSERT INTO artists (musicbrainz_id) VALUES (NULL)")
        except BookpipeError:
            pass  # PostgreSQL says so; SQLite takes it back
    assert music.everything() == before


def test_without_the_right_to_make_a_schema_our_tables_are_in_public(
    postgres_music: Music, postgres: ServerInfo
) -> None:
    music = postgres_music
    music.sql("ALTER DATABASE {} OWNER TO postgres".format(music.url.rsplit("/", 1)[1]))
    music.load([listen("A", "s")])
    assert music.one("SELECT count(*) FROM public.bookpipe_load") == 1
    assert music.look_up([listen("A", "s")]).loaded == {0}
    music.undo()
    assert music.one("SELECT count(*) FROM public.bookpipe_load") == 0


# Errors


def test_a_locked_database_is_a_passing_trouble(sqlite_music: Music) -> None:
    sqlite_music.load([listen("A", "s")])
    impatient = Koito(Secret(sqlite_music.url), busy_timeout_s=0.05)
    with impatient.connect() as session:
        sqlite_music.sql("BEGIN IMMEDIATE")
        with pytest.raises(TransientError, match="locked"), session.writing():
            pass
        sqlite_music.sql("COMMIT")
        with session.writing():
            pass


def test_locked_tables_are_a_passing_trouble(postgres_music: Music, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bookpipe.targets.postgres.LOCK_ATTEMPTS", 2)
    monkeypatch.setattr("bookpipe.targets.postgres.SHORT_WAIT", "20ms")
    postgres_music.load([listen("A", "s")])
    with postgres_music.koito.connect() as session:
        with psycopg.connect(postgres_music.admin_url) as other:
            other.execute("INSERT INTO artists DEFAULT VALUES")
            with pytest.raises(TransientError), session.writing():
                pass
        with session.writing():
            pass


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("database is locked", TransientError), ("database table is locked", TransientError),
        ("database or disk is full", TransientError), ("disk I/O error", TransientError),
        ("attempt to write a readonly database", ConfigError), ("unable to open database file", ConfigError),
        ("file is not a database", ConfigError), ("no such table: artists", ConfigError),
        ("database disk image is malformed", TerminalError), ("FOREIGN KEY constraint failed", TerminalError),
    ],
)  # fmt: skip
def test_errors_are_sorted_by_what_helps(text: str, kind: type[BookpipeError]) -> None:
    found = sqlite.translate(sqlite3.OperationalError(text), "writing")
    assert type(found) is kind
    assert str(found).endswith((".", "checks."))


def test_a_damaged_file_is_said_to_be_damaged(sqlite_music: Music) -> None:
    sqlite_music.load([listen(f"A{n}", f"s{n}", at=START + n) for n in range(500)])
    sqlite_music.close()
    content = bytearray(sqlite_music.path.read_bytes())
    content[8192:] = b"\x55" * (len(content) - 8192)
    sqlite_music.path.write_bytes(content)
    with pytest.raises(TerminalError, match="damaged"):
        sqlite_music.look_up([listen("A1", "s1")])


def test_another_process_that_has_the_file_open_is_seen(sqlite_music: Music) -> None:
    """And looking for others does not take away our own presence."""
    look = (
        "import sys; from pathlib import Path; from bookpipe.targets.sqlite import in_use_elsewhere; "
        "print(in_use_elsewhere(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", look, str(sqlite_music.path)]
    with sqlite_music.koito.open(write=True) as database:
        assert database.run("SELECT count(*) FROM users") == [(1,)]
        for _ in range(2):
            assert in_use_elsewhere(sqlite_music.path) is False
            assert subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout == b"True\n"
    assert in_use_elsewhere(sqlite_music.path) is False
