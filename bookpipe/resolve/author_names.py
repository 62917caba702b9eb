"""Author names as MyBookshelf2's engine splits and prints them. All rules measured on the real application."""

from functools import lru_cache

MAX_NAME = 128  # characters of author.last_name and author.first_name

# Line ends in a name make every download fail; other control characters only do harm.
_CONTROL = dict.fromkeys([*range(32), *range(127, 160)]) | dict.fromkeys((9, 10, 11, 12, 13, 133), " ")
_CONTROL |= {0x2028: " ", 0x2029: " "}


def clean_name(text: str | None, limit: int) -> str:
    """`text` without control characters and outer blanks, at most `limit` characters; '' for None."""
    if not text:
        return ""
    if not text.isprintable():
        text = text.translate(_CONTROL)
    return text.strip()[:limit].rstrip()


@lru_cache(maxsize=65_536)
def split_author(name: str) -> tuple[str, str | None]:
    """(last name, first name or None) of one author.

    With a comma, what stands before the first one is the last name and all later parts the first name;
    without, the last word is the last name. A missing first name is None, never '': the application
    finds authors by `first_name IS NULL` and never matches an empty string.
    """
    name = clean_name(name, 1_000)
    if "," in name:
        last, *rest = name.split(",")
        first = " ".join(part for part in (r.strip() for r in rest) if part)
        last = last.strip()
        if not last:
            last, first = first, ""
    else:
        words = name.split()
        last = words[-1] if words else ""
        first = " ".join(words[:-1])
    return last[:MAX_NAME].rstrip(), first[:MAX_NAME].rstrip() or None


@lru_cache(maxsize=65_536)
def initials(first: str | None) -> str:
    """'J. R. R.' gives 'J R R', 'jean-paul' gives 'J'."""
    return " ".join(part[0].upper() for part in (first or "").split())


def author_string(authors: list[tuple[str, str | None]]) -> str:
    """A book's authors as they stand in paths."""
    if not authors:
        return "No Authors"
    if len(authors) == 1:
        last, first = authors[0]
        return f"{last} {first}" if first else last
    shown = ", ".join(f"{last} {initials(first)}".rstrip() for last, first in authors[:3])
    return shown + " and others" if len(authors) > 3 else shown


def full_name(last: str, first: str | None) -> str:
    """As search indexes it: first name first."""
    return f"{first} {last}" if first else last
