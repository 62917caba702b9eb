"""Zipped office documents: Office Open XML text (docx) and OpenDocument text (odt)."""

import posixpath
from urllib.parse import unquote

from bookpipe.sources.ebook_metadata.fields import (
    EbookMetadata,
    EncryptedError,
    UnreadableError,
    found,
    people_in_list,
    split_tags,
)
from bookpipe.sources.ebook_metadata.hardened_xml import (
    Element,
    attribute,
    child,
    children,
    parse_broken_xml,
    parse_xml,
    text_of,
)
from bookpipe.sources.ebook_metadata.text_encodings import decode_markup
from bookpipe.sources.ebook_metadata.zip_members import ZipMembers
from bookpipe.sources.zip_directory import ReadAt, ZipEntry

MAX_PART = 4 << 20  # bytes
_STYLES_HEAD = 64 << 10  # bytes: the defaults are the first thing in it
_THUMBNAIL = "Thumbnails/thumbnail.png"


def read_docx(size: int, read_at: ReadAt) -> EbookMetadata:
    """The core properties: title, creator, keywords, language. A document without them is silent.

    Word writes no language there: then it is the one of the default style.
    """
    members = ZipMembers(size, read_at)
    entry = _core_properties(members)
    if entry is None:
        return found()
    core = parse_xml(members.read(entry, MAX_PART))
    creator = " ".join(text_of(child(core, "creator")).split())  # Word separates by ';': a line break is the XML's
    return found(
        title=text_of(child(core, "title")),
        authors=people_in_list(creator, joined_by_words=True),
        languages=[text for text in map(text_of, children(core, "language")) if text.strip()]
        or [_default_language(members)],
        # Separated by commas or semicolons. Blanks separate nothing: that would tear "science fiction" apart.
        tags=split_tags(*map(text_of, children(core, "keywords"))),
        cover="docProps/thumbnail.jpeg" if members.get("docProps/thumbnail.jpeg") else None,
    )


def _core_properties(members: ZipMembers) -> ZipEntry | None:
    """The part the package's relationships name (ECMA-376-2, 10.1); without one, that of Word's own name."""
    entry = members.find("_rels/.rels")
    try:
        relations = None if entry is None else parse_xml(members.read(entry, MAX_PART))
    except (UnreadableError, EncryptedError):  # there is a second way
        relations = None
    for relation in () if relations is None else children(relations, "relationship"):
        if (attribute(relation, "Type") or "").endswith("/metadata/core-properties"):
            target = posixpath.normpath("/" + unquote(attribute(relation, "Target") or "")).lstrip("/")
            if part := members.find(target):
                return part
    return members.find("docProps/core.xml")


def _default_language(members: ZipMembers) -> str | None:
    """docDefaults/rPrDefault/rPr/lang in the styles; None when they do not say."""
    entry = members.find("word/styles.xml")
    if entry is None:
        return None
    try:
        # Mostly cut off: not to be parsed strictly.
        element = parse_broken_xml(decode_markup(members.read_head(entry, _STYLES_HEAD)))
    except (UnreadableError, EncryptedError):  # the core properties were read
        return None
    for name in ("docdefaults", "rprdefault", "rpr", "lang"):
        element = child(element, name)
        if element is None:
            return None
    return attribute(element, "val")


def read_odt(size: int, read_at: ReadAt) -> EbookMetadata:
    """meta.xml: title, initial creator (else the last one), language, keywords."""
    members = ZipMembers(size, read_at)
    entry = members.find("meta.xml")
    if entry is None:
        return found()
    try:
        root = parse_xml(members.read(entry, MAX_PART))
    except UnreadableError as error:
        manifest = members.find("META-INF/manifest.xml")
        if manifest and b"encryption-data" in members.read(manifest, MAX_PART):
            raise EncryptedError("the document has a password") from error
        raise
    meta: Element = child(root, "meta")
    if meta is None:
        raise UnreadableError("meta.xml has no meta element")
    creator = text_of(child(meta, "initial-creator")) or text_of(child(meta, "creator"))
    return found(
        title=text_of(child(meta, "title")),
        authors=people_in_list(creator),
        languages=map(text_of, children(meta, "language")),
        tags=split_tags(*map(text_of, children(meta, "keyword"))),
        cover=_THUMBNAIL if members.get(_THUMBNAIL) else None,
    )
