"""Koito's importers, as naive as can be: one listen at a time, one statement at a time, on a real SQLite database.

It shares no code with what it is compared to, not even the taking apart of artist strings. Steps are those of Koito's
listen submission (MusicBrainz and images switched off) and of its importer of its own export; `_Rejected` stands for
Koito's errors, and what the listen had done so far is undone.
"""

import sqlite3
from typing import Any

from bookpipe_tests.koito_dump import Dump, dump_koito

Row = dict[str, Any]

SCHEMA = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY, username TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL DEFAULT 'user' CHECK (role IN ('admin', 'user')), password BLOB NOT NULL
);
CREATE TABLE artists (id INTEGER PRIMARY KEY, musicbrainz_id TEXT UNIQUE, image TEXT, image_source TEXT);
CREATE TABLE artist_aliases (
    artist_id INTEGER NOT NULL REFERENCES artists (id) ON DELETE CASCADE, alias TEXT NOT NULL, source TEXT NOT NULL,
    is_primary INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (artist_id, alias)
);
CREATE TABLE releases (
    id INTEGER PRIMARY KEY, musicbrainz_id TEXT UNIQUE, image TEXT, image_source TEXT,
    various_artists INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE release_aliases (
    release_id INTEGER NOT NULL REFERENCES releases (id) ON DELETE CASCADE, alias TEXT NOT NULL, source TEXT NOT NULL,
    is_primary INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (release_id, alias)
);
CREATE TABLE artist_releases (
    artist_id INTEGER NOT NULL REFERENCES artists (id) ON DELETE CASCADE,
    release_id INTEGER NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
    is_primary INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (artist_id, release_id)
);
CREATE TABLE tracks (
    id INTEGER PRIMARY KEY, musicbrainz_id TEXT UNIQUE, duration INTEGER NOT NULL DEFAULT 0,
    release_id INTEGER NOT NULL REFERENCES releases (id) ON DELETE CASCADE
);
CREATE TABLE track_aliases (
    track_id INTEGER NOT NULL REFERENCES tracks (id) ON DELETE CASCADE, alias TEXT NOT NULL, source TEXT NOT NULL,
    is_primary INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (track_id, alias)
);
CREATE TABLE artist_tracks (
    artist_id INTEGER NOT NULL REFERENCES artists (id) ON DELETE CASCADE,
    track_id INTEGER NOT NULL REFERENCES tracks (id) ON DELETE CASCADE,
    is_primary INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (artist_id, track_id)
);
CREATE TABLE listens (
    track_id INTEGER NOT NULL REFERENCES tracks (id) ON DELETE CASCADE, listened_at INTEGER NOT NULL,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE, client TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (track_id, listened_at)
);
CREATE INDEX idx_artist_aliases_alias ON artist_aliases (alias);
CREATE INDEX idx_release_aliases_alias ON release_aliases (alias);
CREATE INDEX idx_track_aliases_alias ON track_aliases (alias);
CREATE VIEW artists_with_name AS
    SELECT a.*, aa.alias AS name FROM artists a JOIN artist_aliases aa ON aa.artist_id = a.id WHERE aa.is_primary = 1;
CREATE VIEW releases_with_title AS
    SELECT r.*, ra.alias AS title FROM releases r JOIN release_aliases ra ON ra.release_id = r.id
    WHERE ra.is_primary = 1;
CREATE VIEW tracks_with_title AS
    SELECT t.*, ta.alias AS title FROM tracks t JOIN track_aliases ta ON ta.track_id = t.id WHERE ta.is_primary = 1;
CREATE TRIGGER delete_empty_releases AFTER DELETE ON artist_releases
WHEN NOT EXISTS (SELECT 1 FROM artist_releases WHERE release_id = OLD.release_id)
BEGIN
    DELETE FROM releases WHERE id = OLD.release_id;
END;
INSERT INTO users (id, username, role, password) VALUES (1, 'admin', 'admin', x'00');
"""

GO_SPACE = {9, 10, 11, 12, 13, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
REGEX_SPACE = "\t\n\f\r "


class _RejectedError(Exception):
    pass


def connect() -> sqlite3.Connection:
    """An empty Koito database in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def dump(connection: sqlite3.Connection) -> Dump:
    return dump_koito(lambda sql: connection.execute(sql).fetchall(), postgres=False, images=True)


class KoitoReference:
    """Submits LISTENS rows, as dictionaries, to a database with Koito's tables."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._made: list[int] = []  # artists that the listen at hand has made

    def submit(self, row: Row) -> str:
        """How the row ended: inserted, existing or rejected."""
        if row["reason"] is not None:
            return "rejected"
        self._db.execute("SAVEPOINT listen")
        try:
            track = self._export(row) if row["kind"] == "koito" else self._submit(row)
        except _RejectedError:
            self._db.execute("ROLLBACK TO listen")
            return "rejected"
        finally:
            self._db.execute("RELEASE listen")
        cursor = self._db.execute(
            "INSERT OR IGNORE INTO listens (track_id, listened_at, user_id, client) VALUES (?, ?, 1, ?)",
            (track, row["listened_at"], row["client"] or ""),
        )
        return "inserted" if cursor.rowcount else "existing"

    # Listen submission

    def _submit(self, row: Row) -> int:
        artist, title = row["artist"] or "", row["title"] or ""
        if artist == "" or title == "" or row["listened_at"] is None:
            raise _RejectedError
        names = [go_trim(name) for name in row["artist_names"] or []]
        credits = [
            (go_trim(name), mbid)
            for name, mbid in zip(row["credit_names"] or [], row["credit_mbids"] or [], strict=True)
        ]
        mbids = row["artist_mbids"] or []
        if "" in [name for name, _ in credits]:
            raise _RejectedError
        if "" in names and (len(names) > len(credits) or len(mbids) > len(credits)):
            raise _RejectedError
        self._made = []
        artists = self._associate_artists(artist, title, names, mbids, credits)
        if not artists:
            raise _RejectedError
        release = self._associate_album(row["album"] or title, row["release_mbid"], artists)
        for i in artists:
            self._db.execute("INSERT OR IGNORE INTO artist_releases VALUES (?, ?, 0)", (i, release))
        duration = row["duration"] or 0
        track = self._associate_track(title, row["recording_mbid"], artists, release, duration)
        if self._one("SELECT duration FROM tracks WHERE id = ?", track) == 0 and duration != 0:
            self._db.execute("UPDATE tracks SET duration = ? WHERE id = ?", (duration, track))
        return track

    def _associate_artists(
        self, artist: str, title: str, names: list[str], mbids: list[str | None], credits: list[tuple[str, str | None]]
    ) -> list[int]:
        result: list[int] = []
        # The MBIDs that the artists of the result carry in memory; None is the nil UUID that a mapping had.
        carried: list[str | None] = []
        for name, mbid in credits:
            found = self._artist_by_mbid(mbid)
            if found is not None:
                carried.append(mbid)
                result.append(found)
                continue
            found = self._artist_by_name(name)
            if found is not None:
                if mbid is not None:
                    self._db.execute("UPDATE artists SET musicbrainz_id = ? WHERE id = ?", (mbid, found))
                carried.append(mbid)
                result.append(found)
                continue
            result.append(self._save_artist(name, mbid, None, []))
            if mbid is not None:
                carried.append(mbid)
        if len(mbids) > len(result):
            result = result + self._artists_by_mbids(artist, title, names, mbids, carried)
        if len(names) > len(result):
            result = result + self._artists_by_names(names, result)
        if len(result) == 0:
            result = self._artists_by_names(names + parse(artist, title), [])
        distinct: list[int] = []
        for i in result:
            if i not in distinct:
                distinct.append(i)
        return distinct

    def _artists_by_mbids(
        self, artist: str, title: str, names: list[str], mbids: list[str | None], carried: list[str | None]
    ) -> list[int]:
        found: list[int] = []
        found_mbids: list[str | None] = []
        for mbid in mbids:
            if mbid in carried or mbid in found_mbids:
                continue
            if mbid is None:
                return self._artists_by_names(names, found)
            one = self._artist_by_mbid(mbid)
            if one is None:
                return self._artists_by_names(names if names else parse(artist, title), found)
            found.append(one)
            found_mbids.append(mbid)
        return found

    def _artists_by_names(self, names: list[str], existing: list[int]) -> list[int]:
        result: list[int] = []
        for name in names:
            if any(self._is_called(i, name) for i in existing) or any(self._is_called(i, name) for i in result):
                continue
            found = self._artist_by_name(name)
            result.append(self._save_artist(name, None, None, []) if found is None else found)
        return result

    def _is_called(self, artist: int, name: str) -> bool:
        known = []
        if artist not in self._made:
            joined = self._one("SELECT group_concat(alias, '||') FROM artist_aliases WHERE artist_id = ?", artist)
            known = str(joined).split("||")
        known += [a for (a,) in self._db.execute("SELECT alias FROM artist_aliases WHERE artist_id = ?", (artist,))]
        return any(equal_fold(name, alias) for alias in known)

    def _artist_by_mbid(self, mbid: str | None) -> int | None:
        return None if mbid is None else self._one("SELECT id FROM artists WHERE musicbrainz_id = ?", mbid)

    def _artist_by_name(self, name: str) -> int | None:
        return self._one("SELECT artist_id FROM artist_aliases WHERE alias = ? ORDER BY rowid LIMIT 1", name)

    def _save_artist(self, name: str, mbid: str | None, image: str | None, aliases: list[str]) -> int:
        name = go_trim(name)
        if name == "":
            raise _RejectedError
        artist = self._insert("INSERT INTO artists (musicbrainz_id, image_source) VALUES (?, ?)", mbid, image or None)
        self._insert("INSERT INTO artist_aliases VALUES (?, ?, 'Canonical', 1)", artist, name)
        self._made.append(artist)
        for alias in aliases:
            if go_trim(alias) != "":
                self._insert(
                    "INSERT OR IGNORE INTO artist_aliases VALUES (?, ?, 'MusicBrainz', 0)", artist, go_trim(alias)
                )
        return artist

    def _associate_album(self, title: str, mbid: str | None, artists: list[int]) -> int:
        if mbid is not None:
            found = self._one("SELECT id FROM releases WHERE musicbrainz_id = ?", mbid)
            if found is not None:
                return found
        found = self._album_by_title(title, artists[0])
        if found is None:
            return self._save_album(title, mbid, artists, False, None, [])
        if mbid is not None and self._one("SELECT musicbrainz_id FROM releases WHERE id = ?", found) is None:
            self._db.execute("UPDATE releases SET musicbrainz_id = ? WHERE id = ?", (mbid, found))
        return found

    def _album_by_title(self, title: str, artist: int) -> int | None:
        return self._one(
            "SELECT r.id FROM releases_with_title r JOIN artist_releases ar ON r.id = ar.release_id "
            "JOIN release_aliases ra ON ra.release_id = r.id AND ra.is_primary = 1 "
            "WHERE r.title = ? AND ar.artist_id = ? ORDER BY ra.rowid LIMIT 1",
            title,
            artist,
        )

    def _save_album(
        self, title: str, mbid: str | None, artists: list[int], various: bool, image: str | None, aliases: list[str]
    ) -> int:
        release = self._insert(
            "INSERT INTO releases (musicbrainz_id, various_artists, image_source) VALUES (?, ?, ?)",
            mbid,
            int(various),
            image or None,
        )
        for n, artist in enumerate(artists):
            self._insert("INSERT OR IGNORE INTO artist_releases VALUES (?, ?, ?)", artist, release, int(n == 0))
        self._insert("INSERT INTO release_aliases VALUES (?, ?, 'Canonical', 1)", release, title)
        if aliases:
            for alias in [*aliases, title]:
                if go_trim(alias) != "":
                    self._insert(
                        "INSERT OR IGNORE INTO release_aliases VALUES (?, ?, 'MusicBrainz', 0)", release, go_trim(alias)
                    )
        return release

    def _associate_track(self, title: str, mbid: str | None, artists: list[int], release: int, duration: int) -> int:
        if mbid is not None:
            found = self._one("SELECT id FROM tracks WHERE musicbrainz_id = ?", mbid)
            if found is not None:
                return found
        found = self._track_by_info(title, release, artists)
        if found is None:
            return self._save_track(title, mbid, artists, release, duration)
        if mbid is not None and self._one("SELECT musicbrainz_id FROM tracks WHERE id = ?", found) is None:
            self._db.execute("UPDATE tracks SET musicbrainz_id = ? WHERE id = ?", (mbid, found))
        return found

    def _track_by_info(self, title: str, release: int, artists: list[int]) -> int | None:
        marks = ", ".join("?" * len(artists))
        return self._one(
            "SELECT t.id FROM tracks_with_title t JOIN artist_tracks a ON a.track_id = t.id "
            f"WHERE t.title = ? AND t.release_id = ? AND a.artist_id IN ({marks}) "
            "GROUP BY t.id HAVING count(DISTINCT a.artist_id) = ? ORDER BY t.id LIMIT 1",
            title,
            release,
            *artists,
            len(artists),
        )

    def _save_track(self, title: str, mbid: str | None, artists: list[int], release: int, duration: int) -> int:
        track = self._insert(
            "INSERT INTO tracks (musicbrainz_id, release_id, duration) VALUES (?, ?, ?)", mbid, release, duration
        )
        for n, artist in enumerate(artists):
            self._insert("INSERT OR IGNORE INTO artist_tracks VALUES (?, ?, ?)", artist, track, int(n == 0))
            self._insert("INSERT OR IGNORE INTO artist_releases VALUES (?, ?, 0)", artist, release)
        self._insert("INSERT INTO track_aliases VALUES (?, ?, 'Canonical', 1)", track, title)
        return track

    # Koito's own export

    def _export(self, row: Row) -> int:
        title = row["title"] or ""
        names = [go_trim(name) for name in row["artist_names"] or []]
        if not row["artist"] or go_trim(title) == "" or row["listened_at"] is None or not names or "" in names:
            raise _RejectedError
        artists: list[int] = []
        for n, name in enumerate(names):
            mbid = (row["artist_mbids"] or [])[n]
            found = self._artist_by_name(name) if mbid is None else self._artist_by_mbid(mbid)
            if found is None:
                found = self._save_artist(name, mbid, row["artist_images"][n], row["artist_aliases"][n] or [])
            if found not in artists:
                artists.append(found)
        mbid, album = row["release_mbid"], row["album"] or title
        if mbid is None:
            release = self._album_by_title(album, artists[0])
        else:
            release = self._one("SELECT id FROM releases WHERE musicbrainz_id = ?", mbid)
        if release is None:
            release = self._save_album(
                album, mbid, artists, bool(row["various_artists"]), row["album_image"], row["album_aliases"] or []
            )
        mbid = row["recording_mbid"]
        if mbid is None:
            track = self._track_by_info(title, release, artists)
        else:
            track = self._one("SELECT id FROM tracks WHERE musicbrainz_id = ?", mbid)
        if track is None:
            track = self._save_track(title, mbid, artists, release, row["duration"] or 0)
            for alias in [*(row["track_aliases"] or []), title]:
                if go_trim(alias) != "":
                    self._insert(
                        "INSERT OR IGNORE INTO track_aliases VALUES (?, ?, 'Import', 0)", track, go_trim(alias)
                    )
        return track

    def _one(self, sql: str, *values: Any) -> int | None:
        found = self._db.execute(sql, values).fetchone()
        return None if found is None else found[0]

    def _insert(self, sql: str, *values: Any) -> int:
        return int(self._db.execute(sql, values).lastrowid or 0)


def go_trim(text: str) -> str:
    chars = list(text)
    while chars and ord(chars[0]) in GO_SPACE:
        chars.pop(0)
    while chars and ord(chars[-1]) in GO_SPACE:
        chars.pop()
    return "".join(chars)


def equal_fold(one: str, other: str) -> bool:
    return len(one) == len(other) and all(map(_same_letter, one, other))


def _same_letter(one: str, other: str) -> bool:
    if one == other:
        return True
    if one in "İı" or other in "İı":
        return False
    upper = {c.upper() if len(c.upper()) == 1 else c for c in (one, other)}
    return len(upper) == 1 or len({c.lower() if len(c.lower()) == 1 else c for c in upper}) == 1


def parse(artist: str, title: str) -> list[str]:
    """The artists in an artist string and a title, with Koito's own separator."""
    names: list[str] = []
    for brackets in ("()", "[]"):
        inside, artist = cut_bracketed(artist, brackets)
        add_names(names, split_featured(inside))
    inside, artist = cut_trailing(artist)
    add_names(names, split_featured(inside))
    before = len(names)
    pieces = split_dots(artist)
    if pieces != [artist]:
        add_names(names, pieces)
    if len(names) == before:
        add_names(names, [artist])
    for brackets in ("()", "[]"):
        add_names(names, split_featured(cut_bracketed(title, brackets)[0]))
    add_names(names, split_featured(cut_trailing(title)[0]))
    return names


def add_names(names: list[str], pieces: list[str]) -> None:
    for piece in pieces:
        name = go_trim(piece)
        if name != "" and name not in names:
            names.append(name)


def lowered(text: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def cut_bracketed(text: str, brackets: str) -> tuple[str, str]:
    start = lowered(text).find(brackets[0] + "feat. ")
    if start < 0:
        return "", text
    end = text.find(brackets[1], start + 7)
    if end < 0:
        return "", text
    return text[start + 7 : end], text[:start] + text[end + 1 :]


def cut_trailing(text: str) -> tuple[str, str]:
    for start in range(len(text)):
        rest = text[start + 6 :]
        if lowered(text[start : start + 6]) == "feat. " and rest and not set(rest) & set("()[]"):
            return rest, text.replace(text[start:], "", 1)
    return "", text


def split_featured(text: str) -> list[str]:
    pieces = [""]
    at = 0
    while at < len(text):
        if text[at] in ",&·":
            pieces.append("")
            at += 1
        elif lowered(text[at : at + 3]) == "and":
            pieces.append("")
            at += 3
        else:
            pieces[-1] += text[at]
            at += 1
    return pieces


def split_dots(text: str) -> list[str]:
    """Split at a middle dot with at least one of the blanks of regular expressions on either side."""
    pieces = []
    start = at = 0
    while at < len(text):
        if (
            text[at] == "·"
            and at > start
            and text[at - 1] in REGEX_SPACE
            and text[at + 1 : at + 2] != ""
            and text[at + 1] in REGEX_SPACE
        ):
            pieces.append(text[start:at])
            at += 1
            while at < len(text) and text[at] in REGEX_SPACE:
                at += 1
            start = at
        else:
            at += 1
    return [*pieces, text[start:]]
