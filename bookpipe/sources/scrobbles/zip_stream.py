"""A member of a zip as a stream of its bytes, always unpacked from its beginning in the same steps.

However reading begins and whatever sizes are asked for, a damaged member gives the same bytes before its damage: rows
must not depend on where a partition begins. (The standard library's reader loses what a failing call has unpacked.)
"""

import struct
import zipfile
import zlib
from collections.abc import Callable

from bookpipe.sources.scrobbles.json_stream import StreamDamageError

STEP = 16 << 10  # packed bytes unpacked at a time: never more than 17 MB

_ENCRYPTED = 1
_LOCAL = struct.Struct("<4s22xHH")  # signature, name and extra lengths: APPNOTE 4.3.7
_SIGNATURE = b"PK\x03\x04"


class ZipStream:
    """The bytes of a member from `offset`. `read_at` reads the zip: (offset, length) -> bytes."""

    def __init__(self, info: zipfile.ZipInfo, read_at: Callable[[int, int], bytes], offset: int = 0) -> None:
        self._info = info
        self._read_at = read_at
        self._to_skip = offset
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS) if info.compress_type == zipfile.ZIP_DEFLATED else None
        self._at: int | None = None  # where packed bytes are read next
        self._left = info.compress_size
        self._broken: StreamDamageError | None = None
        self._size = 0
        self._crc = 0

    def read(self, _size: int, /) -> bytes:
        """The next bytes, as many as one step unpacks; none at the end. Raises StreamDamageError."""
        while piece := self._next_piece():
            if len(piece) > self._to_skip:
                piece, self._to_skip = piece[self._to_skip :], 0
                return piece
            self._to_skip -= len(piece)
        return b""

    def finish(self) -> None:
        """Unpack what was not read. StreamDamageError when the member is not what was put into the zip."""
        while self._next_piece():
            pass
        if (self._size, self._crc) != (self._info.file_size, self._info.CRC):
            raise self._damage("its checksum is wrong")

    def _next_piece(self) -> bytes:
        if self._broken is not None:
            raise self._broken
        try:
            piece = self._unpack()
        except StreamDamageError as error:
            self._broken = error
            raise
        self._size += len(piece)
        self._crc = zlib.crc32(piece, self._crc)
        if self._size > self._info.file_size:
            self._broken = self._damage("it is larger than the zip says")
            raise self._broken
        return piece

    def _unpack(self) -> bytes:
        while True:
            packed = self._read_packed()
            if self._inflate is None:
                return packed
            if not packed:
                if not self._inflate.eof:
                    raise self._damage("it ends too early")
                return b""
            try:
                piece = self._inflate.decompress(packed)
            except zlib.error as error:
                raise self._damage(str(error)) from error
            if self._inflate.eof:
                self._left = 0
            if piece:
                return piece

    def _read_packed(self) -> bytes:
        if self._at is None:
            self._at = self._find_data()
        if self._left <= 0:
            return b""
        packed = self._read_at(self._at, min(STEP, self._left))
        self._at += len(packed)
        self._left -= len(packed)
        return packed

    def _find_data(self) -> int:
        info = self._info
        if info.flag_bits & _ENCRYPTED:
            raise self._damage("it is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._damage(f"method {info.compress_type} is not read here")
        header = self._read_at(info.header_offset, _LOCAL.size)
        if len(header) < _LOCAL.size or not header.startswith(_SIGNATURE):
            raise self._damage("it is not where the zip says")
        _, name_length, extra_length = _LOCAL.unpack(header)
        return info.header_offset + _LOCAL.size + int(name_length) + int(extra_length)

    def _damage(self, why: str) -> StreamDamageError:
        return StreamDamageError(f"{self._info.filename} cannot be unpacked: {why}")
