# The two commands of the README, and the checks of CONTRIBUTING.md.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
TORCH ?= torch
OLDEST_TORCH := torch==2.11.*

.PHONY: demo test test-long test-slow test-oldest lint baselines benchmarks studies

# What docs/performance.md and the table of batches are made of; each is also a command: python -m benchmarks.NAME
BENCHMARKS ?= training preparation evaluate overhead isolation scoring batch growth startup

# What docs/studies.md is made of; each is also a command: python -m benchmarks.NAME
STUDIES ?= reproduction recipes causes sparsity sparse_images theorem trojan transfer comparison cat_and_ship

demo: $(VENV)/installed
	$(BIN)/harness evaluate submissions/template.py

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-long: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m long -n 2 --dist worksteal

test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m slow

# The oldest torch that pyproject.toml allows, with the newest Python there is here.
test-oldest:
	$(MAKE) test VENV=.venv-oldest PYTHON="$$(.ci/newest-python)" TORCH="$(OLDEST_TORCH)"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

baselines: $(VENV)/installed
	$(BIN)/python -m benchmarks.baselines

benchmarks: $(VENV)/installed-dev
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done
	$(BIN)/python -m benchmarks.figures

studies: $(VENV)/installed-dev
	for name in $(STUDIES); do $(BIN)/python -m benchmarks.$$name || exit 1; done
	$(BIN)/python -m benchmarks.studies

# torch and torchvision are asked for together, by plain names, so that they fit each other.
$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$(TORCH)" torchvision
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@
