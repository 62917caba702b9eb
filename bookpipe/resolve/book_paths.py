"""MyBookshelf2's own path rule, made safe.

The application names folders and files by pattern (A author string, T title, L language code, S series,
N index):

    no series    A/T(L)            A - T.ext
    series       A/S/S N - T(L)    A - S N - T.ext

and cleans them to ASCII. Its rule alone writes over other books' covers (names that lose all their
letters become equal), leaves the book folder (author ".."), and makes parts no file system holds. So:
slashes and dot parts go again after decomposition, parts are trimmed, and a folder that another book
has or whose names lost most of their letters carries the ebook's id.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from anyascii import anyascii

from bookpipe.model.errors import TerminalError

MAX_FILE_NAME = 255  # bytes of one name on common file systems
MAX_PART = 227  # leaves room for "(999)", an extension of 8 letters and the suffix of an unfinished copy
MAX_LOCATION = 512  # characters of source.location and ebook.base_dir
_RESERVE = 32  # for a blank and an id, "/", "(999)" and the extension

MAX_ATTEMPTS = 1_000

_LETTERS = {
    "Æ": "AE", "æ": "ae", "Ð": "D", "ð": "d", "Ø": "O", "ø": "o", "Þ": "Th", "þ": "th", "ß": "s",
    "Đ": "D", "đ": "d", "Ħ": "H", "ħ": "h", "ı": "i", "ĸ": "k", "Ł": "L", "ł": "l", "Ŋ": "N", "ŋ": "n",
    "Œ": "Oe", "œ": "oe", "Ŧ": "T", "ŧ": "t",
}  # fmt: skip
_DELETED = ':*%|"<>?\\'


class _Fold(dict[int, str | None]):
    """What one decomposed character becomes, worked out once for each that occurs."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        value: str | None
        if char in _DELETED or unicodedata.category(char) in ("Mn", "Cc"):
            value = None
        elif char == "/":
            value = "-"
        elif char in _LETTERS:
            value = _LETTERS[char]
        else:
            value = char if code < 128 else " "
        self[code] = value
        return value


_fold = _Fold()


def fold(text: str) -> str:
    """`text` as MyBookshelf2 writes it into paths: ASCII, one blank for each letter it does not know."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)
    return text.translate(_fold)


def _weight(text: str) -> int:
    return sum(map(str.isalnum, text))


@lru_cache(maxsize=16_384)
def clean_part(text: str) -> tuple[str, bool]:
    """(a safe part of a path, whether it still says what `text` says).

    A name that loses more than half of its letters is transliterated, so that people can read the folder.
    """
    folded = fold(text).strip()
    # ASCII loses no letters, and other text not more than it shows as blanks.
    faithful = bool(folded) and (text.isascii() or _weight(folded) * 2 >= _weight(text))
    if not faithful:
        folded = " ".join(fold(anyascii(text)).split())
    if not folded.strip("."):
        return "_" * max(1, len(folded)), False
    return folded, faithful


@dataclass(frozen=True, slots=True)
class BookPath:
    """Where a book belongs: its folder and the stem of its files, relative to the book folder."""

    base_dir: str
    stem: str
    unique: bool  # False: the names lost their letters, the folder needs the ebook's id

    def with_id(self, ebook_id: int) -> "BookPath":
        return BookPath(f"{self.base_dir} {ebook_id}", self.stem, True)

    def apart(self, ebook_id: int) -> "BookPath":
        """A folder of its own at the top, for when something odd is above the right one."""
        return BookPath(f"_ {ebook_id}/{self.base_dir.rsplit('/', 1)[-1]}", self.stem, True)

    def inside(self, base_dir: str, ebook_id: int) -> "BookPath":
        """The same file names in the folder an ebook has, unless that leads out of the book folder or cannot be."""
        parts = base_dir.split("/")
        bad = any(p.strip(".") == "" or len(p.encode()) > MAX_FILE_NAME for p in parts)
        if bad or len(base_dir) + len(self.stem) + _RESERVE > MAX_LOCATION:
            return self.with_id(ebook_id)
        return BookPath(base_dir, self.stem, True)

    def location(self, extension: str, attempt: int = 0) -> str:
        """The file's path; from the second attempt on with the application's "(1)", "(2)" before the extension."""
        number = f"({attempt})" if attempt else ""
        return f"{self.base_dir}/{self.stem}{number}.{extension}"


def book_path(
    author_string: str, title: str, language_code: str, series: str | None = None, series_index: int | None = None
) -> BookPath:
    """The pattern filled in, safe and short enough for the file system and the columns."""
    author, author_ok = clean_part(author_string)
    name, title_ok = clean_part(title)
    series_part, series_ok = clean_part(series) if series else ("", True)
    suffix = f"({fold(language_code)})"
    for limit in (MAX_PART, 150, 110):
        tail = f"{series_part[: limit - 20].rstrip()} {series_index or 0} - {name}" if series else name
        folders = [_cut(part, limit) for part in ((author, series_part) if series else (author,))]
        base_dir = "/".join([*folders, _cut(tail, limit - len(suffix)) + suffix])
        stem = f"{author} - {tail}"
        if len(stem) > limit:
            stem = _cut(f"{_cut(author, limit // 2)} - {tail}", limit)
        if len(base_dir) + len(stem) + _RESERVE <= MAX_LOCATION:
            break
    return BookPath(base_dir, stem, author_ok and title_ok and series_ok)


def _cut(part: str, limit: int) -> str:
    return part if len(part) <= limit else part[:limit].rstrip(" .") or part[:limit]


def settle_path(path: BookPath, ebook_id: int, taken: Callable[[str], bool]) -> BookPath:
    """`path`, or the same with the ebook's id where the folder is taken or its names say too little.

    Ids are never given twice, so a folder that is taken even so has something odd above it (a link or a
    file where the author's folder should be): then the book gets a folder of its own at the top.
    """
    if path.unique and not taken(path.base_dir):
        return path
    own = path.with_id(ebook_id)
    if not taken(own.base_dir):
        return own
    return own.apart(ebook_id)


def free_location(path: BookPath, extension: str, taken: Callable[[str], bool]) -> str:
    """The first of "name.ext", "name(1).ext", "name(2).ext" ... that is free."""
    for attempt in range(MAX_ATTEMPTS):
        location = path.location(extension, attempt)
        if not taken(location):
            return location
    raise TerminalError(
        f"No free name for {path.location(extension)} under MyBookshelf2's book folder: is a link or a file in the way "
        "of its folder?"
    )
