# Every habit of the project, one command each. Needs Python 3.11 or newer and make; `setup` brings the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
DISTRIBUTIONS := taskcast-core taskcast-server taskcast-redis taskcast-postgres taskcast-sentry taskcast-client
STAMP := .venv/.installed
# An installed uv will do from 0.8 on, else one of our own.
UV := $(or $(shell uv --version 2>/dev/null | awk '{ split($$2, v, "."); if (v[1] > 0 || v[2] >= 8) print "uv" }'),.uv/bin/uv)
COMPILE := pip compile --quiet --universal --python-version 3.11 --all-extras --group dev --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	$(addprefix --no-emit-package ,$(DISTRIBUTIONS)) $(addsuffix /pyproject.toml,$(DISTRIBUTIONS)) \
	--output-file requirements.lock
TYPED := $(foreach name,core server redis postgres sentry client,-p taskcast_$(name))

# Settings of an outer environment must not steer this one.
unexport VIRTUAL_ENV UV_PYTHON PYTHONPATH PYTHONHOME CONDA_PREFIX PYTHONDONTWRITEBYTECODE

# Trust the certificates that the machine trusts, where it keeps any.
export UV_SYSTEM_CERTS ?= $(if $(wildcard /etc/ssl/certs/ca-certificates.crt),true,false)

.PHONY: help setup serve test test-long test-watch coverage lint format types conformance bench docs demo build lock version clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Install everything into .venv (uv too, in .uv/, when it is missing)

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --require-hashes --no-deps -r <(sed -n '/^uv==/,/[^\\]$$/p' requirements.lock)

$(STAMP): requirements.lock $(addsuffix /pyproject.toml,$(DISTRIBUTIONS)) | $(filter .uv/%,$(UV))
	@test -x $(BIN)/python || $(UV) venv --quiet --no-project --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --requirements requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(addprefix --editable ./,$(DISTRIBUTIONS))
	$(BIN)/python -m compileall -q $(addsuffix /src,$(DISTRIBUTIONS))
	@touch $@

serve: setup  ## Start a Taskcast server with the configuration of this directory
	$(BIN)/taskcast start

test: setup lint types  ## Lint, check types, run every test
	$(BIN)/pytest

test-long: setup lint types  ## The same with full counts and the long tests
	TASKCAST_TEST_SCALE=full $(BIN)/pytest

test-watch: setup  ## Run the tests again whenever a file changes
	$(BIN)/ptw . -- --quiet

coverage: setup  ## Run the tests and report what they do not reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report

lint: setup  ## Check style and format
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet

format: setup  ## Format, and repair what can be repaired
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format --quiet

types: setup  ## Check types strictly
	$(BIN)/mypy $(TYPED)
	$(BIN)/mypy tests/fixtures tests/tools tests/packaging $(wildcard tests/typing/*.py)
	$(BIN)/mypy docs/examples/plugins docs/examples/taskcast-example-store/src/taskcast_example_store

conformance: setup  ## Run the black-box conformance suite against this server
	cd tests/conformance && ../../$(BIN)/pytest --launch "$(CURDIR)/$(BIN)/taskcast start -c {config} -p {port}"

bench: setup  ## Measure against the yardsticks, in under a minute (MODE=full: all of it, in turns, some ten minutes)
	$(BIN)/python -m tests.bench $(or $(MODE),quick) $(BENCH)

docs: setup  ## Write the reference from the code, and build the documentation into site/
	$(BIN)/python -m tests.tools.reference
	$(BIN)/zensical build --clean

demo: setup  ## Watch it work: two readers, a cut, a killed server, and equal texts
	$(BIN)/python docs/examples/demo.py

build: setup  ## Build the wheels and source archives of all distributions into dist/
	@rm -rf dist
	for name in $(DISTRIBUTIONS); do $(UV) build --quiet --no-build-isolation --python $(BIN)/python --out-dir dist "$$name"; done
	@ls dist

lock: $(filter .uv/%,$(UV))  ## Compile requirements.lock anew (UPGRADE=1 takes the newest versions)
	$(UV) $(COMPILE) $(if $(UPGRADE),--upgrade)

version: setup  ## Set the version of all distributions: make version TO=0.2.0
	$(BIN)/python tests/tools/version.py $(TO)

clean:  ## Remove what was built and cached (the environments stay: remove .venv and .uv by hand)
	rm -rf dist build site htmlcov .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -not -path './.uv/*' -prune -exec rm -rf {} +
