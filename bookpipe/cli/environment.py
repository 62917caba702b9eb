"""The environment of a command: `.env`, and a home for Dagster."""

import os
from pathlib import Path

from dotenv import load_dotenv

from bookpipe.model.errors import ConfigError

INSTANCE_YAML = Path(__file__).with_name("instance.yaml")


def prepare_environment() -> None:
    """Read `.env` of the working directory as Dagster does (it wins over the shell), and see to DAGSTER_HOME."""
    load_dotenv(Path.cwd() / ".env", override=True)
    home = os.environ.get("DAGSTER_HOME", "").strip()
    if home and not Path(home).is_absolute():
        raise ConfigError(f"DAGSTER_HOME is {home!r}; it must be an absolute path. In .env: ${{PWD}}/dagster_home.")
    os.environ["DAGSTER_HOME"] = str(make_home(Path(home) if home else Path.cwd() / "dagster_home"))


def make_home(home: Path) -> Path:
    """A folder Dagster can keep its instance in, with bookpipe's dagster.yaml unless it has one."""
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(INSTANCE_YAML.read_text())
    return home
