"""What a target has of a batch of books (Known), and what is to be written (BookPlan).

References to rows that do not exist yet are negative: -1 is the first new author (series, ebook, ...)
of the plan, -2 the second. The target turns them into ids when it has drawn these from its sequences.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from bookpipe.model.schemas import KNOWN

SEPARATOR = "\x1f"  # between the parts of a lookup key; control characters never reach a name


def source_key(sha1: str, size: int) -> str:
    return f"{sha1}:{size}"


def author_key(last: str, first: str | None) -> str:
    return f"{last}{SEPARATOR}{first or ''}"


def book_key(origin: str, item: int) -> str:
    return f"{origin}{SEPARATOR}{item}"


def file_key(origin: str, item: int, given_format: str) -> str:
    return f"{origin}{SEPARATOR}{item}{SEPARATOR}{given_format}"


@dataclass(slots=True)
class Known:
    """Ids a target has, by lookup key. Languages, genres and formats are whole tables: they are small."""

    sources: dict[str, int] = field(default_factory=dict)  # source_key -> source id
    source_ebooks: dict[str, int] = field(default_factory=dict)  # source_key -> its ebook, when a book may join it
    books: dict[str, int] = field(default_factory=dict)  # book_key -> ebook an earlier load made of it
    book_titles: dict[str, int] = field(default_factory=dict)  # "ebook id SEPARATOR title" -> ebook id
    book_authors: dict[str, int] = field(default_factory=dict)  # "ebook id SEPARATOR last name" -> ebook id
    files: dict[str, int] = field(default_factory=dict)  # file_key -> source an earlier load made of it
    locations: dict[str, int] = field(default_factory=dict)  # "source id SEPARATOR location" -> source id
    base_dirs: dict[str, int] = field(default_factory=dict)  # "ebook id SEPARATOR base_dir" -> ebook id
    authors: dict[str, int] = field(default_factory=dict)  # author_key -> author id
    series: dict[str, int] = field(default_factory=dict)  # title in lower case -> series id
    languages: dict[str, int] = field(default_factory=dict)  # code -> id
    language_synonyms: dict[str, int] = field(default_factory=dict)  # other code, lower case -> id
    language_names: dict[str, int] = field(default_factory=dict)  # name, lower case (synonyms too) -> id
    genres: dict[str, int] = field(default_factory=dict)  # name, lower case (synonyms too) -> id
    formats: dict[str, int] = field(default_factory=dict)  # extension -> id

    def update(self, other: "Known") -> None:
        for kind in self.__slots__:
            getattr(self, kind).update(getattr(other, kind))

    def by_id(self, kind: str) -> dict[int, str]:
        """The text after the id in keys of the form "id SEPARATOR text"."""
        return {i: key.split(SEPARATOR, 1)[1] for key, i in getattr(self, kind).items()}

    def to_arrow(self) -> pa.Table:
        """KNOWN rows, for handing over between ops."""
        rows = [(kind, key, i) for kind in self.__slots__ for key, i in getattr(self, kind).items()]
        kinds, keys, ids = zip(*rows, strict=True) if rows else ((), (), ())
        return pa.table([pa.array(kinds, pa.string()), pa.array(keys, pa.string()), pa.array(ids, pa.int64())],
                        schema=KNOWN)  # fmt: skip

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "Known":
        known = cls()
        kinds = {kind: getattr(known, kind) for kind in cls.__slots__}
        for kind, key, i in zip(*(table.column(n).to_pylist() for n in KNOWN.names), strict=True):
            kinds[kind][key] = i
        return known


@dataclass(slots=True)
class PlannedEbook:
    """A new ebook row. Texts are final; refs as in the module's docstring."""

    item: int
    origin: str
    title: str
    language: int
    language_code: str
    series: int | None
    series_title: str | None
    series_index: int | None
    rating: int | None
    authors: list[int]
    author_string: str  # as MyBookshelf2 writes authors into paths
    genres: list[int]
    full_text: str  # the text its search indexes


@dataclass(slots=True)
class PlannedSource:
    """A new source row and the file it names."""

    row: int  # index of the batch's row
    origin: str
    item: int
    given_format: str
    ebook: int
    extension: str
    format: int
    size: int
    sha1: str
    load_source: str | None
    path: bytes
    author_string: str
    title: str
    series_title: str | None
    series_index: int | None


@dataclass(slots=True)
class KeptSource:
    """A source an earlier load made of this very file: its file must still stand for `path`, its row for the bytes."""

    row: int
    source: int
    location: str
    path: bytes
    size: int
    sha1: str
    changed: bool  # the file has other bytes now (Calibre rewrites metadata inside of files)


@dataclass(slots=True)
class BookPlan:
    """Everything one batch adds to a target, and how each of its rows ends."""

    authors: list[tuple[str, str | None]] = field(default_factory=list)  # last, first
    series: list[str] = field(default_factory=list)
    languages: list[tuple[str, str]] = field(default_factory=list)  # code, name
    genres: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)  # extensions
    ebooks: list[PlannedEbook] = field(default_factory=list)
    sources: list[PlannedSource] = field(default_factory=list)
    kept: list[KeptSource] = field(default_factory=list)
    # One entry per row of the batch: outcome, reason, detail, existing source id.
    outcomes: list[str] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    details: list[str | None] = field(default_factory=list)
    existing_ids: list[int | None] = field(default_factory=list)
    dropped_tags: int = 0
    retyped: int = 0  # files whose content is another format than their name says

    @property
    def empty(self) -> bool:
        return not (self.ebooks or self.sources or any(k.changed for k in self.kept))


Write = Callable[[int], None]  # writes all bytes of a file to a file descriptor


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that are no file of their own (a member of a tar): they become a real file, whatever the file mode."""

    sha1: str
    write: Write


@dataclass(slots=True)
class Placement:
    """A file to put under the target's book folder."""

    source: int  # index into BookPlan.sources
    location: str  # relative to the book folder, "/" separated
    path: bytes  # the file it stands for; unused when there is content
    size: int
    content: Content | None = None


def missing(keys: Iterable[str], known: dict[str, int]) -> list[str]:
    """The distinct keys that are not known, in order."""
    return [key for key in dict.fromkeys(keys) if key not in known]
