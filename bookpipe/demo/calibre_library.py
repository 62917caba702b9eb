"""A Calibre library for the demo and the tests: real files, real habits, and a known number of broken records."""

import html
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path

from bookpipe.demo.calibre_bench import make_bench_library
from bookpipe.demo.calibre_content import (
    CZECH,
    ENGLISH,
    FREE_TAGS,
    GENRES,
    LANGUAGE_WEIGHTS,
    LANGUAGES,
    PUBLISHERS,
    RUSSIAN,
    Credit,
    Language,
    draw_credits,
)
from bookpipe.demo.calibre_damage import UNREADABLE, Damage, inflict, prepared
from bookpipe.demo.calibre_writer import CalibreWriter, SampleBook, set_aside
from bookpipe.demo.ebook_files import MAKERS, BookText, make_cover_jpeg

__all__ = ["CalibreWriter", "Damage", "DemoFacts", "SampleBook", "make_bench_library", "make_demo_library"]

COVER_SIZE = (300, 400)

_FORMAT_WEIGHTS = {
    "epub": 62,
    "mobi": 9,
    "pdf": 8,
    "fb2": 6,
    "azw3": 5,
    "docx": 2,
    "rtf": 2,
    "txt": 2,
    "djvu": 1,
    "odt": 1,
    "doc": 1,
    "chm": 1,
    "lit": 1,
    "pdb": 1,
    "cbz": 1,
}
_RUSSIAN_FORMAT_WEIGHTS = _FORMAT_WEIGHTS | {"fb2": 90, "djvu": 8}
_FORMAT_COUNTS, _FORMAT_COUNT_WEIGHTS = (1, 2, 3), (70, 22, 8)

_FIRST_ADDED = datetime(2012, 3, 4, 20, 15, tzinfo=timezone.utc)
_DRIFTED_SENTINEL = datetime(101, 1, 2, tzinfo=timezone.utc)


@dataclass(frozen=True)
class DemoFacts:
    """What a demo library holds, known from making it.

    `files` are the rows of `data`; `readable_files` those a loader should find, non-empty and at a lawful path
    (a name in another case counts as found); `contents` the distinct contents of these. `covers` are cover files.
    `formats` counts rows of `data` by format. `damaged` has the ids of the books broken in each way.
    """

    books: int
    files: int
    readable_files: int
    contents: int
    covers: int
    authors: int
    series: int
    tags: int
    publishers: int
    languages: int
    formats: Mapping[str, int]
    damaged: Mapping[Damage, tuple[int, ...]]


def make_demo_library(
    path: Path, books: int = 2000, seed: int = 1, progress: Callable[[int], None] | None = None
) -> DemoFacts:
    """Make a library of so many books in a new or empty folder; the same seed makes the same rows and files.

    One to two percent of the books are broken, but every kind of damage occurs at least once (20 broken books),
    and at most half of the books have one. `progress` is called with the number of books written so far.
    Raises FileExistsError when the folder holds a library already.
    """
    if (path / "metadata.db").exists():
        raise FileExistsError(f"{path} holds a Calibre library already; choose an empty folder")
    rng = random.Random(f"demo library {seed}")
    plan = _plan_damage(rng, books)
    made = _BooksMade()
    source = _SampleBooks(rng)
    with CalibreWriter(path, seed=seed) as writer:
        for position in range(books):
            book, text = source.draw()
            kind = plan.get(position)
            if kind is not None:
                book = prepared(kind, book, text, made.last_intact)
            writer.add(book)
            made.count(book, kind)
            if progress is not None:
                progress(position + 1)
        with set_aside(writer.connection, "trigger"):
            for kind, ids in made.damaged.items():
                for book_id in ids:
                    inflict(kind, writer, book_id)
    return made.facts()


def _plan_damage(rng: random.Random, books: int) -> dict[int, Damage]:
    """Which books are broken and how, by position; never the first, which others may be duplicates of."""
    times = max(1, round(books * 0.00075))
    kinds = [kind for kind in Damage for _ in range(times)][: books // 2]
    return dict(zip(rng.sample(range(1, books), len(kinds)), kinds, strict=True)) if kinds else {}


class _BooksMade:
    """Counts what is written, from the books themselves and not from the library that comes of them."""

    last_intact: SampleBook

    def __init__(self) -> None:
        self.damaged: dict[Damage, list[int]] = {kind: [] for kind in Damage}
        self._books = self._files = self._readable_files = self._covers = 0
        self._names: dict[str, set[str]] = {"authors": set(), "series": set(), "tags": set(), "publishers": set()}
        self._languages: set[str] = set()
        self._contents: set[bytes] = set()
        self._formats: Counter[str] = Counter()

    def count(self, book: SampleBook, kind: Damage | None) -> None:
        assert book.id is not None
        self._books += 1
        self._files += len(book.formats)
        self._formats.update(extension for extension, _ in book.formats)
        if kind not in UNREADABLE:
            self._readable_files += len(book.formats)
            self._contents.update(sha256(content).digest() for _, content in book.formats)
        self._covers += book.cover is not None and kind is not Damage.MISSING_COVER
        self._names["authors"].update(map(str.lower, book.authors))
        self._names["series"].update([book.series.lower()] if book.series else [])
        self._names["tags"].update(map(str.lower, book.tags))
        self._names["publishers"].update([book.publisher.lower()] if book.publisher else [])
        self._languages.update(book.languages)
        if kind is None:
            self.last_intact = book
        else:
            self.damaged[kind].append(book.id)

    def facts(self) -> DemoFacts:
        return DemoFacts(
            books=self._books,
            files=self._files,
            readable_files=self._readable_files,
            contents=len(self._contents),
            covers=self._covers,
            **{table: len(names) for table, names in self._names.items()},
            languages=len(self._languages),
            formats=dict(sorted(self._formats.items())),
            damaged={kind: tuple(ids) for kind, ids in self.damaged.items()},
        )


class _SampleBooks:
    """Draws one plausible book after the other."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._credits = draw_credits(rng, in_series=0.35)
        self._people: list[tuple[str, Language]] = []
        self._people_by_language: Counter[str] = Counter()
        self._series: list[str] = []
        self._id = 0

    def draw(self) -> tuple[SampleBook, BookText]:
        """A book without damage, and the text its files hold."""
        rng = self._rng
        # Deleted books leave gaps.
        self._id += 1 if rng.random() < 0.97 else rng.randint(2, 6)
        credit = next(self._credits)
        authors = tuple(self._author(number) for number in credit.authors)
        language = self._people[credit.authors[0]][1]
        series = self._series_name(credit, language)
        if language is ENGLISH and rng.random() < 0.12:
            language = CZECH  # a translation
        title = language.title(rng)
        pubdate = self._pubdate()
        tags = self._tags()
        text = BookText(
            title=title,
            authors=authors,
            language=language.short_code,
            series=series,
            series_index=credit.series_index if series else None,
            tags=tags,
            year=pubdate.year if pubdate and pubdate.year > 1000 else None,
            body="\n\n".join(language.prose(rng, 8) for _ in range(rng.randint(3, 12))),
        )
        book = SampleBook(
            id=self._id,
            title=title,
            authors=authors,
            series=series,
            series_index=credit.series_index,
            languages=self._languages(language),
            tags=tags,
            rating=rng.choice((0, 0, 0, 4, 6, 7, 8, 8, 9, 10)),
            publisher=rng.choice(PUBLISHERS) if rng.random() < 0.75 else None,
            identifiers=self._identifiers(),
            comments=self._comments(language),
            pubdate=pubdate,
            added=_FIRST_ADDED + timedelta(seconds=rng.randrange(300_000_000), microseconds=rng.randrange(1_000_000)),
            formats=self._formats(text, language),
            cover=make_cover_jpeg(title, authors[0], self._id, COVER_SIZE) if rng.random() < 0.7 else None,
        )
        return book, text

    def _author(self, number: int) -> str:
        if number == len(self._people):
            language = self._rng.choices(LANGUAGES, LANGUAGE_WEIGHTS)[0]
            number_in_language = self._people_by_language[language.code]
            self._people_by_language[language.code] += 1
            name = language.person(number_in_language)
            if language is ENGLISH and number_in_language % 15 == 4:
                name += ", Jr."
            self._people.append((name, language))
        return self._people[number][0]

    def _series_name(self, credit: Credit, language: Language) -> str | None:
        if credit.series is None:
            return None
        if credit.series == len(self._series):
            self._series.append(language.series_name(self._rng))
        return self._series[credit.series]

    def _languages(self, language: Language) -> tuple[str, ...]:
        chance = self._rng.random()
        if chance < 0.06:
            return ()
        if chance < 0.08:
            return (language.code, "eng") if language is not ENGLISH else ("eng", "fra")
        return (language.code,)

    def _tags(self) -> tuple[str, ...]:
        rng = self._rng
        genres = rng.sample(GENRES, rng.choices((0, 1, 2, 3), (12, 48, 30, 10))[0])
        return (*genres, *rng.sample(FREE_TAGS, rng.choices((0, 1, 2), (60, 28, 12))[0]))

    def _pubdate(self) -> datetime | None:
        rng = self._rng
        chance = rng.random()
        if chance < 0.2:
            return None
        if chance < 0.21:
            return _DRIFTED_SENTINEL
        return datetime(rng.randint(1890, 2022), rng.randint(1, 12), rng.randint(1, 28), tzinfo=timezone.utc)

    def _identifiers(self) -> dict[str, str]:
        rng = self._rng
        identifiers = {}
        if rng.random() < 0.45:
            identifiers["isbn"] = _isbn(rng.randrange(10**9))
        if rng.random() < 0.3:
            identifiers["goodreads"] = str(rng.randrange(1000, 60_000_000))
        if rng.random() < 0.08:
            identifiers["mobi-asin"] = "B00" + "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", k=7))
        if rng.random() < 0.03:
            identifiers["uri"] = f"https://example.org/books/{rng.randrange(10**6)}"
        return identifiers

    def _comments(self, language: Language) -> str | None:
        rng = self._rng
        if rng.random() < 0.35:
            return None
        paragraphs = [html.escape(language.prose(rng, rng.randint(2, 6))) for _ in range(rng.randint(1, 4))]
        head = f"<p><b>{html.escape(language.title(rng))}</b> &ndash; <em>{rng.randint(1, 9)}/10</em></p>\n"
        return f"<div>\n{head}" + "".join(f"<p>{paragraph}</p>\n" for paragraph in paragraphs) + "</div>"

    def _formats(self, text: BookText, language: Language) -> tuple[tuple[str, bytes], ...]:
        rng = self._rng
        weights = _RUSSIAN_FORMAT_WEIGHTS if language is RUSSIAN else _FORMAT_WEIGHTS
        count = rng.choices(_FORMAT_COUNTS, _FORMAT_COUNT_WEIGHTS)[0]
        # Drawn with repetition: a second EPUB is no second format.
        chosen = dict.fromkeys(rng.choices(list(weights), list(weights.values()), k=count))
        return tuple((extension.upper(), MAKERS[extension](text)) for extension in chosen)


def _isbn(number: int) -> str:
    """The ISBN-13 with these nine digits after 978."""
    digits = f"978{number:09}"
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return digits + str(-total % 10)
