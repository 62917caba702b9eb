"""Bytes as text: what was declared, unless the bytes themselves say otherwise."""

import codecs
import re

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
_MULTI_BYTE = re.compile(r"cp9(?:32|49|50)|gbk|gb2312|gb18030|big5|big5hkscs|shift_jis\w*|euc_\w+|johab")
_CYRILLIC_WORD = re.compile(rb"[\xe0-\xff]{4}")  # four lower-case letters in a row; Latin text has accents one by one


def decode_markup(data: bytes) -> str:
    """An XML or HTML file, or its beginning (a character cut at the end is dropped). Never raises.

    Files of unknown origin declare windows-1251 and are UTF-8, declare UTF-8 and are windows-1251, or declare
    nothing. So: a byte order mark, then the NULs of UTF-16, then UTF-8 if the bytes are that, then the declaration,
    then a guess. Damaged bytes become U+FFFD.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return _decode(data[len(mark) :], codec, "replace")
    if data[1:2] == b"\0" and data[:1] != b"\0":
        return _decode(data, "utf-16-le", "replace")
    if data[:1] == b"\0" and data[1:2] != b"\0":
        return _decode(data, "utf-16-be", "replace")
    declared = _declared_codec(data)
    if declared and _MULTI_BYTE.fullmatch(declared):
        return _decode(data, declared, "replace")
    try:
        return _decode(data, "utf-8", "strict")
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
    return _codec(match[1].decode("ascii")) if match else None


def _decode(data: bytes, codec: str, errors: str) -> str:
    # Not final: what a cut leaves of the last character is no error.
    return codecs.getincrementaldecoder(codec)(errors).decode(data, False)
