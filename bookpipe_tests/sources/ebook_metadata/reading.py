"""What the tests of the metadata readers share: reading bytes in every way a caller may, and building files."""

import io
import zipfile

from bookpipe.sources.ebook_metadata import EbookMetadata, read_metadata

HEAD = 4096


class CountingSource:
    """Random access to bytes that counts what it was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked = 0

    def read_at(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length >= 0
        part = self.data[offset : offset + length]
        self.asked += len(part)
        return part


def read(kind: str, data: bytes) -> EbookMetadata:
    """The metadata, the same whether the file is in memory, only its head is, or nothing of it."""
    source = CountingSource(data)
    whole = read_metadata(kind, data, len(data), source.read_at)
    assert source.asked == 0
    assert read_metadata(kind, memoryview(data)[:HEAD], len(data), source.read_at) == whole
    assert read_metadata(kind, b"", len(data), source.read_at) == whole
    return whole


def zip_of(*members: tuple[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def without_member(data: bytes, *names: str, more: tuple[tuple[str, bytes | str], ...] = ()) -> bytes:
    """A zip without some members and with others."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        kept = [(name, archive.read(name)) for name in archive.namelist() if name not in names]
    return zip_of(*kept, *more)
