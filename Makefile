# Commands for people and CI; each target creates .venv first if it is missing or older than pyproject.toml.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# OpenMP threads that spin while waiting make two busy cores several times slower than one.
export OMP_WAIT_POLICY := passive
# Without bytecode files, every process that imports torch or Ray compiles them again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-docs test-slow test-slow-ray test-slow-others lint docs clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(STAMP) ## Train and search small CNNs on the embedded digits (minutes), and plot the front
	$(BIN)/nas search nas/jobs/recipes/digits-cnn.yaml

test: $(STAMP) ## Run the fast tests
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal

test-slow: $(STAMP) ## Run the tests that take minutes, and whole paths of seconds
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-slow-ray test-slow-others

# Those of Ray clusters one after another: two clusters on two cores starve each other. Alone, a cluster mostly waits.
test-slow-ray: $(STAMP)
	$(BIN)/python -m pytest -m "slow and ray and not how_to"

test-slow-others: $(STAMP)
	$(BIN)/python -m pytest -m "slow and not ray and not how_to" -n 2 --dist worksteal

# They take as long as all other slow tests of one process: run them before a release, and after a change of commands or of the pages.
test-docs: $(STAMP) ## Run the code of every how-to page, and of the tutorial of sentences
	$(BIN)/python -m pytest -m how_to -n 2 --dist worksteal tests/docs

lint: $(STAMP) ## Check style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(STAMP) ## Build the documentation into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --clean --quiet
	@echo "open build/site/index.html"

clean: ## Remove .venv and caches; runs are kept
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1); name another: make PYTHON=python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	@# What is imported is compiled then; to compile all of it now takes as long as everything else here.
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'
	@touch $@
