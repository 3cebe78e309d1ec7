# Every target sets up what it needs in $(VENV); only Python, make and a package registry must be there.
#   make test PYTHON=python3.12 VENV=.venv-3.12     tries another Python

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

BIN := $(VENV)/bin
HAS_GPU := $(shell nvidia-smi >/dev/null 2>&1 && echo yes)
RUN_READY := $(if $(HAS_GPU),$(VENV)/.with-cuda13,$(VENV)/.with-test)

.PHONY: help venv run test test-slow test-x64 lint bench selftest validation-page study-pages
.DELETE_ON_ERROR:

help:
	@echo "make venv       set up $(VENV), nothing else"
	@echo "make run        simulate configs/main.toml into a new folder under runs/, and search its schedule"
	@echo "make test       the default test suite"
	@echo "make test-slow  the tests that take minutes"
	@echo "make test-x64   the fast tests again, with 64-bit JAX"
	@echo "make lint       style, layers, types"
	@echo "make bench      every engine's kernel against its yardstick in the same run (needs g++)"
	@echo "make selftest   exact laws on this machine, on every engine"
	@echo "make validation-page   run all validation cases and write docs/validation.md"
	@echo "make study-pages       run the studies of configs/studies (or STUDIES=...) and write docs/studies"

venv: $(VENV)/.with-test

# One stamp per set of extras; only a changed pyproject.toml installs again.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxevo needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.with-%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	@touch $@

run: $(RUN_READY)
	out=runs/main-$$(date +%Y%m%d-%H%M%S) && \
	$(BIN)/jaxevo run configs/main.toml --out $$out && \
	$(BIN)/jaxevo optimize configs/main.toml --out $$out/schedule

test: $(VENV)/.with-test
	$(PYTEST)

test-slow: $(VENV)/.with-test
	$(PYTEST) -m slow

test-x64: $(VENV)/.with-test
	JAX_ENABLE_X64=1 $(PYTEST) -m "both_precisions and not slow"

lint: $(VENV)/.with-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.with-bench
	$(BIN)/python benchmarks/percell.py
	$(BIN)/python benchmarks/clones.py
	$(BIN)/python benchmarks/extinction.py
	$(BIN)/python benchmarks/optimize.py

selftest: $(RUN_READY)
	$(BIN)/jaxevo selftest

validation-page: $(VENV)/.with-test
	$(BIN)/python -m tests.validation.page > docs/validation.md.new
	mv docs/validation.md.new docs/validation.md

study-pages: $(VENV)/.with-test
	$(BIN)/python -m tests.study_pages $(STUDIES)
