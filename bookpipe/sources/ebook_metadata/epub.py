"""EPUB 2 and 3 and their ancestor OEB: the package document (OPF) that META-INF/container.xml points to."""

import posixpath
import re
from collections import defaultdict
from dataclasses import dataclass, field
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
from bookpipe.sources.zip_directory import ReadAt

MAX_OPF = 4 << 20  # bytes, as are the others
_MAX_CONTAINER = 1 << 20
_MAX_ENCRYPTION = 4 << 20

# Both only scramble the first bytes of fonts: such a book is readable.
_FONT_OBFUSCATION = frozenset((b"http://www.idpf.org/2008/embedding", b"http://ns.adobe.com/pdf/enc#RC"))
_ENCRYPTION_METHOD = re.compile(rb"""EncryptionMethod\b[^<>]*?\bAlgorithm\s*=\s*["']([^"'<>]{0,200})""")


def read_epub(size: int, read_at: ReadAt) -> EbookMetadata:
    """Title, authors, languages, subjects, series and the cover's member name.

    A book whose text is under DRM is `encrypted` and has its fields all the same: the OPF never is.
    """
    members = ZipMembers(size, read_at)
    path, data = _package_document(members)
    package = parse_xml(data)
    metadata = child(package, "metadata")
    fields = _collect(package if metadata is None else metadata)
    series, series_index = fields.series()
    return found(
        title=fields.main_title(),
        authors=people(*fields.authors()),
        languages=fields.languages,
        series=series,
        series_index=series_index,
        tags=split_tags(*fields.subjects),
        cover=_cover_member(package, fields.named.get("cover"), posixpath.dirname(path), members),
        encrypted=_drm(members),
    )


def _package_document(members: ZipMembers) -> tuple[str, bytes]:
    """(its member name, its bytes): the one the container names, else the .opf highest up."""
    entry = None
    container = members.find("META-INF/container.xml")
    if container is not None:
        try:
            for rootfile in descendants(parse_xml(members.read(container, _MAX_CONTAINER))):
                path = rootfile.get("full-path") if local_name(rootfile) == "rootfile" else None
                entry = members.find(_member_path("", path)) if path else None
                if entry is not None:
                    break
        except (UnreadableError, EncryptedError):  # there is a second way
            pass
    if entry is None:
        entry = members.first_ending(b".opf")
    if entry is None:
        raise UnreadableError("no package document (OPF)")
    return entry.name.decode("utf-8", "replace"), members.read(entry, MAX_OPF)


def _member_path(folder: str, reference: str) -> str:
    """The member a reference in `folder` leads to; outside the zip there is none, so `..` ends at the top."""
    path = posixpath.join("/", folder, unquote(reference.partition("#")[0]).strip().lstrip("/"))
    return posixpath.normpath(path).lstrip("/")


@dataclass(slots=True)
class _Fields:
    """The metadata section as it stands; (id, text) where EPUB 3 refines an element by its id."""

    titles: list[tuple[str, str]] = field(default_factory=list)
    creators: list[tuple[str, str, str | None]] = field(default_factory=list)  # id, name, EPUB 2 role
    languages: list[str] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    collections: list[tuple[str, str]] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)  # EPUB 2: <meta name content>
    refinements: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def refined(self, identifier: str, what: str) -> list[str]:
        return self.refinements.get((identifier, what), []) if identifier else []

    def main_title(self) -> str | None:
        titles = [(identifier, text) for identifier, text in self.titles if text.strip()]
        main = [text for identifier, text in titles if "main" in self.refined(identifier, "title-type")]
        return next(iter(main or [text for _, text in titles]), None)

    def authors(self) -> list[str]:
        """Creators without a role or with that of an author: the others edited, drew or translated."""
        return [
            name
            for identifier, name, role in self.creators
            if any(map(_is_author, self.refined(identifier, "role") or [role or ""]))
        ]

    def series(self) -> tuple[str | None, float | None]:
        """As Calibre writes it, else the first EPUB 3 collection that is a series or does not say what it is."""
        name = self.named.get("calibre:series")
        if name and name.strip():
            return name, parse_number(self.named.get("calibre:series_index"))
        for wanted in ("series", None):
            for identifier, text in self.collections:
                if next(iter(self.refined(identifier, "collection-type")), None) == wanted and text.strip():
                    return text, parse_number(next(iter(self.refined(identifier, "group-position")), None))
        return None, None


def _is_author(role: str) -> bool:
    return role.strip().lower().rpartition("/")[2] in ("", "aut", "author")


def _collect(metadata: Element) -> _Fields:
    fields = _Fields()
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


def _cover_member(package: Element, cover_id: str | None, folder: str, members: ZipMembers) -> str | None:
    """The image EPUB 3 marks as cover, else the one EPUB 2's <meta name="cover"> points to by id."""
    by_id = None
    manifest = child(package, "manifest")
    items = manifest.iterchildren("{*}item") if manifest is not None else ()
    for item in islice(items, MAX_ELEMENTS):
        marked = "cover-image" in item.get("properties", "").split()
        if (marked or (cover_id and item.get("id") == cover_id)) and item.get("media-type", "").startswith("image/"):
            by_id = item.get("href")
            if marked:
                break
    path = _member_path(folder, by_id) if by_id else None
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
