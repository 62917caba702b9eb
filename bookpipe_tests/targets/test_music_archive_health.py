"""The doctor's questions to a music archive, and the audit of what was uploaded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bookpipe.demo.music_archive import LISTENER, Action, Fault
from bookpipe.model.errors import TransientError
from bookpipe.model.findings import Finding
from bookpipe.model.secrets import Secret
from bookpipe.runtime.upload_ledger import Content
from bookpipe.targets.music_archive.audit import Findings, audit_songs
from bookpipe.targets.music_archive.health import examine
from bookpipe_tests.targets.archive_uploads import Uploads, uploads

SUBJECTS = [f"Music archive: {subject}" for subject in ("is there", "login", "role", "strategy")]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Uploads]:
    with uploads(tmp_path, direct_upload=True) as started:
        yield started


def found(up: Uploads) -> dict[str, Finding]:
    findings = examine(up.server)
    assert [finding.subject for finding in findings] == SUBJECTS
    assert up.archive.songs() == []
    return {finding.subject.removeprefix("Music archive: "): finding for finding in findings}


def test_a_healthy_archive_is_found_healthy_without_making_anything(up: Uploads) -> None:
    findings = found(up)
    assert all(finding.ok for finding in findings.values())
    assert "moderator" in findings["login"].detail
    assert "direct" in findings["strategy"].detail
    assert up.archive.state.catalogue.unattached_blobs() == []


def test_multipart_is_healthy_with_a_word_about_it(up: Uploads) -> None:
    up.archive.state.direct_upload = False
    strategy = found(up)["strategy"]
    assert strategy.ok and "multipart" in strategy.detail and strategy.remedy


def test_nobody_there_is_the_first_failure_and_the_rest_is_skipped(up: Uploads) -> None:
    up.url = "http://127.0.0.1:9"
    findings = found(up)
    assert [finding.ok for finding in findings.values()] == [False, None, None, None]
    assert "BOOKPIPE_ARCHIVE_URL" in findings["is there"].remedy
    assert "is there" in findings["strategy"].detail


@pytest.mark.parametrize(("status", "words"), [(500, "answers 500"), (302, "redirects"), (404, "answers 404")])
def test_a_server_that_is_not_well_is_not_logged_in_to(up: Uploads, status: int, words: str) -> None:
    up.archive.faults.add(Fault("up", Action.ANSWER, status=status))
    findings = found(up)
    assert findings["is there"].ok is False and words in findings["is there"].detail
    assert "login" not in up.count("requests")


def test_a_wrong_password_is_found(up: Uploads) -> None:
    up.options["password"] = Secret("not the password")
    findings = found(up)
    assert findings["login"].ok is False
    assert "BOOKPIPE_ARCHIVE_PASSWORD" in findings["login"].remedy
    assert "not the password" not in str(findings)
    assert findings["role"].ok is None


def test_a_missing_role_is_found(up: Uploads) -> None:
    up.options["email"] = LISTENER.email
    findings = found(up)
    assert findings["login"].ok
    assert findings["role"].ok is False
    assert "moderator or admin" in findings["role"].remedy


def test_development_mode_is_found(up: Uploads) -> None:
    up.archive.faults.add(Fault("bulk_upload", Action.ANSWER, status=404))
    role = found(up)["role"]
    assert role.ok is False and "production mode" in role.remedy


def test_a_strategy_that_the_archive_has_not_got_is_found(up: Uploads) -> None:
    up.archive.state.direct_upload = False
    up.options["strategy"] = "direct"
    strategy = found(up)["strategy"]
    assert strategy.ok is False and "BOOKPIPE_ARCHIVE_STRATEGY" in strategy.remedy


# The audit


def uploaded(up: Uploads, count: int = 5) -> list[tuple[str, Content]]:
    result = up.upload(up.many(count))
    columns = (result.outcomes.column(name).to_pylist() for name in ("song_id", "md5", "size"))
    return [(song_id, Content(md5, size)) for song_id, md5, size in zip(*columns, strict=True)]


def test_what_was_uploaded_is_there(up: Uploads) -> None:
    songs = uploaded(up)
    findings = audit_songs(up.server, songs)
    assert findings == Findings(checked=5)
    assert findings.ok


def test_songs_that_are_gone_or_others_are_found(up: Uploads) -> None:
    songs = uploaded(up)
    unknown = "00000000-0000-4000-8000-000000000000"
    wrong = [(songs[0][0], songs[1][1]), (unknown, songs[2][1]), (songs[3][0], Content(songs[3][1].md5, 7))]
    findings = audit_songs(up.server, [*wrong, songs[4]])
    assert not findings.ok
    assert findings.checked == 4
    assert findings.gone == [unknown]
    assert [text.split(":")[0] for text in findings.different] == [songs[0][0], songs[3][0]]


def test_trouble_that_passes_does_not_end_an_audit(up: Uploads) -> None:
    songs = uploaded(up)
    up.archive.faults.add(Fault("audio_file", Action.ANSWER, status=500, every=2, times=3))
    assert audit_songs(up.server, songs).ok
    up.archive.faults.add(Fault("audio_file", Action.ANSWER, status=500, times=None))
    with pytest.raises(TransientError):
        audit_songs(up.server, songs)


def test_findings_add_up() -> None:
    assert Findings(1, ["a"]) + Findings(2, [], ["b"]) == Findings(3, ["a"], ["b"])
