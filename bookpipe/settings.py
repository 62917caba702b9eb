"""Every BOOKPIPE_* setting: its name, default and meaning. The only reader of the environment.

`.env.example` and the README's table are written from SETTINGS; a test holds them to it. Dagster reads a
`.env` in the working directory, and what stands there wins over the shell.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bookpipe.model.errors import ConfigError
from bookpipe.model.secrets import Secret


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


def _state(name: str, value: str) -> Path | None:
    if value and not value.startswith("sqlite:///"):
        raise ConfigError(f"{name} is not a sqlite:///absolute/path.sqlite URL.")
    return Path(value.removeprefix("sqlite:///")) if value else None


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "BOOKPIPE_CALIBRE_LIBRARY", "calibre_library", "", _path,
        "Folder of the Calibre library, the one that holds metadata.db. It is only ever read.",
        "/srv/calibre",
    ),
    Setting(
        "BOOKPIPE_TAR_DIR", "tar_dir", "", _path,
        "Folder of tar shards of ebooks (.tar, .tar.gz, .tar.xz, .tar.zst, or folders). They are only ever read.",
        "/srv/shards",
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
        "Book ids in one partition. Partitions that are registered already keep theirs.",
    ),
    Setting(
        "BOOKPIPE_WORKERS", "workers", "2", _positive,
        "Worker processes of `bookpipe load`.",
    ),
    Setting(
        "BOOKPIPE_HASH_THREADS", "hash_threads", "", _count,
        "Threads that read and hash files; empty: one for each processor. More helps on network disks.",
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
