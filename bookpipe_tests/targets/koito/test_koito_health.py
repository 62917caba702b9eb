"""The doctor's findings say what is wrong with a Koito and what to do; the audit finds what a load should have made."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bookpipe.demo.koito_database import create_koito_sqlite
from bookpipe.model.findings import Finding
from bookpipe.targets.koito.audit import audit_partition
from bookpipe.targets.koito.health import examine
from bookpipe.targets.koito.server import open_koito
from bookpipe_tests.targets.koito.music import START, Music, listen
from bookpipe_tests.unprivileged import nobody, open_folder


def findings(music: Music) -> dict[str, Finding]:
    return {finding.subject.removeprefix("Koito: "): finding for finding in examine(music.koito)}


def test_a_new_installation_is_well(music: Music) -> None:
    music.close()
    found = findings(music)
    assert all(finding.ok for finding in found.values()), found
    assert found["user"].detail == "listens go to admin (id 1)"
    assert not any(finding.remedy for finding in found.values())
    if music.sqlite:
        assert music.files() == ["koito.db"]


def test_a_loaded_installation_is_well_and_says_what_is_there(music: Music) -> None:
    music.load([listen("A", "s"), listen("A", "t", at=START + 1)])
    found = findings(music)
    assert all(finding.ok for finding in found.values()), found
    assert "1 chunks" in found["journal"].detail and "2 listens" in found["journal"].detail
    assert found["lookup cache"].detail.startswith("2 ")
    music.cache = False
    assert findings(music)["lookup cache"].ok is None


def test_every_failure_has_a_remedy_and_the_rest_is_skipped(music: Music, tmp_path: Path) -> None:
    music.sql("DELETE FROM goose_db_version WHERE version_id > 0")
    found = findings(music)
    assert "schema version 0" in found["schema version"].detail
    assert "Start" in found["schema version"].remedy
    assert found["user"].ok is None and found["user"].detail.startswith("skipped")
    music.url = f"sqlite:///{tmp_path}/none.db" if music.sqlite else "postgresql://u:p@127.0.0.1:1/koito"
    found = findings(music)
    assert found["file" if music.sqlite else "server"].ok is False
    assert {finding.ok for finding in found.values()} == {False, None}
    assert all(finding.remedy for finding in found.values() if finding.ok is False)


def test_a_missing_user_is_found(music: Music) -> None:
    music.options["user_id"] = 3
    finding = findings(music)["user"]
    assert finding.ok is False and "BOOKPIPE_KOITO_USER_ID" in finding.remedy


def test_a_running_koito_is_seen_and_is_no_failure(postgres_music: Music) -> None:
    postgres_music.sql("SELECT 1")
    finding = findings(postgres_music)["in use"]
    assert finding.ok and "seems to run" in finding.detail


def test_rows_that_refer_to_nothing_are_found(sqlite_music: Music) -> None:
    sqlite_music.load([listen("A", "s")])
    with closing(sqlite3.connect(sqlite_music.path)) as careless:
        careless.execute("DELETE FROM tracks")
        careless.commit()
    finding = findings(sqlite_music)["foreign keys"]
    assert finding.ok is False and "listens" in finding.detail and finding.remedy


def test_a_file_that_may_not_be_written_is_found() -> None:
    with open_folder() as folder:
        path = folder / "koito.db"
        create_koito_sqlite(path)
        path.chmod(0o444)
        with nobody():
            found = {f.subject: f for f in examine(open_koito(f"sqlite:///{path}"))}
        assert found["Koito: file"].ok
        assert found["Koito: writable"].ok is False and "owner" in found["Koito: writable"].remedy


def test_a_role_without_rights_is_told_which(postgres_music: Music) -> None:
    postgres_music.sql("REVOKE INSERT ON tracks FROM koito")
    finding = findings(postgres_music)["rights"]
    assert finding.ok is False and finding.detail == "no INSERT on tracks"


def test_entities_without_one_name_are_mentioned(music: Music) -> None:
    music.load([listen("A", "s")])
    music.sql("UPDATE track_aliases SET is_primary = false")
    finding = findings(music)["names"]
    assert finding.ok and "1 tracks" in finding.detail and finding.remedy


# After a load


def test_an_audit_of_what_was_just_loaded_finds_nothing(music: Music) -> None:
    music.load([listen("A", "s"), listen("A", "t", at=START + 1), listen("B", "t", at=START + 2)])
    found = audit_partition(music.koito, "scrobbles", "one")
    assert (found.listens, found.missing_listens, found.entities, found.problems) == (3, 0, 2 + 3 + 3, [])


def test_an_audit_of_a_partition_that_was_never_loaded_is_empty(music: Music) -> None:
    assert audit_partition(music.koito, "scrobbles", "one").entities == 0


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (
            "UPDATE track_aliases SET is_primary = false WHERE track_id = 1",
            "track 1 has 0 primary names instead of one",
        ),
        ("UPDATE artist_aliases SET is_primary = false", "artist 1 has 0 primary names instead of one"),
        (
            "INSERT INTO release_aliases VALUES (1, 'Second', 'Manual', true)",
            "release 1 has 2 primary names instead of one",
        ),
        ("DELETE FROM artist_tracks WHERE track_id = 1", "track 1 has 0 artists"),
        ("UPDATE artist_tracks SET is_primary = true", "track 2 has 2 primary artists"),
    ],
)
def test_an_audit_finds_what_koito_cannot_show(music: Music, damage: str, problem: str) -> None:
    music.load([listen("A", "s", "R"), listen("A", "t", "R", START + 1, artist_names=["A", "B"])])
    music.sql(damage)
    found = audit_partition(music.koito, "scrobbles", "one")
    assert problem in found.problems
    assert found.problem_count == len(found.problems)


def test_an_audit_counts_listens_that_are_gone(music: Music) -> None:
    music.load([listen("A", "s"), listen("A", "t", at=START + 1)])
    music.user.delete_listens(1)
    assert audit_partition(music.koito, "scrobbles", "one").missing_listens == 1
