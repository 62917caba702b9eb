-- A Calibre library database as Calibre 6.13 has it (user_version 25), written by us: what a reader
-- of metadata.db can rely on, and what surprises it (views and triggers that call functions which
-- only Calibre registers, names that compare without ASCII case, an unordered author link).
-- Left out: full-text search of annotations, the tag browser views, most link guards.

-- Books, and what is kept per book -------------------------------------------------------------

CREATE TABLE books (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used twice
    title         TEXT NOT NULL DEFAULT 'Unknown' COLLATE NOCASE,
    sort          TEXT COLLATE NOCASE,
    timestamp     TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    pubdate       TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    series_index  REAL NOT NULL DEFAULT 1.0,
    author_sort   TEXT COLLATE NOCASE,
    isbn          TEXT DEFAULT '' COLLATE NOCASE,      -- isbn, lccn and flags are gone from version 27 on
    lccn          TEXT DEFAULT '' COLLATE NOCASE,
    path          TEXT NOT NULL DEFAULT '',
    flags         INTEGER NOT NULL DEFAULT 1,
    uuid          TEXT,
    has_cover     BOOL DEFAULT 0,
    last_modified TIMESTAMP NOT NULL DEFAULT '2000-01-01 00:00:00+00:00'
);
CREATE TABLE data (
    id                INTEGER PRIMARY KEY,
    book              INTEGER NOT NULL,
    format            TEXT NOT NULL COLLATE NOCASE,
    uncompressed_size INTEGER NOT NULL,
    name              TEXT NOT NULL,
    UNIQUE (book, format)
);
CREATE TABLE comments (
    id   INTEGER PRIMARY KEY,
    book INTEGER NOT NULL,
    text TEXT NOT NULL COLLATE NOCASE,
    UNIQUE (book)
);
CREATE TABLE identifiers (
    id   INTEGER PRIMARY KEY,
    book INTEGER NOT NULL,
    type TEXT NOT NULL DEFAULT 'isbn' COLLATE NOCASE,
    val  TEXT NOT NULL COLLATE NOCASE,
    UNIQUE (book, type)
);

-- Names that books share -----------------------------------------------------------------------

CREATE TABLE authors (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL COLLATE NOCASE,                 -- a comma inside a name is stored as a bar
    sort TEXT COLLATE NOCASE,
    link TEXT NOT NULL DEFAULT '',
    UNIQUE (name)
);
CREATE TABLE series (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL COLLATE NOCASE,
    sort TEXT COLLATE NOCASE,
    UNIQUE (name)
);
CREATE TABLE tags (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL COLLATE NOCASE,
    UNIQUE (name)
);
CREATE TABLE publishers (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL COLLATE NOCASE,
    sort TEXT COLLATE NOCASE,
    UNIQUE (name)
);
CREATE TABLE languages (
    id        INTEGER PRIMARY KEY,
    lang_code TEXT NOT NULL COLLATE NOCASE,            -- ISO 639-3
    UNIQUE (lang_code)
);
CREATE TABLE ratings (
    id     INTEGER PRIMARY KEY,
    rating INTEGER CHECK (rating BETWEEN 0 AND 10),    -- half stars
    UNIQUE (rating)
);

-- Which book has which name --------------------------------------------------------------------

CREATE TABLE books_authors_link (
    id     INTEGER PRIMARY KEY,                        -- the order of the authors
    book   INTEGER NOT NULL,
    author INTEGER NOT NULL,
    UNIQUE (book, author)
);
CREATE TABLE books_series_link (
    id     INTEGER PRIMARY KEY,
    book   INTEGER NOT NULL,
    series INTEGER NOT NULL,
    UNIQUE (book)
);
CREATE TABLE books_tags_link (
    id   INTEGER PRIMARY KEY,
    book INTEGER NOT NULL,
    tag  INTEGER NOT NULL,
    UNIQUE (book, tag)
);
CREATE TABLE books_publishers_link (
    id        INTEGER PRIMARY KEY,
    book      INTEGER NOT NULL,
    publisher INTEGER NOT NULL,
    UNIQUE (book)
);
CREATE TABLE books_languages_link (
    id         INTEGER PRIMARY KEY,
    book       INTEGER NOT NULL,
    lang_code  INTEGER NOT NULL,                       -- languages.id in spite of its name
    item_order INTEGER NOT NULL DEFAULT 0,
    UNIQUE (book, lang_code)
);
CREATE TABLE books_ratings_link (
    id     INTEGER PRIMARY KEY,
    book   INTEGER NOT NULL,
    rating INTEGER NOT NULL,                           -- ratings.id, not the value
    UNIQUE (book, rating)
);

-- Calibre's own bookkeeping --------------------------------------------------------------------

CREATE TABLE library_id (
    id   INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL,
    UNIQUE (uuid)
);
CREATE TABLE preferences (
    id  INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    val TEXT NOT NULL,
    UNIQUE (key)
);
CREATE TABLE custom_columns (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    label           TEXT NOT NULL,
    name            TEXT NOT NULL,
    datatype        TEXT NOT NULL,
    mark_for_delete BOOL DEFAULT 0 NOT NULL,
    editable        BOOL DEFAULT 1 NOT NULL,
    display         TEXT DEFAULT '{}' NOT NULL,
    is_multiple     BOOL DEFAULT 0 NOT NULL,
    normalized      BOOL NOT NULL,
    UNIQUE (label)
);
CREATE TABLE conversion_options (
    id     INTEGER PRIMARY KEY,
    format TEXT NOT NULL COLLATE NOCASE,
    book   INTEGER,
    data   BLOB NOT NULL,
    UNIQUE (format, book)
);
CREATE TABLE books_plugin_data (
    id   INTEGER PRIMARY KEY,
    book INTEGER NOT NULL,
    name TEXT NOT NULL,
    val  TEXT NOT NULL,
    UNIQUE (book, name)
);
CREATE TABLE last_read_positions (
    id       INTEGER PRIMARY KEY,
    book     INTEGER NOT NULL,
    format   TEXT NOT NULL COLLATE NOCASE,
    user     TEXT NOT NULL,
    device   TEXT NOT NULL,
    cfi      TEXT NOT NULL,
    epoch    REAL NOT NULL,
    pos_frac REAL NOT NULL DEFAULT 0,
    UNIQUE (user, device, book, format)
);
CREATE TABLE annotations (
    id              INTEGER PRIMARY KEY,
    book            INTEGER NOT NULL,
    format          TEXT NOT NULL COLLATE NOCASE,
    user_type       TEXT NOT NULL,
    user            TEXT NOT NULL,
    timestamp       REAL NOT NULL,
    annot_id        TEXT NOT NULL,
    annot_type      TEXT NOT NULL,
    annot_data      TEXT NOT NULL,
    searchable_text TEXT NOT NULL DEFAULT '',
    UNIQUE (book, user_type, user, format, annot_type, annot_id)
);
CREATE TABLE annotations_dirtied (
    id   INTEGER PRIMARY KEY,
    book INTEGER NOT NULL,
    UNIQUE (book)
);
CREATE TABLE metadata_dirtied (                        -- books whose metadata.opf is yet to be written
    id   INTEGER PRIMARY KEY,
    book INTEGER NOT NULL,
    UNIQUE (book)
);
CREATE TABLE feeds (
    id     INTEGER PRIMARY KEY,
    title  TEXT NOT NULL,
    script TEXT NOT NULL,
    UNIQUE (title)
);

-- Indexes: every link from the book's side (b) and from the name's side (a) ----------------------

CREATE INDEX books_idx ON books (sort COLLATE NOCASE);
CREATE INDEX authors_idx ON books (author_sort COLLATE NOCASE);
CREATE INDEX series_sort_idx ON books (series_index, id);
CREATE INDEX data_idx ON data (book);
CREATE INDEX formats_idx ON data (format);
CREATE INDEX comments_idx ON comments (book);
CREATE INDEX books_authors_link_aidx ON books_authors_link (author);
CREATE INDEX books_authors_link_bidx ON books_authors_link (book);
CREATE INDEX books_series_link_aidx ON books_series_link (series);
CREATE INDEX books_series_link_bidx ON books_series_link (book);
CREATE INDEX books_tags_link_aidx ON books_tags_link (tag);
CREATE INDEX books_tags_link_bidx ON books_tags_link (book);
CREATE INDEX books_publishers_link_aidx ON books_publishers_link (publisher);
CREATE INDEX books_publishers_link_bidx ON books_publishers_link (book);
CREATE INDEX books_languages_link_aidx ON books_languages_link (lang_code);
CREATE INDEX books_languages_link_bidx ON books_languages_link (book);
CREATE INDEX books_ratings_link_aidx ON books_ratings_link (rating);
CREATE INDEX books_ratings_link_bidx ON books_ratings_link (book);
CREATE INDEX series_idx ON series (name COLLATE NOCASE);
CREATE INDEX tags_idx ON tags (name COLLATE NOCASE);
CREATE INDEX publishers_idx ON publishers (name COLLATE NOCASE);
CREATE INDEX languages_idx ON languages (lang_code COLLATE NOCASE);
CREATE INDEX custom_columns_idx ON custom_columns (label);
CREATE INDEX conversion_options_idx_a ON conversion_options (format COLLATE NOCASE);
CREATE INDEX conversion_options_idx_b ON conversion_options (book);
CREATE INDEX lrp_idx ON last_read_positions (book);
CREATE INDEX annot_idx ON annotations (book);

-- Whatever calls title_sort, uuid4, concat or sortconcat fails outside Calibre --------------------

CREATE VIEW meta AS
SELECT
    books.id,
    books.title,
    (SELECT sortconcat(link.id, authors.name)
     FROM books_authors_link AS link JOIN authors ON authors.id = link.author
     WHERE link.book = books.id) AS authors,
    (SELECT publishers.name
     FROM books_publishers_link AS link JOIN publishers ON publishers.id = link.publisher
     WHERE link.book = books.id) AS publisher,
    (SELECT ratings.rating
     FROM books_ratings_link AS link JOIN ratings ON ratings.id = link.rating
     WHERE link.book = books.id) AS rating,
    books.timestamp,
    (SELECT max(uncompressed_size) FROM data WHERE data.book = books.id) AS size,
    (SELECT concat(tags.name)
     FROM books_tags_link AS link JOIN tags ON tags.id = link.tag
     WHERE link.book = books.id) AS tags,
    (SELECT comments.text FROM comments WHERE comments.book = books.id) AS comments,
    (SELECT series.name
     FROM books_series_link AS link JOIN series ON series.id = link.series
     WHERE link.book = books.id) AS series,
    books.series_index,
    books.sort,
    books.author_sort,
    (SELECT concat(data.format) FROM data WHERE data.book = books.id) AS formats,
    books.isbn,
    books.path,
    books.lccn,
    books.pubdate,
    books.flags,
    books.uuid
FROM books;

CREATE TRIGGER books_insert_trg AFTER INSERT ON books
BEGIN
    UPDATE books SET sort = title_sort(NEW.title), uuid = uuid4() WHERE id = NEW.id;
END;
CREATE TRIGGER books_update_trg AFTER UPDATE ON books
BEGIN
    UPDATE books SET sort = title_sort(NEW.title) WHERE id = NEW.id AND OLD.title <> NEW.title;
END;
CREATE TRIGGER series_insert_trg AFTER INSERT ON series
BEGIN
    UPDATE series SET sort = title_sort(NEW.name) WHERE id = NEW.id;
END;
CREATE TRIGGER series_update_trg AFTER UPDATE ON series
BEGIN
    UPDATE series SET sort = title_sort(NEW.name) WHERE id = NEW.id AND OLD.name <> NEW.name;
END;

-- Deleting a book needs no such function: it works from any program, and takes the rows along -----

CREATE TRIGGER books_delete_trg AFTER DELETE ON books
BEGIN
    DELETE FROM books_authors_link WHERE book = OLD.id;
    DELETE FROM books_series_link WHERE book = OLD.id;
    DELETE FROM books_tags_link WHERE book = OLD.id;
    DELETE FROM books_publishers_link WHERE book = OLD.id;
    DELETE FROM books_languages_link WHERE book = OLD.id;
    DELETE FROM books_ratings_link WHERE book = OLD.id;
    DELETE FROM data WHERE book = OLD.id;
    DELETE FROM comments WHERE book = OLD.id;
    DELETE FROM identifiers WHERE book = OLD.id;
    DELETE FROM conversion_options WHERE book = OLD.id;
    DELETE FROM books_plugin_data WHERE book = OLD.id;
    DELETE FROM last_read_positions WHERE book = OLD.id;
    DELETE FROM annotations WHERE book = OLD.id;
END;
CREATE TRIGGER fkc_delete_on_authors BEFORE DELETE ON authors
WHEN EXISTS (SELECT 1 FROM books_authors_link WHERE author = OLD.id)
BEGIN
    SELECT raise(ABORT, 'the author still has books');
END;
CREATE TRIGGER fkc_delete_on_series BEFORE DELETE ON series
WHEN EXISTS (SELECT 1 FROM books_series_link WHERE series = OLD.id)
BEGIN
    SELECT raise(ABORT, 'the series still has books');
END;

PRAGMA user_version = 25;
