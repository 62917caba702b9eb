"""The environment of a command: `.env`, and a home for Dagster."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import load_dotenv

from bookpipe.model.errors import ConfigError

if TYPE_CHECKING:
    from dagster import DagsterInstance

INSTANCE_YAML = Path(__file__).with_name("instance.yaml")
_OTHER_STORAGE = re.compile(r"^(event_log_)?storage:", re.MULTILINE)


def prepare_environment() -> None:
    """Read `.env` of the working directory as Dagster does (it wins over the shell), and see that DAGSTER_HOME names a
    folder. Makes nothing: some commands promise to write nothing."""
    load_dotenv(Path.cwd() / ".env", override=True)
    home = os.environ.get("DAGSTER_HOME", "").strip()
    if home and not Path(home).is_absolute():
        raise ConfigError(f"DAGSTER_HOME is {home!r}; it must be an absolute path. In .env: ${{PWD}}/dagster_home.")
    os.environ["DAGSTER_HOME"] = home or str(Path.cwd() / "dagster_home")


def make_home(home: Path | None = None) -> Path:
    """A folder Dagster can keep its instance in, by default DAGSTER_HOME, with bookpipe's dagster.yaml unless it has
    one. ConfigError when it cannot be made."""
    home = home or Path(os.environ["DAGSTER_HOME"])
    try:
        home.mkdir(parents=True, exist_ok=True)
        config = home / "dagster.yaml"
        if not config.exists():
            config.write_text(INSTANCE_YAML.read_text())
    except OSError as error:
        raise ConfigError(
            f"The home for Dagster {home} cannot be made: {error.strerror}. Set DAGSTER_HOME to a folder that this "
            "user may write."
        ) from error
    return home


@contextmanager
def open_instance() -> "Iterator[DagsterInstance]":
    """Dagster's instance in DAGSTER_HOME, made when there is none."""
    from dagster import DagsterInstance

    make_home()
    with DagsterInstance.get() as instance:
        yield instance


def registered_partitions(name: str) -> list[str]:
    """The partitions that Dagster's instance knows of a definition; none, and nothing is made, where there is none."""
    home = Path(os.environ["DAGSTER_HOME"])
    config = home / "dagster.yaml"
    kept_elsewhere = config.exists() and _OTHER_STORAGE.search(config.read_text())
    if not kept_elsewhere and not (home / "history").exists():
        return []
    with open_instance() as instance:
        return list(instance.get_dynamic_partitions(name))
