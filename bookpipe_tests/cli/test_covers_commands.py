"""`bookpipe load calibre_covers` and what goes with it, as a user types it."""

import json
import os
import re

import psycopg
import pytest

from bookpipe_tests.cli.conftest import Invoke, Run, snapshot
from bookpipe_tests.defs.conftest import Setup


def count(text: str, name: str) -> int:
    found = re.search(rf"^{name} +([\d,]+)", text, re.MULTILINE)
    assert found, text
    return int(found[1].replace(",", ""))


def test_covers_from_the_first_look_to_undo(setup: Setup, run_command: Run) -> None:
    nothing = run_command("bookpipe", "load", "calibre_covers")
    assert "Nothing to make" in nothing.stdout
    run_command("bookpipe", "load", "calibre", "--limit", "2")
    before = snapshot(setup.data)
    dry = run_command("bookpipe", "load", "calibre_covers", "--dry-run")
    assert snapshot(setup.data) == before
    first = run_command("bookpipe", "load", "calibre_covers")
    assert "batch 2/2" in first.stdout
    made = len(os.listdir(setup.data / "thumbs"))
    assert count(first.stdout, "inserted") == count(dry.stdout, "inserted") == made > 50
    assert count(first.stdout, "read") == setup.count("ebook")
    assert "no_cover" in first.stdout
    listed = run_command("bookpipe", "rejections", "--pipeline", "calibre_covers").stdout
    assert len(listed.splitlines()) == count(first.stdout, "rejected")
    assert "Nothing to make" in run_command("bookpipe", "load", "calibre_covers").stdout

    run_command("bookpipe", "load", "calibre")
    status = json.loads(run_command("bookpipe", "status", "--json").stdout)["pipelines"]["calibre_covers"]
    assert status["partitions"] == {"total": 3, "materialized": 2, "failed": 0, "running": 0, "missing": 1}
    assert "batch 1/1" in run_command("bookpipe", "load", "calibre_covers").stdout

    for key in ("books-0000001-0000050", "books-0000051-0000100", "books-0000101-0000150"):
        run_command("bookpipe", "undo", key)
    assert list((setup.data / "books").iterdir()) == list((setup.data / "thumbs").iterdir()) == []
    assert not run_command("bookpipe", "rejections", "--pipeline", "calibre_covers").stdout


def test_a_partition_that_grew_gets_the_rest_of_its_covers(setup: Setup, bookpipe: Invoke) -> None:
    bookpipe("load", "calibre", "--limit", "1")
    bookpipe("load", "calibre_covers")
    made = len(os.listdir(setup.data / "thumbs"))
    with psycopg.connect(setup.url) as connection:  # as if somebody had deleted a book that has a cover
        connection.execute(
            "DELETE FROM source WHERE ebook_id = (SELECT min(id) FROM ebook WHERE cover IS NOT NULL)"
        )  # fmt: skip
        row = connection.execute(
            "DELETE FROM ebook WHERE id = (SELECT min(id) FROM ebook WHERE cover IS NOT NULL) RETURNING id, cover"
        ).fetchone()
    assert row
    (setup.data / "books" / row[1]).unlink()
    (setup.data / "thumbs" / f"{row[0]}.jpg").unlink()
    bookpipe("load", "calibre", "--again", "--limit", "1")
    grown = bookpipe("load", "calibre_covers").output
    assert count(grown, "inserted") == 1
    assert len(os.listdir(setup.data / "thumbs")) == made


def test_covers_of_an_unknown_partition_are_refused(setup: Setup, bookpipe: Invoke) -> None:
    for options in ((), ("--dry-run",)):
        said = bookpipe("load", "calibre_covers", "--partition", "books-0000001-0000050", *options, code=1).output
        assert "books-0000001-0000050" in said


def test_discover_needs_no_database(setup: Setup, bookpipe: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOKPIPE_MYBOOKSHELF2_URL", "postgresql://ebooks:ebooks@127.0.0.1:1/none")
    said = bookpipe("discover").output
    assert "calibre: 3 partitions" in said
    assert "covers" not in said
