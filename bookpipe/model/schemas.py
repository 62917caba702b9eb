"""The declared shapes of everything that flows between layers.

One row of BOOK_FILES is one file of one book (a book with three formats is three rows; a book
without files is one row with a null path). Rows never leave the table: a row that cannot be
loaded keeps flowing with `reason` set, so that counts add up by construction.
"""

import pyarrow as pa

_BOOK = [
    # Where the row comes from. `origin` is stable for the collection ("calibre:<library uuid>"),
    # `item` for the book in it (Calibre's book id, a member's offset in a shard).
    pa.field("origin", pa.string(), nullable=False),
    pa.field("item", pa.int64(), nullable=False),
    pa.field("title", pa.string()),
    pa.field("authors", pa.list_(pa.string())),  # "First Last" or "Last, First", in the book's order
    pa.field("series", pa.string()),
    pa.field("series_index", pa.float64()),
    pa.field("languages", pa.list_(pa.string())),  # ISO 639-3, or whatever the source has
    pa.field("tags", pa.list_(pa.string())),
    pa.field("rating", pa.int16()),  # 1-10 half stars, null = none
    # The file. `path` is bytes (names need not be UTF-8): absolute, and inside the source. Empty for a member of a
    # shard, whose bytes come with the load.
    pa.field("path", pa.binary()),
    pa.field("file_name", pa.string()),  # base name for people, undecodable bytes replaced
    pa.field("given_format", pa.string()),  # lower case extension the source claims, without the dot
    pa.field("reason", pa.string()),  # null = still on its way
    pa.field("detail", pa.string()),
]

BOOK_FILES = pa.schema(_BOOK)

CALIBRE_BOOKS = pa.schema(
    [
        *_BOOK,
        pa.field("uuid", pa.string()),
        pa.field("title_sort", pa.string()),
        pa.field("author_sorts", pa.list_(pa.string())),  # one per author
        pa.field("publisher", pa.string()),
        pa.field("identifiers", pa.map_(pa.string(), pa.string())),
        pa.field("comments", pa.string()),  # raw HTML: clean before showing
        pa.field("pubdate", pa.timestamp("us", tz="UTC")),
        pa.field("added", pa.timestamp("us", tz="UTC")),
        pa.field("last_modified", pa.timestamp("us", tz="UTC")),
        pa.field("size_hint", pa.int64()),  # what metadata.db says; the file wins
        pa.field("cover_path", pa.binary()),  # absolute; null when the book has no cover
    ]
)

HASHED_FILES = pa.schema(
    [
        *_BOOK,
        pa.field("sha1", pa.string()),  # 40 lower-case hex
        pa.field("size", pa.int64()),  # bytes
        pa.field("format", pa.string()),  # extension by content, lower case; the given one when content is mute
    ]
)

# What a target already has of a batch. `kind` is the entity, `key` its lookup key as text.
KNOWN = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("id", pa.int64(), nullable=False),
    ]
)

# What the headers of a shard say, and how the shard ended: one row. A packed shard is not counted beforehand.
SHARD_INDEX = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("members", pa.int64()),
        pa.field("bytes", pa.int64()),
    ]
)
SHARD_LOADS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("inserted", pa.int64(), nullable=False),
        pa.field("existing", pa.int64(), nullable=False),
        pa.field("rejected", pa.int64(), nullable=False),
    ]
)

# How every row of a partition ended: outcome is inserted, existing or rejected.
OUTCOMES = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("item", pa.int64(), nullable=False),
        pa.field("file_name", pa.string()),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("ebook_id", pa.int64()),
        pa.field("source_id", pa.int64()),
        pa.field("location", pa.string()),
    ]
)

# How each record of a batch of listens ended.
LISTEN_OUTCOMES = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("listened_at", pa.int64()),
        pa.field("artist", pa.string()),
        pa.field("title", pa.string()),
    ]
)

# The ebooks that one partition's loads made, as far as they live.
LOADED_EBOOKS = pa.schema(
    [
        pa.field("ebook_id", pa.int64(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("item", pa.int64(), nullable=False),
        pa.field("has_cover", pa.bool_(), nullable=False),
    ]
)

# How each of them ended when covers were made.
COVER_OUTCOMES = pa.schema(
    [
        pa.field("ebook_id", pa.int64(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("item", pa.int64(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("base_dir", pa.string()),  # null where nothing had to be looked for
    ]
)
