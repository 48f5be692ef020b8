# Two commands on a machine that has Python >= 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LOWEST := .venv-lowest
LOWEST_INSTALLED := $(LOWEST)/.installed

.PHONY: demo test lint types imports docs unit slow lowest dist hashes audit release-check format clean

demo: $(INSTALLED)
	$(BIN)/goodnet demo --out demo

test: lint types imports docs unit

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

imports: $(INSTALLED)
	$(BIN)/lint-imports

# The site, in build/site: README.md, docs/ and the docstrings. A link that leads nowhere is a warning, and a warning fails.
docs: $(INSTALLED)
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going -c docs . build/site

# One process per core, each with one thread: small networks gain nothing from a second thread.
unit: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist worksteal -m "not slow" --cov --cov-report term:skip-covered

# The other tests: the demo, the tutorials, whole networks. `.ci/run` runs them, too.
slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist worksteal -m slow

# Quick tests on the oldest versions that pyproject.toml allows. What these warn of one another is not ours.
lowest: $(LOWEST_INSTALLED)
	OMP_NUM_THREADS=1 $(LOWEST)/bin/pytest --numprocesses auto --dist worksteal -W ignore::DeprecationWarning \
	  -W ignore::PendingDeprecationWarning --ignore tests/cli/test_scan.py --ignore tests/formats/test_real_files.py \
	  tests/test_dependencies.py tests/core tests/formats tests/pair tests/serve tests/cli

# What is published, in dist/, and in build/inventory what it brings along: licences and bill of materials.
dist: $(INSTALLED)
	rm -rf dist build/inventory
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --no-isolation
	$(BIN)/python .ci/inventory.py dist/*.whl build/inventory

# Needs the index: the hashes of every file of every pinned version. Run it after a change of constraints.txt.
hashes: $(INSTALLED)
	$(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --all-extras --no-annotate --no-header \
	  --constraint constraints.txt --output-file constraints-hashed.txt pyproject.toml

# Needs an advisory data base; without one it ends with "NOT AUDITED" and an error.
audit: $(INSTALLED)
	$(BIN)/python .ci/audit.py

# docs/releasing.md says what else a release needs.
release-check: test slow dist audit

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The stamp makes the second run install nothing.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "goodnet needs Python 3.11 or newer; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# Torch first: it is the build of constraints.txt here too, which machines without a network hold.
$(LOWEST_INSTALLED): pyproject.toml constraints.txt .ci/lowest_versions.py $(INSTALLED)
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(BIN)/python .ci/lowest_versions.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/constraints.txt torch
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/constraints.txt \
	  --editable '.[onnx,serve]' packaging pytest pytest-timeout pytest-xdist jsonschema pyyaml
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) build demo dist .mypy_cache .ruff_cache .import_linter_cache
