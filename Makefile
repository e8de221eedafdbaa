# `make run` and `make test` do all the set-up themselves; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
CONFIG ?= config/agent.toml

.PHONY: help run demo test test-long lint format lock bench clean setup setup-dev

help: ## List what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: setup ## Set up and run the agent in the foreground (CONFIG=config/agent.toml)
	$(BIN)/device-agent run --config $(CONFIG)

demo: setup ## Set up and show simulated phones becoming callbacks
	$(BIN)/device-agent demo

test: setup-dev ## Set up and run the tests
	$(BIN)/pytest -n 4 --dist loadfile -m "not long"

test-long: setup-dev ## The long forms of the randomised tests (thousands of kills)
	$(BIN)/pytest -n 4 -m long

lint: setup-dev ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup-dev ## Let ruff format the tree
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: setup-dev ## Rewrite requirements/*.txt from pyproject.toml
	requirements/lock

bench: setup-dev ## Measure everything in benchmarks/ and print it as ratios
	$(BIN)/python -m benchmarks

setup: $(VENV)/.ready
setup-dev: $(VENV)/.ready-dev

$(VENV)/.ready: requirements/agent.txt requirements/ios.txt pyproject.toml requirements/setup-venv
	PYTHON="$(PYTHON)" requirements/setup-venv $(VENV)
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements/dev.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	touch $@

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
