"""XML of strangers: lxml without entities, DTDs, network and huge trees, and some patience with what is broken.

Measured with lxml 6.1.3 (libxml2 2.14.6): entity bombs end within 1.2 ms, nesting ends at depth 256, also while
recovering. Callers cap the bytes: 4 MB of an OPF, 1 MB of an FB2's head.
"""

import html
import re
import threading
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, TypeAlias

from lxml import etree

from bookpipe.sources.ebook_metadata.fields import UnreadableError
from bookpipe.sources.ebook_metadata.text_encodings import decode_markup

Element: TypeAlias = Any  # lxml has no types

MAX_ELEMENTS = 20_000  # that are looked at: four megabytes can hold a million empty ones
_per_thread = threading.local()
_BARE_AMPERSAND = re.compile(r"&(?!#?\w{1,40};)")
_ENTITY = re.compile(r"&[^\s;&]{1,100};")


def parse_xml(data: bytes) -> Element:
    """The root element of a whole document in any encoding; what can be saved of it when it is broken."""
    text = decode_markup(data)
    try:
        root = etree.fromstring(text.encode("utf-8", "replace"), _strict_parser())
    except etree.XMLSyntaxError:
        return parse_broken_xml(text)
    return root


def parse_broken_xml(text: str) -> Element:
    """The root element of what may be cut off, hold bare ampersands, control characters or undeclared prefixes."""
    mended = _BARE_AMPERSAND.sub("&amp;", text)
    try:
        root = etree.fromstring(mended.encode("utf-8", "replace"), _parser(recover=True))
    except etree.XMLSyntaxError as error:
        raise UnreadableError(f"no XML: {error}") from error
    if root is None:
        raise UnreadableError("no XML")
    return root


def _strict_parser() -> Any:
    # One per thread: a shared one makes threads wait for each other, and to make one takes as long as to parse with it.
    parser = getattr(_per_thread, "parser", None)
    if parser is None:
        parser = _per_thread.parser = _parser(recover=False)
    return parser


def _parser(*, recover: bool) -> Any:
    return etree.XMLParser(
        encoding="utf-8",  # whatever the document declares: it was decoded before
        recover=recover,
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )


def local_name(element: Element) -> str:
    """The tag without its namespace or undeclared prefix, in lower case; '' for an entity."""
    tag = element.tag
    return _bare(tag) if isinstance(tag, str) else ""


@lru_cache(1_000)  # books have the same few names
def _bare(tag: str) -> str:
    return tag.rpartition("}")[2].rpartition(":")[2].lower()


def children(element: Element, name: str) -> Iterator[Element]:
    return (child for child in islice(element, MAX_ELEMENTS) if local_name(child) == name)


def child(element: Element, name: str) -> Element | None:
    return next(children(element, name), None)


def descendants(element: Element) -> Iterator[Element]:
    """The element and everything in it, in the order of the document, up to the limit."""
    return islice(element.iter(), MAX_ELEMENTS)


def text_of(element: Element | None) -> str:
    """All text in an element. Entities are not resolved; HTML's names are characters, others stay text."""
    if element is None:
        return ""
    if not len(element):
        return element.text or ""
    parts = islice(element.itertext(), MAX_ELEMENTS)
    return "".join(html.unescape(part) if _ENTITY.fullmatch(part) else part for part in parts)


def attribute(element: Element, name: str) -> str | None:
    """An attribute by its local name, in whatever namespace or with an undeclared prefix."""
    value = element.get(name)
    if value is None:
        for key, other in element.attrib.items():
            if key.rpartition("}")[2].rpartition(":")[2] == name:
                return str(other)
    return None if value is None else str(value)
