"""Artist strings and titles taken apart into the names of artists, as Koito's own parser does.

Guests that the artist string names ("feat.") come before the artist it is left with, guests of the title come last;
featured text is split at "and" without regard to words. All of this is Koito's, and its albums hang on the order.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from bookpipe.model.errors import ConfigError
from bookpipe.model.listens import trim

SETTING = "BOOKPIPE_KOITO_ARTIST_SEPARATORS"
DEFAULT_SEPARATORS = r"\s+·\s+"

Separators = tuple[re.Pattern[str], ...]

# What \s, \d and \w are in Go. Python's \s has U+000B as well, and without re.ASCII all of Unicode.
_CLASSES = {"s": r"\t\n\f\r ", "d": "0-9", "w": "0-9A-Za-z_"}

_FEATURE = re.compile(r"feat\. ", re.IGNORECASE)  # nearly no text has one
_BRACKETED = (
    re.compile(r"\(feat\. ([^)]*)\)", re.IGNORECASE),
    re.compile(r"\[feat\. ([^\]]*)\]", re.IGNORECASE),
)
_TRAILING = re.compile(r"feat\. ([^()\[\]]+)\Z", re.IGNORECASE)
_BETWEEN = re.compile(r"[\t\n\f\r ]*(?:,|&|and|·)[\t\n\f\r ]*", re.IGNORECASE)

_PART = re.compile(r"\\.|\[\^?\]?|.", re.DOTALL)
_MULTILINE = re.compile(r"\(\?[a-zA-Z]*m")


def parse_artists(artist: str, title: str, separators: Separators) -> list[str]:
    """The distinct names in an artist string and a title, in Koito's order, trimmed; none when all are blank."""
    names: dict[str, None] = {}
    if _FEATURE.search(artist):
        for pattern in (*_BRACKETED, _TRAILING):
            if match := pattern.search(artist):
                artist = artist.replace(match[0], "", 1)  # Koito cuts the same words where they stand first
                _add(names, _BETWEEN.split(match[1]))
    guests = len(names)
    for separator in separators:
        _add(names, (piece for piece in _split(separator, artist) if piece != artist))
    if len(names) == guests:
        _add(names, (artist,))
    if _FEATURE.search(title):
        for pattern in (*_BRACKETED, _TRAILING):  # nothing is cut out of a title
            if match := pattern.search(title):
                _add(names, _BETWEEN.split(match[1]))
    return list(names)


def _add(names: dict[str, None], pieces: Iterable[str]) -> None:
    for piece in pieces:
        name = trim(piece)
        if name:
            names.setdefault(name)


def _split(separator: re.Pattern[str], text: str) -> Iterator[str]:
    """What is between the matches, as Go splits: no groups, and no empty match right behind another match."""
    start = 0
    end = -1
    for match in separator.finditer(text):
        if match.end() == match.start() == end:
            continue
        yield text[start : match.start()]
        start = end = match.end()
    yield text[start:]


@lru_cache(maxsize=64)
def compile_separators(text: str) -> Separators:
    """The regular expressions of Koito's setting: joined by ";;", in Go's syntax; those of "" are Koito's own.

    ConfigError for one that Python's `re` cannot express (\\p{...}, [[:alpha:]], \\Q...\\E) or that is none.
    """
    separators = []
    for pattern in (text or DEFAULT_SEPARATORS).split(";;"):
        try:
            if not pattern:
                raise ValueError("an empty one would split names into letters")
            separators.append(re.compile(_as_python(pattern)))
        except (re.error, ValueError, OverflowError) as error:
            raise ConfigError(
                f"{SETTING} has a regular expression that cannot be used, {pattern!r}: {error}. Correct it, or write "
                "it without what only Go knows."
            ) from error
    return tuple(separators)


def _as_python(pattern: str) -> str:
    """A regular expression of Go in Python's words. ValueError where there are none."""
    parts = []
    in_class = False
    for part in _PART.findall(pattern):
        if part[0] == "\\":
            parts.append(_escape(part[1:], in_class))
        elif part[0] == "[" and in_class:
            if "[:" in pattern:
                raise ValueError("named classes are not supported")
            parts.append("\\" + part)
            in_class = "]" not in part
        elif part[0] == "[":  # a bracket that follows it is in the class, as in Python
            parts.append(part)
            in_class = True
        elif part == "$" and not in_class and not _MULTILINE.search(pattern):
            parts.append(r"\Z")  # Python's $ also matches before a newline
        else:
            parts.append(part)
            in_class = in_class and part != "]"
    return "".join(parts)


def _escape(letter: str, in_class: bool) -> str:
    """An escape of Go (the letter behind the backslash) in Python's words."""
    chars = _CLASSES.get(letter.lower())
    if chars and in_class:
        if letter.isupper():
            raise ValueError(f"\\{letter} in brackets is not supported")
        return chars
    if chars:
        return f"[{'^' if letter.isupper() else ''}{chars}]"
    if letter in ("b", "B") and not in_class:
        return rf"(?a:\{letter})"
    return r"\Z" if letter == "z" else "\\" + letter
