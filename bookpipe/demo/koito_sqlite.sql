-- The tables of Koito 0.2, schema version 2 (SQLite), with the user that its first start makes.
-- Written for bookpipe from the observed behaviour of the application; names, types and keys are the application's.

CREATE TABLE goose_db_version (
    id integer PRIMARY KEY AUTOINCREMENT,
    version_id integer NOT NULL,
    is_applied integer NOT NULL,
    tstamp timestamp DEFAULT (datetime('now'))
);
INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, 1), (1, 1), (2, 1);

-- People

CREATE TABLE users (
    id integer PRIMARY KEY,
    username text NOT NULL UNIQUE,
    role text NOT NULL DEFAULT 'user' CHECK (role IN ('admin', 'user')),
    password blob NOT NULL
);

CREATE TABLE api_keys (
    id integer PRIMARY KEY,
    key text NOT NULL UNIQUE,
    user_id integer NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at integer NOT NULL,
    label text NOT NULL DEFAULT ''
);

CREATE TABLE sessions (
    id text PRIMARY KEY,
    user_id integer NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at integer NOT NULL,
    expires_at integer NOT NULL,
    persistent integer NOT NULL DEFAULT 0
);
CREATE INDEX idx_sessions_expires_at ON sessions (expires_at);

-- Music

CREATE TABLE artists (
    id integer PRIMARY KEY,
    musicbrainz_id text UNIQUE,
    image text,
    image_source text
);

CREATE TABLE releases (
    id integer PRIMARY KEY,
    musicbrainz_id text UNIQUE,
    image text,
    image_source text,
    various_artists integer NOT NULL DEFAULT 0
);

CREATE TABLE tracks (
    id integer PRIMARY KEY,
    musicbrainz_id text UNIQUE,
    release_id integer NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
    duration integer NOT NULL DEFAULT 0
);
CREATE INDEX idx_tracks_release_id ON tracks (release_id);

CREATE TABLE artist_aliases (
    artist_id integer NOT NULL REFERENCES artists (id) ON DELETE CASCADE,
    alias text NOT NULL,
    source text NOT NULL,
    is_primary integer NOT NULL DEFAULT 0,
    PRIMARY KEY (artist_id, alias)
);
CREATE INDEX idx_artist_aliases_artist_id ON artist_aliases (artist_id);
CREATE INDEX idx_artist_aliases_alias ON artist_aliases (alias);

CREATE TABLE release_aliases (
    release_id integer NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
    alias text NOT NULL,
    source text NOT NULL,
    is_primary integer NOT NULL DEFAULT 0,
    PRIMARY KEY (release_id, alias)
);
CREATE INDEX idx_release_aliases_alias ON release_aliases (alias);

CREATE TABLE track_aliases (
    track_id integer NOT NULL REFERENCES tracks (id) ON DELETE CASCADE,
    alias text NOT NULL,
    source text NOT NULL,
    is_primary integer NOT NULL DEFAULT 0,
    PRIMARY KEY (track_id, alias)
);
CREATE INDEX idx_track_aliases_alias ON track_aliases (alias);

CREATE TABLE artist_releases (
    artist_id integer NOT NULL REFERENCES artists (id) ON DELETE CASCADE,
    release_id integer NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
    is_primary integer NOT NULL DEFAULT 0,
    PRIMARY KEY (artist_id, release_id)
);
CREATE INDEX idx_artist_releases_release_id ON artist_releases (release_id);

CREATE TABLE artist_tracks (
    artist_id integer NOT NULL REFERENCES artists (id) ON DELETE CASCADE,
    track_id integer NOT NULL REFERENCES tracks (id) ON DELETE CASCADE,
    is_primary integer NOT NULL DEFAULT 0,
    PRIMARY KEY (artist_id, track_id)
);
CREATE INDEX idx_artist_tracks_track_id ON artist_tracks (track_id);
CREATE INDEX idx_artist_tracks_artist_id ON artist_tracks (artist_id);

CREATE TABLE listens (
    track_id integer NOT NULL REFERENCES tracks (id) ON DELETE CASCADE,
    listened_at integer NOT NULL, -- seconds since 1970
    user_id integer NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client text NOT NULL DEFAULT '',
    PRIMARY KEY (track_id, listened_at)
);
CREATE INDEX idx_listens_listened_at ON listens (listened_at);
CREATE INDEX idx_listens_track_id ON listens (track_id);
CREATE INDEX idx_listens_track_id_listened_at ON listens (track_id, listened_at);
CREATE INDEX idx_listens_user_id ON listens (user_id);

CREATE VIEW artists_with_name AS
SELECT a.*, n.alias AS name FROM artists a JOIN artist_aliases n ON n.artist_id = a.id WHERE n.is_primary = 1;

CREATE VIEW releases_with_title AS
SELECT r.*, n.alias AS title FROM releases r JOIN release_aliases n ON n.release_id = r.id WHERE n.is_primary = 1;

CREATE VIEW tracks_with_title AS
SELECT t.*, n.alias AS title FROM tracks t JOIN track_aliases n ON n.track_id = t.id WHERE n.is_primary = 1;

-- A release lives as long as one artist has it.
CREATE TRIGGER trg_delete_orphan_releases AFTER DELETE ON artist_releases
BEGIN
    DELETE FROM releases
    WHERE id = old.release_id AND id NOT IN (SELECT release_id FROM artist_releases WHERE release_id = old.release_id);
END;

-- The password is "changeme", the application's own default.
INSERT INTO users (id, username, role, password)
VALUES (1, 'admin', 'admin', CAST('$2b$10$bookpipeDemoSandboxSaewO5V21JOYM9lo2UaB5KDShtg5FJ8WaS' AS blob));
