# Ibid. `make run` and `make test` set up everything they need; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes

.DEFAULT_GOAL := help
.PHONY: help run test test-slow lint format bench bench-chat bench-retrieval bench-scale clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */\1\t/' | awk -F '\t' '{printf "  make %-16s %s\n", $$1, $$2}'

run: $(VENV)/.installed ## Start the service (embedded PostgreSQL unless DB_URL is set; PORT defaults to 8000)
	@exec $(BIN)/ibid serve

test: $(VENV)/.installed-dev ## Run the whole test suite
	@exec $(BIN)/python -m pytest -n 2 -m 'not slow'

test-slow: $(VENV)/.installed-dev ## Run the fault and load tests too
	@exec $(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-dev ## Check format, style, types, layers and dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

format: $(VENV)/.installed-dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev ## Measure: start-up, memory, chat, streaming, ingestion, parsing, embeddings, answers
	@exec $(BIN)/python -m benchmarks

bench-chat: $(VENV)/.installed-dev ## Measure the chat alone: answers and streams against a plain handler, many streams at once
	@exec $(BIN)/python -m benchmarks chat stream streams

bench-retrieval: $(VENV)/.installed-dev ## Measure search alone: 100,000 chunks against the dense query and plain rank fusion, with recall
	@exec $(BIN)/python -m benchmarks retrieval

bench-scale: $(VENV)/.installed-dev ## Measure search of 1,000,000 chunks in 200 organizations (over an hour, and 10 GB of disk)
	@exec $(BIN)/python -m benchmarks scale

clean: ## Remove the virtual environment and the caches (not your data)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing (once, about a minute) ..."
	@$(PIP_INSTALL) -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "Installing what tests and checks need ..."
	@$(PIP_INSTALL) -r requirements-dev.lock
	@touch $@
