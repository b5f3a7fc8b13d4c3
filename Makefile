# Everything sets itself up: a virtual environment in .venv, the tools, the project.
#
#   make run        the gallery: honest and hostile programs, one table
#   make test       linters, type checkers and the test suite (under 10 minutes on 2 cores)
#   make test-all   the long suite too: fuzzing (25 min), soak (100,000 runs, an hour)
#   make bench      start-up and compute, inside against outside
#   make compatibility   CPython's own tests and popular packages, inside against outside (20 min)
#   make reliability     the soak by itself: 100,000 runs, and the page with its figures (an hour)
#   make goldens    write the golden files anew, to be read before they are committed

PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
LONG_SECONDS ?= 1500
SOAK_RUNS ?= 100000

.PHONY: run test test-all bench compatibility reliability goldens lint clean

run: .venv/ready .venv/examples
	$(BIN)/python examples/gallery

test: .venv/ready lint
	$(BIN)/python -m pytest -q -m "not long" -n 2 --dist loadfile

test-all: .venv/ready .venv/examples .venv/values .venv/fuzzer lint
	BELLJAR_FUZZ_SECONDS=$(LONG_SECONDS) BELLJAR_SOAK_RUNS=$(SOAK_RUNS) $(BIN)/python -m pytest -q

lint: .venv/ready
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: .venv/ready .venv/examples
	$(BIN)/python -m bench

compatibility: .venv/ready
	$(BIN)/python -m compatibility

reliability: .venv/ready
	$(BIN)/python -m reliability --runs $(SOAK_RUNS)

goldens: .venv/ready
	$(BIN)/python tests/bpf/test_golden.py
	BELLJAR_REGENERATE=1 $(BIN)/python -m pytest -q tests/plan/test_golden.py

.venv/ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "belljar needs Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; echo "this Python makes no virtual environments (Debian: apt-get install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	$(BIN)/python -m compileall -q src
	@touch $@

# NumPy and Matplotlib for one program of the gallery; without wheels for this Python it says so.
.venv/examples: .venv/ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --group examples \
	|| echo "NumPy and Matplotlib cannot be installed here; the gallery leaves their program out"
	@touch $@

# Libraries whose arrays and tables can be values.
.venv/values: .venv/ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --group values \
	|| echo "pandas, polars, pyarrow and others cannot be installed here; their tests are skipped"
	@touch $@

# The coverage-guided fuzzer has wheels for some versions of Python only.
.venv/fuzzer: .venv/ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --group fuzz \
	|| echo "atheris cannot be installed here; its test is skipped"
	@touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
