-- The tables, functions and triggers of a MyBookshelf2 database, version 2.
-- Written for bookpipe from the observed behaviour of the application; names, types and keys are the application's.
--
-- Run by the application's role, in a database that has the extension unaccent and the text search
-- configuration "custom" (see mybookshelf2_database.py). Nothing but the ids has a default: the application's
-- ORM supplies version_id, created and modified, and so must everybody who writes plain SQL.

CREATE TYPE "BOOKSHELF_ITEM_TYPE" AS ENUM ('EBOOK', 'SERIES');
CREATE TYPE "CONVERSION_BATCH_ENTITY" AS ENUM ('SERIES', 'AUTHOR', 'EBOOK', 'SOURCE', 'BOOKSHELF');

-- People

CREATE TABLE "user" (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    user_name varchar(128) NOT NULL UNIQUE,
    email varchar(128) NOT NULL UNIQUE,
    password varchar(128) NOT NULL,
    active boolean,
    preferences json,
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_user_modified ON "user" (modified);

CREATE TABLE role (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    name varchar(64) NOT NULL,
    parent_id bigint REFERENCES role
);

CREATE TABLE user_roles (
    user_id bigint REFERENCES "user" ON DELETE CASCADE,
    role_id bigint REFERENCES role,
    PRIMARY KEY (user_id, role_id)
);
CREATE INDEX ix_user_roles_user_id ON user_roles (user_id);
CREATE INDEX ix_user_roles_role_id ON user_roles (role_id);

-- Code lists

CREATE TABLE format (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    mime_type varchar(128) NOT NULL,
    name varchar(64) NOT NULL,
    extension varchar(8) NOT NULL UNIQUE
);

CREATE TABLE language (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    code varchar(6) NOT NULL UNIQUE,
    name varchar(64) NOT NULL
);

CREATE TABLE genre (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    name varchar(64) NOT NULL UNIQUE
);

CREATE TABLE synonym (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    other_name varchar(512) NOT NULL,
    our_name varchar(512) NOT NULL,
    category varchar(3) NOT NULL
);

CREATE TABLE version (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    version integer NOT NULL
);

-- Books

CREATE TABLE author (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    last_name varchar(128) NOT NULL,
    first_name varchar(128),
    description text,
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_author_modified ON author (modified);

CREATE TABLE series (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    title varchar(256) NOT NULL,
    rating double precision,
    rating_count integer,
    description text,
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_series_modified ON series (modified);
CREATE INDEX ix_series_title ON series (title);

CREATE TABLE ebook (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    title varchar(256) NOT NULL,
    description text,
    language_id bigint NOT NULL REFERENCES language,
    series_id bigint REFERENCES series,
    series_index integer,
    rating double precision,
    rating_count integer,
    downloads integer,
    cover varchar(512),
    base_dir varchar(512) NOT NULL,
    full_text tsvector,
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_ebook_modified ON ebook (modified);
CREATE INDEX ix_ebook_title ON ebook (title);
CREATE INDEX ix_ebook_series_id ON ebook (series_id);
CREATE INDEX full_text_search_idx ON ebook USING gin (full_text);

CREATE TABLE ebook_authors (
    ebook_id bigint REFERENCES ebook ON DELETE CASCADE,
    author_id bigint REFERENCES author ON DELETE CASCADE,
    PRIMARY KEY (ebook_id, author_id)
);
CREATE INDEX ix_ebook_authors_ebook_id ON ebook_authors (ebook_id);
CREATE INDEX ix_ebook_authors_author_id ON ebook_authors (author_id);

CREATE TABLE ebook_genres (
    ebook_id bigint REFERENCES ebook ON DELETE CASCADE,
    genre_id bigint REFERENCES genre ON DELETE CASCADE,
    PRIMARY KEY (ebook_id, genre_id)
);
CREATE INDEX ix_ebook_genres_ebook_id ON ebook_genres (ebook_id);
CREATE INDEX ix_ebook_genres_genre_id ON ebook_genres (genre_id);

CREATE TABLE source (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    ebook_id bigint NOT NULL REFERENCES ebook ON DELETE CASCADE,
    location varchar(512) NOT NULL,
    load_source varchar(256),
    format_id bigint NOT NULL REFERENCES format,
    size integer NOT NULL,
    hash varchar(128) NOT NULL,
    quality double precision,
    quality_count integer,
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_source_modified ON source (modified);

CREATE TABLE upload (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    cover varchar(512),
    file varchar(512) NOT NULL,
    load_source varchar(256),
    format_id bigint NOT NULL REFERENCES format,
    size integer NOT NULL,
    hash varchar(128) NOT NULL,
    meta json,
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_upload_modified ON upload (modified);

-- Shelves, votes and conversions: made by people in the application. Their keys block deletes of what they name.

CREATE TABLE bookshelf (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    name varchar(256) NOT NULL,
    description text,
    public boolean,
    rating double precision,
    rating_count integer,
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_bookshelf_modified ON bookshelf (modified);
CREATE INDEX ix_bookshelf_name ON bookshelf (name);

CREATE TABLE bookshelf_item (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    type "BOOKSHELF_ITEM_TYPE" NOT NULL,
    bookshelf_id bigint NOT NULL REFERENCES bookshelf,
    ebook_id bigint REFERENCES ebook,
    series_id bigint REFERENCES series,
    "order" integer,
    note text,
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_bookshelf_item_modified ON bookshelf_item (modified);

CREATE TABLE bookshelf_rating (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    bookshelf_id bigint NOT NULL REFERENCES bookshelf,
    rating double precision,
    description text,
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_bookshelf_rating_modified ON bookshelf_rating (modified);

CREATE TABLE ebook_rating (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    ebook_id bigint NOT NULL REFERENCES ebook,
    rating double precision,
    description text,
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_ebook_rating_modified ON ebook_rating (modified);

CREATE TABLE series_rating (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    series_id bigint NOT NULL REFERENCES series,
    rating double precision,
    description text,
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_series_rating_modified ON series_rating (modified);

CREATE TABLE source_quality (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    source_id bigint NOT NULL REFERENCES source,
    quality double precision,
    description text,
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_source_quality_modified ON source_quality (modified);

CREATE TABLE conversion_batch (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    name varchar(100) NOT NULL,
    for_entity "CONVERSION_BATCH_ENTITY",
    entity_id bigint,
    format_id bigint NOT NULL REFERENCES format,
    zip_location varchar(512),
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_conversion_batch_modified ON conversion_batch (modified);

CREATE TABLE conversion (
    id bigserial PRIMARY KEY,
    version_id integer NOT NULL,
    batch_id bigint REFERENCES conversion_batch,
    source_id bigint NOT NULL REFERENCES source,
    location varchar(512) NOT NULL,
    format_id bigint NOT NULL REFERENCES format,
    created timestamp without time zone NOT NULL,
    modified timestamp without time zone NOT NULL,
    created_by_id bigint REFERENCES "user",
    modified_by_id bigint REFERENCES "user"
);
CREATE INDEX ix_conversion_modified ON conversion (modified);

-- Roles of a user: those granted and every ancestor of theirs (an admin is also a superuser, ... and a guest)

CREATE FUNCTION user_roles(user_id bigint) RETURNS TABLE (role varchar) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE held (id, name, parent_id) AS (
        SELECT granted.id, granted.name, granted.parent_id
        FROM user_roles link
        JOIN role granted ON granted.id = link.role_id
        WHERE link.user_id = $1
        UNION
        SELECT ancestor.id, ancestor.name, ancestor.parent_id
        FROM held
        JOIN role ancestor ON ancestor.id = held.parent_id
    )
    SELECT held.name FROM held
$$;

-- 1 when the user holds any of the roles, else NULL.
CREATE FUNCTION user_has_roles(user_id bigint, roles varchar[]) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT 1 FROM user_roles($1) held WHERE held.role = ANY ($2) LIMIT 1
$$;

-- Full text: "First Last, First Last: Title (Series 3)"
-- Table names stay unqualified as in the application: these functions need "public" on the search_path.

CREATE FUNCTION ebook_full_title(ebook_id bigint) RETURNS varchar(2048) LANGUAGE sql STABLE AS $$
    SELECT coalesce(
               (SELECT string_agg(concat_ws(' ', a.first_name, a.last_name), ', ' ORDER BY a.id)
                FROM ebook_authors link
                JOIN author a ON a.id = link.author_id
                WHERE link.ebook_id = e.id),
               '')
           || ': ' || e.title
           || coalesce(' (' || s.title || ' ' || coalesce(e.series_index, 0) || ')', '')
    FROM ebook e
    LEFT JOIN series s ON s.id = e.series_id
    WHERE e.id = $1
$$;

CREATE FUNCTION update_ebook_full_text() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'refreshing the full text of ebook %', NEW.id;
    UPDATE ebook SET full_text = to_tsvector('custom', ebook_full_title(NEW.id)) WHERE id = NEW.id;
    RETURN NULL;
END
$$;

CREATE FUNCTION update_ebook_full_text2() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE ebook SET full_text = to_tsvector('custom', ebook_full_title(id)) WHERE id = OLD.ebook_id;
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND NEW.ebook_id <> OLD.ebook_id) THEN
        UPDATE ebook SET full_text = to_tsvector('custom', ebook_full_title(id)) WHERE id = NEW.ebook_id;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION update_ebook_full_text3() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ebook SET full_text = to_tsvector('custom', ebook_full_title(id)) WHERE series_id = NEW.id;
    RETURN NULL;
END
$$;

CREATE FUNCTION update_ebook_full_text4() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ebook SET full_text = to_tsvector('custom', ebook_full_title(id))
    WHERE id IN (SELECT ebook_id FROM ebook_authors WHERE author_id = NEW.id);
    RETURN NULL;
END
$$;

CREATE TRIGGER ebook_ts_insert AFTER INSERT ON ebook
    FOR EACH ROW EXECUTE FUNCTION update_ebook_full_text();

-- A change of series_index alone does not refresh the text: so it is in the application.
CREATE TRIGGER ebook_ts_update AFTER UPDATE ON ebook
    FOR EACH ROW WHEN (OLD.title IS DISTINCT FROM NEW.title OR OLD.series_id IS DISTINCT FROM NEW.series_id)
    EXECUTE FUNCTION update_ebook_full_text();

CREATE TRIGGER ebook_ts_update AFTER INSERT OR UPDATE OR DELETE ON ebook_authors
    FOR EACH ROW EXECUTE FUNCTION update_ebook_full_text2();

CREATE TRIGGER ebook_ts_update AFTER UPDATE ON series
    FOR EACH ROW EXECUTE FUNCTION update_ebook_full_text3();

CREATE TRIGGER ebook_ts_update AFTER UPDATE ON author
    FOR EACH ROW EXECUTE FUNCTION update_ebook_full_text4();
