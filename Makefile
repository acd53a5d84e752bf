# The two commands of the README, and the checks of CONTRIBUTING.md.
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint baselines

demo: $(VENV)/installed
	$(BIN)/harness evaluate submissions/template.py

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

baselines: $(VENV)/installed
	$(BIN)/python -m benchmarks.baselines

# torch and torchvision are asked for together, by plain names, so that they fit each other.
$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/pip install --quiet torch torchvision
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@
