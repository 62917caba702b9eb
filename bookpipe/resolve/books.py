"""Books and what MyBookshelf2 has of them become a plan: what to add, and how every row ends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bookpipe.model.book_plans import (
    SEPARATOR,
    BookPlan,
    KeptSource,
    Known,
    PlannedEbook,
    PlannedSource,
    author_key,
    book_key,
    file_key,
    source_key,
)
from bookpipe.model.rejections import Reason
from bookpipe.resolve import languages as iso
from bookpipe.resolve.author_names import author_string, clean_name, full_name, split_author

MAX_TITLE = 256  # characters of ebook.title and series.title
MAX_LOAD_SOURCE = 256
MAX_GENRE = 64
MAX_EXTENSION = 8
MAX_INT4 = 2**31 - 1
NO_TITLE = "Unknown"  # what Calibre calls a book without a title


@dataclass(frozen=True)
class BookOptions:
    """What a load may create, and what stands in for a missing language."""

    create_languages: bool = True
    create_formats: bool = True
    create_genres: bool = False
    default_language: str = iso.UNDETERMINED


@dataclass(slots=True)
class _Book:
    """The rows of one book: `first` .. `last` - 1, and its fields from the first of them."""

    first: int
    last: int
    origin: str
    item: int


class Batch:
    """HASHED_FILES as plain lists, grouped into books: rows of a book stand together."""

    def __init__(self, rows: pa.Table) -> None:
        self.columns: dict[str, list[Any]] = {
            name: rows.column(name).to_pylist()
            for name in (
                "origin", "item", "title", "authors", "series", "series_index", "languages", "tags", "rating",
                "path", "file_name", "given_format", "reason", "detail", "sha1", "size", "format",
            )
        }  # fmt: skip
        self.size = rows.num_rows
        columns = self.columns
        self.titles = [clean_name(t, MAX_TITLE) or NO_TITLE for t in columns["title"]]
        self.series = [clean_name(s, MAX_TITLE) for s in columns["series"]]
        self.authors = [list(dict.fromkeys(a for a in map(split_author, names or ()) if a[0]))
                        for names in columns["authors"]]  # fmt: skip

    def books(self) -> Iterator[_Book]:
        origins, items = self.columns["origin"], self.columns["item"]
        first = 0
        for row in range(1, self.size + 1):
            if row == self.size or items[row] != items[first] or origins[row] != origins[first]:
                yield _Book(first, row, origins[first], items[first])
                first = row

    def items(self) -> dict[str, tuple[int, int]]:
        """The smallest and largest item of each origin."""
        bounds: dict[str, tuple[int, int]] = {}
        for origin, item in zip(self.columns["origin"], self.columns["item"], strict=True):
            low, high = bounds.get(origin, (item, item))
            bounds[origin] = (min(low, item), max(high, item))
        return bounds

    def author_keys(self, rows: list[int]) -> dict[str, tuple[str, str | None]]:
        """author_key -> name of every author of these rows."""
        return {author_key(last, first): (last, first) for row in rows for last, first in self.authors[row]}

    def source_keys(self) -> list[str | None]:
        sha1s, sizes, reasons = self.columns["sha1"], self.columns["size"], self.columns["reason"]
        return [
            source_key(sha1, size) if sha1 is not None and reason is None else None
            for sha1, size, reason in zip(sha1s, sizes, reasons, strict=True)
        ]


def series_number(index: float | None) -> int | None:
    """ebook.series_index: the digits before the dot; None when there is none or int4 cannot hold it."""
    return None if index is None or not 0 <= index <= MAX_INT4 else int(index)


class _Planner:
    def __init__(self, known: Known, options: BookOptions) -> None:
        self.known = known
        self.options = options
        self.plan = BookPlan()
        self._authors: dict[str, int] = {}
        self._series: dict[str, int] = {}
        self._languages: dict[str, int] = {}
        self._genres: dict[str, int] = {}
        self._formats: dict[str, int] = {}
        self._language_refs: dict[str, tuple[int, str] | None] = {}
        self._genre_refs: dict[str, int | None] = {}
        self.locations = known.by_id("locations")
        self.changed: dict[int, int] = {}  # row -> source of an earlier load whose file has other bytes now
        self.replaced: set[int] = set()  # these sources: what they were may be needed from another file

    @staticmethod
    def _new(created: dict[str, int], key: str) -> int:
        ref = -(len(created) + 1)
        created[key] = ref
        return ref

    def author(self, last: str, first: str | None) -> int:
        key = author_key(last, first)
        ref = self.known.authors.get(key) or self._authors.get(key)
        if ref is None:
            ref = self._new(self._authors, key)
            self.plan.authors.append((last, first))
        return ref

    def series(self, title: str) -> int:
        key = title.lower()
        ref = self.known.series.get(key) or self._series.get(key)
        if ref is None:
            ref = self._new(self._series, key)
            self.plan.series.append(title)
        return ref

    def genres(self, tags: list[str] | None) -> list[int]:
        refs: dict[int, None] = {}
        for tag in tags or ():
            if tag not in self._genre_refs:
                self._genre_refs[tag] = self._find_genre(tag)
            ref = self._genre_refs[tag]
            if ref is None:
                self.plan.dropped_tags += 1
            else:
                refs[ref] = None
        return list(refs)

    def _find_genre(self, tag: str) -> int | None:
        name = clean_name(tag, MAX_GENRE)
        key = name.lower()
        ref = self.known.genres.get(key) or self._genres.get(key)
        if ref is None and self.options.create_genres and name:
            ref = self._new(self._genres, key)
            self.plan.genres.append(name)
        return ref

    def knows_language(self, code: str) -> bool:
        """Whether the code or name is one of ISO's or of the application's."""
        text = code.strip().lower()
        known = self.known
        places = (known.languages, known.language_synonyms, known.language_names)
        return iso.find_language(text) is not None or any(text in place for place in places)

    def language(self, code: str) -> tuple[int, str] | None:
        """(reference, code as it stands in paths) of a language; None when it is unknown and may not be made."""
        if code not in self._language_refs:
            self._language_refs[code] = self._find_language(code)
        return self._language_refs[code]

    def _find_language(self, code: str) -> tuple[int, str] | None:
        known = self.known
        text = code.strip().lower()
        entry = iso.find_language(text)
        candidates = [text, *(entry.aliases if entry else ())]
        for candidate in candidates:
            if ref := known.languages.get(candidate):
                return ref, candidate
        for candidate in candidates:
            if ref := known.language_synonyms.get(candidate):
                return ref, self._code_of(ref, candidate)
        for name in (text, entry.name.lower() if entry else ""):
            if ref := known.language_names.get(name):
                return ref, self._code_of(ref, text[: iso.MAX_CODE])
        if not self.options.create_languages:
            return None
        if entry is None and not (text.isascii() and text.isalnum() and 2 <= len(text) <= iso.MAX_CODE):
            return None if text == iso.UNDETERMINED else self.language(iso.UNDETERMINED)
        new_code, name = (entry.code, entry.name) if entry else (text, text)
        created = self._languages.get(new_code)
        if created is None:
            created = self._new(self._languages, new_code)
            self.plan.languages.append((new_code, name))
        return created, new_code

    def _code_of(self, ref: int, fallback: str) -> str:
        return next((code for code, i in self.known.languages.items() if i == ref), fallback)

    def has_format(self, extension: str) -> bool:
        """Whether a format is known, or may and can be made. Makes none: its book may still be refused."""
        if extension in self.known.formats:
            return True
        good = extension.isascii() and extension.isalnum() and len(extension) <= MAX_EXTENSION
        return self.options.create_formats and good

    def format(self, extension: str) -> int:
        """Reference of a format that `has_format`."""
        ref = self.known.formats.get(extension) or self._formats.get(extension)
        if ref is None:
            ref = self._new(self._formats, extension)
            self.plan.formats.append(extension)
        return ref

    def reject(self, row: int, reason: Reason, detail: str) -> None:
        self.plan.reasons[row], self.plan.details[row] = reason.value, detail


def _existing_ebook(known: Known, batch: Batch, book: _Book, keys: list[str | None]) -> int | None:
    """The ebook a book's new files belong to: the one an earlier load made of this very book, else one that has
    a file of it already and, as the application itself asks, exactly its title and the last name of an author."""
    if ebook := known.books.get(book_key(book.origin, book.item)):
        return ebook
    if not known.source_ebooks:
        return None
    for row in range(book.first, book.last):
        key = keys[row]
        ebook = known.source_ebooks.get(key) if key else None
        if ebook is None or f"{ebook}{SEPARATOR}{batch.titles[row]}" not in known.book_titles:
            continue
        if any(f"{ebook}{SEPARATOR}{last}" in known.book_authors for last, _ in batch.authors[row]):
            return ebook
    return None


def joinable_keys(batch: Batch, known: Known, origin: str) -> list[str]:
    """The known sources whose ebooks a book of this origin may join: it is new and has files that are and that are
    not known."""
    if not known.sources:
        return []
    found: dict[str, None] = {}
    keys = batch.source_keys()
    for book in batch.books():
        rows = keys[book.first : book.last]
        there = [key for key in rows if key in known.sources]
        if 0 < len(there) < len(rows) and book.origin == origin and book_key(origin, book.item) not in known.books:
            found.update(dict.fromkeys(key for key in there if key is not None))
    return list(found)


def plan_books(batch: Batch, known: Known, options: BookOptions) -> BookPlan:
    """What to add to MyBookshelf2 so that every book of the batch is there once.

    One ebook for each book that has a new file (or, where rows without a path have come this far, for the
    record alone), one source for each new (hash, size). Rows with a reason stay rejected.
    """
    planner = _Planner(known, options)
    plan = planner.plan
    plan.outcomes = ["rejected"] * batch.size
    plan.reasons = list(batch.columns["reason"])
    plan.details = list(batch.columns["detail"])
    plan.existing_ids = [None] * batch.size
    keys = batch.source_keys()
    planner.changed = _changed_files(known, batch, keys)
    planner.replaced = set(planner.changed.values())
    in_batch: dict[str, int | None] = {}
    for row, source in planner.changed.items():
        in_batch.setdefault(keys[row] or "", source)
    for book in batch.books():
        fresh = _fresh_rows(planner, batch, book, keys, in_batch)
        if fresh:
            _plan_book(planner, batch, book, keys, in_batch, fresh)
    return plan


def _changed_files(known: Known, batch: Batch, keys: list[str | None]) -> dict[int, int]:
    """Rows whose file an earlier load had with other bytes, and its source."""
    earlier: dict[int, int] = {}
    if known.files:
        files = zip(batch.columns["origin"], batch.columns["item"], batch.columns["given_format"], strict=True)
        for row, file in enumerate(files):
            if keys[row] is not None and (source := known.files.get(file_key(*file))):
                earlier[row] = source
    changed: dict[int, int] = {}
    replaced: set[int] = set()
    before = -1
    while len(changed) > before:  # a file may have taken over the bytes of one that changed too
        before = len(changed)
        for row, source in earlier.items():
            now = known.sources.get(keys[row] or "")
            if row not in changed and (now is None or (now in replaced and now != source)):
                changed[row] = source
                replaced.add(source)
    return changed


def _fresh_rows(
    planner: _Planner, batch: Batch, book: _Book, keys: list[str | None], in_batch: dict[str, int | None]
) -> list[int]:
    """The rows of a book that are to be added. Rows that are there already get their outcome, refused ones a reason.

    `in_batch` holds the bytes this batch brings: source_key -> id of the source that has them from now on, None
    for a new one.
    """
    plan, known, columns = planner.plan, planner.known, batch.columns
    formats, given_formats = columns["format"], columns["given_format"]
    fresh: list[int] = []
    for row in range(book.first, book.last):
        key = keys[row]
        if plan.reasons[row] is not None:
            continue
        if key is None:  # a record without a file, loadable by a setting
            if book_key(book.origin, book.item) in known.books:
                plan.outcomes[row] = "existing"
            else:
                fresh.append(row)
            continue
        if formats[row] != given_formats[row]:
            plan.retyped += 1
        source = known.sources.get(key)
        if source in planner.replaced:
            source = None
        earlier = known.files.get(file_key(book.origin, book.item, given_formats[row])) if known.files else None
        if row in planner.changed or (earlier is not None and earlier == source):
            assert earlier is not None
            plan.kept.append(
                KeptSource(row, earlier, planner.locations[earlier], columns["path"][row], columns["size"][row],
                           columns["sha1"][row], changed=row in planner.changed)
            )  # fmt: skip
            source = earlier
        if source is None and key in in_batch:
            plan.outcomes[row] = "existing"
            plan.existing_ids[row] = in_batch[key]
        elif source is not None:
            plan.outcomes[row] = "existing"
            plan.existing_ids[row] = source
        elif planner.has_format(formats[row] or ""):
            fresh.append(row)
        else:
            planner.reject(row, Reason.UNSUPPORTED_FORMAT, formats[row] or "")
    return fresh


def _plan_book(
    planner: _Planner,
    batch: Batch,
    book: _Book,
    keys: list[str | None],
    in_batch: dict[str, int | None],
    fresh: list[int],
) -> None:
    """Add the `fresh` rows of a book: to the ebook it belongs to, else to a new one."""
    plan, columns, row = planner.plan, batch.columns, book.first
    title, series_title, authors = batch.titles[row], batch.series[row] or None, batch.authors[row]
    index = columns["series_index"][row]
    if index is not None and index < 0:  # the application drops the whole series of such a book
        series_title = None
    number = series_number(index) if series_title else None
    names = author_string(authors)
    ebook = _existing_ebook(planner.known, batch, book, keys)
    if ebook is None:
        codes = [code for code in columns["languages"][row] or () if code and not code.isspace()]
        first = codes[0] if codes else planner.options.default_language
        code = next(filter(planner.knows_language, codes), first)  # like Calibre, which drops those it does not know
        language = planner.language(code)
        if language is None:
            for row in fresh:
                planner.reject(row, Reason.UNKNOWN_LANGUAGE, code)
            return
        rating = columns["rating"][row]
        plan.ebooks.append(
            PlannedEbook(
                item=book.item,
                origin=book.origin,
                title=title,
                language=language[0],
                language_code=language[1],
                series=planner.series(series_title) if series_title else None,
                series_title=series_title,
                series_index=number,
                rating=rating * 10 if rating else None,
                authors=[planner.author(last, first) for last, first in authors],
                author_string=names,
                genres=planner.genres(columns["tags"][row]),
                full_text=_full_text(authors, title, series_title, number),
            )
        )
        ebook = -len(plan.ebooks)
    for row in fresh:
        key = keys[row]
        if key in in_batch:  # two formats of this book have the same bytes
            plan.outcomes[row] = "existing"
            continue
        plan.outcomes[row] = "inserted"
        if key is None:
            continue
        in_batch[key] = None
        extension = columns["format"][row]
        plan.sources.append(
            PlannedSource(
                row=row,
                origin=book.origin,
                item=book.item,
                given_format=columns["given_format"][row],
                ebook=ebook,
                extension=extension,
                format=planner.format(extension),
                size=columns["size"][row],
                sha1=columns["sha1"][row],
                load_source=clean_name(columns["file_name"][row], MAX_LOAD_SOURCE) or None,
                path=columns["path"][row],
                author_string=names,
                title=title,
                series_title=series_title,
                series_index=number,
            )
        )


def _full_text(authors: list[tuple[str, str | None]], title: str, series: str | None, number: int | None) -> str:
    """What MyBookshelf2's triggers feed to search: "First Last, ...: Title (Series 1)"."""
    people = ", ".join(full_name(last, first) for last, first in authors)
    return f"{people}: {title} ({series} {number or 0})" if series else f"{people}: {title}"
