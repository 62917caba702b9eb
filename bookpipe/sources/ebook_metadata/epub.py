"""EPUB 2 and 3 and their ancestor OEB: the package document (OPF) that META-INF/container.xml points to."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from urllib.parse import unquote

from bookpipe.sources.ebook_metadata.fields import (
    EbookMetadata,
    EncryptedError,
    UnreadableError,
    found,
    parse_number,
    people,
    split_tags,
)
from bookpipe.sources.ebook_metadata.hardened_xml import (
    MAX_ELEMENTS,
    Element,
    attribute,
    child,
    descendants,
    local_name,
    parse_xml,
    text_of,
)
from bookpipe.sources.ebook_metadata.zip_members import ZipMembers
from bookpipe.sources.zip_directory import ReadAt, ZipEntry

MAX_OPF = 4 << 20  # bytes, as are the others
_MAX_CONTAINER = 1 << 20
_MAX_ENCRYPTION = 4 << 20
_MAX_ROOT_FILES = 8
_PACKAGE_TYPE = "application/oebps-package+xml"

# Both only scramble the first bytes of fonts: such a book is readable.
_FONT_OBFUSCATION = frozenset((b"http://www.idpf.org/2008/embedding", b"http://ns.adobe.com/pdf/enc#RC"))
_ENCRYPTION_METHOD = re.compile(rb"""EncryptionMethod\b[^<>]*?\bAlgorithm\s*=\s*["']([^"'<>]{0,200})""")


def read_epub(size: int, read_at: ReadAt) -> EbookMetadata:
    """Title, authors, languages, subjects, series and the cover's member name.

    A book whose text is under DRM is `encrypted` and has its fields all the same: the OPF never is.
    """
    members = ZipMembers(size, read_at)
    path, package = _package_document(members)
    metadata = child(package, "metadata")
    fields = _collect(package if metadata is None else metadata, epub_3=_is_epub_3(package))
    series, series_index = fields.series()
    return found(
        title=fields.main_title(),
        authors=people(*fields.authors(), joined_by_words=not fields.epub_3),
        languages=fields.languages,
        series=series,
        series_index=series_index,
        tags=split_tags(*fields.subjects),
        cover=_cover_member(package, fields.named.get("cover"), posixpath.dirname(path), members),
        encrypted=_drm(members),
    )


def _package_document(members: ZipMembers) -> tuple[str, Element]:
    """(its member name, its root): the one the container names, else the .opf highest up.

    A container may name other forms of the book first, a PDF even. What has another root is taken when there is
    nothing better.
    """
    others: list[tuple[str, Element]] = []
    problem: UnreadableError | EncryptedError = UnreadableError("no package document (OPF)")
    for entry in _candidates(members):
        try:
            root = parse_xml(members.read(entry, MAX_OPF))
        except (UnreadableError, EncryptedError) as error:
            problem = error
            continue
        others.append((entry.name.decode("utf-8", "replace"), root))
        if local_name(root) == "package":
            return others[-1]
    if not others:
        raise problem
    return others[0]


def _candidates(members: ZipMembers) -> Iterator[ZipEntry]:
    container = members.find("META-INF/container.xml")
    if container is not None:
        try:
            paths = _root_files(members.read(container, _MAX_CONTAINER))
        except (UnreadableError, EncryptedError):  # there is a second way
            paths = ()
        yield from filter(None, map(members.find, paths))
    entry = members.first_ending(b".opf")
    if entry is not None:
        yield entry


@lru_cache(16)  # books made by the same program have the same container
def _root_files(container: bytes) -> tuple[str, ...]:
    """The first ones, those of the right type before others."""
    elements = descendants(parse_xml(container))
    files = [e for e in elements if local_name(e) == "rootfile" and e.get("full-path")]
    files.sort(key=lambda file: file.get("media-type", "").strip().lower() != _PACKAGE_TYPE)
    return tuple(_member_path("", file.get("full-path")) for file in files[:_MAX_ROOT_FILES])


def _member_path(folder: str, reference: str) -> str:
    """The member a reference in `folder` leads to; outside the zip there is none, so `..` ends at the top."""
    path = posixpath.join("/", folder, unquote(reference.partition("#")[0]).strip().lstrip("/"))
    return posixpath.normpath(path).lstrip("/")


def _is_epub_3(package: Element) -> bool:
    """What does not say its version is EPUB 2 or older."""
    return (parse_number(package.get("version")) or 0) >= 3


@dataclass(slots=True)
class _Fields:
    """The metadata section as it stands; (id, text) where EPUB 3 refines an element by its id.

    What they mean is what Calibre 6.13 takes them for, in EPUB 3 and in what is older.
    """

    epub_3: bool
    titles: list[tuple[str, str]] = field(default_factory=list)
    creators: list[tuple[str, str, str | None]] = field(default_factory=list)  # id, name, EPUB 2 role
    languages: list[str] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    collections: list[tuple[str, str]] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)  # EPUB 2: <meta name content>
    refinements: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def refined(self, identifier: str, what: str) -> list[str]:
        return self.refinements.get((identifier, what), []) if identifier else []

    def number(self, identifier: str, what: str) -> float | None:
        return parse_number(next(iter(self.refined(identifier, what)), None))

    def main_title(self) -> str | None:
        """The title that is the main one, else the first, and the subtitle behind it: 'Main: Sub'."""
        titles = [(identifier, text.strip()) for identifier, text in self.titles if text.strip()]

        def first_of(kind: str) -> tuple[str, str] | None:
            return next((title for title in titles if kind in self.refined(title[0], "title-type")), None)

        main = first_of("main") or next(iter(titles), None)
        if main is None:
            return None
        subtitle = first_of("subtitle")
        return main[1] if subtitle is None or subtitle is main else f"{main[1]}: {subtitle[1]}"

    def authors(self) -> list[str]:
        """Creators without a role or with that of an author: the others edited, drew or translated.

        A book of EPUB 2 that has none of them is its editors'.
        """
        authors = self._creators("", "aut", "author")
        return authors if authors or self.epub_3 else self._creators("edt", "editor")

    def _creators(self, *roles: str) -> list[str]:
        """Those with one of the roles by their display-seq; the ones without it come first."""
        creators = [
            (self.number(identifier, "display-seq") or 0.0, name)
            for identifier, name, role in self.creators
            if name.strip() and any(_role(text) in roles for text in self.refined(identifier, "role") or [role or ""])
        ]
        return [name for _, name in sorted(creators, key=lambda creator: creator[0])]

    def series(self) -> tuple[str | None, float | None]:
        """The first EPUB 3 collection that says it is a series, or the one Calibre wrote: in EPUB 3 the former wins."""
        written = [(self.named.get("calibre:series", ""), parse_number(self.named.get("calibre:series_index")))]
        collections = [
            (text, self.number(identifier, "group-position"))
            for identifier, text in self.collections
            if "series" in self.refined(identifier, "collection-type")
        ]
        every = [*collections, *written] if self.epub_3 else [*written, *collections]
        return next(((name, index) for name, index in every if name.strip()), (None, None))


def _role(text: str) -> str:
    return text.strip().lower().rpartition("/")[2]


def _collect(metadata: Element, *, epub_3: bool) -> _Fields:
    fields = _Fields(epub_3)
    # All descendants: OEB wraps the elements once more, in dc-metadata and x-metadata.
    for element in descendants(metadata):
        name = local_name(element)
        if name == "title":
            fields.titles.append((element.get("id", ""), text_of(element)))
        elif name == "creator":
            fields.creators.append((element.get("id", ""), text_of(element), attribute(element, "role")))
        elif name == "language":
            fields.languages.append(text_of(element))
        elif name == "subject":
            fields.subjects.append(text_of(element))
        elif name == "meta":
            _collect_meta(element, fields)
    return fields


def _collect_meta(element: Element, fields: _Fields) -> None:
    kind = element.get("property")
    if kind is None:
        name, content = element.get("name"), element.get("content")
        if name and content:
            fields.named.setdefault(name.lower(), content)
        return
    kind, text = kind.rpartition(":")[2], text_of(element)
    if kind == "belongs-to-collection":
        fields.collections.append((element.get("id", ""), text))
    refines = element.get("refines")
    if refines:
        fields.refinements[refines.lstrip("#"), kind].append(text.strip())


def _cover_member(package: Element, named: str | None, folder: str, members: ZipMembers) -> str | None:
    """The image EPUB 3 marks as cover, else the one EPUB 2's <meta name="cover"> names by id, or wrongly by href."""
    hrefs: dict[str, str] = {}  # by how they were found
    manifest = child(package, "manifest")
    items = manifest.iterchildren("{*}item") if manifest is not None else ()
    for item in islice(items, MAX_ELEMENTS):
        href, kind = item.get("href"), item.get("media-type", "").lower()
        # Types that are wrong or unusual are many: only pages and drawings are no pictures.
        if not href or not kind or "xml" in kind or "html" in kind:
            continue
        if "cover-image" in item.get("properties", "").split():
            hrefs.setdefault("marked", href)
        if named and item.get("id") == named:
            hrefs.setdefault("by id", href)
        if href == named:
            hrefs.setdefault("by href", href)
    href = hrefs.get("marked") or hrefs.get("by id") or hrefs.get("by href")
    path = _member_path(folder, href) if href else None
    return path if path and members.find(path) else None


def _drm(members: ZipMembers) -> str:
    """What META-INF/encryption.xml says of the contents; '' when they can be read."""
    entry = members.get("META-INF/encryption.xml")
    if entry is None:
        return ""
    try:
        methods = set(_ENCRYPTION_METHOD.findall(members.read(entry, _MAX_ENCRYPTION)))
    except (UnreadableError, EncryptedError) as error:
        return f"META-INF/encryption.xml cannot be read: {error}"
    methods -= _FONT_OBFUSCATION
    return f"the contents are encrypted with {min(methods).decode('utf-8', 'replace')}" if methods else ""
