# Two commands do everything on a fresh machine: `make demo` and `make test`.
# The environment is made once, in .venv, by whichever target needs it first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-all check format bench pages docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Torch first, at its pinned version; then the package, which finds it there. On Linux PyPI's build
# brings GPU libraries, gigabytes of them: PIP_EXTRA_INDEX_URL or PIP_INDEX_URL names another index.
$(VENV)/made: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("tiedlm needs Python 3.10 or newer" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,web,test,lint]'
	touch $@

demo: $(VENV)/made ## train the paper's four models on a small corpus, and write a report
	$(BIN)/tiedlm demo --out runs/demo

test: $(VENV)/made ## the tests, in minutes
	$(BIN)/python -m pytest

# What the tests of the optional parts need besides.
$(VENV)/extras: $(VENV)/made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[hf,onnx,kenlm,tensorboard,pieces,zstd,parquet,clients,browser,docs]'
	touch $@

test-all: $(VENV)/extras ## the slow tests too, and those of every extra
	$(BIN)/python -m pytest -m 'slow or not slow'

check: $(VENV)/made ## lint, format, types, layers, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell src tests docs studies benchmarks examples notebooks *.md

format: $(VENV)/made ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/made ## a page of benchmarks for a report, in minutes
	$(BIN)/python benchmarks/page.py

pages: $(VENV)/made ## the pages and tables that are made from results/
	$(BIN)/python -m studies.reproduction

$(VENV)/docs: $(VENV)/made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

docs: $(VENV)/docs ## the documentation as a site: build/docs/index.html
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

clean: ## remove the environment and caches; runs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
