"""Every BOOKPIPE_* setting: its name, default and meaning. The only reader of the environment.

`.env.example` and the README's table are written from SETTINGS; a test holds them to it. Dagster reads a
`.env` in the working directory, and what stands there wins over the shell.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bookpipe.model.errors import ConfigError
from bookpipe.model.secrets import Secret, redact


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable: `field` of Settings, how it is read, and what the user is told."""

    name: str
    field: str
    default: str
    parse: Callable[[str, str], Any]
    help: str
    example: str = ""


def _text(_name: str, value: str) -> str:
    return value


def _secret(_name: str, value: str) -> Secret | None:
    return Secret(value) if value else None


def _path(_name: str, value: str) -> Path | None:
    return Path(value).expanduser().absolute() if value else None


def _flag(name: str, value: str) -> bool:
    lowered = value.lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise ConfigError(f"{name} is {value!r}; it must be true or false.")


def _positive(name: str, value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ConfigError(f"{name} is {value!r}; it must be a whole number, 1 or more.")
    return number


def _count(name: str, value: str) -> int | None:
    return _positive(name, value) if value else None


def _file_mode(name: str, value: str) -> str:
    if value not in ("symlink", "hardlink", "copy"):
        raise ConfigError(f"{name} is {value!r}; it must be symlink, hardlink or copy.")
    return value


def _strategy(name: str, value: str) -> str:
    if value not in ("auto", "direct", "multipart"):
        raise ConfigError(f"{name} is {value!r}; it must be auto, direct or multipart.")
    return value


def _web_address(name: str, value: str) -> str | None:
    if value and not value.startswith(("http://", "https://")):
        raise ConfigError(f"{name} is no http:// or https:// address.")
    return value.rstrip("/") or None


_FEWEST_DIGITS = 9  # of seconds: 1973 and later. Fewer are somebody's way to write a date


def parse_time(name: str, value: str, *, end: bool = False) -> int | None:
    """Seconds since 1970 of a date, a date and time (UTC unless it says otherwise), or seconds. A date without a time
    is its first second, or with `end` its last one. None for ''; ConfigError naming the setting for anything else."""
    if not value:
        return None
    text = value.replace("Z", "+00:00")
    if value.isascii() and value.isdigit():
        if len(value) >= _FEWEST_DIGITS or not int(value):
            return int(value)
        text = f"{value[:4]}-{value[4:6]}-{value[6:]}"  # Python 3.10 reads no date without dashes
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{name} is {value!r}; it must be a date such as 2025-12-31, a time in UTC, or seconds since 1970."
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    seconds = int(moment.timestamp())
    return seconds + 86_399 if end and len(text) == len("2025-12-31") else seconds


def _time(name: str, value: str) -> int | None:
    return parse_time(name, value)


def _end_time(name: str, value: str) -> int | None:
    return parse_time(name, value, end=True)


def _state(name: str, value: str) -> Path | None:
    if value and not value.startswith("sqlite:////"):
        raise ConfigError(
            f"{name} is {redact(value)!r}; it must be sqlite:////absolute/path.sqlite, with four slashes."
        )
    return Path(value.removeprefix("sqlite:///")) if value else None


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "BOOKPIPE_CALIBRE_LIBRARY", "calibre_library", "", _path,
        "Folder of the Calibre library, the one that holds metadata.db. It is only ever read.",
        "/srv/calibre",
    ),
    Setting(
        "BOOKPIPE_TAR_DIR", "tar_dir", "", _path,
        "Folder of shards of ebooks (.tar, .tar.gz, .tar.xz, .tar.zst, .tar.bz2, or folders). They are only ever read.",
        "/srv/shards",
    ),
    Setting(
        "BOOKPIPE_SCROBBLE_DIR", "scrobble_dir", "", _path,
        "Folder of exports of scrobbles: Maloja, Spotify (files or the whole zip), Last.fm, ListenBrainz, Koito.",
        "/srv/scrobbles",
    ),
    Setting(
        "BOOKPIPE_MUSIC_DIR", "music_dir", "", _path,
        "Folder of audio files for the music archive, with subfolders. It is only ever read.",
        "/srv/music",
    ),
    Setting(
        "BOOKPIPE_MYBOOKSHELF2_URL", "mybookshelf2_url", "", _secret,
        "MyBookshelf2's PostgreSQL database, as the role that owns its tables.",
        "postgresql://ebooks:password@localhost:5432/ebooks",
    ),
    Setting(
        "BOOKPIPE_MYBOOKSHELF2_DATA_DIR", "mybookshelf2_data_dir", "", _path,
        "MyBookshelf2's data directory (its MBS2_DATA_DIR), the one that holds books and thumbs.",
        "/srv/mybookshelf2/data",
    ),
    Setting(
        "BOOKPIPE_MYBOOKSHELF2_USER", "mybookshelf2_user", "admin", _text,
        "User name of the MyBookshelf2 user who will own what is loaded.",
    ),
    Setting(
        "BOOKPIPE_FILE_MODE", "file_mode", "symlink", _file_mode,
        "How a book gets into the book folder: symlink, hardlink (same file system) or copy.",
    ),
    Setting(
        "BOOKPIPE_LINK_PREFIX", "link_prefix", "", _text,
        "For symlinks read inside a container: <path on this host>=<path in the container>.",
        "/srv/calibre=/calibre",
    ),
    Setting(
        "BOOKPIPE_BATCH_SIZE", "batch_size", "10000", _positive,
        "Book ids, listens or audio files in one partition. Partitions that are registered already keep theirs.",
    ),
    Setting(
        "BOOKPIPE_WORKERS", "workers", "2", _positive,
        "Worker processes of `bookpipe load`; scrobbles and audio are loaded one partition at a time.",
    ),
    Setting(
        "BOOKPIPE_HASH_THREADS", "hash_threads", "", _count,
        "Threads (for shards and covers: processes) that read files; empty: one for each processor. More helps on "
        "network disks.",
    ),
    Setting(
        "BOOKPIPE_DEFAULT_LANGUAGE", "default_language", "und", _text,
        "Language code of books that name none (und: undetermined).",
    ),
    Setting(
        "BOOKPIPE_CREATE_LANGUAGES", "create_languages", "true", _flag,
        "Add languages MyBookshelf2 does not have; false: such books are rejected.",
    ),
    Setting(
        "BOOKPIPE_CREATE_FORMATS", "create_formats", "true", _flag,
        "Add file formats MyBookshelf2 does not have; false: such files are rejected.",
    ),
    Setting(
        "BOOKPIPE_CREATE_GENRES", "create_genres", "false", _flag,
        "Add unknown tags as genres; false: they are dropped and counted.",
    ),
    Setting(
        "BOOKPIPE_LOAD_BOOKS_WITHOUT_FILES", "load_books_without_files", "false", _flag,
        "Load the record of a book that has no file; false: it is rejected as no_formats.",
    ),
    Setting(
        "BOOKPIPE_MYBOOKSHELF2_INDEXES", "create_indexes", "true", _flag,
        "Create four extra indexes (bookpipe_*) that keep the cost of a batch flat as the database grows.",
    ),
    Setting(
        "BOOKPIPE_KOITO_URL", "koito_url", "", _secret,
        "Koito's database: sqlite:////absolute/path/koito.db (Koito 0.2 and later) or postgresql://... (Koito 0.1).",
        "sqlite:////srv/koito/koito.db",
    ),
    Setting(
        "BOOKPIPE_KOITO_USER_ID", "koito_user_id", "1", _positive,
        "Id of the Koito user whose listens these are. Koito's own importer knows only user 1.",
    ),
    Setting(
        "BOOKPIPE_KOITO_LOOKUP_CACHE", "koito_lookup_cache", "true", _flag,
        "Remember in Koito's database what each input was resolved to, so that merges and renames made in Koito stick. "
        "false: strictly Koito's own rules.",
    ),
    Setting(
        "BOOKPIPE_KOITO_ARTIST_SEPARATORS", "koito_artist_separators", r"\s+·\s+", _text,
        "Regular expressions that split an artist string, joined by ;; (Koito's KOITO_ARTIST_SEPARATORS_REGEX).",
    ),
    Setting(
        "BOOKPIPE_IMPORT_AFTER", "import_after", "", _time,
        "Load only listens of this time or later: a date, a date and time (UTC), or seconds since 1970.",
        "2020-01-01",
    ),
    Setting(
        "BOOKPIPE_IMPORT_BEFORE", "import_before", "", _end_time,
        "Load only listens of this time or earlier; a date means its end.",
        "2025-12-31",
    ),
    Setting(
        "BOOKPIPE_ARCHIVE_URL", "archive_url", "", _web_address,
        "Address of the music archive.",
        "https://archive.example.org",
    ),
    Setting(
        "BOOKPIPE_ARCHIVE_EMAIL", "archive_email", "", _text,
        "Email of an archive user with the role moderator or admin.",
        "me@example.org",
    ),
    Setting(
        "BOOKPIPE_ARCHIVE_PASSWORD", "archive_password", "", _secret,
        "Password of that user.",
        "secret",
    ),
    Setting(
        "BOOKPIPE_ARCHIVE_STRATEGY", "archive_strategy", "auto", _strategy,
        "How files are sent: auto asks the archive, direct (reserve, put, commit) or multipart.",
    ),
    Setting(
        "BOOKPIPE_ARCHIVE_CONCURRENCY", "archive_concurrency", "16", _positive,
        "Most uploads at a time; how many there really are follows what the server takes.",
    ),
    Setting(
        "BOOKPIPE_ARCHIVE_SKIP_LIKELY_REFUSED", "skip_likely_refused", "false", _flag,
        "Do not send files of kinds the archive is known to refuse (WAV, Opus, WMA, some M4A); true: reject them here.",
    ),
    Setting(
        "BOOKPIPE_STATE_URL", "state", "", _state,
        "Digest cache and rejections; empty: bookpipe/state.sqlite under DAGSTER_HOME (or under ./dagster_home).",
        "sqlite:////srv/bookpipe/state.sqlite",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """All settings, parsed. Absent sources and targets are None; secrets do not print."""

    calibre_library: Path | None
    tar_dir: Path | None
    scrobble_dir: Path | None
    music_dir: Path | None
    mybookshelf2_url: Secret | None
    mybookshelf2_data_dir: Path | None
    mybookshelf2_user: str
    file_mode: str
    link_prefix: str
    batch_size: int
    workers: int
    hash_threads: int | None
    default_language: str
    create_languages: bool
    create_formats: bool
    create_genres: bool
    load_books_without_files: bool
    create_indexes: bool
    koito_url: Secret | None
    koito_user_id: int
    koito_lookup_cache: bool
    koito_artist_separators: str
    import_after: int | None
    import_before: int | None
    archive_url: str | None
    archive_email: str
    archive_password: Secret | None
    archive_strategy: str
    archive_concurrency: int
    skip_likely_refused: bool
    state: Path | None
    home: Path

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Settings from the environment (or a mapping like it). Raises ConfigError naming a bad one."""
        env = os.environ if environment is None else environment
        values = {s.field: s.parse(s.name, env.get(s.name, "").strip() or s.default) for s in SETTINGS}
        home = env.get("DAGSTER_HOME", "").strip()
        return cls(home=Path(home).absolute() if home else Path.cwd() / "dagster_home", **values)

    @property
    def state_path(self) -> Path:
        return self.state or self.home / "bookpipe" / "state.sqlite"

    @property
    def index_dir(self) -> Path:
        """Where it is kept how exports of scrobbles divide into records; may be deleted."""
        return self.home / "bookpipe" / "scrobbles"

    @property
    def parquet_dir(self) -> Path:
        """Where the rows that ops and assets hand to each other are kept."""
        return self.home / "bookpipe" / "parquet"


def require(settings: Settings, field: str) -> Any:
    """The value of a setting that has to be set; ConfigError naming it otherwise."""
    value = getattr(settings, field)
    if value is None:
        name = next(s.name for s in SETTINGS if s.field == field)
        raise ConfigError(f"{name} is not set: {help_of(name)} Put it into .env (see .env.example).")
    return value


def help_of(name: str) -> str:
    return next(s.help for s in SETTINGS if s.name == name)


def env_example() -> str:
    """The text of `.env.example`."""
    lines = [
        "# Settings of bookpipe. Copy this file to .env and set what you need.",
        "# What stands in .env wins over the shell's environment.",
        "",
        "# Where Dagster keeps its runs, and bookpipe its state. Must be an absolute path.",
        "DAGSTER_HOME=${PWD}/dagster_home",
    ]
    for setting in SETTINGS:
        shown = setting.example or setting.default
        lines += ["", f"# {setting.help}", f"# {setting.name}={shown}"]
    return "\n".join(lines) + "\n"


def readme_table() -> str:
    """The README's table of settings, in Markdown."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    rows += [f"| `{s.name}` | {f'`{s.default}`' if s.default else ''} | {s.help} |" for s in SETTINGS]
    return "\n".join(rows)


assert {s.field for s in SETTINGS} | {"home"} == {f.name for f in fields(Settings)}
