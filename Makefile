# Everything lives in .venv at the root, which each target makes when it is missing; after any of them .venv/bin/erg is the command.
# A different interpreter: make PYTHON=python3.12 demo

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEMO_STAMP := $(VENV)/.installed-for-demo
DEV_STAMP := $(VENV)/.installed-for-development
# Two workers at most: many tests start processes of their own and measure their memory.
PYTEST_PROCESSES ?= 2

.PHONY: help demo check format test test-system test-vm soak bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(DEMO_STAMP)  ## simulate some 300 caches with erg run, then print the table and draw the plot (about 2 minutes)
	$(BIN)/python examples/cache-sweep/demo.py

check: $(DEV_STAMP)  ## format, lint, import rules, strict types, fast tests: under a minute
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/mypy examples/cache-sweep
	$(BIN)/pytest -q -n $(PYTEST_PROCESSES) --dist loadfile -m "not system and not soak and not vm" tests/unit

format: $(DEV_STAMP)  ## rewrite the sources as check wants them
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

test: $(DEV_STAMP)  ## every test but the slow ones with real engines and the full counts
	$(BIN)/pytest -n $(PYTEST_PROCESSES) --dist loadfile -m "not system and not soak and not vm"

test-system: $(DEV_STAMP)  ## the slow ones: real engines, kills, full disks
	$(BIN)/pytest -m "system and not soak and not vm"

test-vm: $(DEV_STAMP)  ## in QEMU with Debian's own kernel: pure cgroup v2, netem, power cuts (tens of minutes without KVM)
	$(BIN)/pytest -m vm tests/vm

soak: $(DEV_STAMP)  ## full counts (hundreds of kills, thousands of seeds); recorded in benchmarks/results/
	$(BIN)/python benchmarks/record_soak.py

bench: $(DEV_STAMP)  ## every benchmark at full size, recorded in benchmarks/results/ (about an hour)
	$(BIN)/python benchmarks/run_all.py --save

clean:  ## remove .venv, caches and whatever the demo left
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist examples/cache-sweep/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	bash tools/create-venv "$(PYTHON)" "$(VENV)"

$(DEMO_STAMP): requirements/base.txt requirements/plot.txt requirements/experiment.txt requirements/cluster.txt pyproject.toml | $(BIN)/python
	$(PIP) install -r requirements/experiment.txt -r requirements/cluster.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

$(DEV_STAMP): requirements/dev.txt $(DEMO_STAMP) | $(BIN)/python
	$(PIP) install -r requirements/dev.txt
	touch $@
