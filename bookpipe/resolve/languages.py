"""ISO 639: a language code or name of a source as the codes MyBookshelf2 may know it by."""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

MAX_CODE = 6  # characters of language.code
MAX_NAME = 64
UNDETERMINED = "und"

# ISO 639's own former codes, codes of countries that people take for those of languages, and names at home.
_OTHER_SPELLINGS = {
    "iw": "he", "ji": "yi", "cz": "cs", "ua": "uk", "jp": "ja", "cn": "zh",
    "русский": "ru", "українська": "uk", "čeština": "cs", "deutsch": "de", "français": "fr", "español": "es",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class IsoLanguage:
    """`code` is the two-letter code where there is one, else the three-letter one."""

    code: str
    aliases: tuple[str, ...]  # every ISO code of the language, two-letter first
    name: str


@lru_cache(maxsize=1)
def _known() -> tuple[dict[str, IsoLanguage], dict[str, IsoLanguage]]:
    """Every language by its codes, and by its names in lower case."""
    import pycountry  # noqa: PLC0415  what finds everything there already needs no languages

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


@lru_cache(maxsize=1_000)  # books name the same few
def find_language(text: str) -> IsoLanguage | None:
    """The ISO 639 language of a two- or three-letter code or of an English name; None if there is none.

    A region is ignored: 'pt-BR', 'en_US', 'German (Austria)'. Of a list ('en, fr', 'ru; en') it is the first one that
    is known. Codes come before names: there are languages that are called En, Ko and Hu.
    """
    text = text.strip().lower()
    # Whole first: names of ISO hold commas.
    return _find_one(text) or next(filter(None, map(_find_one, re.split(r"[,;/]", text))), None)


def _find_one(text: str) -> IsoLanguage | None:
    by_code, by_name = _known()
    whole = text.strip()
    name = _without_addition(whole)
    code = name.replace("_", "-").split("-")[0]
    return (
        by_code.get(whole)
        or by_name.get(whole)
        or by_code.get(code)
        or by_code.get(_OTHER_SPELLINGS.get(code, ""))
        or by_name.get(name)
    )
