"""Bytes as text: what was declared, unless the bytes themselves say otherwise."""

import codecs
import re
from contextlib import suppress

_DECLARED_WITHIN = 2_048  # bytes
_XML_DECLARED = re.compile(rb"""<\?xml\b[^<>]*?\bencoding\s*=\s*["']?([A-Za-z0-9_:.-]{1,40})""")
_HTML_DECLARED = re.compile(rb"""<meta\b[^<>]*?\bcharset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Python has codecs that are no encodings of text or take quadratic time (punycode): only these may be declared.
_SINGLE_BYTE = re.compile(
    r"iso8859-\d{1,2}|cp(?:125\d|4\d\d|7\d\d|8\d\d|1006|1026|1125|1140)|koi8-[rtu]|mac-\w+|tis-620"
)
_MULTI_BYTE = re.compile(r"cp9(?:32|49|50)|gbk|gb2312|gb18030|big5|big5hkscs|shift_jis\w*|euc_\w+|johab|iso2022_jp")
# What declarations mean according to the WHATWG Encoding Standard, where Python does not know the label or reads less
# or something else: authors wrote what they had heard of, and browsers showed it in what Windows had. (Of "us-ascii"
# with other bytes in it nothing is known: it is guessed.)
_LABELS = {
    "x-mac-cyrillic": "mac-cyrillic", "x-mac-ukrainian": "mac-cyrillic", "x-mac-roman": "mac-roman",
    "windows-874": "cp874", "dos-874": "cp874", "iso-8859-8-i": "iso8859-8", "iso-8859-8-e": "iso8859-8",
    "sun_eu_greek": "iso8859-7", "koi": "koi8-r", "koi8": "koi8-r", "koi8-ru": "koi8-u", "cp-866": "cp866",
    "x-sjis": "cp932", "windows-31j": "cp932", "x-euc-jp": "euc_jis_2004", "windows-949": "cp949",
    "x-gbk": "gb18030", "cn-big5": "big5hkscs", "x-x-big5": "big5hkscs",
    **{f"x-cp125{n}": f"cp125{n}" for n in range(9)},
}  # fmt: skip
_SUPERSETS = {
    "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "cp950": "big5hkscs", "shift_jis": "cp932",
    "euc_jp": "euc_jis_2004", "euc_kr": "cp949",
}  # fmt: skip
_CAPITAL_E = re.compile("[\u0240-\u02ff]")  # phonetic letters in UTF-8, and É, Ê or Ë with a quote or dash behind it
_CYRILLIC_WORD = re.compile(rb"[\xe0-\xff]{4}")  # four lower-case letters in a row; Latin text has accents one by one


def decode_markup(data: bytes) -> str:
    """An XML or HTML file, or its beginning (a character cut at the end is dropped). Never raises.

    Files of unknown origin declare windows-1251 and are UTF-8, declare UTF-8 and are windows-1251, or declare
    nothing. So: a byte order mark, then the NULs of UTF-16, then UTF-8 if the bytes are that, then the declaration
    (as browsers take it), then a guess. Damaged bytes become U+FFFD.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return _decode(data[len(mark) :], codec, "replace").lstrip("\ufeff")  # some files have two
    if data[1:2] == b"\0" and data[:1] != b"\0":
        return _decode(data, "utf-16-le", "replace")
    if data[:1] == b"\0" and data[1:2] != b"\0":
        return _decode(data, "utf-16-be", "replace")
    declared = _declared_codec(data)
    try:
        text = _decode(data, "utf-8", "strict")
        if declared != "iso2022_jp" or not text.isascii():  # that one has only ASCII's bytes
            return text
    except UnicodeDecodeError:
        pass
    if declared:
        return _decode(data, declared, "replace")
    text = _decode(data, "utf-8", "replace")
    damaged = text.count("\ufffd")
    sound = len(text) - damaged - len(text.encode("ascii", "ignore"))
    return text if sound > 4 * damaged else _decode(data, guess_single_byte(data), "replace")


def decode_field(data: bytes, codec: str) -> str:
    """One field in `codec`, or in UTF-8 where it is that and `codec` is one of 256 characters. Never raises."""
    if codec == "utf-8" or _SINGLE_BYTE.fullmatch(codec):
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            if codec == "utf-8":
                codec = guess_single_byte(data)
    return data.decode(codec, "replace")


def decode_mislabelled(data: bytes) -> str | None:
    """A field that writers put as UTF-8 or windows-1251 where another encoding is due; None when it may be in that.

    Windows-1251 is only seen where most letters are of its upper half, in which other alphabets have a few of them.
    """
    with suppress(UnicodeDecodeError):
        text = _decode(data, "utf-8", "strict")  # such fields are cut at a number of bytes
        return None if text.isascii() or _CAPITAL_E.search(text) else text
    with suppress(UnicodeDecodeError):
        text = data.decode("cp1251")
        upper = [character for character in text if not character.isascii()]
        letters = sum(map(str.isalpha, upper))
        mostly = letters >= 4 and 2 * letters > sum(map(str.isalpha, text)) and 4 * letters > 3 * len(upper)
        if mostly and guess_single_byte(text.lower().encode("cp1251")) == "cp1251":
            return text
    return None


def guess_single_byte(data: bytes) -> str:
    """windows-1251 for what looks Cyrillic, else windows-1252."""
    return "cp1251" if _CYRILLIC_WORD.search(data) else "cp1252"


_CODE_PAGES = {
    0: "cp1252",
    936: "gbk",
    1200: "utf-16-le",
    1201: "utf-16-be",
    10000: "mac-roman",
    10007: "mac-cyrillic",
    10029: "mac-latin2",
    20866: "koi8-r",
    21866: "koi8-u",
    54936: "gb18030",
    65001: "utf-8",
    **{28590 + part: f"iso8859-{part}" for part in range(1, 17)},
}


def codec_of_code_page(number: int) -> str:
    """Python's name for a Windows code page; windows-1252 for those it does not have."""
    return _CODE_PAGES.get(number) or _codec(f"cp{number}") or "cp1252"


def _codec(name: str) -> str | None:
    """The codec of that name, if it is one of text in bytes."""
    try:
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    return codec if _SINGLE_BYTE.fullmatch(codec) or _MULTI_BYTE.fullmatch(codec) else None


def _declared_codec(data: bytes) -> str | None:
    head = data[:_DECLARED_WITHIN]
    match = _XML_DECLARED.search(head) or _HTML_DECLARED.search(head)
    if match is None:
        return None
    label = match[1].decode("ascii").lower()
    codec = _codec(_LABELS.get(label, label))
    return _SUPERSETS.get(codec, codec) if codec else None


def _decode(data: bytes, codec: str, errors: str) -> str:
    # Not final: what a cut leaves of the last character is no error.
    return codecs.getincrementaldecoder(codec)(errors).decode(data, False)
