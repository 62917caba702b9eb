"""Rich Text Format 1.9: the \\info group near the start."""

import re
import struct

from bookpipe.sources.ebook_metadata.fields import EbookMetadata, UnreadableError, found, people_in_list, split_tags
from bookpipe.sources.ebook_metadata.text_encodings import codec_of_code_page, decode_field
from bookpipe.sources.zip_directory import ReadAt

_HEADS = (4 << 10, 64 << 10, 1 << 20)  # bytes that are searched; fonts, styles and revisions come before \info
_INFOS = (8 << 10, 128 << 10)  # bytes of the group that are tried
_CHARACTER_SETS = {b"mac": "mac-roman", b"pc": "cp437", b"pca": "cp850"}
_CODE_PAGE = re.compile(rb"\\(?:ansicpg(\d{1,5})|(mac|pca?)\b)")
_FALLBACK = re.compile(rb"\\uc(\d)")
_WANTED = (b"title", b"author", b"keywords", b"category")
_HOLDERS = {b"upr": b"info", b"ud": b"upr"}  # groups that hold fields, and in which group: {\upr{ANSI}{\*\ud{Unicode}}}
_TOKEN = re.compile(
    rb"\\'(?P<hex>[0-9A-Fa-f]{2})|\\(?P<word>[A-Za-z]{1,32})(?P<number>-?\d{1,9})? ?|\\(?P<symbol>[^A-Za-z])"
    rb"|(?P<brace>[{}])|(?P<text>[^\\{}\r\n]+)|[\r\n\\]",
    re.DOTALL,
)
_SYMBOLS = {b"~": b" ", b"_": b"-", b"\r": b" ", b"\n": b" "}
_BLANKS = frozenset((b"tab", b"line", b"par"))
_DASHES = {b"endash": "\u2013", b"emdash": "\u2014", b"lquote": "\u2018", b"rquote": "\u2019"}
_DASHES |= {b"ldblquote": "\u201c", b"rdblquote": "\u201d"}


def read_rtf(size: int, read_at: ReadAt) -> EbookMetadata:
    """Title, authors and tags (keywords, and the category); silent without an \\info group in the first megabyte."""
    head, at = b"", -1
    for limit in _HEADS:
        head = read_at(0, min(limit, size))
        at = head.find(b"{\\info")
        if at >= 0 or len(head) < limit:
            break
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{\\rtf"):
        raise UnreadableError("no RTF header")
    if at < 0:
        return found()
    fallback = _FALLBACK.search(head, 0, min(at, 2048))
    codec = _codec(head[:2048])
    fields: dict[bytes, str] = {}
    for limit in _INFOS:
        info = read_at(at, limit)
        fields, ends = _info_texts(info, codec, int(fallback[1]) if fallback else 1)
        if ends or len(info) < limit:
            break
    return found(
        title=fields.get(b"title"),
        authors=people_in_list(fields.get(b"author")),
        tags=split_tags(fields.get(b"keywords"), fields.get(b"category")),
    )


def _codec(head: bytes) -> str:
    match = _CODE_PAGE.search(head)
    if match is None:
        return "cp1252"
    return codec_of_code_page(int(match[1])) if match[1] else _CHARACTER_SETS[match[2]]


class _Text:
    """A field that grows: bytes of the document's code page, and UTF-16 units in between."""

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._parts: list[str] = []
        self._bytes = bytearray()

    def add_bytes(self, data: bytes) -> None:
        self._bytes += data

    def add_text(self, text: str) -> None:
        self._flush()
        self._parts.append(text)

    def add_unit(self, number: int) -> None:
        self.add_text(struct.pack("<H", number & 0xFFFF).decode("utf-16-le", "surrogatepass"))

    def clear(self) -> None:
        self._parts.clear()
        self._bytes.clear()

    def _flush(self) -> None:
        if self._bytes:
            self._parts.append(decode_field(bytes(self._bytes), self._codec))
            self._bytes.clear()

    def __str__(self) -> str:
        self._flush()
        # Two units of a pair were added one by one.
        return "".join(self._parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def _info_texts(info: bytes, codec: str, fallback: int) -> tuple[dict[bytes, str], bool]:
    """(the wanted groups' texts, whether the group's end was seen).

    `fallback` is how many characters behind a \\u are for readers without Unicode (\\uc). Each level of braces has
    its field (None: of no interest), its own such number, and which group of fields it is (empty: none).
    """
    texts: dict[bytes, _Text] = {}
    levels: list[tuple[_Text | None, int, bytes]] = []
    field: _Text | None = None
    holder = b""
    skip = 0
    starred = False
    for token in _TOKEN.finditer(info):
        kind, word = token.lastgroup, token["word"]
        if kind == "brace":
            skip = 0
            if token["brace"] == b"{":
                levels.append((field, fallback, holder))
                holder = b"" if len(levels) > 1 else b"info"
                continue
            field, fallback, holder = levels.pop() if levels else (None, fallback, b"")
            if not levels:
                return {name: str(text) for name, text in texts.items()}, True
        elif word is not None:
            number = int(token["number"] or 1)
            outer = levels[-1][2] if levels else b""
            if word in _HOLDERS and outer == _HOLDERS[word]:
                holder = word
            elif starred:
                # {\title {\upr{bytes}{\*\ud{the same in Unicode}}}}; any other starred group is not text.
                if word == b"ud" and field:
                    field.clear()
                else:
                    field = None
            elif outer and word in _WANTED:
                if outer == b"ud":
                    texts.pop(word, None)
                field = texts.setdefault(word, _Text(codec))
            elif word == b"uc":
                fallback = max(0, number)
            elif field and word == b"u":
                field.add_unit(number)
                skip = fallback
                continue
            elif skip:
                skip -= 1
            elif field and word in _BLANKS:
                field.add_bytes(b" ")
            elif field and word in _DASHES:
                field.add_text(_DASHES[word])
        elif kind in ("hex", "symbol"):
            if token["symbol"] == b"*":
                starred = True
                continue
            if skip:
                skip -= 1
            elif field and kind == "hex":
                field.add_bytes(bytes.fromhex(token["hex"].decode()))
            elif field and token["symbol"] not in (b"-", b"|", b":"):
                field.add_bytes(_SYMBOLS.get(token["symbol"], token["symbol"]))
        elif kind == "text":
            text = token["text"]
            if field:
                field.add_bytes(text[skip:])
            skip = max(0, skip - len(text))
        starred = False
    return {name: str(text) for name, text in texts.items()}, False
