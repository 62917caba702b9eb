"""Fields as Go's decoder and Koito's importers read them."""

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.model.listens import fold_name, trim
from bookpipe.model.rejections import Reason
from bookpipe.sources.scrobbles.fields import (
    MAX_TEXT,
    NIL_MBID,
    UnusableError,
    field,
    mbid,
    optional_objects,
    optional_text,
    optional_texts,
    optional_title,
    parse_mbid,
    rfc3339,
    text,
    texts,
    unix_seconds,
    whole_number,
)

PLAIN = "b1c2d3e4-0001-4000-8000-0123456789ab"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (PLAIN, PLAIN),
        (PLAIN.upper(), PLAIN),
        (f"urn:uuid:{PLAIN}", PLAIN),
        (f"URN:UUID:{PLAIN}", PLAIN),
        (f"{{{PLAIN}}}", PLAIN),
        (f"({PLAIN}]", PLAIN),
        (f"\0{PLAIN}\n", PLAIN),
        (f"7{PLAIN}f".upper(), PLAIN),
        (PLAIN.replace("-", ""), PLAIN),
        (NIL_MBID, NIL_MBID),
        ("", None),
        (PLAIN[:-1], None),
        (f" {PLAIN}", None),
        (f"«{PLAIN}»", None),
        (f"{{{PLAIN.replace('-', '')}}}", None),
        (f"urn:uuid:{PLAIN.replace('-', '')}", None),
        (f"uuid:urn:{PLAIN}", None),
        (PLAIN[:8] + PLAIN[9:] + "-", None),
        (f"{PLAIN}\n", None),
        (f"{{{PLAIN}", None),
        (PLAIN.replace("b", "g"), None),
        (PLAIN.replace("-", "", 1), None),
        ("١" * 32, None),
        (5, None),
        (None, None),
        ([PLAIN], None),
    ],
)
def test_an_mbid_has_the_forms_go_parses(value: Any, wanted: str | None) -> None:
    assert parse_mbid(value) == wanted


@given(st.uuids())
def test_any_uuid_is_an_mbid(value: UUID) -> None:
    assert parse_mbid(str(value)) == parse_mbid(value.hex) == parse_mbid(value.urn) == str(value)


def test_a_nil_or_malformed_mbid_is_absent() -> None:
    assert [mbid({"mbid": value}, "mbid") for value in (PLAIN, NIL_MBID, "x", "", None, 7)] == [PLAIN, *[None] * 5]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (7, 7),
        ("7", 7),
        ("-7", -7),
        ("+7", 7),
        (7.9, 7),
        (-7.1, -8),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        ("9" * 19, None),
        (1e300, None),
        (float("inf"), None),
        (float("nan"), None),
        (" 7", None),
        ("7.5", None),
        ("١٢", None),
        ("", None),
        (True, None),
        (None, None),
        ([7], None),
    ],
)
def test_seconds_are_numbers_or_numbers_in_texts(value: Any, wanted: int | None) -> None:
    assert unix_seconds(value) == wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(7, 7), ("7", 7), (7.9, 7), (-7.9, -7), (2**31 - 1, 2**31 - 1), (2**31, 0), ("3:05", 0), (True, 0), (None, 0)],
)
def test_a_number_that_cannot_be_used_is_zero(value: Any, wanted: int) -> None:
    assert whole_number(value) == wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("1970-01-01T00:00:00Z", (0, 0)),
        ("2022-01-08T22:32:08Z", (1641681128, 0)),
        ("2022-01-08T22:32:08+01:00", (1641677528, 0)),
        ("2022-01-08T22:32:08-00:30", (1641682928, 0)),
        ("2022-01-08T22:32:08.5Z", (1641681128, 500_000)),
        ("2022-01-08T22:32:08.123456789Z", (1641681128, 123_456)),
        ("1969-12-31T23:59:59.25Z", (-1, 250_000)),
        ("0001-01-01T00:00:00Z", (-62135596800, 0)),
        ("2024-02-29T00:00:00Z", (1709164800, 0)),
        ("2023-02-29T00:00:00Z", None),
        ("2022-13-01T00:00:00Z", None),
        ("2022-01-01T24:00:00Z", None),
        ("2022-01-01T00:00:60Z", None),
        ("2022-01-01T00:00:00", None),
        ("2022-01-01 00:00:00Z", None),
        ("2022-01-01T00:00:00+24:00", None),
        ("2022-01-01", None),
        ("", None),
        (1641681128, None),
        (None, None),
    ],
)
def test_a_time_is_rfc_3339(value: Any, wanted: tuple[int, int] | None) -> None:
    assert rfc3339(value) == wanted


@given(st.datetimes(timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))))
def test_any_time_is_read_as_python_writes_it(when: datetime) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    micros = (when - epoch) // timedelta(microseconds=1)
    assert rfc3339(when.isoformat()) == divmod(micros, 1_000_000)


def test_keys_match_in_any_case_when_the_expected_one_is_missing() -> None:
    assert field({"Title": 1, "TITLE": 2}, "title") == 2
    assert field({"TITLE": 2, "title": 1}, "title") == 1
    assert field({"artıst": 1, "titles": 2}, "title") is None
    assert field({"ſource": 1}, "source") == 1


@pytest.mark.parametrize("value", [5, True, [], {}])
def test_a_needed_text_of_the_wrong_type_makes_the_record_unusable(value: Any) -> None:
    with pytest.raises(UnusableError, match="title is") as caught:
        text({"title": value}, "title")
    assert caught.value.reason is Reason.BAD_RECORD
    assert optional_text({"title": value}, "title") == ""


@pytest.mark.parametrize("value", ["A", {}, ["A", 5], [["A"]]])
def test_a_needed_list_of_the_wrong_type_makes_the_record_unusable(value: Any) -> None:
    with pytest.raises(UnusableError, match="artists"):
        texts({"artists": value}, "artists")
    assert optional_texts({"artists": value}, "artists") == []


def test_a_missing_field_is_empty() -> None:
    assert text({}, "title") == text({"title": None}, "title") == ""
    assert texts({}, "artists") == texts({"artists": None}, "artists") == []
    assert texts({"artists": [None, "A"]}, "artists") == ["", "A"]
    assert optional_texts({"artists": [None, "A"]}, "artists") == ["", "A"]
    assert optional_objects({"a": [{"b": 1}, 5, None]}, "a") == [{"b": 1}]
    assert optional_objects({"a": {"b": 1}}, "a") == []


def test_nuls_are_dropped() -> None:
    assert text({"title": "a\0b\0"}, "title") == "ab"
    assert optional_text({"title": "a\0b\0"}, "title") == optional_title({"title": "a\0b\0"}, "title") == "ab"
    assert texts({"artists": ["\0", "a\0"]}, "artists") == ["", "a"]


@pytest.mark.parametrize(
    "record", [{"title": "x" * (MAX_TEXT + 1)}, {"title": "東" * (MAX_TEXT // 3 + 1)}, {"title": "\ud800" * MAX_TEXT}]
)
def test_a_name_longer_than_postgresql_can_index_is_refused(record: dict[str, Any]) -> None:
    for read in (text, optional_title):
        with pytest.raises(UnusableError) as caught:
            read(record, "title")
        assert caught.value.reason is Reason.TEXT_TOO_LONG
        assert read({"title": record["title"][: MAX_TEXT // 3]}, "title")


def test_an_optional_text_that_is_no_title_has_any_length() -> None:
    assert optional_text({"client": "x" * 100_000}, "client") == "x" * 100_000


def test_more_names_than_any_listen_has_are_refused() -> None:
    for names in (["x"] * 501, ["x" * 2_500] * 21):
        with pytest.raises(UnusableError) as caught:
            texts({"artists": names}, "artists")
        assert caught.value.reason is Reason.TEXT_TOO_LONG
    assert len(texts({"artists": ["x"] * 500}, "artists")) == 500


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Beyoncé", "BEYONCÉ", True),
        ("\u212aelvin", "kelvin", True),  # the Kelvin sign
        ("ſong", "Song", True),
        ("ΣΟΦΟΣ", "σοφος", True),
        ("ΣΟΦΟΣ", "σοφοσ", True),
        ("Straße", "STRASSE", False),
        ("straße", "STRAẞE", True),
        ("İstanbul", "istanbul", False),
        ("ılık", "ILIK", False),
        ("ılık", "ılık", True),
        ("ǆ", "ǅ", True),
        ("ᾳ", "ᾼ", True),
        ("ﬁ", "fi", False),
        ("É", "E\u0301", False),
    ],
)
def test_names_are_equal_as_go_folds_them(one: str, other: str, same: bool) -> None:
    assert (fold_name(one) == fold_name(other)) is same


@given(st.text())
def test_folding_keeps_length_and_is_stable(name: str) -> None:
    assert len(fold_name(name)) == len(name)
    assert fold_name(fold_name(name)) == fold_name(name)


def test_only_unicode_white_space_is_trimmed() -> None:
    assert trim("\t\u3000 a b\u2003\x85\xa0") == "a b"
    assert trim("\x1ca\x1f") == "\x1ca\x1f"
    assert trim("\ufeffa\u200b") == "\ufeffa\u200b"
