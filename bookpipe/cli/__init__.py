"""The command `bookpipe`."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from bookpipe import __version__
from bookpipe.cli.console import plain_console
from bookpipe.cli.environment import make_home, open_instance, prepare_environment
from bookpipe.model.errors import BookpipeError, ConfigError
from bookpipe.model.secrets import redact

# Heavy imports (Dagster takes seconds) are inside the commands that need them: help and doctor stay quick.

SANDBOX = Path(".bookpipe") / "sandbox"


class _Explaining(click.Group):
    """bookpipe's errors end a command with their text and exit code 1, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BookpipeError as error:
            text = Text.assemble(("Error:", "bold red"), f" {redact(str(error))}")
            plain_console(stderr=True, soft_wrap=True).print(text)
            ctx.exit(1)


@click.group(cls=_Explaining, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Move very large personal media collections into self-hosted servers.

    Settings come from the environment and from .env in the working directory, which wins.
    """
    prepare_environment()


@main.command()
def doctor() -> None:
    """Check every path, right, login and version, and say what to do about what is wrong."""
    from bookpipe.cli.doctor import diagnose, print_findings
    from bookpipe.model.findings import failure
    from bookpipe.settings import Settings

    try:
        findings = diagnose(Settings.load())
    except ConfigError as error:  # a setting that cannot be read
        findings = [failure("settings", error)]
    print_findings(findings, plain_console())
    sys.exit(1 if any(f.ok is False for f in findings) else 0)


@main.command()
def discover() -> None:
    """Register the partitions every configured source has."""
    from bookpipe.defs.discovery import register_found
    from bookpipe.settings import Settings

    settings, console = Settings.load(), plain_console(soft_wrap=True)
    with open_instance() as instance:
        register_found(settings, instance, tell=console.print, warn=console.print)


@main.group()
def load() -> None:
    """Load a source into its target."""


_Command = Callable[..., None]


def _load_options(command: _Command) -> _Command:
    for option in (
        click.option("--dry-run", is_flag=True, help="Say what would happen; write nothing anywhere."),
        click.option("--again", is_flag=True, help="Load partitions that are loaded already, too."),
        click.option(
            "--partition", "partitions", multiple=True, help="Load this partition, loaded already or not. Repeatable."
        ),
        click.option("--limit", type=click.IntRange(1), help="Load at most so many partitions."),
    ):
        command = option(command)
    return command


# Only where partitions are loaded side by side: those of the other pipelines are loaded one after the other.
_workers_option = click.option(
    "--workers", type=click.IntRange(1, 64), help="Worker processes; default BOOKPIPE_WORKERS."
)


def _load(
    pipeline: str,
    limit: int | None,
    partitions: tuple[str, ...],
    again: bool,
    dry_run: bool,
    workers: int | None = None,
    verbose: bool = False,
) -> None:
    if dry_run:
        _refuse_with_dry_run(again=again, workers=workers, verbose=verbose)
        from bookpipe.cli.dry_run import DRY_RUNS

        DRY_RUNS[pipeline](limit, partitions, plain_console())
        return
    from bookpipe.cli.load_command import load_pipeline

    summary = load_pipeline(pipeline, workers, limit, partitions, again, plain_console())
    if verbose:
        _print_rejections(pipeline, None, None, False)
    sys.exit(1 if summary.failed or summary.stopping else 0)


def _refuse_with_dry_run(**options: object) -> None:
    """A dry run plans every partition, loaded or not, in this process, and keeps no list of rejections: an option that
    it cannot honour is better refused than ignored."""
    for name, value in options.items():
        if value:
            raise click.UsageError(f"--{name} says nothing to a dry run: leave one of the two out.")


@load.command("calibre")
@_load_options
@_workers_option
def load_calibre(**options: Any) -> None:
    """Load the Calibre library's missing partitions into MyBookshelf2."""
    _load("calibre", **options)


@load.command("tars")
@_load_options
@_workers_option
def load_tars(**options: Any) -> None:
    """Load the missing tar shards of ebooks into MyBookshelf2."""
    _load("tars", **options)


@load.command("calibre_covers")
@_load_options
@_workers_option
def load_calibre_covers(**options: Any) -> None:
    """Make missing covers and thumbnails for the books loaded from the Calibre library."""
    _load("calibre_covers", **options)


@load.command("tars_covers")
@_load_options
@_workers_option
def load_tars_covers(**options: Any) -> None:
    """Make missing covers and thumbnails for the books loaded from tar shards."""
    _load("tars_covers", **options)


@load.command("scrobbles")
@_load_options
@click.option("--after", metavar="DATE", help="Only listens of this day or later; default BOOKPIPE_IMPORT_AFTER.")
@click.option(
    "--before", metavar="DATE", help="Only listens up to the end of this day; default BOOKPIPE_IMPORT_BEFORE."
)
def load_scrobbles(after: str | None, before: str | None, **options: Any) -> None:
    """Load the missing batches of exports of scrobbles into Koito, in their order."""
    for name, value in (("BOOKPIPE_IMPORT_AFTER", after), ("BOOKPIPE_IMPORT_BEFORE", before)):
        if value is not None:
            os.environ[name] = value  # the workers read their settings from the environment
    _load("scrobbles", **options)


@load.command("audio")
@_load_options
@click.option("--concurrency", type=click.IntRange(1, 256), help="Most uploads at a time.")
@click.option("--skip-likely-refused", is_flag=True, help="Do not send what the archive is known to refuse.")
@click.option("--verbose", is_flag=True, help="Tell every file that was not uploaded.")
def load_audio(concurrency: int | None, skip_likely_refused: bool, verbose: bool, **options: Any) -> None:
    """Upload the missing batches of audio files to the music archive."""
    if options["dry_run"]:
        _refuse_with_dry_run(concurrency=concurrency)
    if concurrency is not None:
        os.environ["BOOKPIPE_ARCHIVE_CONCURRENCY"] = str(concurrency)
    if skip_likely_refused:
        os.environ["BOOKPIPE_ARCHIVE_SKIP_LIKELY_REFUSED"] = "true"
    _load("audio", verbose=verbose, **options)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON; its shape is stable.")
@click.option("--watch", is_flag=True, help="Print again every few seconds until interrupted.")
def status(as_json: bool, watch: bool) -> None:
    """Tell how far every pipeline is, from what Dagster's instance knows."""
    from bookpipe.cli.status import print_statuses
    from bookpipe.defs.progress import all_statuses
    from bookpipe.settings import Settings

    console = plain_console()
    with open_instance() as instance:
        while True:
            statuses = all_statuses(instance, Settings.load())
            if as_json:
                print(json.dumps({"pipelines": {name: s.to_json() for name, s in statuses.items()}}), flush=True)
            else:
                print_statuses(statuses, console)
            if not watch:
                return
            time.sleep(5)


@main.command()
@click.option("--pipeline", help="Only of this pipeline.")
@click.option("--partition", help="Only of this partition.")
@click.option("--reason", help="Only with this reason.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def rejections(pipeline: str | None, partition: str | None, reason: str | None, as_json: bool) -> None:
    """List the rows that were not loaded, each with its reason."""
    _print_rejections(pipeline, partition, reason, as_json)


def _print_rejections(pipeline: str | None, partition: str | None, reason: str | None, as_json: bool) -> None:
    from bookpipe.runtime.state import State
    from bookpipe.settings import Settings

    state = State(Settings.load().state_path, read_only=True)
    for row in state.list_rejections(pipeline, partition, reason):
        if as_json:
            print(json.dumps(dict(zip(("pipeline", "partition", "row", "reason", "detail"), row, strict=True))))
        else:
            print("\t".join(row).rstrip("\t"))


@main.command()
@click.argument("partition")
@click.option(
    "--pipeline",
    type=click.Choice(["calibre", "tars", "scrobbles"]),
    default="calibre",
    show_default=True,
    help="The pipeline that loaded it.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed; write nothing anywhere.")
def undo(partition: str, pipeline: str, dry_run: bool) -> None:
    """Remove from the target what the loads of one PARTITION made, and nothing else."""
    from bookpipe.cli.undo import undo as run_undo
    from bookpipe.settings import Settings

    run_undo(Settings.load(), pipeline, partition, dry_run, plain_console(soft_wrap=True))


@main.group()
def sandbox() -> None:
    """A throw-away target to try things on, without touching your server."""


_directory = click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=SANDBOX,
    show_default=True,
    help="Where the sandbox is kept.",
)


@sandbox.command("start")
@click.option("--fresh", is_flag=True, help="Remove what is in it first.")
@_directory
def sandbox_start(fresh: bool, directory: Path) -> None:
    """Start an embedded PostgreSQL with an empty MyBookshelf2 and Koito, a data folder and a home for Dagster."""
    from bookpipe.demo.sandbox import Sandbox

    box = Sandbox(directory)
    box.start(fresh=fresh)
    make_home(box.home)
    console = plain_console(soft_wrap=True)
    console.print(f"The sandbox in {directory} runs. To work in it:")
    console.print('  set -a; eval "$(bookpipe sandbox env)"; set +a', highlight=False)
    if (Path.cwd() / ".env").exists():
        console.print("There is a .env here, and what it sets wins over the shell: use another working directory.")


@sandbox.command("env")
@_directory
def sandbox_env(directory: Path) -> None:
    """Print the settings that lead to the sandbox, as NAME=value lines for a shell."""
    from bookpipe.demo.sandbox import Sandbox, shell_lines

    print(shell_lines(Sandbox(directory).environment()))


@sandbox.command("stop")
@_directory
def sandbox_stop(directory: Path) -> None:
    """Stop the sandbox's server; what is in it stays."""
    from bookpipe.demo.sandbox import Sandbox

    stopped = Sandbox(directory).stop()
    print("Stopped." if stopped else "No sandbox runs there.")


@main.command()
@click.option("--books", type=click.IntRange(40), default=2_000, show_default=True, help="Books in the sample library.")
@click.option("--fresh", is_flag=True, help="Start over with an empty database.")
def demo(books: int, fresh: bool) -> None:
    """Make sample books, scrobbles and songs and a sandbox, and load the ones into the other."""
    from bookpipe.cli.demo import run_demo

    sys.exit(run_demo(books, fresh, plain_console()))


@main.command()
@click.option("--port", type=int, default=3000, show_default=True)
def ui(port: int) -> None:
    """Open Dagster's UI on 127.0.0.1: on your data where .env leads, else on the demo's."""
    from bookpipe.cli.demo import ui_environment

    environment, directory = ui_environment(plain_console())
    make_home(Path(environment.get("DAGSTER_HOME") or os.environ["DAGSTER_HOME"]))
    os.chdir(directory)
    dagster = Path(sys.executable).with_name("dagster")
    arguments = ["dev", "-m", "bookpipe.definitions", "-h", "127.0.0.1", "-p", str(port)]
    os.execve(dagster, [str(dagster), *arguments], {**os.environ, **environment})  # noqa: S606
