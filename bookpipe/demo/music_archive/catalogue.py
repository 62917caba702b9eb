"""The archive's tables, in SQLite: songs, their artists, albums and genres, and the blobs that hold their bytes.

Rules of the archive: `title` is NOT NULL; artists and genres are found by exact name, albums by title alone and without
a unique index; nothing is unique about a song, and a blob may belong to any number of songs.
"""

import sqlite3
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

SongIds = Literal["uuid", "integer"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS blobs (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, filename TEXT NOT NULL, content_type TEXT,
    byte_size INTEGER NOT NULL, checksum TEXT NOT NULL,
    identified INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS artists (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS genres (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS albums (id INTEGER PRIMARY KEY, title TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS albums_title ON albums (title);
CREATE TABLE IF NOT EXISTS songs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL,
    artist_id INTEGER REFERENCES artists (id), album_id INTEGER REFERENCES albums (id),
    genre_id INTEGER REFERENCES genres (id),
    track_number INTEGER, duration INTEGER, file_format TEXT, file_size INTEGER,
    original_filename TEXT, processing_status TEXT NOT NULL, processing_error TEXT,
    blob_id INTEGER NOT NULL REFERENCES blobs (id), created_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS songs_created_at ON songs (created_at);
"""

_SONG_ROWS = """
SELECT songs.*, artists.name AS artist, albums.title AS album, genres.name AS genre,
       blobs.key AS blob_key, blobs.checksum, blobs.byte_size, blobs.content_type
FROM songs JOIN blobs ON blobs.id = blob_id LEFT JOIN artists ON artists.id = artist_id
     LEFT JOIN albums ON albums.id = album_id LEFT JOIN genres ON genres.id = genre_id
"""
SORT_COLUMNS = ("created_at", "title", "duration", "track_number", "processing_status")
_SEARCHED = ("songs.title", "artists.name", "albums.title", "genres.name")
_SEARCH_WORDS = 10


@dataclass(frozen=True)
class Blob:
    """A row of `blobs`; `checksum` is whatever was reserved, base64 of an MD5 when all is well."""

    id: int
    key: str
    filename: str
    content_type: str | None
    byte_size: int
    checksum: str
    identified: bool
    created_at: float


class Catalogue:
    """The tables of one archive. Safe to use from several threads."""

    def __init__(self, path: Path, song_ids: SongIds) -> None:
        self._lock = threading.RLock()
        self._song_ids = song_ids
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        # A killed process loses nothing by this, only a power cut would.
        self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;" + _SCHEMA)
        # SQLite's own LIKE knows the cases of ASCII only, PostgreSQL's ILIKE those of all letters.
        self._database.create_function("folded", 1, lambda text: text and text.lower(), deterministic=True)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def add_blob(self, filename: str, content_type: str | None, byte_size: int, checksum: str, now: float) -> Blob:
        """A new blob with a random key, whose bytes may still be missing."""
        key = uuid.uuid4().hex[:28]
        with self._lock:
            cursor = self._database.execute(
                "INSERT INTO blobs (key, filename, content_type, byte_size, checksum, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (key, filename, content_type, byte_size, checksum, now),
            )
            return Blob(cursor.lastrowid or 0, key, filename, content_type, byte_size, checksum, False, now)

    def blob(self, blob_id: int) -> Blob | None:
        with self._lock:
            row = self._database.execute("SELECT * FROM blobs WHERE id = ?", (blob_id,)).fetchone()
        return None if row is None else Blob(**{**dict(row), "identified": bool(row["identified"])})

    def add_song(
        self,
        blob: Blob,
        content_type: str,
        values: Mapping[str, Any],
        *,
        artist: str | None,
        album: str | None,
        genre: str | None,
        now: float,
    ) -> str:
        """A new song on `blob`, whatever is there already; its id. `values` are columns of `songs`."""
        song_id = str(uuid.uuid4())
        with self._lock, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            row = {
                **values,
                "id": song_id,
                "artist_id": self._find_or_add("artists", "name", artist),
                "album_id": self._find_or_add("albums", "title", album),
                "genre_id": self._find_or_add("genres", "name", genre),
                "blob_id": blob.id,
                "created_at": now,
            }
            marks = ", ".join("?" * len(row))
            cursor = self._database.execute(
                f"INSERT INTO songs ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
            )
            if self._song_ids == "integer":
                song_id = str(cursor.lastrowid)
                self._database.execute("UPDATE songs SET id = ? WHERE number = ?", (song_id, cursor.lastrowid))
            self._database.execute(
                "UPDATE blobs SET content_type = ?, identified = 1 WHERE id = ?", (content_type, blob.id)
            )
        return song_id

    def _find_or_add(self, table: str, column: str, name: str | None) -> int | None:
        if not name:
            return None
        row = self._database.execute(f"SELECT id FROM {table} WHERE {column} = ? LIMIT 1", (name,)).fetchone()
        if row is not None:
            return int(row["id"])
        return self._database.execute(f"INSERT INTO {table} ({column}) VALUES (?)", (name,)).lastrowid

    def song(self, song_id: str) -> dict[str, Any] | None:
        """A song with the names of its artist, album and genre and its blob's key, checksum and size."""
        with self._lock:
            row = self._database.execute(f"{_SONG_ROWS} WHERE songs.id = ?", (song_id,)).fetchone()
        return None if row is None else dict(row)

    def songs(
        self,
        *,
        search: str = "",
        sort_by: str = "created_at",
        descending: bool = True,
        limit: int = -1,
        offset: int = 0,
    ) -> tuple[list[dict[str, Any]], int]:
        """One page of the songs in which every word occurs somewhere, and how many there are in all.

        The words are patterns, as the archive does not escape % and _. Equal sort keys are in no order.
        """
        words = [f"%{word.lower()}%" for word in search.split()[:_SEARCH_WORDS]]
        anywhere = " OR ".join(f"folded({column}) LIKE ? ESCAPE '\\'" for column in _SEARCHED)
        where = " AND ".join(f"({anywhere})" for _ in words) or "1"
        parameters = [word for word in words for _ in _SEARCHED]
        order = f"songs.{sort_by if sort_by in SORT_COLUMNS else 'created_at'} {'DESC' if descending else 'ASC'}"
        with self._lock:
            rows = self._database.execute(
                f"{_SONG_ROWS} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?", (*parameters, limit, offset)
            ).fetchall()
            counted = self._database.execute(
                f"SELECT count(*) FROM ({_SONG_ROWS} WHERE {where})", parameters
            ).fetchone()
        return [dict(row) for row in rows], int(counted[0])

    def unattached_blobs(self) -> list[str]:
        """Keys of the blobs that no song uses."""
        with self._lock:
            rows = self._database.execute(
                "SELECT key FROM blobs WHERE id NOT IN (SELECT blob_id FROM songs) ORDER BY id"
            ).fetchall()
        return [row["key"] for row in rows]
