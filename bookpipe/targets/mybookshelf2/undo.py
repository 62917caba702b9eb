"""Undo: what one partition's loads made goes away again, and nothing else.

The journal says what they made. Of that, whatever somebody else uses by now stays: a book with a rating, on a
bookshelf, or with a converted or judged file stays as it is; a book to which another partition or a person
added a file loses only our files; an author, a series ... stays while any other book has it. What stays for
another partition's sake is entered as that partition's, so that undoing all partitions leaves nothing.

Rows, journal and a list of the files to remove commit together; the files go afterwards. Killed in between,
the list is still there, and the next load or undo removes them.
"""

from dataclasses import dataclass, field
from typing import Any

from bookpipe.targets.mybookshelf2 import lookups, tables
from bookpipe.targets.mybookshelf2.journal import Journal
from bookpipe.targets.mybookshelf2.server import MyBookshelf2
from bookpipe.targets.mybookshelf2.storage import COVER, THUMB, THUMBS, UNDONE
from bookpipe.targets.postgres import Connection, lock_tables, translating

NAMES = ("author", "series", "language", "genre", "format")
# Deleting a row deletes those that refer to it, so nobody may add any meanwhile.
LOCKED_TABLES = ("author", "series", "ebook", "ebook_authors", "ebook_genres", "source")

# Ebooks that a person did something with in the application. Its own keys forbid to delete them, too.
_IN_USE = """
SELECT id FROM unnest(%(ebooks)s::bigint[]) AS id WHERE id IN (
    SELECT ebook_id FROM ebook_rating
    UNION ALL SELECT ebook_id FROM bookshelf_item WHERE ebook_id IS NOT NULL
    UNION ALL SELECT ebook_id FROM source WHERE id IN (
        SELECT source_id FROM conversion UNION ALL SELECT source_id FROM source_quality))
"""
_OUR_SOURCES = """
SELECT s.id, s.location, s.size, s.hash FROM {file} f JOIN source s ON s.id = f.source_id
WHERE f.load_id = ANY(%(loads)s) AND NOT s.ebook_id = ANY(%(in_use)s)
AND s.id NOT IN (SELECT source_id FROM conversion UNION ALL SELECT source_id FROM source_quality)
"""
_SHARED = """
SELECT DISTINCT ebook_id FROM source WHERE ebook_id IN (SELECT unnest(%(ebooks)s::bigint[]))
AND id NOT IN (SELECT unnest(%(sources)s::bigint[]))
"""
# Whether anything but the ebooks and sources that go has the row k.
_USED = {
    "author": "EXISTS (SELECT FROM ebook_authors l WHERE l.author_id = k.id AND l.ebook_id NOT IN (TABLE gone))",
    "series": "EXISTS (SELECT FROM ebook e WHERE e.series_id = k.id AND e.id NOT IN (TABLE gone)) "
    "OR k.id IN (SELECT series_id FROM bookshelf_item WHERE series_id IS NOT NULL "
    "UNION ALL SELECT series_id FROM series_rating)",
    "language": "EXISTS (SELECT FROM ebook e WHERE e.language_id = k.id AND e.id NOT IN (TABLE gone)) "
    "OR EXISTS (SELECT FROM language n JOIN synonym s ON (s.category, s.our_name) IN (('LNG', n.code), "
    "('LGN', n.name)) WHERE n.id = k.id)",
    "genre": "EXISTS (SELECT FROM ebook_genres l WHERE l.genre_id = k.id AND l.ebook_id NOT IN (TABLE gone)) "
    "OR EXISTS (SELECT FROM genre n JOIN synonym s ON s.category = 'GNR' AND s.our_name = n.name WHERE n.id = k.id)",
    "format": "EXISTS (SELECT FROM source s WHERE s.format_id = k.id AND s.id NOT IN (TABLE gone)) "
    "OR k.id IN (SELECT format_id FROM upload UNION ALL SELECT format_id FROM conversion "
    "UNION ALL SELECT format_id FROM conversion_batch)",
}
# Which other load's book or file has the row: (id, load).
_NEXT_OWNER = {
    "author": "SELECT l.author_id, min(b.load_id) FROM ebook_authors l JOIN {book} b ON b.ebook_id = l.ebook_id "
    "WHERE l.author_id = ANY(%(ids)s)",
    "series": "SELECT e.series_id, min(b.load_id) FROM ebook e JOIN {book} b ON b.ebook_id = e.id "
    "WHERE e.series_id = ANY(%(ids)s)",
    "language": "SELECT e.language_id, min(b.load_id) FROM ebook e JOIN {book} b ON b.ebook_id = e.id "
    "WHERE e.language_id = ANY(%(ids)s)",
    "genre": "SELECT l.genre_id, min(b.load_id) FROM ebook_genres l JOIN {book} b ON b.ebook_id = l.ebook_id "
    "WHERE l.genre_id = ANY(%(ids)s)",
    "format": "SELECT s.format_id, min(b.load_id) FROM source s JOIN {file} b ON b.source_id = s.id "
    "WHERE s.format_id = ANY(%(ids)s)",
}


@dataclass(frozen=True)
class Undone:
    """What was removed (or, in a dry run, would be), and what was kept and why."""

    ebooks: int = 0
    sources: int = 0
    files: int = 0  # of sources, covers and thumbnails
    authors: int = 0
    series: int = 0
    languages: int = 0
    genres: int = 0
    formats: int = 0
    in_use: int = 0  # ebooks kept whole: rated, on a bookshelf, or with a converted or judged file
    shared: int = 0  # ebooks kept without our files: they have files of somebody else
    changed_files: int = 0  # files kept: they are not what was placed any more


@dataclass
class _Removal:
    """What an undo is about to remove. Ids; `files` as BookFolder.remove_undone takes them."""

    loads: list[int]
    ebooks: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    names: dict[str, list[int]] = field(default_factory=dict)
    kept_names: dict[str, list[int]] = field(default_factory=dict)
    in_use: int = 0
    shared: int = 0

    def undone(self, files: int, changed_files: int) -> Undone:
        counts = {kind: len(self.names[kind]) for kind in NAMES}
        return Undone(
            ebooks=len(self.ebooks),
            sources=len(self.sources),
            files=files,
            authors=counts["author"],
            series=counts["series"],
            languages=counts["language"],
            genres=counts["genre"],
            formats=counts["format"],
            in_use=self.in_use,
            shared=self.shared,
            changed_files=changed_files,
        )


def undo_partition(target: MyBookshelf2, pipeline: str, partition: str, *, dry_run: bool = False) -> Undone:
    """Remove the ebooks, sources, files, authors ... that the partition's loads made. Safe to repeat.

    A partition that was never loaded has nothing to remove. A dry run takes no locks and writes nothing.
    """
    if dry_run:
        return _count(target, pipeline, partition)
    with target.writing() as writer:
        writer.remove_leftovers()
        connection, journal = writer.connection, writer.journal
        if target.create_indexes and writer.rights.may_index and _loads(connection, journal, pipeline, partition):
            tables.create_indexes(connection, tables.UNDO_INDEXES)
        with translating("undoing the partition"), tables.whole_tables(connection):
            lock_tables(connection, LOCKED_TABLES)
            removal = _decide(connection, journal, pipeline, partition)
            if not removal.loads:
                return removal.undone(0, 0)
            announced = journal.plan_placement(pipeline, partition, UNDONE, removal.files)
            _delete_rows(connection, removal)
            _forget(connection, journal, removal)
            _start_shard_over(connection, journal, pipeline, partition)
        there = len(writer.folder.existing(removal.files))
        removed = writer.folder.remove_undone(removal.files)
        journal.forget_placement(announced)
        return removal.undone(removed, there - removed)


def _count(target: MyBookshelf2, pipeline: str, partition: str) -> Undone:
    with target.reading() as (connection, journal):
        if journal is None:
            return Undone()
        with translating("looking at the partition"), tables.whole_tables(connection):
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            removal = _decide(connection, journal, pipeline, partition)
        there = target.folder.existing(removal.files)
        removable = sum(target.folder.may_remove(*file) for file in there)
        return removal.undone(removable, len(there) - removable)


def _ids(connection: Connection, query: str, **values: Any) -> list[int]:
    return [row[0] for row in connection.execute(query.encode(), values)]


def _loads(connection: Connection, journal: Journal, pipeline: str, partition: str) -> list[int]:
    with translating("reading the journal"):
        return _ids(
            connection,
            f"SELECT id FROM {journal.name('load')} WHERE pipeline = %(pipeline)s AND partition = %(partition)s",
            pipeline=pipeline,
            partition=partition,
        )


def _decide(connection: Connection, journal: Journal, pipeline: str, partition: str) -> _Removal:
    """What goes. Reads only."""
    removal = _Removal(_loads(connection, journal, pipeline, partition))
    loads = removal.loads
    ours = _ids(
        connection,
        f"SELECT e.id FROM {journal.name('book')} b JOIN ebook e ON e.id = b.ebook_id WHERE b.load_id = ANY(%(loads)s)",
        loads=loads,
    )
    in_use = _ids(connection, _IN_USE, ebooks=ours)
    sources = connection.execute(
        _OUR_SOURCES.format(file=journal.name("file")).encode(), {"loads": loads, "in_use": in_use}
    ).fetchall()
    removal.sources = [source for source, *_ in sources]
    free = set(ours) - set(in_use)
    shared = set(_ids(connection, _SHARED, ebooks=list(free), sources=removal.sources))
    removal.ebooks = sorted(free - shared)
    removal.in_use, removal.shared = len(in_use), len(shared)
    for kind in NAMES:
        made = _ids(
            connection,
            f"SELECT n.id FROM {journal.name('created')} c CROSS JOIN unnest(c.ids) AS i JOIN {kind} n ON n.id = i "
            "WHERE c.load_id = ANY(%(loads)s) AND c.kind = %(kind)s",
            loads=loads,
            kind=kind,
        )
        used = _ids(
            connection,
            "WITH gone AS (SELECT unnest(%(gone)s::bigint[])) "
            f"SELECT k.id FROM unnest(%(made)s::bigint[]) AS k(id) WHERE {_USED[kind]}",
            gone=removal.sources if kind == "format" else removal.ebooks,
            made=made,
        )
        removal.names[kind] = sorted(set(made) - set(used))
        removal.kept_names[kind] = sorted(set(used))
    removal.files = _files(connection, removal, [(where, f"{size}:{sha1}") for _, where, size, sha1 in sources])
    return removal


def _files(connection: Connection, removal: _Removal, files: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the files that no row names that stays, with covers in the ebooks' own folders, and thumbnails."""
    covers = connection.execute(
        "SELECT cover FROM ebook WHERE id = ANY(%s) AND left(cover, length(base_dir) + 1) = base_dir || '/'",
        (removal.ebooks,),
    )
    files += [(cover, COVER) for (cover,) in covers]
    named = lookups.named_files(connection, [f for f, _ in files], but=(removal.sources, removal.ebooks))
    thumbs = [(f"{THUMBS}/{ebook}.jpg", THUMB) for ebook in removal.ebooks]
    return [file for file in dict.fromkeys(files) if file[0] not in named] + thumbs


def _delete_rows(connection: Connection, removal: _Removal) -> None:
    for table, ids in (("source", removal.sources), ("ebook", removal.ebooks), *removal.names.items()):
        connection.execute(f"DELETE FROM {table} WHERE id = ANY(%s)".encode(), (ids,))


def _forget(connection: Connection, journal: Journal, removal: _Removal) -> None:
    """Remove the journal's entries of what is gone, and give what stays for another load's sake to that load."""
    book, file, load, created, origin = map(journal.name, ("book", "file", "load", "created", "origin"))
    loads = {"loads": removal.loads}

    def run(statement: str, **values: Any) -> None:
        connection.execute(statement.encode(), loads | values)

    run(f"DELETE FROM {file} f WHERE load_id = ANY(%(loads)s) AND NOT EXISTS "
        "(SELECT FROM source s WHERE s.id = f.source_id)")  # fmt: skip
    run(f"DELETE FROM {book} b WHERE load_id = ANY(%(loads)s) AND NOT EXISTS "
        "(SELECT FROM ebook e WHERE e.id = b.ebook_id)")  # fmt: skip
    run(f"UPDATE {book} b SET load_id = o.load_id FROM (SELECT s.ebook_id, min(f.load_id) AS load_id FROM {file} f "
        "JOIN source s ON s.id = f.source_id WHERE NOT f.load_id = ANY(%(loads)s) GROUP BY 1) o "
        "WHERE b.load_id = ANY(%(loads)s) AND o.ebook_id = b.ebook_id AND NOT EXISTS "
        f"(SELECT FROM {file} f JOIN source s ON s.id = f.source_id WHERE s.ebook_id = b.ebook_id "
        "AND f.load_id = ANY(%(loads)s))")  # fmt: skip
    run(f"DELETE FROM {created} WHERE load_id = ANY(%(loads)s)")
    for kind, ids in removal.kept_names.items():
        owners = connection.execute(
            f"{_NEXT_OWNER[kind].format(book=book, file=file)} AND NOT b.load_id = ANY(%(loads)s) GROUP BY 1".encode(),
            {**loads, "ids": ids},
        )
        next_owner: dict[int, int] = dict(owners.fetchall())
        for owner in {*next_owner.values(), removal.loads[0]}:
            journal.add_created(owner, kind, [i for i in ids if next_owner.get(i, removal.loads[0]) == owner])
    run(f"DELETE FROM {load} l WHERE id = ANY(%(loads)s) AND NOT EXISTS (SELECT FROM {book} WHERE load_id = l.id) "
        f"AND NOT EXISTS (SELECT FROM {file} WHERE load_id = l.id) "
        f"AND NOT EXISTS (SELECT FROM {created} WHERE load_id = l.id)")  # fmt: skip
    run(f"DELETE FROM {origin} o WHERE NOT EXISTS (SELECT FROM {book} WHERE origin_id = o.id) "
        f"AND NOT EXISTS (SELECT FROM {file} WHERE origin_id = o.id)")  # fmt: skip


def _start_shard_over(connection: Connection, journal: Journal, pipeline: str, partition: str) -> None:
    """A shard's progress is forgotten. Its generation is not while books of it are left: their numbers are its."""
    shard, chunk = journal.name("shard"), journal.name("shard_chunk")
    row = connection.execute("SELECT to_regclass(%s)", (chunk,)).fetchone()
    if row is None or row[0] is None:
        return
    key = (pipeline, partition)
    connection.execute(f"DELETE FROM {chunk} WHERE (pipeline, partition) = (%s, %s)".encode(), key)
    if _loads(connection, journal, pipeline, partition):
        connection.execute(
            f"UPDATE {shard} SET (chunks, resume, finished, done, total) = (0, '', false, 0, NULL) "
            "WHERE (pipeline, partition) = (%s, %s)".encode(),
            key,
        )
    else:
        connection.execute(f"DELETE FROM {shard} WHERE (pipeline, partition) = (%s, %s)".encode(), key)
