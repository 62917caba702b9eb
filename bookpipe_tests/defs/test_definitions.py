"""What Dagster loads, and the traps of the Dagster version in use."""

import re
from pathlib import Path

import dagster as dg
import psycopg
import pytest

import bookpipe
from bookpipe.definitions import defs
from bookpipe.defs.pipelines import PIPELINES, Pipeline
from bookpipe.demo.embedded_server import ServerInfo
from bookpipe.settings import SETTINGS

PACKAGE = Path(bookpipe.__file__).parent


def test_the_definitions_load_with_nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    dg.Definitions.validate_loadable(defs)


def test_the_catalogue_is_this() -> None:
    catalogue = {
        node.key.to_user_string(): (
            getattr(node.partitions_def, "name", None),
            sorted(parent.to_user_string() for parent in node.parent_keys),
            sorted(check.name for check in node.check_keys),
        )
        for node in defs.resolve_asset_graph().asset_nodes
    }
    assert catalogue == {
        "archive/songs": ("audio_batches", [], ["counts_add_up", "songs_are_processed", "songs_are_whole"]),
        "calibre/books": ("calibre_batches", [], []),
        "koito/listens": ("scrobble_batches", [], ["counts_add_up", "listens_are_there", "names_are_whole"]),
        "mybookshelf2/covers_from_calibre": (
            "calibre_batches",
            ["mybookshelf2/books_from_calibre"],
            ["counts_add_up", "covers_are_readable"],
        ),
        "mybookshelf2/covers_from_tars": (
            "tar_shards",
            ["mybookshelf2/books_from_tars"],
            ["counts_add_up", "covers_are_readable"],
        ),
        "mybookshelf2/books_from_tars": (
            "tar_shards",
            [],
            ["counts_add_up", "files_are_readable", "nothing_is_there_twice"],
        ),
        "mybookshelf2/books_from_calibre": (
            "calibre_batches",
            ["calibre/books"],
            ["counts_add_up", "files_are_readable", "nothing_is_there_twice"],
        ),
    }


def test_jobs_and_sensors_are_these() -> None:
    repository = defs.get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    loads = {"load_audio", "load_calibre", "load_scrobbles", "load_tars"}
    assert jobs == {"discover", "make_calibre_covers", "make_tars_covers", *loads}
    assert {sensor.name for sensor in repository.sensor_defs} == {"discover_partitions", "retry_failed_partitions"}


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=list(PIPELINES))
def test_every_asset_can_be_launched_alone(pipeline: Pipeline) -> None:
    # The last op of a graph asset with an IO manager key of its own dies only here, not in named jobs.
    job = defs.resolve_implicit_global_asset_job_def()
    for asset in pipeline.assets:
        assert job.get_subset(asset_selection={asset.key}).run_config_schema


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=list(PIPELINES))
def test_runs_use_one_process(pipeline: Pipeline) -> None:
    assert defs.resolve_job_def(pipeline.job_name).executor_def.name == "in_process"


def test_no_definition_postpones_its_annotations() -> None:
    # Dagster reads the types of op arguments when it decorates; postponed ones are only strings.
    for path in [*(PACKAGE / "defs").rglob("*.py"), PACKAGE / "definitions.py"]:
        assert not re.search(r"^from __future__ import .*annotations", path.read_text(), re.MULTILINE), path


def test_resources_say_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BOOKPIPE_MYBOOKSHELF2_URL", "BOOKPIPE_KOITO_URL", "BOOKPIPE_ARCHIVE_PASSWORD"):
        monkeypatch.setenv(name, "postgresql://ebooks:s3cret@localhost/ebooks")
    for pipeline in PIPELINES.values():
        assert "s3cret" not in str(defs.resolve_job_def(pipeline.job_name).run_config_schema.config_type)
    assert "s3cret" not in repr(defs.resources)


def test_dagster_can_keep_its_instance_in_postgresql(postgres: ServerInfo, tmp_path: Path) -> None:
    # A SQLAlchemy that reads postgresql:// as psycopg 3 breaks this with a syntax error at NOTIFY.
    (tmp_path / "dagster.yaml").write_text(
        f"storage: {{postgres: {{postgres_url: '{postgres.url('postgres', 'dagster', 'dagster')}'}}}}\n"
        "telemetry: {enabled: false}\n"
    )
    with psycopg.connect(postgres.superuser_url, autocommit=True) as server:
        server.execute("CREATE ROLE dagster LOGIN SUPERUSER PASSWORD 'dagster'")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        result = dg.materialize([_number], instance=instance)
        assert result.success
        assert instance.get_run_by_id(result.run_id).is_finished  # type: ignore[union-attr]


@dg.asset
def _number() -> int:
    return 1
