"""The first bytes of audio files of many kinds, and what becomes of each in the archive.

The verdicts were measured on the archive's own versions with real files of these kinds; it looks at no other bytes.
"""

import struct
from dataclasses import dataclass

MPEG_FRAME = b"\xff\xfb\x90\x00" + bytes(413)


@dataclass(frozen=True)
class Sample:
    """A file as a client would send it. `stored_as`: the format it is kept as, None where it is refused."""

    label: str
    filename: str
    declared_type: str
    content: bytes
    stored_as: str | None


def id3(size: int = 0) -> bytes:
    """An ID3v2 header of an empty tag of `size` bytes."""
    return b"ID3\x04\x00\x00" + bytes((0, 0, size >> 7 & 0x7F, size & 0x7F)) + bytes(size)


def mp3(text: str) -> bytes:
    """A short MP3 that differs from those of other texts."""
    return id3() + MPEG_FRAME * 3 + text.encode()


def mp4(brand: bytes) -> bytes:
    return struct.pack(">I4s4sI4s", 20, b"ftyp", brand, 512, b"isom") + struct.pack(">I4s", 8, b"mdat")


def ogg(first_packet: bytes) -> bytes:
    """A page that begins a stream."""
    return b"OggS\x00\x02" + bytes(8) + b"\x01\x00\x00\x00" + bytes(8) + bytes((1, len(first_packet))) + first_packet


FLAC = b"fLaC\x80\x00\x00\x22" + bytes(34)
WAV = b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 44100, 88200, 2, 16)
AIFF = b"FORM" + struct.pack(">I", 46) + b"AIFFCOMM"
WMA = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(64)

_ACCEPTED_BRANDS = (b"M4A ", b"M4B ", b"F4A ")
_REFUSED_BRANDS = (
    *(b"isom", b"mp41", b"mp42", b"M4V ", b"iso2", b"iso5", b"iso6", b"dash", b"qt  ", b"3gp4", b"MSNV", b"M4P "),
    b"avc1",
)

SAMPLES = (
    Sample("mp3 with ID3", "a.mp3", "audio/mpeg", mp3(""), "mp3"),
    Sample("bare mp3", "a.mp3", "audio/mpeg", MPEG_FRAME * 3, "mp3"),
    Sample("zero-padded mp3", "a.mp3", "audio/mpeg", bytes(2000) + MPEG_FRAME, "mp3"),
    Sample("ADTS", "a.aac", "audio/aac", b"\xff\xf1\x50\x80\x01\x7f\xfc" + bytes(40), "aac"),
    Sample("FLAC", "a.flac", "audio/flac", FLAC, "flac"),
    Sample("FLAC declared as x-flac", "a.flac", "audio/x-flac", FLAC, "flac"),
    Sample("Vorbis", "a.ogg", "audio/ogg", ogg(b"\x01vorbis" + bytes(23)), "ogg"),
    Sample("Vorbis in .oga", "a.oga", "audio/ogg", ogg(b"\x01vorbis" + bytes(23)), "ogg"),
    Sample("FLAC in Ogg", "a.oga", "audio/ogg", ogg(b"\x7fFLAC\x01\x00" + bytes(44)), "ogg"),
    *(Sample(f"brand {brand!r}", "a.m4a", "audio/mp4", mp4(brand), "m4a") for brand in _ACCEPTED_BRANDS),
    *(Sample(f"brand {brand!r}", "a.m4a", "audio/mp4", mp4(brand), None) for brand in _REFUSED_BRANDS),
    Sample("wav", "a.wav", "audio/wav", WAV, None),
    Sample("wav declared as x-wav", "a.wav", "audio/x-wav", WAV, None),
    Sample("Opus", "a.opus", "audio/ogg", ogg(b"OpusHead\x01\x02" + bytes(9)), None),
    Sample("Opus named .ogg", "a.ogg", "audio/ogg", ogg(b"OpusHead\x01\x02" + bytes(9)), None),
    Sample("WMA", "a.wma", "audio/x-ms-wma", WMA, None),
    Sample("AIFF", "a.aiff", "audio/x-aiff", AIFF, None),
    Sample("FLAC behind ID3", "a.flac", "audio/flac", id3(64) + FLAC, "mp3"),
    Sample("text", "a.mp3", "audio/mpeg", b"just some words", "mp3"),
    Sample("random bytes", "a.mp3", "audio/mpeg", bytes.fromhex("8f3a11c97e5502d4") * 50, "mp3"),
    Sample("empty", "a.mp3", "audio/mpeg", b"", "mp3"),
    Sample("nothing declared", "a.mp3", "application/octet-stream", b"just some words", "mp3"),
    Sample("text that says so", "a.mp3", "text/plain", b"just some words", None),
    Sample("an unknown name", "a.xyz", "application/octet-stream", b"just some words", None),
    Sample("PDF named .mp3", "a.mp3", "audio/mpeg", b"%PDF-1.7\n", None),
)
