"""One stream of an OLE compound file ([MS-CFB]), read with a handful of small reads and fixed bounds.

Not olefile 0.47: it looks for each stream in a list of all earlier ones (a directory of 60,000 entries in 8 MB took
14 s, four times that for twice as many) and reads whatever a chain that loops leads it to, up to the file's size.
"""

import struct
from collections.abc import Iterator

from bookpipe.sources.ebook_metadata.fields import UnreadableError
from bookpipe.sources.zip_directory import ReadAt

_SIGNATURE = bytes.fromhex("D0CF11E0A1B11AE1")
_IN_HEADER = 109  # FAT sectors the header lists itself
_LAST_SECTOR = 0xFFFFFFF9  # larger numbers are marks: free, end of chain, table
_NO_ENTRY = 0xFFFFFFFF
_MINI_SECTOR = 64  # bytes
_MINI_CUTOFF = 4096  # bytes; shorter streams live in the root entry's stream, cut in mini sectors
_STREAM, _ROOT = 2, 5

_MAX_DIRECTORY = 1 << 20  # bytes: 8,192 entries
_MAX_MINI_SECTORS = 1 << 16  # of the table and of the container of short streams each: 32 MB of them
_MAX_LIST_SECTORS = 1_024  # of the list of FAT sectors: files of up to 66 GB


class OleStreams:
    """Streams in the root of an OLE file, by name. Damage raises UnreadableError or shortens what is read."""

    def __init__(self, size: int, read_at: ReadAt) -> None:
        self._read_at = read_at
        header = read_at(0, 512)
        if len(header) < 512 or not header.startswith(_SIGNATURE):
            raise UnreadableError("no OLE header")
        self._header = header
        (self._shift,) = struct.unpack_from("<H", header, 30)
        if self._shift not in (9, 12):
            raise UnreadableError(f"sectors of 2**{self._shift} bytes")
        self._sectors = (size >> self._shift) + 1
        self._fat_list: list[bytes] | None = None
        (first,) = struct.unpack_from("<I", header, 48)
        self._directory = b"".join(self._sector(n) for n in self._chain(first, _MAX_DIRECTORY >> self._shift))
        self._entries = dict(self._walk())

    def read(self, name: str, limit: int) -> bytes | None:
        """The first `limit` bytes of the stream, None when there is none of that name."""
        found = self._entries.get(name)
        if found is None:
            return None
        start, size = found
        wanted = min(size, limit)
        data = self._read_mini(start, wanted) if size < _MINI_CUTOFF else self._read_chain(start, wanted)
        return data[:wanted]

    # -- sectors --------------------------------------------------------------------------------------------------

    def _sector(self, number: int) -> bytes:
        return self._read_at((number + 1) << self._shift, 1 << self._shift)

    def _chain(self, sector: int, most: int) -> Iterator[int]:
        """Sectors one after the other. Ends after `most`, or at the file's own number of them: chains may loop."""
        for _ in range(min(most, self._sectors)):
            if sector > _LAST_SECTOR:
                return
            yield sector
            sector = self._next(sector)

    def _next(self, sector: int) -> int:
        table, entry = divmod(sector, 1 << (self._shift - 2))
        if table < _IN_HEADER:
            listed = self._header[76 + 4 * table : 80 + 4 * table]
        else:
            per_list = (1 << (self._shift - 2)) - 1  # the last number leads to the next list
            number, place = divmod(table - _IN_HEADER, per_list)
            lists = self._further_lists()
            listed = lists[number][4 * place : 4 * place + 4] if number < len(lists) else b""
        fat_sector = int.from_bytes(listed, "little") if len(listed) == 4 else _NO_ENTRY
        if fat_sector > _LAST_SECTOR:
            return _NO_ENTRY
        link = self._read_at(((fat_sector + 1) << self._shift) + 4 * entry, 4)
        return int.from_bytes(link, "little") if len(link) == 4 else _NO_ENTRY

    def _further_lists(self) -> list[bytes]:
        """The sectors that list the FAT sectors beyond the header's: a file of more than 7 MB has them."""
        if self._fat_list is None:
            self._fat_list = []
            (sector,) = struct.unpack_from("<I", self._header, 68)
            while sector <= _LAST_SECTOR and len(self._fat_list) < min(_MAX_LIST_SECTORS, self._sectors):
                data = self._sector(sector)
                if len(data) < 1 << self._shift:
                    break
                self._fat_list.append(data)
                sector = int.from_bytes(data[-4:], "little")
        return self._fat_list

    def _read_chain(self, start: int, wanted: int) -> bytes:
        return b"".join(self._sector(n) for n in self._chain(start, -(-wanted >> self._shift)))

    def _read_mini(self, start: int, wanted: int) -> bytes:
        (table_start,) = struct.unpack_from("<I", self._header, 60)
        root_start, root_size = struct.unpack_from("<II", self._directory, 116)
        table = list(self._chain(table_start, _MAX_MINI_SECTORS))
        container = list(self._chain(root_start, min(-(-root_size >> self._shift), _MAX_MINI_SECTORS)))
        parts: list[bytes] = []
        mini = start
        for _ in range(-(-wanted // _MINI_SECTOR)):
            sector, offset = divmod(mini * _MINI_SECTOR, 1 << self._shift)
            table_sector, entry = divmod(mini, 1 << (self._shift - 2))
            if sector >= len(container) or table_sector >= len(table):
                break
            parts.append(self._read_at(((container[sector] + 1) << self._shift) + offset, _MINI_SECTOR))
            link = self._read_at(((table[table_sector] + 1) << self._shift) + 4 * entry, 4)
            mini = int.from_bytes(link, "little") if len(link) == 4 else _NO_ENTRY
        return b"".join(parts)

    # -- directory ------------------------------------------------------------------------------------------------

    def _walk(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """(name, (first sector, size)) of the streams right under the root, not of the objects embedded deeper."""
        directory = self._directory
        if len(directory) < 128 or directory[66] != _ROOT:
            raise UnreadableError("no OLE root entry")
        (child,) = struct.unpack_from("<I", directory, 76)
        todo, seen = [child], {0}
        while todo:
            number = todo.pop()
            at = 128 * number
            if number in seen or at + 128 > len(directory):
                continue
            seen.add(number)
            name_length, kind, left, right = struct.unpack_from("<HBxII", directory, at + 64)
            todo += [right, left]
            if kind == _STREAM:
                name = directory[at : at + max(0, min(name_length, 64) - 2)].decode("utf-16-le", "replace")
                yield name, struct.unpack_from("<II", directory, at + 116)
