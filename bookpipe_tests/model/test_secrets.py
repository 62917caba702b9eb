"""A secret is never printed by accident, and passwords are struck out of what is printed on purpose."""

import logging
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookpipe.model.secrets import Secret, redact

PASSWORD = "s3cr:t/päss"


def test_a_secret_is_revealed_only_when_asked() -> None:
    assert Secret(PASSWORD).reveal() == PASSWORD


def test_no_way_of_printing_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(PASSWORD)
    logging.getLogger("test").warning("%s %r", secret, [secret])
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!r}", str({"password": secret}), caplog.text]
    assert all(PASSWORD not in text and "****" in text for text in shown)


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret(" ")


def test_secrets_compare_and_travel_like_values() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1
    assert pickle.loads(pickle.dumps(Secret(PASSWORD))).reveal() == PASSWORD


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pw@host:5432/db", "postgresql://me:****@host:5432/db"),
        ("postgresql://:pw@host/db", "postgresql://:****@host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        (
            "postgresql://host/db?user=me&password=pw&sslmode=require",
            "postgresql://host/db?user=me&password=****&sslmode=require",
        ),
        ("host=h password=pw dbname=d", "host=h password=**** dbname=d"),
        ("PASSWORD=pw", "PASSWORD=****"),
        ("one://a:x@h two://b:y@h", "one://a:****@h two://b:****@h"),
        ('connection to "postgresql://me:p%40w@h/d" failed', 'connection to "postgresql://me:****@h/d" failed'),
        ("host='h' password='two words' dbname=d", "host='h' password=**** dbname=d"),
        (r"password='it\'s mine' host=h", "password=**** host=h"),
        ("password = pw host=h", "password = **** host=h"),
        ("postgresql://me:p@ss@host/db", "postgresql://me:****@host/db"),
        ("postgresql://me:p:w@host/db", "postgresql://me:****@host/db"),
        ("postgresql://me:p/w@host/db", "postgresql://me:****@host/db"),
        ("sqlite:////home/me/koito.db", "sqlite:////home/me/koito.db"),
        ("see https://example.org/a:b and mail me@example.org", "see https://example.org/a:b and mail me@example.org"),
        ("http://localhost:8080/ is down", "http://localhost:8080/ is down"),
        ("nothing to hide", "nothing to hide"),
        ("", ""),
    ],
)
def test_passwords_are_struck_out_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown


@given(
    st.text(st.characters(exclude_characters="@/?# \t\n\r", exclude_categories=["Cs", "Z", "Cc"]), min_size=4),
    st.sampled_from(["postgresql://me:{}@host/db", "host=h password={} dbname=d"]),
)
def test_no_password_survives(password: str, pattern: str) -> None:
    secret = f"<{password}>".replace("&", "").replace("'", "")
    assert secret not in redact(pattern.format(secret))


@given(st.text())
def test_striking_out_twice_is_striking_out_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)
