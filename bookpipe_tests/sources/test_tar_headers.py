"""The header walk against tarfile's own writer, GNU tar's, and archives that are damaged or lie."""

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bookpipe.sources.tar_headers import (
    BLOCK,
    MAX_RECORD,
    Kind,
    Member,
    Problem,
    ProblemKind,
    Records,
    expand_sparse,
    parse_header,
    parse_number,
    parse_records,
    walk,
)

END = bytes(2 * BLOCK)
FORMATS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT}


class Bytes:
    """An archive in memory."""

    stopped = None

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.end = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def _events(data: bytes, start: int = 0) -> list[Member | Problem]:
    return list(walk(Bytes(data), start))


def _members(data: bytes, start: int = 0) -> list[Member]:
    return [event for event in _events(data, start) if isinstance(event, Member)]


def _problems(data: bytes) -> list[tuple[ProblemKind, int, int]]:
    return [(p.kind, p.offset, p.end) for p in _events(data) if isinstance(p, Problem)]


def _header(name: str = "a", size: int = 0, kind: bytes = b"0", **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _entry(name: str, data: bytes = b"", kind: bytes = b"0", **fields: object) -> bytes:
    return _header(name, len(data), kind, **fields) + data + bytes(-len(data) % BLOCK)


def _with_checksum(block: bytes, *, signed: bool = False) -> bytes:
    blank = block[:148] + b" " * 8 + block[156:]
    total = sum(blank) - (256 * sum(b > 127 for b in blank) if signed else 0)
    return block[:148] + b"%06o\0 " % total + block[156:]


def _changed(block: bytes, at: int, value: bytes) -> bytes:
    """The header with `value` at `at` and a checksum that fits."""
    return _with_checksum(block[:at] + value + block[at + len(value) :])


def _records(*pairs: tuple[bytes, bytes]) -> bytes:
    out = b""
    for key, value in pairs:
        length = len(key) + len(value) + 3
        while len(b"%d" % length) + len(key) + len(value) + 3 != length:
            length = len(b"%d" % length) + len(key) + len(value) + 3
        out += b"%d %s=%s\n" % (length, key, value)
    return out


def _tar(infos: list[tarfile.TarInfo], tar_format: int, content: Callable[[int], bytes] = bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format, errors="surrogateescape") as archive:
        for info in infos:
            archive.addfile(info, io.BytesIO(content(info.size)))
    return buffer.getvalue()


KINDS = {b"0": Kind.FILE, b"\0": Kind.FILE, b"7": Kind.FILE, b"1": Kind.HARD_LINK, b"2": Kind.SYMLINK,
         b"3": Kind.DEVICE, b"4": Kind.DEVICE, b"5": Kind.FOLDER, b"6": Kind.FIFO}  # fmt: skip

_parts = st.text("aZ0 ._-=\n\\é漢😀", min_size=1, max_size=60).filter(lambda part: part.strip(".") != "")
_names = st.lists(_parts, min_size=1, max_size=6).map("/".join)


@st.composite
def _infos(draw: st.DrawFn) -> tarfile.TarInfo:
    info = tarfile.TarInfo(draw(_names))
    info.type = draw(st.sampled_from(sorted(KINDS)))
    info.mtime = draw(st.integers(0, 2**33 - 1))
    if info.type == tarfile.AREGTYPE:
        info.name = info.name[:20].rstrip("/")  # tarfile takes a longer name that it cuts behind a slash for a folder
    if info.isreg():
        info.size = draw(st.integers(0, 1500))
    elif info.islnk() or info.issym():
        info.linkname = draw(_names)
    return info


# -- what is written is what is read ------------------------------------------------------------------------------


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
@settings(deadline=None)
@given(infos=st.lists(_infos(), max_size=8))
def test_the_walk_lists_what_tarfile_lists(tar_format: int, infos: list[tarfile.TarInfo]) -> None:
    data = _tar(infos, tar_format)
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        expected = [
            (os.fsencode(i.name), i.offset_data, i.size, int(i.mtime), KINDS[i.type], os.fsencode(i.linkname))
            for i in archive.getmembers()
        ]
    assert [(m.name, m.offset, m.size, m.mtime, m.kind, m.link) for m in _members(data)] == expected
    assert _problems(data) == []


@pytest.mark.parametrize("tar_format", FORMATS.values(), ids=FORMATS)
@settings(deadline=None)
@given(infos=st.lists(_infos(), min_size=1, max_size=6), data=st.data())
def test_a_walk_from_any_member_gives_exactly_the_rest(
    tar_format: int, infos: list[tarfile.TarInfo], data: st.DataObject
) -> None:
    if tar_format == tarfile.USTAR_FORMAT:
        for info in infos:
            info.name, info.linkname = f"{'f' * 90}/{'n' * 20}", info.linkname and "n"
    archive = _tar(infos, tar_format)
    members = _members(archive)
    n = data.draw(st.integers(0, len(members) - 1))
    assert _events(archive, members[n].header_offset) == members[n:]
    assert _events(archive, members[n].end) == members[n + 1 :]


@pytest.mark.parametrize("tar_format", FORMATS.values(), ids=FORMATS)
def test_a_long_name_is_whole_in_every_format(tar_format: int) -> None:
    name = f"{'folder/' * 20}{'n' * 95}"
    assert [m.name.decode() for m in _members(_tar([tarfile.TarInfo(name)], tar_format))] == [name]


@pytest.mark.parametrize(
    ("tar_format", "length"),
    [(tarfile.USTAR_FORMAT, 1), *((f, n) for f in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT) for n in (1, 200))],
)
def test_a_name_that_is_not_utf8_keeps_its_bytes(tar_format: int, length: int) -> None:
    name = b"\xe8\xf1\xff" + b"x" * length
    assert [m.name for m in _members(_tar([tarfile.TarInfo(os.fsdecode(name))], tar_format))] == [name]


def test_the_prefix_field_of_gnu_headers_is_no_part_of_the_name() -> None:
    header = _changed(_header("name"), 345, b"14400000000\x0014400000000\0")  # access and change times
    assert _members(header + END)[0].name == b"name"


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        (b"\0", "old/", (Kind.FOLDER, b"old")),
        (b"0", "a", (Kind.FILE, b"a")),
        (b"7", "contiguous", (Kind.FILE, b"contiguous")),
        (b"D", "dump", (Kind.FOLDER, b"dump")),
        (b"V", "label", (Kind.FOLDER, b"label")),
        (b"M", "continued", (Kind.OTHER, b"continued")),
        (b"A", "acl", (Kind.OTHER, b"acl")),
        (b"8", "unknown", (Kind.FILE, b"unknown")),  # POSIX
    ],
)
def test_a_type_has_its_kind(kind: bytes, name: str, expected: tuple[Kind, bytes]) -> None:
    member = _members(_header(name, kind=kind) + END)[0]
    assert (member.kind, member.name) == expected


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_a_size_means_nothing_for_types_without_data(kind: bytes) -> None:
    data = _header("x", 1000, kind) + _entry("next", b"data") + END
    assert [(m.name, m.size) for m in _members(data)] == [(b"x", 0), (b"next", 4)]
    assert _problems(data) == []


@pytest.mark.parametrize("extension", [b"", _entry("x", b"11 ctime=1\n", b"x")])
def test_a_posix_hard_link_may_have_data_of_its_own(extension: bytes) -> None:
    link = _changed(_header("l", 700, b"1", linkname="t"), 257, b"ustar\x0000")
    data = _entry("t", b"x" * 700) + extension + link + b"A" * 700 + bytes(324) + _entry("b", b"y") + END
    _, member, after = _members(data)
    assert (member.kind, member.link, member.size, member.stored) == (Kind.HARD_LINK, b"t", 0, 700)
    assert (after.name, after.size) == (b"b", 1)
    assert _problems(data) == []
    cut = len(data) - len(END) - 2 * BLOCK - 400
    assert _problems(data[:cut]) == [(ProblemKind.TRUNCATED_MEMBER, member.header_offset, cut)]
    without = _entry("t", b"x" * 700) + extension + link + _entry("b", b"y") + END
    assert [m.name for m in _members(without)] == [b"t", b"l", b"b"]
    assert _problems(without) == []
    assert _problems(_entry("t", b"x" * 700) + link + END) == []


def test_a_long_name_cut_behind_a_slash_is_still_that_of_a_file() -> None:
    name = f"{'f' * 99}/{'n' * 50}"
    info = tarfile.TarInfo(name)
    info.type = tarfile.AREGTYPE
    (member,) = _members(_tar([info], tarfile.GNU_FORMAT))
    assert (member.kind, member.name.decode()) == (Kind.FILE, name)


# -- numbers, checksums, records ----------------------------------------------------------------------------------


@given(st.integers(-(256**11) + 1, 256**11 - 1))
def test_a_number_reads_as_tarfile_wrote_it(value: int) -> None:
    assert parse_number(_header(mtime=value)[136:148]) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"00000000017\0", 15), (b"        17 \0", 15), (b"777777777777", 8**12 - 1), (b"17\0garbage00", 15),
        (b"\0" * 12, 0), (b" " * 12, 0), (b"00000000018\0", None), (b"-0000000017\0", None), (b"0x000000017\0", None),
        (b"0_000000017\0", None), (b"\xff" * 12, -1), (b"\x80" + b"\0" * 10 + b"\x07", 7),
        (b"\xc0" + b"\0" * 11, -(2**94)),
    ],
)  # fmt: skip
def test_a_numeric_field_is_octal_or_base_256(field: bytes, value: int | None) -> None:
    assert parse_number(field) == value


@given(st.binary(min_size=BLOCK, max_size=BLOCK), st.booleans())
def test_a_block_is_a_header_with_either_checksum(block: bytes, signed: bool) -> None:
    block = block[:124] + b"%011o\0" % 7 + block[136:]
    total = sum(block[:148] + b" " * 8 + block[156:])
    if signed and total >= 256 * sum(b > 127 for b in block[:148] + block[156:]):
        assert parse_header(_with_checksum(block, signed=True)) is not None
    header = parse_header(_with_checksum(block))
    assert header is not None and header.size == 7


@given(st.integers(0, BLOCK - 1), st.integers(1, 255))
def test_one_changed_byte_breaks_a_header(at: int, by: int) -> None:
    block = bytearray(_header("name", 1234))
    block[at] = (block[at] + by) % 256
    header = parse_header(bytes(block))
    # A space or a NUL may stand for the other around the digits of the checksum itself.
    assert header is None or 148 <= at < 156


@pytest.mark.parametrize("size", [b"-0000000001\0", b"\xff" * 12, b"abcdefghijk\0", b"\x80" + b"\xff" * 11])
def test_a_header_with_an_impossible_size_is_damage(size: bytes) -> None:
    data = _entry("a", b"1") + _changed(_header("b"), 124, size) + _entry("c", b"3") + END
    assert [m.name for m in _members(data)] == [b"a", b"c"]
    assert _problems(data) == [(ProblemKind.CORRUPT_HEADER, 2 * BLOCK, 3 * BLOCK)]


@pytest.mark.parametrize(
    ("data", "records", "whole"),
    [
        (_records((b"path", b"x")), [(b"path", b"x")], True),
        (_records((b"path", b"a=b\nc"), (b"k", b"")), [(b"path", b"a=b\nc"), (b"k", b"")], True),
        (_records((b"a", b"1")) + bytes(20), [(b"a", b"1")], True),
        (_records((b"a", b"1")) + b"999 path=x\n", [(b"a", b"1")], False),
        (b"0 path=x\n", [], False),
        (b"-5 path=x\n", [], False),
        (b"path=x\n", [], False),
        (b"9 path:x\n", [], False),
        (b"8 path=x\n", [], False),
        (b"11 path=x\n", [], False),
        (b"9" * 400 + b" path=x\n", [], False),
        (b"", [], True),
    ],
)
def test_pax_records_are_read_up_to_the_first_that_lies(
    data: bytes, records: list[tuple[bytes, bytes]], whole: bool
) -> None:
    assert parse_records(data) == (records, whole)


@given(st.lists(st.tuples(st.binary(max_size=20).map(lambda k: k.replace(b"=", b"")), st.binary(max_size=200))))
def test_pax_records_read_as_written(pairs: list[tuple[bytes, bytes]]) -> None:
    assert parse_records(_records(*pairs)) == (pairs, True)


def test_pax_records_win_over_the_header() -> None:
    records = _records((b"path", b"real"), (b"size", b"5"), (b"mtime", b"1234.9"), (b"linkpath", b"target"))
    data = _entry("x", records, b"x") + _header("cut", 0) + b"12345".ljust(BLOCK, b"\0") + _entry("next") + END
    first, second = _members(data)
    assert (first.name, first.size, first.mtime, first.link) == (b"real", 5, 1234, b"target")
    assert (first.header_offset, first.offset) == (0, 3 * BLOCK)
    assert (second.name, second.size) == (b"next", 0)


@pytest.mark.parametrize("mtime", [b"nan", b"inf", b"1e400", b"-", b"", b"x" * 1000])
def test_a_time_that_is_none_is_that_of_the_header(mtime: bytes) -> None:
    data = _entry("x", _records((b"mtime", mtime)), b"x") + _header("a", mtime=77) + END
    assert [m.mtime for m in _members(data)] == [77]


@pytest.mark.parametrize("size", [b"700", b"0" * 40 + b"700", b"0" * 5000 + b"700"], ids=len)
def test_a_size_record_may_have_zeros_before_it(size: bytes) -> None:
    data = _entry("x", _records((b"size", size)), b"x") + _header("a", 0) + b"A" * 700 + bytes(324) + END
    assert [(m.name, m.size, m.stored) for m in _members(data)] == [(b"a", 700, 700)]
    assert _problems(data) == []


def test_a_size_record_that_is_no_number_is_reported() -> None:
    data = _entry("x", _records((b"size", b"-1")), b"x") + _entry("a", b"data") + END
    assert [(m.name, m.size) for m in _members(data)] == [(b"a", 4)]
    assert [kind for kind, _, _ in _problems(data)] == [ProblemKind.BAD_RECORD]


def test_global_records_hold_until_they_are_replaced_and_beyond_a_new_start() -> None:
    g = _entry("g", _records((b"mtime", b"11"), (b"comment", b"-"), (b"path", b"p" * 5000)), b"g")
    data = g + _entry("a") + _entry("b") + _entry("g", _records((b"mtime", b"22")), b"g") + _entry("c") + END
    members = _members(data)
    assert [(m.name, m.mtime) for m in members] == [(b"a", 11), (b"b", 11), (b"c", 22)]
    kept: Records = {}
    events = walk(Bytes(data), 0, kept)
    next(events), next(events)
    assert kept == {b"mtime": b"11"}
    assert list(walk(Bytes(data), members[1].header_offset, kept)) == members[1:]
    assert kept == {b"mtime": b"22"}


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_a_record_without_a_member_is_reported(kind: bytes) -> None:
    at = 2 * BLOCK
    data = _entry("a", b"1") + _entry("ext", _records((b"path", b"lost")), kind) + END
    assert _problems(data) == [(ProblemKind.BAD_RECORD, at, at + 2 * BLOCK)]


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_a_record_that_is_too_long_is_stepped_over(kind: bytes) -> None:
    data = _entry("ext", bytes(MAX_RECORD + 1), kind) + _entry("a", b"1") + END
    assert [m.name for m in _members(data)] == [b"a"]
    assert [k for k, _, _ in _problems(data)] == [ProblemKind.BAD_RECORD]


# -- damage is found and said -------------------------------------------------------------------------------------

_THREE = [_entry("a", b"1" * 700), _entry("b" * 150, b"2" * 512), _entry("c", b"3" * 5)]  # the second has a long name
_ENDS = [sum(map(len, _THREE[: n + 1])) for n in range(3)]


def test_an_archive_cut_anywhere_gives_what_was_before_the_cut_and_says_so() -> None:
    whole = b"".join(_THREE) + END
    data_ends = [BLOCK + 700, _ENDS[1], _ENDS[1] + BLOCK + 5]
    for cut in range(len(whole)):
        source = Bytes(whole[:cut])
        members = [m for m in walk(source) if isinstance(m, Member) and m.offset + m.stored <= cut]
        assert [m.name[:1] for m in members] == [
            n for n, end in zip((b"a", b"b", b"c"), data_ends, strict=True) if end <= cut
        ]
        problems = [p for p in walk(source) if isinstance(p, Problem)]
        assert any(p.incomplete and p.end <= cut for p in problems), cut


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (0, (ProblemKind.NOT_A_TAR, 0, 0)),
        (100, (ProblemKind.NOT_A_TAR, 0, 100)),
        (600, (ProblemKind.TRUNCATED_MEMBER, 0, 600)),
        (_ENDS[0], (ProblemKind.MISSING_END, _ENDS[0], _ENDS[0])),
        (_ENDS[0] + 100, (ProblemKind.TRUNCATED_HEADER, _ENDS[0], _ENDS[0] + 100)),
        (_ENDS[0] + 600, (ProblemKind.TRUNCATED_MEMBER, _ENDS[0], _ENDS[0] + 600)),  # in the long name
        (_ENDS[1] - 1, (ProblemKind.TRUNCATED_MEMBER, _ENDS[0], _ENDS[1] - 1)),
        (_ENDS[2], (ProblemKind.MISSING_END, _ENDS[2], _ENDS[2])),
        (_ENDS[2] + 512, (ProblemKind.MISSING_END, _ENDS[2] + 512, _ENDS[2] + 512)),
    ],
)
def test_a_cut_is_reported_with_its_offset(cut: int, expected: tuple[ProblemKind, int, int]) -> None:
    assert _problems((b"".join(_THREE) + END)[:cut]) == [expected]


@pytest.mark.parametrize("damage", [b"\xff" * BLOCK, bytes(BLOCK), b"text " * 103])
def test_damage_in_the_middle_costs_only_the_member_it_hit(damage: bytes) -> None:
    data = _THREE[0] + damage[:BLOCK] + b"x" * 2048 + _THREE[2] + END
    at = _ENDS[0] + (BLOCK if damage == bytes(BLOCK) else 0)
    assert [m.name for m in _members(data)] == [b"a", b"c"]
    assert _problems(data) == [(ProblemKind.CORRUPT_HEADER, at, _ENDS[0] + BLOCK + 2048)]


@pytest.mark.parametrize("length", [n << 10 for n in (15, 16, 17, 79, 80, 81, 5 << 10)], ids="{} bytes".format)
def test_damage_of_any_length_is_one_gap(length: int) -> None:
    gap = os.urandom(length)
    data = _THREE[0] + gap + _THREE[2] + END
    assert [m.name for m in _members(data)] == [b"a", b"c"]
    assert _problems(data) == [(ProblemKind.CORRUPT_HEADER, _ENDS[0], _ENDS[0] + len(gap))]


def test_a_file_with_only_wrong_checksums_is_no_tar() -> None:
    data = b"".join(_header(name)[:150] + b"7" + _header(name)[151:] for name in "abc") + END
    assert _problems(data) == [(ProblemKind.NOT_A_TAR, 0, len(data))]


@pytest.mark.parametrize("zeros", [2, 20, 5000])
def test_a_tar_of_zero_blocks_is_empty(zeros: int) -> None:
    assert _events(bytes(zeros * BLOCK)) == []


@pytest.mark.parametrize("between", [0, 1, 2, 20, 9000], ids="{} zero blocks".format)
def test_concatenated_tars_are_read_to_the_last(between: int) -> None:
    data = _THREE[0] + bytes(between * BLOCK) + _THREE[1] + END + _THREE[2] + END
    assert [m.name[:1] for m in _members(data)] == [b"a", b"b", b"c"]
    assert _problems(data) == []


@pytest.mark.parametrize("garbage", [b"x", b"signature" * 200, bytes(BLOCK) + b"\x01" * 3 * BLOCK])
def test_garbage_after_the_end_is_reported_and_loses_nothing(garbage: bytes) -> None:
    data = _THREE[0] + END + garbage
    problems = [p for p in _events(data) if isinstance(p, Problem)]
    assert [(p.kind, p.end, p.incomplete) for p in problems] == [(ProblemKind.GARBAGE_AFTER_END, len(data), False)]
    assert problems[0].offset == _ENDS[0] + len(END) + (BLOCK if garbage[0] == 0 else 0)


def test_a_tar_inside_a_tar_is_one_member() -> None:
    inner = b"".join(_THREE) + END
    assert [m.name for m in _members(_entry("inner.tar", inner) + _entry("z") + END)] == [b"inner.tar", b"z"]


def test_a_problem_says_where_and_what() -> None:
    problem = next(p for p in _events(_THREE[0]) if isinstance(p, Problem))
    assert str(problem).startswith(f"missing_end at byte {_ENDS[0]}: ")


_WHOLE = {
    name: _tar([tarfile.TarInfo("n" * 120), *(tarfile.TarInfo(n) for n in "ab")], number) + b"garbage"
    for name, number in FORMATS.items()
    if name != "ustar"
} | {"links and sparse": _entry("l", kind=b"1", linkname="x") + _header("s", 0, b"S") + _entry("e", b"1" * 600) + END}


_TELLING_VALUES = [
    b"S",
    b"L",
    b"x",
    b"g",
    b"1",
    b"\x01",
    b"\xff" * 12,
    b"\x80" + b"\0" * 11,
    b"77777777777\0",
    bytes(12),
]


@pytest.mark.parametrize("name", _WHOLE)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_headers_neither_raise_nor_loop(name: str, data: st.DataObject) -> None:
    archive = bytearray(_WHOLE[name][: 12 * BLOCK])
    for _ in range(data.draw(st.integers(1, 4))):
        block = data.draw(st.integers(0, len(archive) // BLOCK - 1)) * BLOCK
        at = data.draw(
            st.one_of(st.integers(0, BLOCK - 13), st.sampled_from([0, 124, 136, 148, 156, 257, 345, 386, 482, 483]))
        )
        value = data.draw(st.binary(min_size=1, max_size=12) | st.sampled_from(_TELLING_VALUES))
        archive[block + at : block + at + len(value)] = value
        if data.draw(st.booleans()):
            archive[block : block + BLOCK] = _with_checksum(bytes(archive[block : block + BLOCK]))
    source = Bytes(bytes(archive))
    at = -1
    for event in walk(source):
        if isinstance(event, Member):
            assert event.header_offset > at
            assert event.size >= 0 and event.stored >= 0
            at = event.header_offset
            if event.kind is Kind.SPARSE and event.size < 1 << 20:
                stored = source.read_at(event.offset, event.stored)
                expand_sparse(event, stored, memoryview(bytearray(event.size)))


# -- sparse members -----------------------------------------------------------------------------------------------

_SPARSE_FORMATS = {
    "gnu": ["--format=gnu"],
    **{f"pax {v}": ["--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")},
}


def _write_sparse(path: Path, segments: int) -> bytes:
    """A file with holes at its start, end and between its parts; its content."""
    step = 64 << 10
    with path.open("wb") as file:
        for n in range(segments):
            file.seek((2 * n + 1) * step)
            file.write(b"%06d" % n * 1000)
        file.truncate((2 * segments + 2) * step)
    return path.read_bytes()


@pytest.mark.parametrize("options", _SPARSE_FORMATS.values(), ids=_SPARSE_FORMATS)
@pytest.mark.parametrize("segments", [1, 4, 60])  # 60: the map goes on in more blocks
def test_a_sparse_file_of_gnu_tar_has_all_its_bytes(tmp_path: Path, options: list[str], segments: int) -> None:
    content = _write_sparse(tmp_path / "sparse", segments)
    (tmp_path / "next").write_bytes(b"next")
    subprocess.run(["tar", "-S", *options, "-cf", "x.tar", "sparse", "next"], cwd=tmp_path, check=True)
    data = (tmp_path / "x.tar").read_bytes()
    sparse, following = _members(data)
    assert (sparse.kind, sparse.name, sparse.size) == (Kind.SPARSE, b"sparse", len(content))
    assert sparse.stored < len(content) // 2
    assert (following.name, following.size) == (b"next", 4)
    into = bytearray(b"\xff" * sparse.size)
    assert expand_sparse(sparse, data[sparse.offset :][: sparse.stored], memoryview(into))
    assert into == content
    assert _problems(data) == []


@pytest.mark.parametrize(
    ("records", "stored"),
    [
        ([(b"GNU.sparse.map", b"0,4,4")], b"1234"),
        ([(b"GNU.sparse.map", b"0,4,x,4")], b"12345678"),
        ([(b"GNU.sparse.map", b"8,4")], b"1234"),  # behind the end of the file
        ([(b"GNU.sparse.map", b"0,8")], b"1234"),  # more than is stored
        ([(b"GNU.sparse.map", b",".join([b"0"] * 300_000))], b"1234"),
        ([(b"GNU.sparse.major", b"1")], b"1\n0\n"),
        ([(b"GNU.sparse.major", b"1")], b"999999999\n0\n4\n"),
        ([(b"GNU.sparse.major", b"1")], b"9" * 600),
        ([(b"GNU.sparse.offset", b"0")], b"1234"),
        ([], b"1234"),
    ],
)
def test_a_sparse_map_that_contradicts_itself_is_refused(records: list[tuple[bytes, bytes]], stored: bytes) -> None:
    head = _entry("x", _records((b"GNU.sparse.size", b"10"), *records), b"x")
    member = _members(head + _entry("s", stored) + END)[0]
    assert (member.kind, member.size) == (Kind.SPARSE, 10)
    assert not expand_sparse(member, stored, memoryview(bytearray(10)))


def test_an_endless_map_of_a_sparse_member_ends() -> None:
    extension = (b"%011o\0" % 0 + b"%011o\0" % 1) * 21 + b"\x01" + bytes(7)
    header = _changed(_changed(_header("s", 0, b"S"), 482, b"\x01"), 483, b"%011o\0" % 100)
    data = header + extension * 10_000 + END
    member = _members(data)[0]
    assert member.sparse == ()
    assert _problems(data) == [(ProblemKind.CORRUPT_HEADER, member.offset, len(data))]
