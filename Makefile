# Every command of the project. It needs make and Python 3.11 or newer; all else goes into $(VENV), from requirements.lock.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= auto
ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal
PYRIGHT := PATH="$(abspath $(BIN)):$$PATH" pyright
# --verifytypes looks packages up with the `python` that it finds on the path, whatever --pythonpath says.
VERIFYTYPES := $(PYRIGHT) --ignoreexternal --verifytypes

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup test pythons soak bench bench-quick compared instructions machines conformance load browser lint format types layers package demo dashboards dashboards-check picture live-picture lock clean

help:  ## list the targets
	@echo "make TARGET [PYTHON=python3.12] [ARGS=...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv from requirements.lock (the other targets do it by themselves)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "glasscache needs Python 3.11 or newer, and '$(PYTHON)' is not: name one with make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "'$(PYTHON)' cannot make virtual environments: install its venv package (Debian: python3-venv)" >&2; exit 1; }
	@echo "Setting up $(VENV) from requirements.lock, once ..."
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --quiet --require-hashes --requirement requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

test: $(READY)  ## run all tests, with branch coverage at 100 % (one file: .venv/bin/pytest tests/FILE)
	$(PYTEST) --cov --cov-report=term $(ARGS)

pythons: $(READY)  ## run `make test` with every other supported Python on this machine (4 minutes each on 2 cores)
	$(BIN)/python tests/pythons.py

soak: $(READY)  ## run the seeded scenarios with 10,000 seeds each and the tests that take long, print their figures
	GLASSCACHE_SOAK=1 $(PYTEST) -m "seeded or soak" -rP $(ARGS)

bench: $(READY)  ## measure glasscache and its peers: docs/benchmarks.md (5 minutes on 2 cores)
	$(BIN)/python -m tests.bench.run $(ARGS)

bench-quick: $(READY)  ## the same in less than a minute; peers only if `make bench` has set them up
	$(BIN)/python -m tests.bench.run --quick $(ARGS)

compared: $(READY)  ## what other caches do where it matters beside speed: the table of docs/compared.md
	$(BIN)/python -m tests.bench.habits

instructions: $(READY)  ## count the instructions of a hit beside those kept (ARGS=--keep: keep these); needs valgrind
	$(BIN)/python -m tests.bench.instructions $(ARGS)

machines: $(READY)  ## what a shared tier is worth for eight machines: the table of docs/machines.md (a minute)
	$(BIN)/python -m tests.machines.zipf $(ARGS)

conformance: $(READY)  ## run the public suite for HTTP caches against `glasscache proxy` (needs Node.js and npm; a minute)
	$(BIN)/python -m tests.conformance.run $(ARGS)

# Playwright is no part of .venv: nothing else needs it.
browser: $(READY)  ## the live page in a real Chromium (installs Playwright below build/, and Debian's Chromium if there is none)
	$(BIN)/python -m tests.browser.parts
	PYTHONPATH=build/browser/python $(BIN)/python -m pytest -p no:cacheprovider tests/browser/live_use.py tests/browser/live_ends.py $(ARGS)

load: $(READY)  ## `glasscache proxy` under wrk and h2load, with upstreams that break off (needs both; a minute)
	$(BIN)/python -m tests.proxy.load $(ARGS)

lint: $(READY)  ## check style, bans and formatting with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## format and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)  ## check types: mypy --strict, and pyright for the public names and for cached functions in use
	$(BIN)/mypy
	$(PYRIGHT) --pythonpath $(BIN)/python tests/test_cached.py
	$(VERIFYTYPES) glasscache
	$(VERIFYTYPES) glasscache_exporters
	$(VERIFYTYPES) glasscache_dashboards

layers: $(READY)  ## check that imports go one way
	$(BIN)/lint-imports --verbose

package: $(READY)  ## build sdist and wheel into dist/, install the wheel in fresh environments, test it there
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python tests/package_check.py dist requirements.lock

demo: $(READY)  ## start the knowledge service and show the cache at work (ARGS=--once: end by itself)
	$(BIN)/python examples/demo.py $(ARGS)

dashboards: $(READY)  ## write dashboards and alert rules anew from dashboards/glasscache_dashboards/_source
	$(BIN)/python -m glasscache_dashboards._source

dashboards-check: $(READY)  ## all that dashboards and alerts ask, asked of real backends (2 minutes; ARGS=--draw: pictures)
	$(BIN)/python -m tests.dashboards.check $(ARGS)

picture: $(READY)  ## draw docs/demo.svg anew: what the demo prints on this machine
	$(BIN)/python docs/record.py

live-picture: $(READY)  ## draw docs/live-light.png and docs/live-dark.png anew: the live page after two minutes of load
	$(BIN)/python -m tests.browser.parts
	PYTHONPATH=build/browser/python $(BIN)/python -m tests.browser.picture

.PHONY: reference locks
locks: $(READY)  ## find who holds the lock: three processes, one slow load, the walk of docs/locks.md
	$(BIN)/python -m tests.telemetry.locks

reference: $(READY)  ## write docs/telemetry.md anew: every metric, span, link, event and attribute
	$(BIN)/python -m tests.telemetry.page

lock: $(READY)  ## write requirements.lock anew from pyproject.toml (ARGS=--upgrade: take the newest releases)
	$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-strip-extras --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	  --output-file requirements.lock $(ARGS)
	$(BIN)/uv pip compile tests/browser/requirements.in --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-strip-extras --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	  --output-file tests/browser/requirements.txt $(ARGS)

clean:  ## remove all that these targets made
	rm -rf $(VENV) dist build .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
