"""HTML of any age: the title and the meta elements of the head, found without building a tree."""

import html
import re

from bookpipe.sources.ebook_metadata.fields import (
    EbookMetadata,
    found,
    parse_number,
    people,
    people_in_list,
    split_tags,
)
from bookpipe.sources.ebook_metadata.text_encodings import decode_markup
from bookpipe.sources.zip_directory import ReadAt

MAX_HEAD = 64 << 10  # bytes
_HEADS = (4 << 10, MAX_HEAD)  # bytes that are tried: mostly the body begins within the first

_TITLE = re.compile(r"<title\b[^<>]*>([^<]*)", re.IGNORECASE)
_BODY = re.compile("<body", re.IGNORECASE)
_HIDDEN = re.compile(r"<!--|<(script)\b(?:[^<>]*[^<>/])?>", re.IGNORECASE)  # XHTML's <script/> hides nothing
_END_OF_COMMENT = re.compile("-->")
_END_OF_SCRIPT = re.compile(r"</script\b[^<>]*>", re.IGNORECASE)
_META = re.compile(r"<meta\b([^<>]*)", re.IGNORECASE)
_ROOT = re.compile(r"<html\b([^<>]*)", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([\w:.-]{1,40})\s{0,10}=\s{0,10}(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_AUTHOR_LISTS = frozenset(("author", "authors"))
_AUTHORS = frozenset(("dc.creator", "dc:creator", "dcterms.creator", "dc.creator.aut", "creator", "book:author"))
_TITLES = frozenset(("dc.title", "dc:title", "dcterms.title", "title"))
_LANGUAGES = frozenset(("dc.language", "dc:language", "dcterms.language", "content-language", "language"))
_TAGS = frozenset(("keywords", "dc.subject", "dc:subject", "dcterms.subject", "tags"))
_SERIES = frozenset(("series",))
_NUMBERS = frozenset(("seriesnumber", "series_index", "series.index"))
_NUMBER_BEHIND = re.compile(r"\[([\d.]{1,20})\]\s*$")  # 'Series [2]'


def read_html(size: int, read_at: ReadAt) -> EbookMetadata:
    """Title, authors, languages, series and keywords. A file without any of them is silent.

    As in Calibre a title in a meta element comes before the title element, which is the page's.
    """
    text = _head(size, read_at)
    title = _TITLE.search(text)
    lists: list[str] = []
    authors: list[str] = []
    languages: list[str] = []
    tags: list[str] = []
    titles: list[str] = []
    series: list[str] = []
    numbers: list[str] = []
    for meta in _META.finditer(text):
        attributes = _attributes(meta[1])
        name = attributes.get("name") or attributes.get("http-equiv") or attributes.get("property", "")
        content = attributes.get("content", "")
        for names, values in ((_AUTHOR_LISTS, lists), (_AUTHORS, authors), (_TITLES, titles), (_LANGUAGES, languages),
                              (_TAGS, tags), (_SERIES, series), (_NUMBERS, numbers)):  # fmt: skip
            if name.lower() in names and content.strip():
                values.append(content)
    if title:
        titles.append(html.unescape(title[1]))
    number = _NUMBER_BEHIND.search(series[0]) if series else None
    if number:
        series, numbers = [series[0][: number.start()]], [number[1], *numbers]
    root = _ROOT.search(text)
    if root and not languages:
        attributes = _attributes(root[1])
        languages.append(attributes.get("lang") or attributes.get("xml:lang", ""))
    return found(
        title=next(iter(titles), None),
        authors=people(*authors, joined_by_words=True)
        if authors
        else (name for names in lists for name in people_in_list(names, joined_by_words=True)),
        languages=languages,
        series=next(iter(series), None),
        series_index=parse_number(next(iter(numbers), None)),
        tags=split_tags(*tags),
    )


def _head(size: int, read_at: ReadAt) -> str:
    """What stands before the body; the first 64 KB when no body begins there."""
    text = ""
    for limit in _HEADS:
        text = _without_comments_and_scripts(decode_markup(read_at(0, min(size, limit))))
        body = _BODY.search(text)
        if body:
            return text[: body.start()]
        if limit >= size:
            break
    return text


def _attributes(text: str) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(text):
        name, *values = match.groups()
        attributes.setdefault(name.lower(), html.unescape(next((value for value in values if value is not None), "")))
    return attributes


def _without_comments_and_scripts(text: str) -> str:
    parts: list[str] = []
    at = 0
    while start := _HIDDEN.search(text, at):
        parts.append(text[at : start.start()])
        end = (_END_OF_SCRIPT if start[1] else _END_OF_COMMENT).search(text, start.end())
        if end is None:
            return "".join(parts)
        at = end.end()
    return "".join([*parts, text[at:]])
