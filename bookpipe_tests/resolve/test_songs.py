"""What the archive is told of a song fits its limits, whatever the file says of itself."""

import math
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bookpipe.model.rejections import Reason
from bookpipe.model.songs import AUDIO_FILES, TAGGED_FILES, SongTags
from bookpipe.resolve.songs import (
    MAX_FILENAME,
    MAX_GENRE,
    MAX_NAME,
    MAX_NUMBER,
    MAX_TITLE,
    SongFields,
    clean_text,
    describe_songs,
    order_songs,
    song_fields,
    track_number,
    whole_seconds,
)

NOTHING = SongTags()


def test_tags_that_fit_are_sent_as_they_are() -> None:
    tags = SongTags("Title", "Jay-Z", "An_Album", "Hip-Hop", "3/12", 231.5)
    assert song_fields(tags, b"03 - x.mp3") == SongFields("03 - x.mp3", "Title", "Jay-Z", "An_Album", "Hip-Hop", 3, 232)


def test_without_tags_only_the_names_are_sent() -> None:
    assert song_fields(NOTHING, b"03 - Song.mp3") == SongFields(
        "03 - Song.mp3", "03 - Song", None, None, None, None, None
    )


@pytest.mark.parametrize(
    ("title", "name", "expected"),
    [
        (None, b"Song.mp3", "Song"),
        ("", b"Song.mp3", "Song"),
        (" \t\n ", b"Song.mp3", "Song"),
        ("\0\0", b"Song.mp3", "Song"),
        ("\x07\x1b", b"Song.mp3", "Song"),
        ("\ud800", b"Song.mp3", "Song"),
        (None, b"a.b.c.flac", "a.b.c"),
        (None, b"Caf\xe9.mp3", "Caf\ufffd"),
        (None, "Béla.mp3".encode(), "Béla"),
        (None, unicodedata.normalize("NFD", "Béla.mp3").encode(), "Béla"),
        (None, b"\x07.mp3", "Untitled"),
        (None, b" .mp3", "Untitled"),
        (None, b".mp3", ".mp3"),
        (None, b"", "Untitled"),
        (None, b"s" * 250 + b".mp3", "s" * 200),
    ],
)
def test_a_title_is_always_sent(title: str | None, name: bytes, expected: str) -> None:
    assert song_fields(SongTags(title=title), name).title == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("  a  ", "a"),
        ("a\0b", "a"),  # the rest of an old value, or a second value
        ("\0\0a", "a"),
        ("\x01\0a", "a"),
        ("a\nb\tc\u2028d", "a b c d"),
        ("a\x07b\x9fc\x7fd", "abcd"),
        ("\ufeffa", "a"),
        ("a\udcffb", "ab"),
        ("e\u0301", "é"),
        ("e\x00\u0301", "e"),
        ("e\x01\u0301", "é"),
        ("\ufffd", "\ufffd"),
        ("さくら 🌸", "さくら 🌸"),
        ("aaaaaaaaa bbb", "aaaaaaaaa"),  # no space is left at the cut
    ],
)
def test_texts_are_cleaned(text: str | None, expected: str | None) -> None:
    assert clean_text(text, 10) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"Song.mp3", "Song.mp3"),
        (b"Song.MP3", "Song.MP3"),
        (b"s" * 251 + b".flac", "s" * 250 + ".flac"),
        ("🌸".encode() * 62 + b".mp3", "🌸" * 62 + ".mp3"),
        (b"new\nline \x07.mp3", "new line.mp3"),
        (b"Caf\xe9.mp3", "Caf\ufffd.mp3"),
        (b"no extension", "no extension"),
        (b"\x07.mp3", "Untitled.mp3"),
        (b"a." + b"x" * 300, "a." + "x" * 253),
        (b"a.", "a."),
    ],
)
def test_a_file_name_keeps_its_extension(name: bytes, expected: str) -> None:
    assert song_fields(NOTHING, name).filename == expected


@pytest.mark.parametrize(
    ("track", "number"),
    [
        ("3", 3),
        ("03", 3),
        ("3/12", 3),
        (" 3 / 12 ", 3),
        ("3/", 3),
        ("2147483647", MAX_NUMBER),
        ("2147483648", None),
        ("9" * 5_000, None),
        ("0", None),
        ("0/12", None),
        ("/12", None),
        ("-3", None),
        ("3.5", None),
        ("A3", None),
        ("3 of 12", None),
        ("٣", None),
        ("", None),
        (None, None),
    ],
)
def test_a_track_is_a_whole_number_above_zero(track: str | None, number: int | None) -> None:
    assert track_number(track) == number


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        (231.5, 232),
        (230.5, 231),
        (231.49, 231),
        (0.5, 1),
        (0.49, None),
        (0, None),
        (-5.0, None),
        (float(MAX_NUMBER), MAX_NUMBER),
        (float(MAX_NUMBER) + 1, None),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        (None, None),
    ],
)
def test_a_duration_is_a_whole_number_above_zero(duration: float | None, seconds: int | None) -> None:
    assert whole_seconds(duration) == seconds


TEXTS = st.none() | st.text(st.characters(), max_size=40) | st.text("ab \0\n\x01é\u0301\ud800\ufeff", max_size=400)
TAGS = st.builds(SongTags, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, st.none() | st.floats())


def visible(text: str | None, limit: int) -> bool:
    return text is None or (
        0 < len(text) <= limit
        and text == text.strip() == unicodedata.normalize("NFC", text)
        and not any(unicodedata.category(c) in ("Cc", "Cs") for c in text)
    )


@given(TAGS, st.binary(max_size=300))
@example(SongTags(title="\u0344" * 200), b"x")  # one character that NFC makes two
def test_whatever_a_file_says_the_fields_fit(tags: SongTags, name: bytes) -> None:
    fields = song_fields(tags, name)
    assert visible(fields.title, MAX_TITLE)
    assert visible(fields.artist, MAX_NAME)
    assert visible(fields.album, MAX_NAME)
    assert visible(fields.genre, MAX_GENRE)
    assert 0 < len(fields.filename) <= MAX_FILENAME
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in fields.filename)
    for number in (fields.track_number, fields.duration):
        assert number is None or 0 < number <= MAX_NUMBER
    for text in (fields.filename, fields.title, fields.artist, fields.album, fields.genre):
        assert text is None or text.encode()


@given(TEXTS, st.integers(1, 50))
def test_cleaning_twice_changes_nothing(text: str | None, limit: int) -> None:
    once = clean_text(text, limit)
    assert clean_text(once, limit) == once


# -- tables -------------------------------------------------------------------------------------------------------


def tagged(*rows: dict[str, object]) -> pa.Table:
    empty = dict.fromkeys(TAGGED_FILES.names)
    numbered = [empty | {"item": n, "path": b"a/%d.mp3" % n} | row for n, row in enumerate(rows, 1)]
    return pa.Table.from_pylist(numbered, schema=TAGGED_FILES)


def test_a_table_of_songs_has_the_fields_of_each() -> None:
    files = tagged(
        {"title": "One", "album": "A", "track": "1/2", "duration": 61.7, "md5": "x", "size": 9},
        {"path": b"x/Caf\xe9.mp3", "reason": Reason.EMPTY_FILE.value, "detail": "d"},
    )
    songs = describe_songs(files)
    assert songs.schema == AUDIO_FILES
    first, second = songs.to_pylist()
    assert (first["filename"], first["title"], first["album"]) == ("1.mp3", "One", "A")
    assert (first["track_number"], first["duration"], first["md5"], first["size"]) == (1, 62, "x", 9)
    assert (second["path"], second["title"], second["reason"], second["detail"]) == (
        b"x/Caf\xe9.mp3",
        "Caf\ufffd",
        "empty_file",
        "d",
    )


def test_an_empty_table_stays_empty() -> None:
    assert describe_songs(TAGGED_FILES.empty_table()).equals(AUDIO_FILES.empty_table())
    assert order_songs(AUDIO_FILES.empty_table()) == []


def order_of(*albums: str | None, rejected: frozenset[int] = frozenset()) -> list[int]:
    rows: list[dict[str, object]] = [
        {"album": album, "reason": Reason.EMPTY_FILE.value if n in rejected else None} for n, album in enumerate(albums)
    ]
    return order_songs(describe_songs(tagged(*rows)))


def test_the_first_song_of_an_album_goes_before_the_others() -> None:
    assert order_of("A", "A", "B", "A", "B", "C") == [-1, 0, -1, 0, 2, -1]


def test_songs_without_an_album_wait_for_nothing() -> None:
    assert order_of(None, "A", None, "", "A") == [-1, -1, -1, -1, 1]


def test_albums_are_told_apart_as_the_archive_does() -> None:
    assert order_of("Greatest Hits", "greatest hits", "Greatest Hits ", "Greatest  Hits") == [-1, -1, 0, -1]


def test_a_rejected_song_neither_leads_nor_waits() -> None:
    assert order_of("A", "A", "A", "A", rejected=frozenset((0, 2))) == [-1, -1, -1, 1]


@given(st.lists(st.tuples(st.sampled_from(["A", "B", "C", None]), st.booleans()), max_size=30))
def test_nobody_waits_for_one_who_waits(rows: list[tuple[str | None, bool]]) -> None:
    albums = [album for album, _ in rows]
    order = order_of(*albums, rejected=frozenset(n for n, (_, rejected) in enumerate(rows) if rejected))
    for row, leader in enumerate(order):
        assert leader < row
        if leader >= 0:
            assert order[leader] == -1
            assert albums[leader] == albums[row] is not None
    leading = [albums[n] for n, (_, rejected) in enumerate(rows) if order[n] == -1 and albums[n] and not rejected]
    assert len(leading) == len(set(leading))
