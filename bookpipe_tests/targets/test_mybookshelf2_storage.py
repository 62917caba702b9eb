"""Files come into the book folder as links or copies, never over, through or away from what is there."""

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bookpipe.model.book_plans import Placement
from bookpipe.model.errors import ConfigError, TransientError
from bookpipe.targets.mybookshelf2.files import NameTakenError, parse_link_prefix
from bookpipe.targets.mybookshelf2.load import Writer
from bookpipe.targets.mybookshelf2.storage import MODES, PART, BookFolder
from bookpipe_tests.factories import hashed_table
from bookpipe_tests.targets.book_rows import book_rows, many_books
from bookpipe_tests.targets.shelf import Shelf, files_under, names_under, outcomes, placement

HERE = "Author Ann/A Title(en)"
NAME = "Author Ann - A Title"
EMPTY = [(name, "folder") for name in ("books", "converted", "thumbs", "uploads")]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system or gives files away: for root only")
each_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def books(shelf: Shelf) -> Path:
    return shelf.books


@pytest.fixture
def one(library: Path) -> pa.Table:
    return hashed_table(book_rows(library, 1))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for 1 MiB, and hard links only within."""
    place = tmp_path / "small disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"this root may not mount: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


# Links and copies


@each_mode
def test_each_mode_makes_its_kind_of_file(shelf: Shelf, library: Path, one: pa.Table, mode: str) -> None:
    original = library / "1" / "book 1.epub"
    shelf.load(one, target=shelf.using(file_mode=mode))
    placed = shelf.books / HERE / f"{NAME}.epub"
    assert placed.read_bytes() == original.read_bytes()
    assert placed.is_symlink() is (mode == "symlink")
    assert placed.samefile(original) is (mode != "copy")
    assert not placed.parent.is_symlink()
    if mode == "symlink":
        assert os.readlink(placed) == str(original)


def test_links_say_the_path_inside_of_the_applications_container(shelf: Shelf, library: Path, one: pa.Table) -> None:
    inside = shelf.using(link_prefix=f"{library}=/library")
    shelf.load(one, target=inside)
    placed = shelf.books / HERE / f"{NAME}.epub"
    assert os.readlink(placed) == "/library/1/book 1.epub"
    assert shelf.load(one, target=inside).refreshed == 0
    assert shelf.load(one, target=shelf.using(link_prefix=f"{library}=/elsewhere")).refreshed == 1
    assert os.readlink(placed) == "/elsewhere/1/book 1.epub"


def test_a_link_prefix_ends_at_a_slash(tmp_path: Path) -> None:
    folder = BookFolder(tmp_path, link_prefix=("/lib", "/in"))
    assert folder.link_target(b"/library/a") == b"/library/a"
    assert folder.link_target(b"/lib/a") == b"/in/a"
    assert folder.host_target(b"/in/a") == b"/lib/a"
    assert folder.host_target(b"/inside/a") == b"/inside/a"


@pytest.mark.parametrize("text", ["/a", "a=/b", "/a=b", "=", "/a="])
def test_a_link_prefix_is_two_absolute_paths(text: str) -> None:
    with pytest.raises(ConfigError, match="BOOKPIPE_LINK_PREFIX"):
        parse_link_prefix(text)
    assert parse_link_prefix("") is None
    assert parse_link_prefix("/a/=/b/") == ("/a", "/b")


def test_names_that_are_not_utf_8_are_linked(shelf: Shelf, library: Path) -> None:
    rows = book_rows(library, 1)
    odd = os.fsencode(library) + b"/caf\xe9\xff.epub"
    os.rename(rows[0]["path"], odd)
    rows[0]["path"] = odd
    shelf.load(hashed_table(rows))
    assert os.readlink(os.fsencode(shelf.books / HERE / f"{NAME}.epub")) == odd
    assert outcomes(shelf.load(hashed_table(rows))) == ["existing"]


@each_mode
def test_a_link_inside_the_library_counts_as_the_file_it_leads_to(
    shelf: Shelf, library: Path, one: pa.Table, mode: str
) -> None:
    path = library / "1" / "book 1.epub"
    path.rename(library / "real")
    path.symlink_to(library / "real")
    target = shelf.using(file_mode=mode)
    shelf.load(one, target=target)
    assert (shelf.books / HERE / f"{NAME}.epub").read_bytes() == (library / "real").read_bytes()
    assert shelf.load(one, target=target).refreshed == 0


@as_root
def test_new_folders_belong_to_the_applications_user(shelf: Shelf, one: pa.Table) -> None:
    os.chown(shelf.books, 10_000, 10_001)
    shelf.load(one)
    for folder in (shelf.books / HERE, (shelf.books / HERE).parent):
        assert (folder.stat().st_uid, folder.stat().st_gid) == (10_000, 10_001)


# Names that are taken


def test_books_of_one_name_get_folders_of_their_own(shelf: Shelf, library: Path) -> None:
    rows = [book_rows(library, n, title, files={"epub": b"%d" % n, "pdf": b"p%d" % n})
            for n, title in enumerate(["Zürich", "Zurich", "Zur:ich?", "zürich"], 1)]  # fmt: skip
    shelf.load(hashed_table([row for book in rows for row in book]))
    folders = shelf.sql("SELECT id, base_dir FROM ebook ORDER BY id")
    assert [base_dir.replace(str(i), "#") for i, base_dir in folders] == [
        "Author Ann/Zurich(en)", "Author Ann/Zurich(en) #", "Author Ann/Zurich(en) #", "Author Ann/zurich(en)"
    ]  # fmt: skip
    assert len(names_under(shelf.books)) == 8


def test_books_whose_names_lose_their_letters_never_share_a_folder(shelf: Shelf, library: Path) -> None:
    rows = [*book_rows(library, 1, "Зима", authors=["Иван Петров"]), *book_rows(library, 2, "Лето", authors=["Олег С"]),
            *book_rows(library, 3, "冬", authors=["夏"]), *book_rows(library, 4, "...", authors=[".."])]  # fmt: skip
    shelf.load(hashed_table(rows))
    folders = [base_dir for (base_dir,) in shelf.sql("SELECT base_dir FROM ebook")]
    assert len(set(folders)) == 4
    for folder in folders:
        assert (shelf.books / folder).resolve().is_relative_to(shelf.books)
        assert len(list((shelf.books / folder).iterdir())) == 1


def test_two_files_of_one_type_in_a_book_are_numbered_as_the_application_does(shelf: Shelf, library: Path) -> None:
    rows = book_rows(library, 1, files={"epub": b"1", "kepub": b"2", "zip": b"3"})
    for row in rows:
        row["format"] = "epub"
    shelf.load(hashed_table(rows))
    assert names_under(shelf.books / HERE) == [f"{NAME}(1).epub", f"{NAME}(2).epub", f"{NAME}.epub"]


def test_a_folder_of_another_ebook_is_not_joined(shelf: Shelf, one: pa.Table) -> None:
    shelf.sql(
        "INSERT INTO ebook (version_id, title, language_id, base_dir, created, modified) "
        f"VALUES (1, 'Theirs', 2, '{HERE}', now(), now())"
    )
    shelf.load(one)
    assert shelf.one("SELECT base_dir = %s || ' ' || id FROM ebook WHERE title = 'A Title'", HERE) is True


@pytest.mark.parametrize("there", ["file", "folder", "broken link", "link to a folder"])
def test_what_is_on_disk_at_the_books_folder_is_left_alone(
    shelf: Shelf, tmp_path: Path, one: pa.Table, there: str
) -> None:
    place, elsewhere = shelf.books / HERE, tmp_path / "elsewhere"
    elsewhere.mkdir()
    place.parent.mkdir()
    make: dict[str, Callable[[], object]] = {
        "file": place.touch,
        "folder": place.mkdir,
        "broken link": lambda: place.symlink_to(tmp_path / "nothing"),
        "link to a folder": lambda: place.symlink_to(elsewhere),
    }
    make[there]()
    before = shelf.tree(ids=True)
    shelf.load(one)
    base_dir = shelf.one("SELECT base_dir FROM ebook")
    assert base_dir.startswith(f"{HERE} ")
    assert set(before) < set(shelf.tree(ids=True))
    assert not (tmp_path / "nothing").exists()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("there", ["file", "broken link", "link to a folder"])
def test_an_authors_folder_that_is_no_folder_is_never_written_through(
    shelf: Shelf, tmp_path: Path, one: pa.Table, there: str
) -> None:
    place, elsewhere = shelf.books / "Author Ann", tmp_path / "elsewhere"
    elsewhere.mkdir()
    make: dict[str, Callable[[], object]] = {
        "file": place.touch,
        "broken link": lambda: place.symlink_to(tmp_path / "nothing"),
        "link to a folder": lambda: place.symlink_to(elsewhere),
    }
    make[there]()
    before = shelf.tree(ids=True)
    shelf.load(one)
    ebook, base_dir = shelf.sql("SELECT id, base_dir FROM ebook")[0]
    assert base_dir == f"_ {ebook}/A Title(en) {ebook}"
    assert (shelf.books / base_dir / f"{NAME}.epub").exists()
    assert set(before) < set(shelf.tree(ids=True))
    assert not (tmp_path / "nothing").exists()
    assert list(elsewhere.iterdir()) == []


def test_a_book_that_gets_another_file_later_keeps_what_is_in_its_folder(shelf: Shelf, library: Path) -> None:
    """A broken link counts as taken; the application itself would write through it."""
    shelf.load(hashed_table(book_rows(library, 1, files={"epub": b"1"})))
    stranger, broken = shelf.books / HERE / f"{NAME}.pdf", shelf.books / HERE / f"{NAME}.mobi"
    stranger.write_bytes(b"theirs")
    broken.symlink_to(library / "nothing")
    rows = book_rows(library, 1, files={"epub": b"1", "pdf": b"2", "mobi": b"3"})
    shelf.load(hashed_table(rows), target=shelf.using(file_mode="copy"))
    assert stranger.read_bytes() == b"theirs"
    assert (shelf.books / HERE / f"{NAME}(1).pdf").read_bytes() == b"2"
    assert (shelf.books / HERE / f"{NAME}(1).mobi").read_bytes() == b"3"
    assert not (library / "nothing").exists()


def test_a_name_whose_file_is_missing_is_not_given_to_another_source(shelf: Shelf, library: Path) -> None:
    shelf.load(hashed_table(book_rows(library, 1, files={"azw3": b"1"})))
    (shelf.books / HERE / f"{NAME}.azw3").unlink()
    rows = book_rows(library, 1, files={"mobi": b"2"})
    rows[0]["format"] = "azw3"
    shelf.load(hashed_table(rows))
    locations = shelf.sql("SELECT location FROM source ORDER BY id")
    assert locations == [(f"{HERE}/{NAME}.azw3",), (f"{HERE}/{NAME}(1).azw3",)]


@each_mode
@pytest.mark.parametrize("content", [b"other bytes", b"", None], ids=["file", "empty file", "same bytes"])
def test_a_file_that_appears_after_the_look_keeps_its_name(
    shelf: Shelf, library: Path, mode: str, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody makes a book's folder and a file in it when names are settled and nothing is placed yet."""
    table = many_books(library, 1, 20)
    victim = table.slice(10, 1).to_pylist()[0]
    theirs = content if content is not None else Path(os.fsdecode(victim["path"])).read_bytes()
    placing, made = Writer.placing, list[Path]()

    def after_somebody_else(writer: Writer, pipeline: str, partition: str, placements: list[Placement]) -> Any:
        if not made:
            location = next(p.location for p in placements if p.path == victim["path"])
            made.append(shelf.books / location)
            made[0].parent.mkdir(parents=True)
            made[0].write_bytes(theirs)
        return placing(writer, pipeline, partition, placements)

    monkeypatch.setattr(Writer, "placing", after_somebody_else)
    result = shelf.load(table, target=shelf.using(file_mode=mode))
    assert result.counts.inserted > 20
    assert made[0].read_bytes() == theirs
    assert not made[0].is_symlink()
    assert not made[0].samefile(os.fsdecode(victim["path"]))
    assert shelf.one("SELECT count(*) FROM source WHERE location = %s", os.path.relpath(made[0], shelf.books)) == 0
    for location, size in shelf.sql("SELECT location, size FROM source"):
        assert (shelf.books / location).stat().st_size == size
    assert len(names_under(shelf.books)) == shelf.one("SELECT count(*) FROM source") + 1
    assert shelf.placements() == 0


# Folders that cannot be used


def test_a_missing_book_folder_is_a_setting_to_change(shelf: Shelf, one: pa.Table) -> None:
    shelf.books.rmdir()
    with pytest.raises(ConfigError, match="BOOKPIPE_MYBOOKSHELF2_DATA_DIR"):
        shelf.load(one)
    shelf.books.touch()
    with pytest.raises(ConfigError, match="is no folder"):
        shelf.load(one)


def test_an_unknown_mode_is_a_setting_to_change(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="BOOKPIPE_FILE_MODE is 'move'"):
        BookFolder(tmp_path, "move")


@as_root
def test_a_full_disk_is_tried_again_and_leaves_nothing(shelf: Shelf, library: Path, small_disk: Path) -> None:
    for name in ("books", "thumbs", "uploads", "converted"):
        (small_disk / name).mkdir()
    shelf.data_dir = small_disk
    target = shelf.using(file_mode="copy", data_dir=small_disk)
    files = [book_rows(library, n, f"B{n}", files={"epub": bytes([n]) * 300_000}) for n in range(1, 6)]
    table = hashed_table([row for rows in files for row in rows])
    with pytest.raises(TransientError, match="disk is full"):
        shelf.load(table, target=target)
    assert shelf.tree() == EMPTY
    assert shelf.one("SELECT count(*) FROM ebook") == 0
    assert shelf.load(table.slice(0, 2), target=target).counts.inserted == 2
    assert shelf.placements() == 0


@as_root
def test_a_hard_link_into_another_file_system_is_a_setting_to_change(
    shelf: Shelf, one: pa.Table, small_disk: Path
) -> None:
    for name in ("books", "thumbs", "uploads", "converted"):
        (small_disk / name).mkdir()
    shelf.data_dir = small_disk
    with pytest.raises(ConfigError, match="BOOKPIPE_FILE_MODE to symlink or copy"):
        shelf.load(one, target=shelf.using(file_mode="hardlink", data_dir=small_disk))
    assert shelf.tree() == EMPTY


@as_root
def test_a_folder_mounted_read_only_is_a_setting_to_change(shelf: Shelf, one: pa.Table, small_disk: Path) -> None:
    (small_disk / "books").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(ConfigError, match="mounted read-only"):
        shelf.load(one, target=shelf.using(data_dir=small_disk))


@each_mode
def test_placing_stops_half_way_and_takes_back_what_it_placed(tmp_path: Path, library: Path, mode: str) -> None:
    (tmp_path / "books" / "B").mkdir(parents=True)
    (tmp_path / "books" / "B" / "taken").write_bytes(b"123")
    folder = BookFolder(tmp_path, mode)
    wanted = [placement(library, name, b"abc") for name in ("A/S/1.epub", "A/2.epub", "C/3.epub", "B/taken", "D/4")]
    with pytest.raises(NameTakenError):
        folder.place(wanted)
    assert names_under(tmp_path / "books") == ["B/taken"]
    assert (tmp_path / "books" / "B" / "taken").read_bytes() == b"123"
    assert os.listdir(tmp_path / "books") == ["B"]


def test_a_copy_is_not_written_through_a_link_at_its_working_name(tmp_path: Path, library: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / f"a.epub{PART}").symlink_to(tmp_path / "theirs")
    (tmp_path / "theirs").write_bytes(b"theirs")
    BookFolder(tmp_path, "copy").place([placement(library, "a.epub", b"ours")])
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert names_under(tmp_path / "books") == ["a.epub"]


def test_copies_work_where_hard_links_are_impossible(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on exFAT. There a copy's name is taken first, by an empty file."""

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "books").mkdir()
    folder, file = BookFolder(tmp_path, "copy"), placement(library, "A/a.epub", b"ours")
    folder.place([file])
    assert (tmp_path / "books" / "A" / "a.epub").read_bytes() == b"ours"
    with pytest.raises(NameTakenError):
        folder.place([file])
    assert names_under(tmp_path / "books") == ["A/a.epub"]
    (tmp_path / "books" / "A" / "a.epub").write_bytes(b"")  # killed between taking the name and the copy
    (tmp_path / "books" / "A" / f"a.epub{PART}").write_bytes(b"ours")
    assert folder.remove_leftovers("copy", [folder.describe(file)]) == 1
    assert names_under(tmp_path / "books") == []


# Anything at all

_NAMES = st.sampled_from(["A", "B", "Author Ann", "A Title(en)", f"{NAME}.epub", f"{NAME}(1).epub", "cover.jpg"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    there=st.lists(
        st.tuples(
            st.lists(_NAMES, min_size=1, max_size=4),
            st.sampled_from(["file", "folder", "link to folder", "link to file", "broken link"]),
        ),
        max_size=6,
    ),
    mode=st.sampled_from(MODES),
    wanted=st.lists(st.lists(_NAMES, min_size=1, max_size=3).map("/".join), unique=True, max_size=5),
)
def test_whatever_is_there_before_is_there_after(
    tmp_path: Path, there: list[tuple[list[str], str]], mode: str, wanted: list[str]
) -> None:
    """Placing, whether it works or not, and clearing up after it change nothing of what was there."""
    base = Path(tempfile.mkdtemp(dir=tmp_path))
    books, elsewhere, library = base / "books", base / "elsewhere", base / "library"
    for made in (books, elsewhere / "A", library):
        made.mkdir(parents=True)
    (elsewhere / "file").write_bytes(b"abc")
    for parts, kind in there:
        place = books.joinpath(*parts)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                place.open("xb").write(b"abc")
            elif kind == "folder":
                place.mkdir()
            else:
                place.symlink_to({"link to folder": elsewhere, "link to file": elsewhere / "file"}.get(kind, "nothing"))
        except OSError:
            continue
    before = files_under(base)
    folder = BookFolder(base, mode)
    taken = folder.is_taken()
    files = [placement(library, location, b"abc") for location in wanted if not taken(location)]
    before |= files_under(library, base)
    try:
        folder.place(files)
        placed = {f"books/{file.location}" for file in files}
        assert {path for path in files_under(base) if path not in before and not (base / path).is_dir()} == placed
        folder.take_back(files)
    except NameTakenError:
        pass  # one wanted name is another's folder
    assert {path: what for path, what in before.items() if what != "folder"} == {
        path: what for path, what in files_under(base).items() if what != "folder"
    }
