"""`bookpipe demo`: the whole way on sample data, and the UI on it."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from bookpipe.cli.environment import make_home
from bookpipe.demo.audio_collection import make_audio_collection
from bookpipe.demo.calibre_library import make_demo_library
from bookpipe.demo.music_archive import MODERATOR, PASSWORD, MusicArchive, serve
from bookpipe.demo.sandbox import Sandbox
from bookpipe.demo.scrobble_exports import make_demo_exports
from bookpipe.demo.tar_shards import make_demo_shards
from bookpipe.settings import SETTINGS

DIRECTORY = Path(".bookpipe") / "demo"
BATCH_SIZE = "500"  # small enough that there are partitions to look at
MUSIC_BATCH_SIZE = "2500"

QUERIES = {
    "The most productive authors": (
        "SELECT coalesce(a.first_name || ' ', '') || a.last_name AS author, count(*) AS books FROM author a "
        "JOIN ebook_authors l ON l.author_id = a.id GROUP BY a.id ORDER BY 2 DESC, 1 LIMIT 5"
    ),
    "Books by language and their files": (
        "SELECT n.name AS language, count(DISTINCT e.id) AS books, count(s.id) AS files FROM ebook e "
        "JOIN language n ON n.id = e.language_id LEFT JOIN source s ON s.ebook_id = e.id "
        "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5"
    ),
    "Books with and without a cover": (
        "SELECT CASE WHEN cover IS NULL THEN 'no cover' ELSE 'cover and thumbnail' END AS has, count(*) AS books "
        "FROM ebook GROUP BY 1 ORDER BY 1"
    ),
    "Books found for 'novak', as the application searches": (
        "SELECT e.title, s.location FROM ebook e JOIN source s ON s.ebook_id = e.id "
        "WHERE e.full_text @@ to_tsquery('public.custom', 'novak:*') ORDER BY e.id LIMIT 5"
    ),
}


def demo_environment(directory: Path, box: Sandbox) -> dict[str, str]:
    """The settings of the demo: its own library, target and home, and nothing of the user's."""
    return {
        **{setting.name: setting.default for setting in SETTINGS},
        "BOOKPIPE_CALIBRE_LIBRARY": str((directory / "library").absolute()),
        "BOOKPIPE_TAR_DIR": str((directory / "shards").absolute()),
        "BOOKPIPE_SCROBBLE_DIR": str((directory / "scrobbles").absolute()),
        "BOOKPIPE_MUSIC_DIR": str((directory / "music").absolute()),
        "BOOKPIPE_ARCHIVE_EMAIL": MODERATOR.email,
        "BOOKPIPE_ARCHIVE_PASSWORD": PASSWORD,
        "BOOKPIPE_BATCH_SIZE": BATCH_SIZE,
        **box.environment(),
    }


def run_demo(books: int, fresh: bool, console: Console) -> int:
    """Make what is missing, load it, and show it. The exit code."""
    from bookpipe.cli.load_command import load_pipeline  # Dagster reads DAGSTER_HOME as it is then

    directory = DIRECTORY.absolute()
    box = Sandbox(directory / "sandbox")
    library = directory / "library"
    console.print("Starting PostgreSQL with an empty MyBookshelf2 and Koito ...")
    box.start(fresh=fresh)
    make_home(box.home)
    if not (library / "metadata.db").exists():
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(f"Making a Calibre library of {books:,} books", total=books)
            make_demo_library(library, books, progress=lambda n: progress.update(task, completed=n))
    shards = directory / "shards"
    if not shards.exists():
        shards.mkdir()
        make_demo_shards(shards, calibre_library=library)
    scrobbles = directory / "scrobbles"
    if not scrobbles.exists():
        make_demo_exports(scrobbles)
    music = directory / "music"
    if not music.exists():
        make_audio_collection(music)
    console.print(f"Calibre library:  {library}")
    console.print(f"Tar shards:       {shards}")
    console.print(f"MyBookshelf2:     {box.data}")
    console.print(f"Scrobbles:        {scrobbles}")
    console.print(f"Koito:            {box.koito}")
    console.print(f"Music:            {music}\n")
    os.environ.update(demo_environment(directory, box))
    console.print("Loading the Calibre library", style="bold")
    summaries = [load_pipeline("calibre", None, None, (), True, console)]
    console.print("\nLoading the tar shards", style="bold")
    summaries.append(load_pipeline("tars", None, None, (), True, console))
    console.print("\nMaking covers and thumbnails of all these books", style="bold")
    summaries += [load_pipeline(name, None, None, (), True, console) for name in ("calibre_covers", "tars_covers")]
    os.environ["BOOKPIPE_BATCH_SIZE"] = MUSIC_BATCH_SIZE
    console.print("\nLoading the exports of scrobbles into Koito on SQLite", style="bold")
    summaries.append(load_pipeline("scrobbles", None, None, (), True, console))
    console.print("\nThe same into Koito on PostgreSQL", style="bold")
    sqlite_url, os.environ["BOOKPIPE_KOITO_URL"] = os.environ["BOOKPIPE_KOITO_URL"], box.koito_postgres_url()
    summaries.append(load_pipeline("scrobbles", None, None, (), True, console))
    os.environ["BOOKPIPE_KOITO_URL"] = sqlite_url
    console.print("\nUploading a folder of audio files to a music archive in this process", style="bold")
    with _music_archive(directory / "archive") as url:
        os.environ["BOOKPIPE_ARCHIVE_URL"] = url
        summaries.append(load_pipeline("audio", None, None, (), True, console))
    _show_queries(box.environment()["BOOKPIPE_MYBOOKSHELF2_URL"], console)
    console.print()
    for what, tells in (
        ("make ui", "opens Dagster on this very data, at http://127.0.0.1:3000"),
        ("make demo", "again: everything is there already, nothing is inserted"),
        ("README.md", "tells how to load your own library"),
    ):
        console.print(Text.assemble((what, "bold"), f" {tells}"))
    return 1 if any(summary.failed or summary.stopping for summary in summaries) else 0


@contextmanager
def _music_archive(directory: Path) -> Iterator[str]:
    """A music archive, always at the same address: what was uploaded is remembered by it."""
    directory.mkdir(exist_ok=True)
    port = directory / "port"
    used = int(port.read_text()) if port.exists() else 0
    with closing(MusicArchive(directory)) as archive, serve(archive, port=used) as url:
        port.write_text(url.rpartition(":")[2])
        yield url


def _show_queries(url: str, console: Console) -> None:
    with psycopg.connect(url) as connection:
        for title, query in QUERIES.items():
            cursor = connection.execute(query.encode())
            table = Table(box=None, padding=(0, 2, 0, 2))
            for column in cursor.description or ():
                table.add_column(column.name, overflow="fold")
            for row in cursor:
                table.add_row(*(str(value) for value in row))
            console.print(f"\n{title}", style="bold", highlight=False)
            console.print(table, highlight=False)


def ui_environment(console: Console) -> tuple[dict[str, str], Path]:
    """The environment of the UI and the folder to start it in: the user's where there is a .env, else the demo's."""
    if (Path.cwd() / ".env").exists():
        console.print("The UI shows what .env leads to.")
        return {}, Path.cwd()
    directory = DIRECTORY.absolute()
    box = Sandbox(directory / "sandbox")
    if not box.home.exists():
        console.print("There is no .env and no demo yet: the UI shows what the environment leads to.")
        return {}, Path.cwd()
    box.start()
    make_home(box.home)
    console.print("There is no .env: the UI shows the demo's data.")
    return demo_environment(directory, box), box.directory
