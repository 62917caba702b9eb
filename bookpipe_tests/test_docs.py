"""What the documents say is what there is."""

import re
from pathlib import Path

import click
import pytest

import bookpipe
from bookpipe.cli import main
from bookpipe.definitions import defs
from bookpipe.model.rejections import REASON_HELP, Reason
from bookpipe.settings import SETTINGS, env_example, readme_table

ROOT = Path(bookpipe.__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = README + "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))


def commands(group: click.Group, prefix: str = "bookpipe") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, f"{prefix} {name}")
        else:
            found[f"{prefix} {name}"] = command
    return found


COMMANDS = commands(main)


def test_the_example_environment_is_the_settings() -> None:
    assert (ROOT / ".env.example").read_text() == env_example()


def test_the_readme_has_every_setting() -> None:
    table = README.split("held by a test -->\n", 1)[1].split("\n<!-- end of settings")[0]
    assert table == readme_table()
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    words = name.split()
    rows = [line for line in README.splitlines() if line.startswith(f"| `{' '.join(words[:3])}")]
    rows += [line for line in README.splitlines() if line.startswith(f"| `{' '.join(words[:2])}`")]
    assert rows, f"{name} is not in the README's table of commands"
    assert words[-1] in " ".join(rows)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_a_help_text(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in ("help", "port"):
            assert parameter.help, f"{name} {parameter.name}"


def test_no_command_is_documented_that_does_not_exist() -> None:
    groups = {name.rsplit(" ", 1)[0] for name in COMMANDS if name.count(" ") == 2}
    shell = "".join(re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL))
    written = re.findall(r"`(bookpipe [a-z]+)(?: ([a-z]+))?", DOCS)
    written += re.findall(r"^(bookpipe [a-z]+)(?: ([a-z]+))?", shell, re.MULTILINE)
    assert len(written) > 20
    for command, argument in written:
        assert command in COMMANDS or command in groups, command
        assert command not in groups or not argument or f"{command} {argument}" in COMMANDS, f"{command} {argument}"


def test_every_asset_job_sensor_and_check_is_documented() -> None:
    repository = defs.get_repository_def()
    names = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    names |= {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    names |= {sensor.name for sensor in repository.sensor_defs}
    missing = {name for name in names if name not in DOCS}
    assert not missing


def test_every_make_target_is_described() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    described = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert targets == described


def test_every_reason_says_what_it_means() -> None:
    assert set(REASON_HELP) == set(Reason)


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_repositorys_home_is_the_one_commands_make() -> None:
    packaged = ROOT / "bookpipe" / "cli" / "instance.yaml"
    assert (ROOT / "dagster_home" / "dagster.yaml").read_text() == packaged.read_text()


def test_the_lock_has_hashes_and_no_addresses() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    packages = re.findall(r"^[a-z0-9][^\n]*==", lock, re.MULTILINE)
    assert len(packages) > 50
    assert lock.count("--hash=sha256:") >= len(packages)
