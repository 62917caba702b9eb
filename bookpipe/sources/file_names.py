"""A title for a book whose file does not say one."""

from bookpipe.sources.plain_text import clean_text

_MAX_TITLE = 2_000  # characters, as of the titles that files say

# Only these are cut off: "Vol. 2.5" and "Dr. Strange" have no extension.
_EXTENSIONS = frozenset(
    (
        *("pdf", "txt", "pdb", "rtf", "doc", "mobi", "prc", "epub", "odt", "djvu", "djv", "html", "htm", "xhtml"),
        *("chm", "lit", "fb2", "docx", "azw3", "azw", "azw1", "azw4", "kf8", "kfx", "kepub", "fbz", "lrf", "tcr"),
        *("snb", "cbz", "cbr", "cb7", "htmlz", "txtz", "zip", "rar", "7z", "gz", "xml", "md", "text", "docm", "ott"),
    )
)


def title_from_name(name: str) -> str:
    """'dir/War_and_Peace.fb2.zip' gives 'War and Peace'; a bare number stays that number. Never empty."""
    base = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem = base
    while True:
        head, dot, extension = stem.rpartition(".")
        if not dot or not head.strip(" ._") or extension.lower() not in _EXTENSIONS:
            break
        stem = head
    return clean_text(stem.replace("_", " "), _MAX_TITLE) or clean_text(base, _MAX_TITLE) or "Untitled"
