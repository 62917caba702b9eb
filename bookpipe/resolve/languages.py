"""ISO 639: a language code of a source as the codes MyBookshelf2 may know it by."""

from dataclasses import dataclass
from functools import lru_cache

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
def _by_code() -> dict[str, IsoLanguage]:
    found: dict[str, IsoLanguage] = {}
    for entry in pycountry.languages:
        alpha_2 = getattr(entry, "alpha_2", None)
        bibliographic = getattr(entry, "bibliographic", None)  # ger, fre, cze beside deu, fra, ces
        aliases = tuple(c for c in (alpha_2, entry.alpha_3, bibliographic) if c)
        # Names such as "Greek, Modern (1453-)" are kept: they are what ISO prints.
        language = IsoLanguage(aliases[0], aliases, str(entry.name)[:MAX_NAME])
        for code in aliases:
            found[code] = language
    return found


def find_language(code: str) -> IsoLanguage | None:
    """The ISO 639 language of a two- or three-letter code, region ('pt-BR', 'en_US') ignored; None if there is none."""
    code = code.strip().lower()
    languages = _by_code()
    return languages.get(code) or languages.get(code.replace("_", "-").split("-")[0])
