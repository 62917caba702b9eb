"""Records out of JSON, whatever its shape, size and damage."""

import io
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.model.rejections import Reason
from bookpipe.sources.scrobbles import json_stream
from bookpipe.sources.scrobbles.json_lines import JsonLines
from bookpipe.sources.scrobbles.json_stream import (
    CHUNK,
    MAX_RECORD,
    JsonRecords,
    Layout,
    Problem,
    Records,
)

ARRAY = Layout()
OBJECT = Layout(frozenset({"rows", "list"}))
PAGES = Layout(frozenset({"rows"}), pages=True)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def in_windows(reader: Callable[[], Records], size: int) -> list[Any]:
    """What is read when `size` bytes are read at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", size)
        return list(reader())


def records(data: bytes, layout: Layout, size: int = CHUNK) -> list[Any]:
    return in_windows(lambda: JsonRecords(io.BytesIO(data), layout), size)


def lines(data: bytes, size: int = CHUNK) -> list[Any]:
    return in_windows(lambda: JsonLines(io.BytesIO(data)), size)


def reasons(found: Iterable[Any]) -> list[Any]:
    return [item.reason if isinstance(item, Problem) else item for item in found]


def rest_after_each(data: bytes, reader: Any) -> None:
    """Reading on behind any record gives what comes behind it."""
    whole = list(reader(io.BytesIO(data), 0))
    source: Records = reader(io.BytesIO(data), 0)
    for n, _ in enumerate(source, 1):
        offset = source.resume_offset()
        if offset:
            stream = io.BytesIO(data)
            stream.seek(offset)
            assert list(reader(stream, offset)) == whole[n:]


@given(st.lists(VALUES), st.sampled_from([None, 1]), st.booleans(), st.integers(1, 40))
def test_an_array_gives_its_values_whatever_the_window(
    values: list[Any], indent: int | None, ascii_only: bool, size: int
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    data = text.encode("utf-8", "surrogatepass")
    found = records(data, ARRAY, size)
    assert not any(isinstance(item, Problem) for item in found)
    assert json.dumps(found) == json.dumps(json.loads(data.decode("utf-8", "surrogateescape")))


@given(st.lists(st.tuples(st.sampled_from(["rows", "Rows", "other", "list"]), st.lists(VALUES)), max_size=5))
def test_an_object_gives_the_values_of_its_lists(parts: list[tuple[str, list[Any]]]) -> None:
    members = ", ".join(f"{json.dumps(key)} : {json.dumps(values)}" for key, values in parts)
    wanted = [value for key, values in parts if key != "other" for value in values]
    assert records(f" {{ {members} }} and more".encode(), OBJECT, 7) == wanted


@given(st.lists(st.lists(VALUES, max_size=4) | st.dictionaries(st.just("name"), VALUES)))
def test_pages_give_the_values_of_their_lists_and_single_records(pages: list[Any]) -> None:
    document = [{"before": 1, "rows": page, "@attr": {"page": "1"}} for page in pages]
    wanted = [value for page in pages for value in (page if isinstance(page, list) else [page])]
    assert records(json.dumps(document, indent=1).encode(), PAGES, 11) == wanted


@given(st.lists(VALUES), st.integers(1, 40), st.sampled_from(["\n", "\r\n", "\n\n", "\n \r\n"]), st.booleans())
def test_lines_give_their_values_whatever_the_window(values: list[Any], size: int, separator: str, ended: bool) -> None:
    data = separator.join(map(json.dumps, values)) + (separator if ended else "")
    assert lines(data.encode(), size) == values


@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES)), st.sampled_from([None, 2]))
def test_reading_goes_on_behind_any_record(values: list[Any], indent: int | None) -> None:
    def dump(document: Any) -> bytes:
        return json.dumps(document, indent=indent, ensure_ascii=False).encode("utf-8", "replace")

    rest_after_each(dump(values), lambda stream, offset: JsonRecords(stream, ARRAY, offset))
    document = {"x": [1], "rows": values, "list": values}
    rest_after_each(b"\xef\xbb\xbf" + dump(document), lambda stream, offset: JsonRecords(stream, OBJECT, offset))
    pages = [{"rows": values}, {"rows": {"one": 1}}, 7, {"rows": values}]
    rest_after_each(dump(pages), lambda stream, offset: JsonRecords(stream, PAGES, offset))
    text = b"\n".join(dump(value).replace(b"\n", b" ") for value in values)
    rest_after_each(text, JsonLines)


@given(st.lists(VALUES, min_size=1), st.data())
def test_what_is_before_a_break_is_read_and_the_break_is_told(values: list[Any], data: st.DataObject) -> None:
    whole = json.dumps(values).encode()
    cut = data.draw(st.integers(1, len(whole) - 1))
    *found, last = records(whole[:cut], ARRAY, data.draw(st.integers(1, 20)))
    assert isinstance(last, Problem)
    assert last.reason is Reason.DAMAGED_FILE
    assert "ends" in last.detail
    assert all(a == b or str(b).startswith(str(a)) for a, b in zip(found, values, strict=False))
    assert len(found) <= len(values)


BAD = Reason.BAD_RECORD
DAMAGED = Reason.DAMAGED_FILE


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[1, {'a': 2}, 3]", [1, BAD, 3]),
        ('[1, {"a": nothing}, 3]', [1, BAD, 3]),
        ('[1, {"a" 2}, {"b": [}}, 3]', [1, BAD, BAD, 3]),
        ("[1, nothing, 3]", [1, BAD, 3]),
        (r'[{"a\"]": nothing, "\\": "]"}, 3]', [BAD, 3]),
        ("[1,, 3]", [1, BAD, 3]),
        ("[1, 3,]", [1, 3]),
        ('["a\nb", 3]', [BAD, 3]),
        ('["\\x", 3]', [BAD, 3]),
        (f"[{'9' * 5000}, 3]", [BAD, 3]),
        (f"[{'[' * 100_000}{']' * 100_000}, 3]", [BAD, 3]),
        ("[1 2]", [1, DAMAGED]),
        ('[1, "a"b, 3]', [1, "a", DAMAGED]),
        ("[1}", [1, DAMAGED]),
        ("[}", [BAD, DAMAGED]),
        ("[", [DAMAGED]),
        ("[1", [DAMAGED]),
        ('[1, "', [1, DAMAGED]),
        ('[1, "\\', [1, DAMAGED]),
        ("[1] [2", [1]),
        ("[] x", []),
        ("{}", [DAMAGED]),
        ("", [DAMAGED]),
    ],
)
@pytest.mark.parametrize("size", [1, 3, CHUNK])
def test_a_bad_record_is_passed_over_and_a_broken_document_ends(text: str, wanted: list[Any], size: int) -> None:
    if len(text) < 1000 or size > 3:
        assert reasons(records(text.encode(), ARRAY, size)) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"rows": [1], "rows": [2]}', [1, 2]),
        ('{"rows": null, "list": [2]}', [2]),
        ('{"rows": {"a": 1}, "list": [2]}', [BAD, 2]),
        ('{"rows": "text"}', [BAD]),
        ('{"other": [[["]"]], {"}": 1}], "rows": [1]}', [1]),
        ('{"other": nonsense, "rows": [1]}', [1]),
        ('{"rows" [1]}', [DAMAGED]),
        ("{rows: [1]}", [DAMAGED]),
        ('{"rows": [1], ', [1, DAMAGED]),
        ('{"rows": [1]', [1, DAMAGED]),
        ('{"other": [1', [DAMAGED]),
        ("[]", [DAMAGED]),
    ],
)
def test_lists_in_an_object_are_found(text: str, wanted: list[Any]) -> None:
    assert reasons(records(text.encode(), OBJECT)) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[{"rows": [1]}, null, {"rows": [2]}]', [1, None, 2]),
        ('[{"rows": [1]} {"rows": [2]}]', [1, DAMAGED]),
        ('[{"rows": [1]}, {"rows": [2', [1, DAMAGED]),
        ("[]", []),
        ("[", [DAMAGED]),
    ],
)
def test_damaged_pages_end(text: str, wanted: list[Any]) -> None:
    assert reasons(records(text.encode(), PAGES)) == wanted


def test_a_bad_line_is_passed_over() -> None:
    text = '1\n{"a": \n[2] x\n"\\ud800"\n' + "[" * 100_000 + "\n3"
    assert reasons(lines(text.encode())) == [1, BAD, BAD, "\ud800", BAD, 3]


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert records(b"\xef\xbb\xbf[1]", ARRAY, 1) == [1]
    assert lines(b"\xef\xbb\xbf1\n2", 1) == [1, 2]


def test_bytes_that_are_no_utf8_become_one_surrogate_each() -> None:
    data = b'["a\xff\xe2\x82b", "\xed\xa0\x80", "\xc3\xa9"]'
    assert records(data, ARRAY, 1) == ["a\udcff\udce2\udc82b", "\udced\udca0\udc80", "é"]


def test_a_record_of_many_windows_is_read() -> None:
    large = {"text": "é\\" * (CHUNK // 2), "list": list(range(50_000))}
    data = json.dumps([1, large, 2]).encode()
    assert len(data) > 4 * CHUNK
    assert records(data, ARRAY) == [1, large, 2]
    assert lines(json.dumps(large).encode() + b"\n2") == [large, 2]


@pytest.mark.parametrize(("before", "after"), [('"', '"'), ('{"a": ["', '"]}'), ("[[", "]]")])
@pytest.mark.parametrize("size", [CHUNK, 10 << 20])
def test_a_record_beyond_the_limit_is_passed_over_whatever_the_window(before: str, after: str, size: int) -> None:
    def padded(length: int) -> str:
        pad = " " if before == "[[" else "x"
        return before + pad * (length - len(before) - len(after)) + after

    for length, wanted in ((MAX_RECORD, "read"), (MAX_RECORD + 1, BAD), (3 * MAX_RECORD, BAD)):
        large = padded(length)
        found = [
            item if item in (1, 2, BAD) else "read" for item in reasons(records(f"[1,{large},2]".encode(), ARRAY, size))
        ]
        assert found == [1, wanted, 2]
        found = [item if item in (1, 2, BAD) else "read" for item in reasons(lines(f"1\n{large}\n2".encode(), size))]
        assert found == [1, wanted, 2]


def test_a_large_record_without_an_end_is_the_end() -> None:
    large = '{"a": ["' + "x" * (2 * MAX_RECORD)
    assert reasons(records(f"[1, {large}, 2]".encode(), ARRAY)) == [1, DAMAGED]
    assert reasons(lines(f"1\n{large}".encode())) == [1, BAD]
