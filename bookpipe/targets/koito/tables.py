"""The tables of Koito that a loader touches, and whether a database has them in the version that bookpipe knows."""

from bookpipe.model.errors import ConfigError
from bookpipe.targets.koito.database import Database

VERSION_TABLE = "goose_db_version"

# Columns a load reads or writes, beside the version table's.
COLUMNS = {
    "artists": ("id", "musicbrainz_id", "image", "image_source"),
    "artist_aliases": ("artist_id", "alias", "source", "is_primary"),
    "releases": ("id", "musicbrainz_id", "image", "image_source", "various_artists"),
    "release_aliases": ("release_id", "alias", "source", "is_primary"),
    "artist_releases": ("artist_id", "release_id", "is_primary"),
    "tracks": ("id", "musicbrainz_id", "release_id", "duration"),
    "track_aliases": ("track_id", "alias", "source", "is_primary"),
    "artist_tracks": ("artist_id", "track_id", "is_primary"),
    "listens": ("track_id", "listened_at", "user_id", "client"),
    "users": ("id", "username"),
}

_TOO_OLD = {
    "sqlite": "Start Koito 0.2 or later on it once, after a backup: the next start of Koito would rebuild its tables, "
    "and empty them of what was loaded before.",
    "postgresql": "Start the last Koito 0.1 on it once, so that it brings its tables up to date.",
}
_TOO_NEW = "It was made by a newer Koito: use a bookpipe made for that version."


def check_schema(database: Database) -> None:
    """Raise ConfigError unless this is a Koito database of the version bookpipe knows. Indexes are not required."""
    if not database.has_table(_public(database, VERSION_TABLE)):
        raise ConfigError(
            f"The database has no table {VERSION_TABLE}: it is not Koito's, or Koito never started on it. Check "
            "BOOKPIPE_KOITO_URL, and start Koito once on a new database."
        )
    version = schema_version(database)
    if version != database.version:
        raise ConfigError(
            f"The database has Koito's schema version {version}, bookpipe writes version {database.version} of "
            f"{database.flavour}. {_TOO_OLD[database.flavour] if version < database.version else _TOO_NEW}"
        )
    for table, columns in COLUMNS.items():
        if not database.has_table(_public(database, table)):
            raise ConfigError(f"The database has no table {table} that bookpipe can see. Is it Koito's?")
        if missing := [column for column in columns if column not in database.columns(table)]:
            raise ConfigError(f"Koito's table {table} lacks the columns {', '.join(missing)}. Is it Koito's own?")


def schema_version(database: Database) -> int:
    """The highest version whose migration was applied; 0 when there is none."""
    ((version,),) = database.run(f"SELECT max(version_id) FROM {VERSION_TABLE} WHERE is_applied")
    return int(version or 0)


def check_user(database: Database, user_id: int) -> str:
    """The name of the user whose listens these are; ConfigError when there is no such user."""
    users = {user: str(name) for user, name in database.run("SELECT id, username FROM users ORDER BY id")}
    if user_id not in users:
        known = ", ".join(f"{user} ({name})" for user, name in list(users.items())[:10])
        raise ConfigError(
            f"Koito has no user with the id {user_id}. "
            + (f"Set BOOKPIPE_KOITO_USER_ID to one of {known}." if known else "Start Koito once: it makes the first.")
        )
    return users[user_id]


def _public(database: Database, table: str) -> str:
    return table if database.flavour == "sqlite" else f"public.{table}"
