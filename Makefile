# Everything bookpipe's developers and first users do. `make help` lists it.
.DEFAULT_GOAL := help
.PHONY: help demo ui test test-all lint format bench lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH ?=
INSTALLED := $(VENV)/.installed

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

# Exactly the versions of requirements.lock, checked against its hashes. It is complete, so nothing is resolved.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "bookpipe needs Python 3.10 or newer: make PYTHON=/path/to/python3 ..."; exit 1; }
	@echo "Installing into $(VENV) (once, about a minute) ..."
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv -q --allow-existing --python "$(PYTHON)" $(VENV) && \
	  uv pip install -q --python $(BIN)/python --no-deps --require-hashes -r requirements.lock && \
	  uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
	  { $(PYTHON) -m venv $(VENV) || \
	    { echo "Python cannot make virtual environments: install uv, or your system's python3-venv package."; exit 1; }; } && \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock && \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@

demo: $(INSTALLED) ## Load sample books, scrobbles and songs into sandboxes
	@$(BIN)/bookpipe demo

ui: $(INSTALLED) ## Open Dagster's UI on 127.0.0.1:3000 (your .env, else the demo)
	@$(BIN)/bookpipe ui

# Up to four files at a time, each worker with a PostgreSQL of its own.
test: $(INSTALLED) ## Run the tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-all: $(INSTALLED) ## Run the tests, the slow and the browser ones too
	$(BIN)/python -m pytest -m ''

lint: $(INSTALLED) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Measure against limits (BENCH=calibre for one, BENCH_SCALE=0.1 for a quick look)
	$(BIN)/python -m benchmarks $(BENCH)

lock: ## Write requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.10 --extra dev --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --output-file requirements.lock

clean: ## Stop the sandboxes and remove everything that was made
	@if [ -x $(BIN)/bookpipe ]; then for d in .bookpipe/demo/sandbox .bookpipe/sandbox; do \
	  [ ! -d $$d ] || $(BIN)/bookpipe sandbox stop --directory $$d; done; fi
	rm -rf $(VENV) .bookpipe .pytest_cache .mypy_cache .ruff_cache .hypothesis benchmarks/data
