# Two commands need nothing but Python 3.11 to 3.13: `make demo` and `make test`. `make help` lists the others.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 \
	&& { echo $$python; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help demo test check slow clean

help:
	@echo 'make demo   take a simulated scan from the detector to a picture (ARGS="--exit --json" to end with one JSON object)'
	@echo 'make test   run the tests'
	@echo 'make check  run ruff, mypy, the import contracts and the tests'
	@echo 'make slow   run the tests that make test leaves out; what they need is installed by scripts/install_*.sh'
	@echo 'make clean  stop the sandbox and remove it and the environment'

demo: $(VENV)/.demo
	@$(BIN)/beamline demo $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 -m "not postgresql and not slow and not slurm and not compute_endpoint and not gpu" $(ARGS)

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 3 -m "(postgresql or slow or slurm or compute_endpoint) and not gpu" $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@for area in tests/*/; do MYPYPATH=$$area:tests/chaos $(BIN)/mypy $$area || exit 1; done
	$(BIN)/lint-imports
	$(MAKE) test

clean:
	@[ ! -x $(BIN)/beamline ] || $(BIN)/beamline sandbox down
	rm -rf $(VENV) .sandbox

# What the demo needs is a part of what the tests need: each is installed once, and again when pyproject.toml changes.

$(VENV)/.python:
	@[ -n "$(PYTHON)" ] || { echo 'No Python 3.11, 3.12 or 3.13 was found. Install one, or name it: make PYTHON=/path/to/python3' >&2; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON); this takes a minute or two."
	@$(PYTHON) -m venv $(VENV) || { echo 'The venv module is missing: install it (Debian: python3-venv).' >&2; exit 1; }
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[science,sandbox]'
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.demo
