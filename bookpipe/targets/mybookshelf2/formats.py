"""Names and MIME types for format rows that MyBookshelf2 does not come with."""

import mimetypes

FORMAT_NAMES = {
    "azw": "Amazon Kindle eBook", "azw4": "Amazon Print Replica", "kfx": "Amazon KFX eBook", "cbz": "Comic Book (zip)",
    "cbr": "Comic Book (rar)", "cb7": "Comic Book (7z)", "cbc": "Comic Book Collection", "fbz": "Fiction Book 2 (zip)",
    "zip": "Zip archive", "rar": "Rar archive", "7z": "7z archive", "lrf": "Sony BroadBand eBook", "tcr": "TCR eBook",
    "snb": "Shanda Bambook eBook", "md": "Markdown text", "xhtml": "XHTML document", "htmlz": "Zipped HTML",
    "txtz": "Zipped text", "kepub": "Kobo EPUB", "docm": "MS Word XML document with macros", "azw1": "Topaz eBook",
    "mp3": "MP3 audio", "m4b": "MPEG-4 audiobook",
}  # fmt: skip

_MIME_TYPES = {
    "azw": "application/vnd.amazon.ebook", "azw4": "application/vnd.amazon.ebook",
    "azw1": "application/vnd.amazon.ebook", "kfx": "application/vnd.amazon.ebook",
    "cbz": "application/vnd.comicbook+zip", "cbr": "application/vnd.comicbook-rar", "cb7": "application/x-cb7",
    "fbz": "application/x-zip-compressed-fb2", "kepub": "application/x-kobo-epub+zip", "md": "text/markdown",
    "lrf": "application/x-sony-bbeb", "htmlz": "application/x-htmlz", "m4b": "audio/mp4",
}  # fmt: skip


def mime_type(extension: str) -> str:
    """The MIME type a new format row gets. Never application/octet-stream, which chm owns in MyBookshelf2."""
    guessed = _MIME_TYPES.get(extension) or mimetypes.guess_type(f"book.{extension}", strict=False)[0]
    return guessed if guessed and guessed != "application/octet-stream" else f"application/x-{extension}"
