"""The bytes of the cover that `read_metadata` found, read when they are wanted."""

from bookpipe.sources.ebook_metadata.fb2 import read_fb2_cover
from bookpipe.sources.ebook_metadata.fields import EncryptedError, UnreadableError
from bookpipe.sources.ebook_metadata.mobi import read_palm_cover
from bookpipe.sources.ebook_metadata.zip_members import ZipMembers
from bookpipe.sources.zip_directory import ReadAt

MAX_COVER = 32 << 20  # bytes


def read_cover(kind: str, cover: str | int | None, size: int, read_at: ReadAt) -> bytes | None:
    """The image file inside the book, at most 32 MB; None when there is none or it cannot be read.

    `kind` and `cover` are those of `read_metadata`. An OSError of `read_at` passes through; no bytes raise.
    """
    try:
        if isinstance(cover, int):
            return read_palm_cover(cover, size, read_at, MAX_COVER)
        if cover and kind in ("fb2", "fbz"):
            return read_fb2_cover(cover, size, read_at, MAX_COVER)
        if cover:
            members = ZipMembers(size, read_at)
            entry = members.find(cover)
            return members.read(entry, MAX_COVER) if entry else None
    except (UnreadableError, EncryptedError):
        pass
    return None
