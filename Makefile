# `make run` and `make test` do all the set-up themselves; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
CONFIG ?= config/agent.toml
# What is installed runs with the system's Python, unless another one was named.
INSTALL_PYTHON := $(if $(filter file,$(origin PYTHON)),/usr/bin/python3,$(PYTHON))

.PHONY: help run demo fleet-demo install uninstall dist deb test coverage test-long torture test-fleet test-packaging test-appium test-page screenshots lab \
	lint lint-page format lock check-wheels bench clean setup setup-dev

help: ## List what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: setup ## Set up and run the agent in the foreground (CONFIG=config/agent.toml)
	$(BIN)/device-agent run --config $(CONFIG)

demo: setup ## Set up and show simulated phones becoming callbacks
	$(BIN)/device-agent demo

fleet-demo: setup-dev ## The same of a fleet: three hosts, a broker, a hub, its page (ONCE=1: and end)
	$(BIN)/python -m tests.fleet.demo $(if $(ONCE),--once)

install: ## With sudo: install or upgrade, and start it under systemd (IOS=no: without iPhones)
	PYTHON="$(INSTALL_PYTHON)" packaging/install

uninstall: ## With sudo: remove it; keeps configuration and store (PURGE=1: those too)
	packaging/uninstall

dist: ## Build wheel and sdist into dist/
	packaging/dist

deb: ## Build dist/*.deb, which carries its dependencies (IOS=no: without iPhones)
	PYTHON="$(INSTALL_PYTHON)" packaging/deb

SHORT := not long and not fleet
# A file goes to a worker as a whole, in the order of tests/conftest.py: the longest first.
# Six workers keep two cores busy: most tests wait for real parts most of their time.
BY_FILE := -n 6 --dist loadfile --no-loadscope-reorder
# What has a command of its own would be collected by each worker for nothing.
ELSEWHERE := $(addprefix --ignore=tests/,appium lab packaging page)
# Python is started hundreds of times: what it compiled once is kept, whatever the shell says.
test test-long coverage: export PYTHONDONTWRITEBYTECODE =

test: setup-dev ## Set up and run the tests
	$(BIN)/pytest $(BY_FILE) $(ELSEWHERE) -m "$(SHORT)"

coverage: setup-dev ## The same with every line and branch counted, in the agents that tests start, too
	rm -rf build/coverage && mkdir -p build/coverage
	@# Tests that count objects or imports, or give up rights, may fail under it; make test judges.
	-$(BIN)/coverage run -m pytest $(BY_FILE) $(ELSEWHERE) -m "$(SHORT)"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report | tee build/coverage/report.txt | tail -n 1

test-long: setup-dev ## The long forms of the randomised tests (thousands of kills, all examples)
	THOROUGH=1 $(BIN)/pytest -n 4 $(ELSEWHERE) -m "(long or hypothesis) and not fleet"
	@# By itself: it stops processes for seconds that others would not give it back. 15 minutes.
	$(if $(FLEET),,$(BIN)/pytest -n 0 -m "long and fleet" tests/fleet)

torture: setup-dev ## 10,000 SIGKILLs and 1,000 power cuts, and what they cost (needs strace; TORTURE="--kills 100")
	$(BIN)/python -m tests.faults.torture $(TORTURE)

test-fleet: setup-dev ## A fleet of processes under every fault, five minutes of it (docs/fleet.md)
	$(BIN)/pytest -n 0 -m "fleet and not long" tests/fleet

test-packaging: setup-dev ## Install, upgrade, remove, `make deb` and `make dist`, in namespaces (as root)
	$(BIN)/pytest -n 2 --dist loadfile -m packaging

test-appium: setup-dev tests/appium/node_modules/.ready ## The agent against a real Appium 3
	$(BIN)/pytest -n 2 -m appium

test-page: setup-dev lint-page ## The web page in a real Chromium (Debian's package), types and lint
	$(BIN)/pytest -n 2 --dist loadfile -m page tests/page

screenshots: setup-dev ## Every view of the page, light and dark, to build/page; two of them to docs/images
	$(BIN)/python -m tests.page.screenshots

lab: setup-dev ## The installed agent on a real kernel with simulated USB phones, in QEMU (as root)
	tests/lab/build
	@# Two machines at once: each mostly waits.
	timeout --kill-after=30 1500 $(BIN)/pytest -n 2 --dist loadfile -m lab tests/lab --durations=10
	@echo "From the plug to the callback (docs/lab.md):"; cat build/lab/times.md

lint: setup-dev ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-page: setup-dev tests/page/node_modules/.ready ## tsc and eslint over the page's JavaScript
	$(BIN)/python -m tests.page.api_types build/page/api.d.ts
	tests/page/node_modules/.bin/tsc --project tests/page/tsconfig.json
	tests/page/node_modules/.bin/eslint --config tests/page/eslint.config.js --max-warnings 0 agent/web

format: setup-dev ## Let ruff format the tree
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: setup-dev ## Rewrite requirements/*.txt from pyproject.toml
	requirements/lock

check-wheels: setup-dev ## Ask whether all that is locked is ready-made for every machine (minutes)
	$(BIN)/python requirements/check-wheels $(MACHINES)

bench: setup-dev ## Measure everything in benchmarks/ and print it as ratios
	$(BIN)/python -m benchmarks

setup: $(VENV)/.ready
setup-dev: $(VENV)/.ready-dev

$(VENV)/.ready: requirements/build.txt requirements/agent.txt requirements/ios.txt pyproject.toml agent/__init__.py requirements/setup-venv
	PYTHON="$(PYTHON)" requirements/setup-venv $(VENV)
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements/dev.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	touch $@

tests/appium/node_modules/.ready: tests/appium/package.json tests/appium/package-lock.json
	tests/appium/node-fits
	npm ci --prefix tests/appium
	@# Finds the driver once, so that servers that start together need not write it down.
	APPIUM_HOME=$(CURDIR)/tests/appium $(@D)/.bin/appium driver list --installed
	touch $@

tests/page/node_modules/.ready: tests/page/package.json tests/page/package-lock.json
	npm ci --prefix tests/page --no-audit --no-fund
	touch $@

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) tests/appium/node_modules tests/page/node_modules build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
