"""The members of a zip by name, with limits, for formats that are zips."""

from bookpipe.sources.ebook_metadata.fields import EncryptedError, UnreadableError
from bookpipe.sources.zip_directory import ReadAt, ZipEntry, read_entries, read_member

_ENCRYPTED = 1  # flag bit 0


class ZipMembers:
    """The directory of a zip, read once."""

    def __init__(self, size: int, read_at: ReadAt) -> None:
        entries = read_entries(size, read_at)
        if entries is None:
            raise UnreadableError("the zip has no directory, a damaged one or one beyond the limits")
        self._size = size
        self._read_at = read_at
        self._exact = {entry.name: entry for entry in entries}  # of two with one name the last one counts
        self._folded: dict[bytes, ZipEntry] | None = None

    def get(self, name: str) -> ZipEntry | None:
        """The member of exactly that name."""
        return self._exact.get(name.encode("utf-8", "replace"))

    def find(self, name: str) -> ZipEntry | None:
        """The member of that name; ignoring case and the direction of slashes when there is none."""
        return self.get(name) or self._by_folded_name().get(_fold(name.encode("utf-8", "replace")))

    def first_ending(self, *endings: bytes) -> ZipEntry | None:
        """The member highest up whose name has one of these (lower-case) endings."""
        matching = [name for name in self._by_folded_name() if name.endswith(endings)]
        return self._by_folded_name()[min(matching, key=lambda name: name.count(b"/"))] if matching else None

    def read(self, entry: ZipEntry, limit: int) -> bytes:
        """A whole member. Raises UnreadableError when it is damaged or longer than `limit` bytes."""
        data = self.read_head(entry, limit + 1)
        if len(data) > limit:
            raise UnreadableError(f"{entry.name[:100]!r} is longer than {limit} bytes")
        return data

    def read_head(self, entry: ZipEntry, limit: int) -> bytes:
        """The first `limit` bytes of a member, whatever size it claims to have."""
        if entry.flags & _ENCRYPTED:
            raise EncryptedError(f"{entry.name[:100]!r} is encrypted")
        data = read_member(entry, self._size, self._read_at, limit)
        if data is None:
            raise UnreadableError(f"{entry.name[:100]!r} is damaged or packed in an unknown way")
        return data

    def _by_folded_name(self) -> dict[bytes, ZipEntry]:
        if self._folded is None:
            self._folded = {_fold(name): entry for name, entry in self._exact.items()}
        return self._folded


def _fold(name: bytes) -> bytes:
    return name.replace(b"\\", b"/").lower()
