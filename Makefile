# Needs git, make and Python 3.11 or later with venv; everything else is installed into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

SEEDS ?= 1000
FLAGS ?=
BENCH ?=

.PHONY: help cluster test unit functional simulate mutants bench docs lint format clean distclean

help: ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# Installed again only when what is to be installed has changed. The stamp is written last, so a broken
# installation is tried again.
$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "raftkv needs Python 3.11 or later; say: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

cluster: $(VENV)/.installed ## Start three nodes here; Ctrl-C stops them
	@$(BIN)/raftkv cluster

test: $(VENV)/.installed ## Run all tests; ends with "N passed, N failed"
	@$(BIN)/python tests/run.py -j $(JOBS)

unit: $(VENV)/.installed ## Run the unit tests only
	@$(BIN)/python tests/run.py -j $(JOBS) --unit

functional: $(VENV)/.installed ## Run the tests of real processes only
	@$(BIN)/python tests/run.py --functional

simulate: $(VENV)/.installed ## Simulate SEEDS=20000 on all cores, and make what fails small (FLAGS="--start 20000 --json")
	@$(BIN)/python -m raftkv.testing --seeds $(SEEDS) --jobs 0 $(FLAGS)

mutants: $(VENV)/.installed ## Break the rules one by one, and see that the tests notice (an hour; goes on where it was)
	@mkdir -p _trial_temp
	@$(BIN)/python -m tests.mutants --jobs $(JOBS) --resume _trial_temp/mutants.jsonl

bench: $(VENV)/.installed ## Compare with etcd, PySyncObj and Redis on this machine, which must be quiet (BENCH="--only put-1000")
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]' || \
		echo "the peers cannot be installed; what is not there will be said to be missing"
	@mkdir -p data
	@$(BIN)/python -m benchmarks --data data --json docs/performance.json --chart docs/performance.svg \
		--page docs/performance-figures.md $(BENCH)

docs: $(VENV)/.installed ## Build the manual into docs/_build
	@$(BIN)/python docs/tables.py
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build
	@echo "the manual is in docs/_build/index.html"

lint: $(VENV)/.installed ## Run ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.installed ## Format the source
	@$(BIN)/ruff format .

clean: ## Remove what tests and builds left; the data of the nodes stays
	rm -rf _trial_temp* docs/_build build dist .mypy_cache .ruff_cache .hypothesis
	find raftkv tests twisted benchmarks docs -name __pycache__ -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache

distclean: clean ## Remove the virtual environment and the data of "make cluster", too
	rm -rf $(VENV) *.egg-info data/node1 data/node2 data/node3
