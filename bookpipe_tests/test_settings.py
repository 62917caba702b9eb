"""What settings mean, and what is refused because it would mean something else than was meant."""

from pathlib import Path

import pytest

from bookpipe.model.errors import ConfigError
from bookpipe.settings import Settings, parse_time

DAY = 86_400
NEW_YEAR = 1_704_067_200  # 1 January 2024


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [
        ("", None, None),
        ("2024-01-01", NEW_YEAR, NEW_YEAR + DAY - 1),
        ("20240101", NEW_YEAR, NEW_YEAR + DAY - 1),  # not 234 days after the beginning of 1970
        ("2024-01-01T06:00", NEW_YEAR + DAY // 4, NEW_YEAR + DAY // 4),
        ("2024-01-01T06:00:00Z", NEW_YEAR + DAY // 4, NEW_YEAR + DAY // 4),
        ("2024-01-01T06:00:00+06:00", NEW_YEAR, NEW_YEAR),
        ("1704067200", NEW_YEAR, NEW_YEAR),
        ("999999999", 999_999_999, 999_999_999),
        ("0", 0, 0),
    ],
)
def test_a_time_is_a_date_a_moment_or_seconds(value: str, start: int | None, end: int | None) -> None:
    assert parse_time("NAME", value) == start
    assert parse_time("NAME", value, end=True) == end


@pytest.mark.parametrize("value", ["yesterday", "2024-13-01", "20241301", "20240230", "2024", "202401", "7", "-5"])
def test_what_is_no_time_is_refused_as_it_was_written(value: str) -> None:
    with pytest.raises(ConfigError, match=f"NAME is '{value}'; it must be a date such as"):
        parse_time("NAME", value)


def test_the_state_file_has_an_absolute_path() -> None:
    there = Settings.load({"BOOKPIPE_STATE_URL": "sqlite:////srv/bookpipe/state.sqlite"})
    assert there.state_path == Path("/srv/bookpipe/state.sqlite")
    for value in ("sqlite:///state.sqlite", "sqlite:///./x.sqlite", "sqlite://x.sqlite", "/srv/state.sqlite"):
        with pytest.raises(ConfigError, match="four slashes"):
            Settings.load({"BOOKPIPE_STATE_URL": value})
    with pytest.raises(ConfigError) as refused:
        Settings.load({"BOOKPIPE_STATE_URL": "postgresql://me:s3cret@host/state"})
    assert "s3cret" not in str(refused.value)
