"""The least anybody could do for the same end: hash the files, COPY the final rows, make the links."""

import os
import subprocess
import time
from pathlib import Path

import psycopg
from psycopg import sql

TABLES = ("author", "series", "language", "genre", "format", "ebook", "ebook_authors", "ebook_genres", "source")


def hash_all(library: Path) -> float:
    """sha1sum over all files of the library, two processes."""
    names = b"\0".join(os.fsencode(p) for p in sorted(library.rglob("*.epub")))
    start = time.perf_counter()
    subprocess.run(
        ["xargs", "-0", "-P", "2", "-n", "2000", "sha1sum"], input=names, stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - start


def copy_rows(loaded_url: str, empty_url: str) -> float:
    """Plain COPY of exactly the rows of `loaded_url` into empty copies of the application's tables, indexes included.

    `empty_url` is a fresh MyBookshelf2; the copies are in a schema of its own, without triggers and foreign keys.
    """
    with psycopg.connect(loaded_url) as source, psycopg.connect(empty_url, autocommit=True) as target:
        target.execute("CREATE SCHEMA bench_limit")
        data = {}
        for table in TABLES:
            name = sql.Identifier(table)
            target.execute(sql.SQL("CREATE TABLE bench_limit.{} (LIKE public.{} INCLUDING INDEXES)").format(name, name))
            with source.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(name)) as copy:
                data[table] = b"".join(bytes(part) for part in copy)
        start = time.perf_counter()
        for table in TABLES:
            statement = sql.SQL("COPY bench_limit.{} FROM STDIN").format(sql.Identifier(table))
            with target.cursor().copy(statement) as copy:
                copy.write(data[table])
        return time.perf_counter() - start


def make_links(loaded_books: Path, fresh: Path) -> float:
    """A bare loop making the same folders and links in a fresh folder."""
    folders, links = [], []
    for folder, names, files in os.walk(loaded_books):
        relative = os.path.relpath(folder, loaded_books)
        folders += [os.path.normpath(os.path.join(fresh, relative, name)) for name in names]
        links += [
            (os.readlink(os.path.join(folder, name)), os.path.normpath(os.path.join(fresh, relative, name)))
            for name in files
        ]
    fresh.mkdir()
    start = time.perf_counter()
    for path in folders:
        os.mkdir(path)
    for target, path in links:
        os.symlink(target, path)
    return time.perf_counter() - start
