"""Reading in blocks gives what reading record by record gives."""

import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bookpipe.demo import scrobble_exports as made
from bookpipe.demo import scrobble_oddities
from bookpipe.demo.scrobble_history import draw_history
from bookpipe.model.errors import TerminalError
from bookpipe.sources import scrobbles
from bookpipe.sources.scrobbles import (
    Export,
    count_rows,
    json_blocks,
    json_stream,
    listens_table,
    open_export,
    read_listens,
    row_index,
)
from bookpipe.sources.scrobbles.arrow_records import read_records
from bookpipe.sources.scrobbles.export_file import reopen
from bookpipe.sources.scrobbles.json_blocks import Block, Quota
from bookpipe.sources.scrobbles.row_index import START, Mark, RowIndex
from bookpipe_tests.sources.scrobbles.reading import MAKERS, NOW, zip_bytes


def careful_table(export: Export, first_row: int, last_row: int) -> pa.Table:
    """What `read_listens` reads, record by record."""
    form = scrobbles.FORMATS[export.kind]
    rows = listens_table.ListenRows(form)
    with reopen(export) as opened:
        records = list(row_index.each_record(opened, export, form.records))
    rows.add_all(records[first_row - 1 : last_row])
    return rows.table(origin=export.key, first_row=first_row, after=None, before=None, now=NOW)


def careful_index(export: Export) -> RowIndex:
    """What `scan` finds, record by record."""
    rows = 0
    marks = [START]
    with reopen(export) as opened:
        for n, member in enumerate(export.members):
            marks.append(Mark(rows, n, 0))
            due = rows + row_index.STEP
            records = row_index._MemberRecords(opened.stream(member), scrobbles.FORMATS[export.kind].records, 0, None)
            for _ in records:
                rows += 1
                if rows >= due and (offset := records.resume_offset()) is not None:
                    marks.append(Mark(rows, n, offset))
                    due = rows + row_index.STEP
    return RowIndex(rows, tuple(marks))


def items(export: Export, quota: Quota) -> list[Any]:
    with reopen(export) as opened:
        return list(row_index.each_record(opened, export, scrobbles.FORMATS[export.kind].records, START, quota))


def check_same(export: Export, middle: float = 0.5) -> None:
    """Counts, marks and rows, also of a part, are what they are record by record."""
    row_index.scan.cache_clear()
    rows = count_rows(export)
    assert row_index.scan(export, scrobbles.FORMATS[export.kind].records) == careful_index(export)
    whole = careful_table(export, 1, rows)
    found = read_listens(export, 1, rows + 9, now=NOW)
    found.validate(full=True)
    assert found.to_pylist() == whole.to_pylist()
    assert found.equals(whole)
    first, last = 1 + int(rows * middle / 2), 1 + int(rows * middle)
    assert read_listens(export, first, last, now=NOW).equals(whole.slice(first - 1, last - first + 1))


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("kind", MAKERS)
def test_whole_exports_are_the_same(kind: str, odd: bool, tmp_path: Path) -> None:
    name, make = MAKERS[kind]
    make(tmp_path / name, 2_700, 300, 200, 7, odd=odd)
    check_same(open_export(tmp_path / name), 0.9)


@pytest.mark.parametrize("kind", MAKERS)
def test_usual_exports_are_read_in_blocks_and_by_columns(kind: str, tmp_path: Path) -> None:
    name, make = MAKERS[kind]
    make(tmp_path / name, 2_700, 300, 200, 7, odd=False)
    found = items(open_export(tmp_path / name), Quota(1_000))
    blocks = [item for item in found if isinstance(item, Block)]
    assert sum(block.rows for block in blocks) >= 2_690
    form = scrobbles.FORMATS[kind]
    if form.FIELDS is not None:
        for block in blocks:
            records = read_records([block], form.FIELDS)
            assert records is not None
            assert form.parse_columns(records) is not None


@pytest.mark.parametrize("indent", [1, 4])
@pytest.mark.parametrize("kind", ["maloja", "lastfm", "koito"])
def test_indented_exports_are_read_in_blocks(kind: str, indent: int, tmp_path: Path) -> None:
    name, make = MAKERS[kind]
    make(tmp_path / name, 500, 100, 50, 7, odd=False)
    document = json.loads((tmp_path / name).read_bytes())
    (tmp_path / "indented").write_text(json.dumps(document, indent=indent, ensure_ascii=False))
    export = open_export(tmp_path / "indented")
    assert sum(item.rows for item in items(export, Quota(1_000)) if isinstance(item, Block)) >= 490
    check_same(export)


def test_a_block_has_no_more_records_than_are_wanted(tmp_path: Path) -> None:
    made.make_maloja(tmp_path / "m", 2_000, 100, 50, odd=False)
    export = open_export(tmp_path / "m")
    for wanted in (1, 2, 7, 600):
        found = items(export, Quota(wanted))
        assert max(row_index.rows_of(item) for item in found) == wanted
        assert sum(row_index.rows_of(item) for item in found) == 2_000


# What is put in the place of a value somewhere in a record, and what of a text somewhere in a document.
SHORT = "null true 5 -0 1.5 1e3 -1 NaN -Infinity Inf 01 99999999999 99999999999999999999 [] {} [null] [1]"
VALUES = (
    *SHORT.split(),
    *('["x"]', '[["x"]]', "[[[[[[[[1]]]]]]]]", '{"a": {"b": {"c": {"d": {}}}}}', '["n"' + ', "n"' * 29 + "]"),
    *('""', '" "', r'"\ud800"', r'"\udc00"', r'"\ud83d\ude00"', r'"\u0000"', r'"\u0041\t"', '"\u2028\x7f"', '"a\nb"'),
    *('"["', '"]}"', r'"\\"', r'"\""', '"a \u2022 b"', '"\u2022 "', '"0x10"', '"0012"', '"\u0663"', '"trackdone"'),
    *('"2020-02-30T00:00:00Z"', '"2020-02-29T23:59:59Z"', '"2020-02-29T23:59:60Z"', '"2020-02-29T23:59:59+01:00"'),
    *('"00000000-0000-0000-0000-000000000000"', '"B1C2D3E4-0000-4000-8000-000000000001"'),
    *('["x", null]', '[null, "b1c2d3e4-0000-4000-8000-000000000001"]', '"(b1c2d3e4-0000-4000-8000-000000000001)"'),
    *('"' + "x" * 2_400 + '"', '"' + "\u0416" * 1_300 + '"', "9" * 5_000),
)
KEYS = ("Time", "TITLE", "trac\u212a", "artist\u017f", "\\u0074ime", "T\\u0069me", "mbid", "#Text", "", "album ")
FRAGMENTS = (
    *b'{ } [ ] , " \\ : ,, }{ }] ]} },{ \\" null \xff \xe2\x82 \xed\xa0\x80 \xef\xbb\xbf \0'.split(b" "),
    *(b"\n", b"\n,\n", b" ", b"\t", b"\r\n", b'"}, {"', b'},\n{"time"', b'], "x": [', b"]}]"),
)


@cache
def usual_records() -> dict[str, list[str]]:
    """Records of each kind, as JSON."""
    listens = list(draw_history(60, 12, 9, 3))
    renderers: dict[str, Callable[[made.SampleListen], Any]] = {
        "maloja": made._maloja_record,
        "spotify": made._spotify_record,
        "lastfm": made._lastfm_record,
        "listenbrainz": made._listenbrainz_record,
        "koito": made._koito_record,
    }
    return {kind: [json.dumps(render(listen)) for listen in listens] for kind, render in renderers.items()}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where values are in a document: (object or list, key or index)."""
    if isinstance(value, dict | list):
        for key, inner in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
            yield value, key
            yield from places(inner)


def draw_record(rng: random.Random, kind: str, odd: float) -> str:
    """A record as JSON, or what once was some."""
    text = rng.choice(usual_records()[kind])
    if rng.random() >= odd:
        return text
    record = json.loads(text)
    chance = rng.random()
    if chance < 0.2:
        oddities = getattr(scrobble_oddities, kind.upper())
        change, _ = rng.choice(oddities)
        try:
            changed = change(record)
        except (TypeError, KeyError, AttributeError, IndexError):
            changed = None
        record = record if changed is None else changed
        return str(record) if isinstance(record, scrobble_oddities.Broken) else json.dumps(record)
    holder, key = rng.choice(list(places(record)))
    if chance < 0.6 or not isinstance(holder, dict):
        holder[key] = "<here>"
        return json.dumps(record, ensure_ascii=rng.random() < 0.5).replace('"<here>"', rng.choice(VALUES))
    if chance < 0.75:
        holder[rng.choice(KEYS)] = holder.pop(key)
    elif chance < 0.85:
        holder["<twice>"] = rng.choice((holder[key], None, "twice"))
        return json.dumps(record).replace("<twice>", str(key))
    else:
        del holder[key]
    return json.dumps(record, ensure_ascii=False).replace("\\\\u", "\\u")


def draw_export(rng: random.Random, kind: str) -> bytes:
    """The bytes of an export with odd records, and sometimes damage between them or anywhere."""
    separator = rng.choice((",\n", ",", ", ", "\n,", " ,\n  ", ",\n\n"))
    odd = rng.choice((0.0, 0.02, 0.1, 0.5))
    records = [draw_record(rng, kind, odd) for _ in range(rng.randrange(60))]

    def joined(some: list[str]) -> bytes:
        pieces = [record + separator for record in some[:-1]] + some[-1:]
        data = bytearray("".join(pieces).encode("utf-8", "surrogatepass"))
        for _ in range(rng.choice((0, 0, 0, 0, 1, 2))):
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.choice((0, 0, 1, 3))] = rng.choice(FRAGMENTS)
        return bytes(data)

    if kind == "maloja":
        return b'{"scrobbles": [\n' + joined(records) + b'\n], "more": [1]}'
    if kind == "koito":
        return b'{"version": "1", "listens": [' + joined(records) + b"]}"
    if kind == "spotify":
        return b'[{"ts": 1, "ms_played": 1}, ' + joined(records) + b"]"
    if kind == "lastfm":
        size = rng.choice((1, 3, 20))
        pages = [joined(records[at : at + size]) for at in range(0, len(records), size)]
        return b'[{"track": [' + b'], "@attr": {"page": "1"}},\n{"track": ['.join(pages) + b']}, {"track": [{}]}]'
    separator = rng.choice(("\n", "\n", "\r\n", "\n\n", "\n "))
    half = len(records) // 2
    return zip_bytes({"listens/1.jsonl": joined(records[:half]), "listens/2.jsonl": joined(records[half:]) + b"\n"})


@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    size=st.sampled_from([300, 2_000, 10_000, 1 << 18]),
    step=st.sampled_from([1, 5, 20, 1_000]),
    middle=st.floats(0, 1),
)
def test_any_mixture_of_records_and_damage_is_the_same(
    kind: str, tmp_path_factory: pytest.TempPathFactory, seed: int, size: int, step: int, middle: float
) -> None:
    path = tmp_path_factory.getbasetemp() / f"mixture-{kind}"
    path.write_bytes(draw_export(random.Random(seed), kind))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", size // 2)
        patch.setattr(json_stream, "BLOCK", size)
        patch.setattr(json_stream, "_SHORTEST_PAUSE", 1)
        patch.setattr(json_stream, "_LONGEST_PAUSE", 2)
        patch.setattr(listens_table, "AT_ONCE", 2 * size)
        patch.setattr(row_index, "STEP", step)
        try:
            export = open_export(path)
        except TerminalError:
            return
        check_same(export, middle)


GOOD = '{"time": 1600000000, "track": {"title": "T", "artists": ["A"]}}'


@pytest.mark.parametrize(
    "record",
    [
        '{"time": 1600000000, "track": {"title": "T", "artists": ["A"]}, "x": ' + value + "}"
        for value in (*VALUES, "[" * 600 + "]" * 600, '{"a":' * 6 + "1" + "}" * 6, "-NaN", "\x0b1", '"\\x"', "[1}")
    ]
    + [
        '{"time": 1600000000, "Track": {"Title": "T", "ARTISTS": ["A"]}}',
        '{"time": 1, "time": 1600000000, "track": {"title": "a", "title": "b", "artists": ["A"]}}',
        '{"time": 1600000000, "track": {"title": "T", "artists": ["A"], "album": null, "Album": {"albumtitle": "R"}}}',
        '{"time": 1600000000, "track": {"title": "T", "artists": ["A"], "\\u0061lbum": {"albumtitle": "R"}}}',
        GOOD + '], "scrobbles": [' + GOOD,
        GOOD + "]}, " + '{"records": [' + GOOD,
        GOOD[:-1] + ', "sub": [\n' + GOOD + ",\n" + GOOD + "]}",
        '{"time": 1, "x": "},\n{"time": 2}"}',
        '{"time": 1} {"time": 2}',
        "null",
        "5",
        GOOD + ",",
    ],
)
def test_a_record_among_usual_ones_is_the_same(record: str, tmp_path: Path) -> None:
    records = [GOOD, GOOD.replace("T", "U"), record, *[GOOD] * 30]
    for name, separator in (("lines", ",\n"), ("one line", ", ")):
        path = tmp_path / name
        path.write_bytes(f'{{"scrobbles": [{separator.join(records)}]}}'.encode("utf-8", "surrogatepass"))
        check_same(open_export(path))


def test_the_pattern_of_a_block_is_not_satisfied_by_unbalanced_records() -> None:
    def cut(text: str) -> int:
        block = json_blocks.cut_block(text.encode(), 0, len(text), Quota(100), json_stream._decode, pages=False)
        return block.rows if block else 0

    assert cut(GOOD + ",\n" + GOOD + "]") == 2
    assert cut(GOOD + ", " + GOOD + ", ") == 2
    assert cut(GOOD + ",\n" + GOOD[:-1]) == 0 or cut(GOOD + ",\n" + GOOD[:-1]) == 1
    assert cut(GOOD[:-1] + ",\n" + GOOD + ",\n" + GOOD) == 0
    assert cut(GOOD + "},\n" + GOOD + ",\n" + GOOD) == 0
    assert cut(GOOD + "\\,\n" + GOOD + ",\n" + GOOD) == 0
    assert cut(GOOD + " x,\n" + GOOD + ",\n" + GOOD) == 0
