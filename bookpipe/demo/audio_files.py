"""Small audio files of every kind for the demo, the tests and the benchmarks, made without an encoder.

Each maker is a pure function of its song: no clock, no randomness. MP3, AAC, M4A, FLAC, Opus, WAV and AIFF hold
decodable silence of the song's length; Vorbis and WMA have true headers and tags, and no sound. `pad_to` makes a
file exactly that many bytes long, where it would be shorter, in the format's own way of holding more: an MP3 gets
longer, an Ogg file gets a second stream.
"""

import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

RATE = 44_100  # samples a second, of all but Opus


@dataclass(frozen=True)
class SampleSong:
    """What a made file says of itself; an empty text is not written at all."""

    title: str = ""
    artist: str = ""
    album: str = ""
    genre: str = ""
    track: str = ""  # such as "3" or "3/12"
    seconds: float = 2.0
    picture: bytes = b""  # an embedded cover; only in MP3, FLAC and M4A


def _missing(data: bytes, pad_to: int) -> int:
    return max(0, pad_to - len(data))


# -- MP3 and ADTS AAC ---------------------------------------------------------------------------------------------

_MP3_FRAME = b"\xff\xfb\x90\xc0" + bytes(413)  # MPEG 1 layer III, 128 kbit/s, mono: 1152 samples of silence
_AAC_SILENCE = bytes.fromhex("00c800802380")  # one mono frame of AAC LC: 1024 samples


def make_mp3(song: SampleSong, *, id3: str = "2.3", pad_to: int = 0, zeros: int = 0) -> bytes:
    """`id3` is "2.3", "2.4", "1" or "" for no tag; `zeros` are written in front, as some rippers do."""
    tag = make_id3v2(song, minor=int(id3[2])) if id3.startswith("2") else b""
    tail = _id3v1(song) if id3 == "1" else b""
    frames = _MP3_FRAME * math.ceil(song.seconds * RATE / 1152)
    missing = _missing(tag + frames + tail, pad_to - zeros)
    more, rest = divmod(missing, len(_MP3_FRAME))
    if tag:  # what is no whole frame fits into the tag
        tag, rest = make_id3v2(song, minor=int(id3[2]), padding=rest), 0
    return bytes(zeros) + tag + frames + _MP3_FRAME * more + bytes(rest) + tail


def make_aac(song: SampleSong, *, pad_to: int = 0) -> bytes:
    """ADTS frames; the format has no tags."""
    length = 7 + len(_AAC_SILENCE)
    # Sync, MPEG 4, no CRC; LC, 44.1 kHz, one channel; length of the frame; buffer fullness: variable.
    header = bytes((0xFF, 0xF1, 0x50, 0x40 | length >> 11, length >> 3 & 0xFF, (length & 7) << 5 | 0x1F, 0xFC))
    frames = (header + _AAC_SILENCE) * math.ceil(song.seconds * RATE / 1024)
    return frames + bytes(_missing(frames, pad_to))


def make_id3v2(song: SampleSong, *, minor: int = 3, padding: int = 0) -> bytes:
    """An ID3v2.3 (UTF-16) or ID3v2.4 (UTF-8) tag."""
    texts = {"TIT2": song.title, "TPE1": song.artist, "TALB": song.album, "TCON": song.genre, "TRCK": song.track}
    encode: Callable[[str], bytes] = _id3_utf8 if minor == 4 else _id3_utf16
    frames = b"".join(_id3_frame(name, encode(text), minor) for name, text in texts.items() if text)
    if song.picture:
        frames += _id3_frame("APIC", b"\0image/jpeg\0\x03\0" + song.picture, minor)
    frames += bytes(padding)
    return b"ID3" + bytes((minor, 0, 0)) + _synchsafe(len(frames)) + frames


def _id3_utf8(text: str) -> bytes:
    return b"\x03" + text.encode()


def _id3_utf16(text: str) -> bytes:
    return b"\x01\xff\xfe" + text.encode("utf-16-le")


def _id3_frame(name: str, content: bytes, minor: int) -> bytes:
    size = _synchsafe(len(content)) if minor == 4 else struct.pack(">I", len(content))
    return name.encode() + size + b"\0\0" + content


def _synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _id3v1(song: SampleSong) -> bytes:
    texts = [text.encode("latin-1", "replace")[:30].ljust(30, b"\0") for text in (song.title, song.artist, song.album)]
    number = song.track.partition("/")[0]
    track = int(number) if number.isdecimal() and int(number) < 256 else 0
    return b"TAG" + b"".join(texts) + bytes(4) + bytes(29) + bytes((track, 17))  # 17 = Rock


# -- FLAC ---------------------------------------------------------------------------------------------------------

_FLAC_BLOCK = 4096  # samples


def make_flac(song: SampleSong, *, pad_to: int = 0, behind_id3: bool = False) -> bytes:
    """`behind_id3` puts an ID3v2 tag in front, which some taggers do and the format forbids."""
    start = (make_id3v2(song) if behind_id3 else b"") + b"fLaC"
    blocks = [(0, _flac_streaminfo(song)), (4, _vorbis_comment(song))]
    if song.picture:
        mime = b"image/jpeg"
        described = struct.pack(">II", 3, len(mime)) + mime + struct.pack(">IIIIII", 0, 0, 0, 24, 0, len(song.picture))
        blocks.append((6, described + song.picture))
    frames = b"".join(map(_flac_frame, range(_flac_blocks(song))))
    natural = start + b"".join(_flac_block(kind, data) for kind, data in blocks) + frames
    missing = pad_to - len(natural) - 4  # a block of padding has a header, too
    while missing >= 0:
        size = min(missing, 0xFFFFFF)
        blocks.append((1, bytes(size)))
        missing -= size + 4
    written = b"".join(_flac_block(kind, data) for kind, data in blocks[:-1])
    data = start + written + _flac_block(blocks[-1][0] | 0x80, blocks[-1][1]) + frames
    return data + bytes(_missing(data, pad_to))


def _flac_block(kind: int, data: bytes) -> bytes:
    return bytes((kind,)) + len(data).to_bytes(3, "big") + data


def _flac_blocks(song: SampleSong) -> int:
    return max(1, math.ceil(song.seconds * RATE / _FLAC_BLOCK))


def _flac_streaminfo(song: SampleSong) -> bytes:
    samples = _flac_blocks(song) * _FLAC_BLOCK
    packed = RATE << 44 | 1 << 41 | 15 << 36 | samples  # two channels of 16 bits
    return struct.pack(">HH", _FLAC_BLOCK, _FLAC_BLOCK) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)


def _flac_frame(number: int) -> bytes:
    """4096 samples of silence: two constant subframes."""
    header = b"\xff\xf8\xc9\x18" + _utf8_number(number)
    header += bytes((_crc(header, 0x07, 8),))
    frame = header + bytes(6)
    return frame + _crc(frame, 0x8005, 16).to_bytes(2, "big")


def _utf8_number(number: int) -> bytes:
    return chr(number).encode("utf-8", "surrogatepass")


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    crc, top, mask = 0, 1 << bits - 1, (1 << bits) - 1
    for byte in data:
        crc ^= byte << bits - 8
        for _ in range(8):
            crc = (crc << 1 ^ polynomial if crc & top else crc << 1) & mask
    return crc


def _vorbis_comment(song: SampleSong) -> bytes:
    number, _, total = song.track.partition("/")
    fields = {
        **{"TITLE": song.title, "ARTIST": song.artist, "ALBUM": song.album, "GENRE": song.genre},
        **{"TRACKNUMBER": number, "TRACKTOTAL": total},
    }
    comments = [f"{name}={text}".encode() for name, text in fields.items() if text]
    vendor = b"bookpipe"
    written = b"".join(struct.pack("<I", len(comment)) + comment for comment in comments)
    return struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", len(comments)) + written


# -- Ogg ----------------------------------------------------------------------------------------------------------

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_FILL_PAGE = 27 + 255 + 254 * 255  # bytes of a page with one packet of 254 full segments


def make_ogg_vorbis(song: SampleSong, *, pad_to: int = 0) -> bytes:
    """Identification and comments of Vorbis I; the codebooks are missing."""
    head = b"\x01vorbis" + struct.pack("<IBIiii", 0, 1, RATE, 0, 96_000, 0) + b"\xb8\x01"
    comment = b"\x03vorbis" + _vorbis_comment(song) + b"\x01"
    return _ogg([[head], [comment, b"\x05vorbis" + bytes(8)], [b"\0"]], round(song.seconds * RATE), pad_to)


def make_ogg_opus(song: SampleSong, *, pad_to: int = 0) -> bytes:
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 312, 48_000, 0, 0)
    packets = max(1, round(song.seconds * 50))
    silence = [b"\xf8\xff\xfe"] * packets  # 20 ms each
    pages = [silence[i : i + 200] for i in range(0, packets, 200)]
    return _ogg([[head], [b"OpusTags" + _vorbis_comment(song)], *pages], round(song.seconds * 48_000) + 312, pad_to)


def make_ogg_flac(song: SampleSong, *, pad_to: int = 0) -> bytes:
    head = b"\x7fFLAC\x01\0\0\x01fLaC" + _flac_block(0, _flac_streaminfo(song))
    frames = [_flac_frame(n) for n in range(_flac_blocks(song))]
    pages = [frames[i : i + 200] for i in range(0, len(frames), 200)]
    comment = _flac_block(0x84, _vorbis_comment(song))
    return _ogg([[head], [comment], *pages], len(frames) * _FLAC_BLOCK, pad_to)


def _ogg(pages: list[list[bytes]], samples: int, pad_to: int) -> bytes:
    """Pages of whole packets; the third and later ones hold sound. A second stream, of nothing, makes it longer."""
    last = len(pages) - 1
    written = [_ogg_page(packets, n, 0 if n < 2 else samples, n == last) for n, packets in enumerate(pages)]
    missing = _missing(b"".join(written), pad_to)
    fill: list[bytes] = []
    while missing >= 28:
        # No page may leave less than the shortest page behind it.
        size = missing if missing <= _FILL_PAGE else min(_FILL_PAGE, missing - 28)
        fill.append(_ogg_page(_packets_of(size - 27), len(fill), 0, False, serial=2))
        missing -= size
    # All streams must begin before one goes on.
    return b"".join((*written[:1], *fill[:1], *written[1:last], *fill[1:], written[last])) + bytes(missing)


def _packets_of(size: int) -> list[bytes]:
    """Packets that take `size` bytes of a page together with their lengths, one byte for each 255 and one more."""
    full, rest = divmod(size - 1, 256)
    # One byte more than 255 * n + 254 would take two: an empty packet takes one.
    return [bytes(255 * full + 254), b""] if rest == 255 else [bytes(255 * full + rest)]


def _ogg_page(packets: list[bytes], number: int, granule: int, is_last: bool, serial: int = 1) -> bytes:
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes((len(packet) % 255,)) for packet in packets)
    assert len(lacing) < 256
    flags = (2 if number == 0 else 0) | (4 if is_last else 0)
    start = b"OggS\0" + struct.pack("<BqII", flags, granule, serial, number)
    rest = bytes((len(lacing),)) + lacing + b"".join(packets)
    # Ogg's checksum is zlib's with all bits the other way round, starting from zero.
    crc = zlib.crc32((start + bytes(4) + rest).translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return start + struct.pack("<I", int(f"{crc:032b}"[::-1], 2)) + rest


# -- MP4 ----------------------------------------------------------------------------------------------------------


def make_m4a(song: SampleSong, *, brand: str = "M4A ", pad_to: int = 0) -> bytes:
    """One AAC track and iTunes' tags; `brand` of four letters is what decides how the archive takes the file."""
    frames = max(1, math.ceil(song.seconds * RATE / 1024))
    ftyp = _box("ftyp", brand.encode("latin-1"), bytes(4), brand.encode("latin-1"), b"isom")
    movie = _movie(song, frames, 0)
    mdat = _box("mdat", _AAC_SILENCE * frames)
    data = ftyp + _movie(song, frames, len(ftyp) + len(movie) + 8) + mdat
    missing = _missing(data, pad_to)
    return data + (_box("free", bytes(missing - 8)) if missing >= 8 else bytes(missing))


def _box(kind: str, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind.encode("latin-1") + content


def _full_box(kind: str, *parts: bytes) -> bytes:
    return _box(kind, bytes(4), *parts)  # version and flags


def _movie(song: SampleSong, frames: int, offset: int) -> bytes:
    """The moov box for `frames` frames at `offset` of the file. ISO/IEC 14496-12 and -14."""
    length = frames * 1024
    times = struct.pack(">IIII", 0, 0, RATE, length)
    unity = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    mvhd = _full_box("mvhd", times, struct.pack(">IH10x", 0x10000, 0x100), unity, bytes(24), struct.pack(">I", 2))
    tkhd = _box(
        "tkhd", b"\0\0\0\x07", struct.pack(">IIIII", 0, 0, 1, 0, length), bytes(12), b"\1\0\0\0", unity, bytes(8)
    )
    config = b"\x05\x02\x12\x08"  # AAC LC, 44.1 kHz, one channel
    decoder = b"\x04" + bytes((13 + len(config),)) + b"\x40\x15" + bytes(3) + struct.pack(">II", 8_000, 8_000) + config
    descriptor = b"\x03" + bytes((3 + len(decoder) + 3,)) + b"\0\1\0" + decoder + b"\x06\x01\x02"
    esds = _full_box("esds", descriptor)
    mp4a = _box("mp4a", struct.pack(">6xH8xHH4xI", 1, 1, 16, RATE << 16), esds)
    table = _box(
        "stbl",
        _full_box("stsd", struct.pack(">I", 1), mp4a),
        _full_box("stts", struct.pack(">III", 1, frames, 1024)),
        _full_box("stsc", struct.pack(">IIII", 1, 1, frames, 1)),
        _full_box("stsz", struct.pack(">II", len(_AAC_SILENCE), frames)),
        _full_box("stco", struct.pack(">II", 1, offset)),
    )
    data_here = _box("dinf", _full_box("dref", struct.pack(">I", 1), _box("url ", b"\0\0\0\x01")))
    minf = _box("minf", _full_box("smhd", bytes(4)), data_here, table)
    mdhd = _full_box("mdhd", times, b"\x55\xc4\0\0")
    media = _box("mdia", mdhd, _full_box("hdlr", bytes(4), b"soun", bytes(13)), minf)
    return _box("moov", mvhd, _box("trak", tkhd, media), _box("udta", _itunes_tags(song)))


def _itunes_tags(song: SampleSong) -> bytes:
    texts = {"\xa9nam": song.title, "\xa9ART": song.artist, "\xa9alb": song.album, "\xa9gen": song.genre}
    items = [_box(name, _box("data", struct.pack(">II", 1, 0), text.encode())) for name, text in texts.items() if text]
    number, _, total = song.track.partition("/")
    if number.isdecimal():
        numbers = struct.pack(">HHHH", 0, int(number), int(total or 0), 0)
        items.append(_box("trkn", _box("data", struct.pack(">II", 0, 0), numbers)))
    if song.picture:
        items.append(_box("covr", _box("data", struct.pack(">II", 13, 0), song.picture)))
    handler = _full_box("hdlr", bytes(4), b"mdirappl", bytes(9))
    return _full_box("meta", handler, _box("ilst", *items))


# -- WAV, AIFF and WMA --------------------------------------------------------------------------------------------


def make_wav(song: SampleSong, *, pad_to: int = 0) -> bytes:
    """16 bits, mono; the tags are a LIST of INFO."""
    number = song.track.partition("/")[0]
    texts = {"INAM": song.title, "IART": song.artist, "IPRD": song.album, "IGNR": song.genre, "ITRK": number}
    info = b"".join(_riff_chunk(name, text.encode() + b"\0") for name, text in texts.items() if text)
    start = _riff_chunk("fmt ", struct.pack("<HHIIHH", 1, 1, RATE, RATE * 2, 2, 16))
    start += _riff_chunk("LIST", b"INFO" + info) if info else b""
    size = max(round(song.seconds * RATE) * 2, pad_to - 12 - len(start) - 8)
    return b"RIFF" + struct.pack("<I", 4 + len(start) + 8 + size) + b"WAVE" + start + _chunk_of_zeros("<", "data", size)


def make_aiff(song: SampleSong, *, pad_to: int = 0) -> bytes:
    """16 bits, mono; the tags are an ID3v2.3 tag in a chunk, as iTunes writes them."""
    rate = (RATE << 48).to_bytes(8, "big")  # mantissa of 44100 = 0xAC44 * 2**0
    tag = make_id3v2(song)
    id3 = b"ID3 " + struct.pack(">I", len(tag)) + tag + bytes(len(tag) % 2)
    fixed = 12 + 26 + len(id3) + 16
    size = max(round(song.seconds * RATE) * 2, pad_to - fixed)
    common = b"COMM" + struct.pack(">IhIhH", 18, 1, size // 2, 16, 0x3FFF + 15) + rate
    sound = b"SSND" + struct.pack(">III", 8 + size, 0, 0) + bytes(size)
    return b"FORM" + struct.pack(">I", 4 + len(common) + len(id3) + len(sound)) + b"AIFF" + common + id3 + sound


def _riff_chunk(name: str, data: bytes) -> bytes:
    return name.encode() + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _chunk_of_zeros(order: str, name: str, size: int) -> bytes:
    return name.encode() + struct.pack(f"{order}I", size) + bytes(size)


def make_wma(song: SampleSong, *, pad_to: int = 0) -> bytes:
    """ASF's header with the tags and an empty data object."""
    number = song.track.partition("/")[0]
    pair = [_utf16(song.title), _utf16(song.artist)] if song.title or song.artist else [b"", b""]
    described = struct.pack("<5H", *map(len, pair), 0, 0, 0) + b"".join(pair)
    texts = {"WM/AlbumTitle": song.album, "WM/Genre": song.genre, "WM/TrackNumber": number}
    extended = [
        struct.pack("<H", len(_utf16(name))) + _utf16(name) + struct.pack("<HH", 0, len(_utf16(text))) + _utf16(text)
        for name, text in texts.items()
        if text
    ]
    codec = _utf16("Windows Media Audio 9")
    codecs = bytes(16) + struct.pack("<IHH", 1, 2, len(codec) // 2) + codec + struct.pack("<HH", 0, 0)
    play = round(song.seconds * 10_000_000)  # in 100 ns, with a preroll of 3 s that is not of the song
    file = bytes(16) + struct.pack("<QQQQQQIIII", 0, 0, 0, play + 30_000_000, play, 3_000, 2, 1, 1, 64_000)
    stream = _guid("f8699e40-5b4d-11cf-a8fd-00805f5c442b") + bytes(16)
    stream += struct.pack("<QIIHI", 0, 18, 0, 1, 0) + struct.pack("<HHIIHHH", 0x161, 1, RATE, 8_000, 1, 16, 0)
    objects = [
        _asf("8cabdca1-a947-11cf-8ee4-00c00c205365", file),
        _asf("b7dc0791-a9b7-11cf-8ee6-00c00c205365", stream),
        _asf("75b22633-668e-11cf-a6d9-00aa0062ce6c", described),
        _asf("d2d0a440-e307-11d2-97f0-00a0c95ea850", struct.pack("<H", len(extended)) + b"".join(extended)),
        _asf("86d15240-311d-11d0-a3a4-00a0c90348f6", codecs),
    ]
    content = struct.pack("<IBB", len(objects), 1, 2) + b"".join(objects)
    header = _asf("75b22630-668e-11cf-a6d9-00aa0062ce6c", content)
    missing = max(0, pad_to - len(header) - 50)
    return header + _asf("75b22636-668e-11cf-a6d9-00aa0062ce6c", bytes(24) + b"\1\1" + bytes(missing))


def _utf16(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le")


def _asf(guid: str, content: bytes) -> bytes:
    return _guid(guid) + struct.pack("<Q", 24 + len(content)) + content


@cache
def _guid(text: str) -> bytes:
    first, second, third, fourth, fifth = text.split("-")
    little = struct.pack("<IHH", int(first, 16), int(second, 16), int(third, 16))
    return little + bytes.fromhex(fourth + fifth)


Maker = Callable[..., bytes]  # of (song, *, pad_to)
MAKERS: dict[str, Maker] = {
    "mp3": make_mp3,
    "flac": make_flac,
    "m4a": make_m4a,
    "ogg": make_ogg_vorbis,
    "opus": make_ogg_opus,
    "oga": make_ogg_flac,
    "wav": make_wav,
    "aiff": make_aiff,
    "aac": make_aac,
    "wma": make_wma,
}
