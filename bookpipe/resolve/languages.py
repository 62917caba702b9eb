"""ISO 639: a language code or name of a source as the codes MyBookshelf2 may know it by."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pycountry

MAX_CODE = 6  # characters of language.code
MAX_NAME = 64
UNDETERMINED = "und"


@dataclass(frozen=True, slots=True)
class IsoLanguage:
    """`code` is the two-letter code where there is one, else the three-letter one."""

    code: str
    aliases: tuple[str, ...]  # every ISO code of the language, two-letter first
    name: str


@lru_cache(maxsize=1)
def _known() -> tuple[dict[str, IsoLanguage], dict[str, IsoLanguage]]:
    """Every language by its codes, and by its names in lower case."""
    database = pycountry.languages
    # Pycountry makes an object of every entry, which takes ten times as long as reading them.
    entries = json.loads(Path(database.filename).read_text("utf-8"))[database.root_key]
    by_code: dict[str, IsoLanguage] = {}
    by_name: dict[str, IsoLanguage] = {}
    short: dict[str, IsoLanguage] = {}
    for entry in entries:
        alpha_2, bibliographic = entry.get("alpha_2"), entry.get("bibliographic")  # ger, fre, cze beside deu, fra, ces
        aliases = tuple(c for c in (alpha_2, entry["alpha_3"], bibliographic) if c)
        # Names such as "Greek, Modern (1453-)" are kept: they are what ISO prints.
        language = IsoLanguage(aliases[0], aliases, entry["name"][:MAX_NAME])
        for code in aliases:
            by_code[code] = language
        for name in (entry["name"], entry.get("common_name"), entry.get("inverted_name")):
            if name:
                by_name[name.lower()] = language
                if alpha_2:  # people write "Greek" for the one that is spoken
                    short.setdefault(_without_addition(name.lower()), language)
    return by_code, {**short, **by_name}


def _without_addition(name: str) -> str:
    """'greek, modern (1453-)' as 'greek'."""
    return name.partition("(")[0].partition(",")[0].strip()


def find_language(text: str) -> IsoLanguage | None:
    """The ISO 639 language of a two- or three-letter code or of an English name; None if there is none.

    A region is ignored: 'pt-BR', 'en_US', 'German (Austria)'.
    """
    text = text.strip().lower()
    by_code, by_name = _known()
    return (
        by_code.get(text)
        or by_code.get(text.replace("_", "-").split("-")[0])
        or by_name.get(text)
        or by_name.get(_without_addition(text))
    )
