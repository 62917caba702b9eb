"""What MyBookshelf2 already has of a batch, asked set-based: the cost depends on the batch, not on the database."""

from collections.abc import Iterable, Sequence
from typing import Any

from bookpipe.model.book_plans import SEPARATOR, Known, author_key, book_key, source_key
from bookpipe.targets.mybookshelf2.journal import Journal
from bookpipe.targets.mybookshelf2.tables import whole_tables
from bookpipe.targets.postgres import Connection, as_array, joined, translating

Name = tuple[str, str | None]


def look_up_sources(connection: Connection, known: Known, files: Sequence[tuple[str, int]]) -> None:
    """(sha1, size) -> source id. Where several sources have the same bytes, the oldest."""
    rows = connection.execute(
        f"SELECT k.hash, k.size, min(s.id) FROM unnest({as_array('text')}, {as_array('int')}) AS k(hash, size) "
        "JOIN source s ON s.size = k.size AND s.hash = k.hash GROUP BY 1, 2".encode(),
        (joined(sha1 for sha1, _ in files), joined(size for _, size in files)),
    )
    for sha1, size, source in rows:
        known.sources[source_key(sha1, size)] = source


def look_up_authors(connection: Connection, known: Known, names: Sequence[Name]) -> None:
    """Exact and case-sensitive on both names; no first name means IS NULL, as the application asks."""
    rows = connection.execute(
        f"SELECT k.last, k.first, min(a.id) FROM unnest({as_array('text')}, {as_array('text')}) AS k(last, first) "
        "JOIN author a ON a.last_name = k.last AND a.first_name = k.first GROUP BY 1, 2 UNION ALL "
        f"SELECT k.last, NULL, min(a.id) FROM unnest({as_array('text')}) AS k(last) "
        "JOIN author a ON a.last_name = k.last AND a.first_name IS NULL GROUP BY 1".encode(),
        (
            joined(last for last, first in names if first is not None),
            joined(first for _, first in names if first is not None),
            joined(last for last, first in names if first is None),
        ),
    )
    for last, first, author in rows:
        known.authors[author_key(last, first)] = author


def look_up_series(connection: Connection, known: Known, titles: Sequence[str]) -> None:
    """Whatever the case, as the application's engine asks."""
    rows = connection.execute(
        f"SELECT k.title, min(s.id) FROM unnest({as_array('text')}) AS k(title) "
        "JOIN series s ON lower(s.title) = lower(k.title) GROUP BY 1".encode(),
        (joined(titles),),
    )
    for title, series in rows:
        known.series[title.lower()] = series


def look_up_names(connection: Connection, known: Known) -> None:
    """The small tables whole: languages, genres and formats, with the application's synonyms."""
    for code, name, i in connection.execute("SELECT code, name, id FROM language ORDER BY id DESC"):
        known.languages[code] = i
        known.language_names[name.lower()] = i
    for name, i in connection.execute("SELECT name, id FROM genre ORDER BY id DESC"):
        known.genres[name.lower()] = i
    for extension, i in connection.execute("SELECT extension, id FROM format"):
        known.formats[extension] = i
    synonyms = connection.execute("SELECT category, other_name, our_name FROM synonym ORDER BY id DESC")
    for category, other, ours in synonyms:
        key = other.lower()
        if category == "LNG" and ours in known.languages:
            known.language_synonyms[key] = known.languages[ours]
        elif category == "LGN" and ours.lower() in known.language_names:
            known.language_names.setdefault(key, known.language_names[ours.lower()])
        elif category == "GNR" and ours.lower() in known.genres:
            known.genres.setdefault(key, known.genres[ours.lower()])


def look_up_journal(connection: Connection, journal: Journal, known: Known, origin: str, first: int, last: int) -> None:
    """What earlier loads made of the items `first`..`last` of an origin, as far as it still lives."""
    origin_id = journal.find_origin(origin)
    if origin_id is None:
        return
    bounds = (origin_id, first, last)
    rows: Any = connection.execute(
        f"SELECT b.item, b.ebook_id, e.base_dir FROM {journal.name('book')} b JOIN ebook e ON e.id = b.ebook_id "
        "WHERE b.origin_id = %s AND b.item BETWEEN %s AND %s".encode(),
        bounds,
    )
    for item, ebook, base_dir in rows:
        known.books[book_key(origin, item)] = ebook
        known.base_dirs[f"{ebook}{SEPARATOR}{base_dir}"] = ebook
    rows = connection.execute(
        f"SELECT f.item, f.format, f.source_id, s.location FROM {journal.name('file')} f "
        "JOIN source s ON s.id = f.source_id WHERE f.origin_id = %s AND f.item BETWEEN %s AND %s".encode(),
        bounds,
    )
    for item, kind, source, location in rows:
        known.files[f"{book_key(origin, item)}{SEPARATOR}{kind}"] = source
        known.locations[f"{source}{SEPARATOR}{location}"] = source


def look_up_joinable(connection: Connection, journal: Journal, known: Known, origin: str, keys: Iterable[str]) -> None:
    """Ebooks that have one of these known sources and were not made of another book of the same origin: a book with
    more files of the same title and author may join them."""
    by_source = {known.sources[key]: key for key in keys}
    if not by_source:
        return
    origin_id = journal.find_origin(origin)
    rows = connection.execute(
        "SELECT s.id, e.id, e.title, e.base_dir, array(SELECT a.last_name FROM ebook_authors l "
        "JOIN author a ON a.id = l.author_id WHERE l.ebook_id = e.id) FROM source s JOIN ebook e ON e.id = s.ebook_id "
        f"WHERE s.id = ANY(%s) AND NOT EXISTS (SELECT 1 FROM {journal.name('book')} b "
        "WHERE b.ebook_id = e.id AND b.origin_id = %s)".encode(),
        (list(by_source), origin_id if origin_id is not None else -1),
    )
    for source, ebook, title, base_dir, authors in rows:
        known.source_ebooks[by_source[source]] = ebook
        known.book_titles[f"{ebook}{SEPARATOR}{title}"] = ebook
        known.base_dirs[f"{ebook}{SEPARATOR}{base_dir}"] = ebook
        for last in authors:
            known.book_authors[f"{ebook}{SEPARATOR}{last}"] = ebook


def still_there(connection: Connection, known: Known) -> bool:
    """Whether the application has deleted none of the sources and ebooks in `known` since they were looked up."""
    sources = {*known.sources.values(), *known.files.values()}
    ebooks = {*known.books.values(), *known.source_ebooks.values()}
    if not sources and not ebooks:
        return True
    with translating("looking up what MyBookshelf2 has"):
        row = connection.execute(
            f"SELECT (SELECT count(*) FROM source WHERE id = ANY({as_array('bigint')})), "
            f"(SELECT count(*) FROM ebook WHERE id = ANY({as_array('bigint')}))".encode(),
            (joined(sources), joined(ebooks)),
        ).fetchone()
    return row == (len(sources), len(ebooks))


def look_up_files(connection: Connection, sources: Sequence[int]) -> dict[int, tuple[str, int, str]]:
    """Source id -> (SHA-1, size, location) as its row has them."""
    if not sources:
        return {}
    with translating("looking up sources"):
        rows = connection.execute(
            f"SELECT id, hash, size, location FROM source WHERE id = ANY({as_array('bigint')})".encode(),
            (joined(sources),),
        )
        return {source: (sha1, size, location) for source, sha1, size, location in rows}


def named_files(
    connection: Connection, paths: Sequence[str], but: tuple[Sequence[int], Sequence[int]] = ((), ())
) -> set[str]:
    """Which of these paths under the book folder belong to a source or are an ebook's cover.

    `but`: sources and ebooks that do not count. Reads both tables whole (neither column has an index): for
    repairs and undoing, not for every load.
    """
    if not paths:
        return set()
    with translating("looking up files"), whole_tables(connection):
        rows = connection.execute(
            f"SELECT path FROM unnest({as_array('text')}) AS path WHERE path IN "
            "(SELECT location FROM source WHERE id NOT IN (SELECT unnest(%s::bigint[])) UNION ALL "
            "SELECT cover FROM ebook WHERE cover IS NOT NULL AND id NOT IN (SELECT unnest(%s::bigint[])))".encode(),
            (joined(paths), list(but[0]), list(but[1])),
        )
        return {row[0] for row in rows}


def taken_base_dirs(connection: Connection, base_dirs: Sequence[str]) -> set[str]:
    """Which of these folders an ebook already has."""
    with translating("looking up folders"):
        rows = connection.execute(
            f"SELECT DISTINCT k.base_dir FROM unnest({as_array('text')}) AS k(base_dir) "
            "JOIN ebook e ON hashtext(e.base_dir) = hashtext(k.base_dir) AND e.base_dir = k.base_dir".encode(),
            (joined(base_dirs),),
        )
        return {row[0] for row in rows}
