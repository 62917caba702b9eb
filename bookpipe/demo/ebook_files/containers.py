"""The containers ebook formats are built on: zip, Palm database, OLE compound file, PDF objects.

Written by hand where no library of ours writes them, and without a clock or randomness: the same
arguments give the same bytes on every machine, so that a demo collection has stable digests.
"""

import io
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_PALM_EPOCH_2000 = 3_029_529_600  # 2000-01-01 in seconds since 1904
_SECTOR = 512  # bytes, of an OLE compound file of version 3
_FAT_ENTRIES = _SECTOR // 4
_FREE, _END_OF_CHAIN, _FAT_SECTOR = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def zip_archive(members: Iterable[tuple[str, bytes]], stored: Sequence[str] = ()) -> bytes:
    """A zip of (name, data) in this order, deflated except for the names in `stored`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name, _ZIP_EPOCH)
            info.compress_type = zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED
            info.create_system = 3  # the default differs between Windows and the rest
            archive.writestr(info, data)
    return buffer.getvalue()


def filler(name: str, padding: int) -> list[tuple[str, bytes]]:
    """The member that makes a zip larger by `padding` bytes; list it as stored."""
    return [(name, b" " * padding)] if padding else []


def palm_database(name: bytes, type_and_creator: bytes, records: Sequence[bytes]) -> bytes:
    """A Palm database (PDB): 78 bytes of header, the list of records, two bytes of air, the records."""
    listed = 78 + 8 * len(records) + 2
    header = struct.pack(
        ">32sHHIIIIII8sIIH",
        name[:31],
        0,  # attributes
        0,  # version
        _PALM_EPOCH_2000,  # created
        _PALM_EPOCH_2000,  # modified
        0,  # never backed up
        0,
        0,  # no application info
        0,  # no sort info
        type_and_creator,
        2 * len(records) + 1,  # seed of unique ids
        0,
        len(records),
    )
    parts = [header]
    offset = listed
    for number, record in enumerate(records):
        parts.append(struct.pack(">II", offset, 2 * number))
        offset += len(record)
    return b"".join([*parts, b"\0\0", *records])


def ole_file(streams: Mapping[str, bytes]) -> bytes:
    """An OLE compound file ([MS-CFB] version 3) of at most three streams in its root.

    Every stream is filled up to 4,096 bytes: shorter ones would have to live in a second, smaller file system.
    """
    names = sorted(streams, key=lambda name: (len(name), name.upper()))  # the order of the directory's tree
    contents = [_fill(streams[name].ljust(4096, b"\0"), _SECTOR) for name in names]
    sectors = [len(content) // _SECTOR for content in contents]
    data_sectors = 1 + sum(sectors)  # one of directory
    fat_sectors = 1
    while fat_sectors * _FAT_ENTRIES < data_sectors + fat_sectors:
        fat_sectors += 1
    if fat_sectors > 109:
        raise ValueError("an OLE file of more than 7 MB needs a list of allocation tables that is not written here")

    fat = [_FAT_SECTOR] * fat_sectors + [_END_OF_CHAIN]
    starts = []
    for count in sectors:
        starts.append(len(fat))
        fat += [*range(len(fat) + 1, len(fat) + count), _END_OF_CHAIN]
    fat += [_FREE] * (fat_sectors * _FAT_ENTRIES - len(fat))

    middle = len(names) // 2  # the root of a tree of three
    entries = [_ole_entry("Root Entry", kind=5, child=1 + middle, start=_END_OF_CHAIN)]
    for number, (name, content, start) in enumerate(zip(names, contents, starts, strict=True)):
        left = number if number == middle and number else _FREE
        right = 2 + number if number == middle and number + 1 < len(names) else _FREE
        entries.append(_ole_entry(name, kind=2, left=left, right=right, start=start, size=len(content)))
    header = struct.pack(
        "<8s16xHHHHH6xIIIIIIIII",
        bytes.fromhex("D0CF11E0A1B11AE1"),
        0x3E,  # minor version
        3,  # major version
        0xFFFE,  # little-endian
        9,  # sectors of 2**9 bytes
        6,  # small sectors of 2**6 bytes
        0,  # directory sectors are not counted in version 3
        fat_sectors,
        fat_sectors,  # where the directory starts
        0,
        4096,  # shorter streams would be small ones
        _END_OF_CHAIN,
        0,  # no small sectors
        _END_OF_CHAIN,
        0,  # no further list of allocation tables
    )
    tables = [*range(fat_sectors), *[_FREE] * (109 - fat_sectors)]
    return b"".join(
        [
            header,
            struct.pack("<109I", *tables),
            struct.pack(f"<{len(fat)}I", *fat),
            _fill(b"".join(entries), _SECTOR),
            *contents,
        ]
    )


def _ole_entry(
    name: str, *, kind: int, start: int, size: int = 0, left: int = _FREE, right: int = _FREE, child: int = _FREE
) -> bytes:
    encoded = name.encode("utf-16-le") + b"\0\0"
    return struct.pack(
        "<64sHBBIII16xI16xIQ", encoded, len(encoded), kind, 1, left, right, child, 0, start, size
    )  # 1: a black node of the tree


def ole_summary(properties: Mapping[int, str]) -> bytes:
    """A SummaryInformation property set ([MS-OLEPS]) in UTF-8; ids: 2 title, 4 author, 5 keywords."""
    values = [(1, struct.pack("<Ihxx", 2, 65001 - 65536))]  # the code page is a signed 16-bit number
    for number, text in properties.items():
        encoded = text.encode("utf-8", "replace") + b"\0"
        values.append((number, _fill(struct.pack("<II", 30, len(encoded)) + encoded, 4)))
    offset = 8 + 8 * len(values)
    index = b""
    for number, value in values:
        index += struct.pack("<II", number, offset)
        offset += len(value)
    section = struct.pack("<II", offset, len(values)) + index + b"".join(value for _, value in values)
    # byte order, format 0, Windows 2.6, no class, one section: FMTID_SummaryInformation at 48
    fmtid = bytes.fromhex("E0859FF2F94F6810AB9108002B27B3D9")
    return struct.pack("<HHI16xI16sI", 0xFFFE, 0, 0x00020006, 1, fmtid, 48) + section


def pdf_file(objects: Sequence[bytes], *, root: int, info: int) -> bytes:
    """A PDF 1.4 of these objects, numbered from 1, with a cross-reference table; `root` and `info` are numbers."""
    parts = [b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"]
    offset = len(parts[0])
    table = [b"0000000000 65535 f \n"]
    for number, content in enumerate(objects, 1):
        table.append(b"%010d 00000 n \n" % offset)
        parts.append(b"%d 0 obj\n%b\nendobj\n" % (number, content))
        offset += len(parts[-1])
    count = len(table)
    parts.append(b"xref\n0 %d\n" % count + b"".join(table))
    parts.append(b"trailer\n<< /Size %d /Root %d 0 R /Info %d 0 R >>\n" % (count, root, info))
    parts.append(b"startxref\n%d\n%%%%EOF\n" % offset)
    return b"".join(parts)


def _fill(data: bytes, multiple: int) -> bytes:
    return data + b"\0" * (-len(data) % multiple)
