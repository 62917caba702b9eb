"""Imports point one way."""

import ast
import sys
from pathlib import Path

import pytest

import bookpipe

PACKAGE = Path(bookpipe.__file__).parent

# What each layer may import of bookpipe. `settings` reads the environment and belongs to the edges.
ALLOWED = {
    "model": {"model"},
    "resolve": {"model", "resolve"},
    "runtime": {"model", "runtime"},
    "sources": {"model", "runtime", "sources"},
    "targets": {"model", "runtime", "targets"},
    "pipelines": {"model", "runtime", "sources", "resolve", "targets", "settings", "pipelines"},
    "settings": {"model"},
    "defs": {"model", "runtime", "sources", "resolve", "targets", "pipelines", "settings", "defs"},
    "definitions": {"defs"},
    "demo": {"model", "demo"},
    "cli": {
        *("model", "runtime", "sources", "resolve", "targets", "pipelines", "settings", "defs", "definitions", "demo"),
        "cli",
        "__version__",
    },
    "__main__": {"cli"},
    "__init__": set(),
}
DAGSTER = {"defs", "definitions", "cli"}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=[str(p.relative_to(PACKAGE)) for p in MODULES])
def test_a_module_imports_only_what_is_below_it(path: Path) -> None:
    layer = _layer(path)
    own = {name.split(".")[1] for name in _imports(path) if name.startswith("bookpipe.") and name.count(".") >= 1}
    assert own <= ALLOWED[layer], f"{path} imports {own - ALLOWED[layer]}"


@pytest.mark.parametrize("path", MODULES, ids=[str(p.relative_to(PACKAGE)) for p in MODULES])
def test_dagster_is_imported_only_at_the_edge(path: Path) -> None:
    if _layer(path) not in DAGSTER:
        assert not {name for name in _imports(path) if name.split(".")[0].startswith("dagster")}


def test_the_model_needs_only_the_standard_library_and_arrow() -> None:
    for path in (PACKAGE / "model").glob("*.py"):
        outside = (
            {name.split(".")[0] for name in _imports(path)} - set(sys.stdlib_module_names) - {"bookpipe", "pyarrow"}
        )
        assert not outside, f"{path} imports {outside}"


def test_only_settings_reads_the_settings() -> None:
    for path in MODULES:
        if _layer(path) not in ("settings", "cli", "demo"):
            text = path.read_text()
            assert "os.environ" not in text and "getenv" not in text, path
