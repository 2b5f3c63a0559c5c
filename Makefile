# make bench: what this machine can do, then the main benchmark.
# make test:  everything that is tested.
# Both do all the set-up themselves, in .venv; PYTHON=... chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MADE := $(VENV)/.made-$(subst /,_,$(PYTHON))
C_SOURCES := $(wildcard edm_*/c/*.c edm_real/preload/* edm_*/c/*.h edm_*/c/*.def edm_*/*.h edm_*/_build*.py)
C_CHECK := -std=gnu11 -O1 -Wall -Wextra -Werror -fsyntax-only
PACKAGES := pkg-config libzstd-dev liblz4-dev libssl-dev libhiredis-dev liburing-dev redis-server sqlite3
ARGS ?=
# These tests compute and do nothing else: they run on all cores at once. All others page memory, start
# servers or measure time, and run one after the other.
COMPUTES := $(wildcard tests/test_evictors_*.py tests/test_pager*.py) $(patsubst %,tests/test_%.py,lpet_marks mrc prefetch reference)
# ARGS may choose tests that are all in the other half.
NONE_ASKED_FOR = test $$? -eq 5 -a -n "$(ARGS)"

bench: $(STAMP)
	@$(BIN)/python -m edm_real doctor || test $$? -eq 77
	@$(BIN)/python -m edm_real bench $(ARGS)

test: deps $(STAMP) floor
	@echo "gcc: warnings are errors"
	@for f in edm_*/c/*.c edm_real/preload/*.c; do gcc $(C_CHECK) -I edm_policy/c -I edm_real/c $$f || exit 1; done
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory docs
	$(BIN)/python -m pytest -n auto $(COMPUTES) $(ARGS) || $(NONE_ASKED_FOR)
	$(BIN)/python -m pytest --nbmake tests $(COMPUTES:%=--ignore=%) $(wildcard notebooks/*.ipynb) $(ARGS) || $(NONE_ASKED_FOR)

setup: $(STAMP)

# What more stores and their tests need, installed where apt-get and root are to be had. Never an
# error: a store that was not built, and a test that is skipped, say so with the package's name.
deps:
	@missing=; for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -z "$$missing" ] || ! command -v dpkg >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && { apt-get update -qq; apt-get install -y -qq $$missing; } >/dev/null 2>&1; \
	then echo "installed:$$missing"; rm -f $(STAMP); \
	else echo "not installed, so some stores are left out: sudo apt install$$missing && make clean test"; fi

# The documentation as a site in out/site/index.html; a warning is an error.
docs: $(STAMP)
	$(BIN)/mkdocs build --strict --quiet

# The README's picture: a real trace in both worlds. On a calm machine.
picture: $(STAMP)
	$(BIN)/python -m edm_lab compare --trace traces/sqlite.parquet --evict s3fifo --repeats 5 --plot docs/images/two-worlds.svg

floor:
	@$(MAKE) --no-print-directory -C benchmarks/floor floor

# A copy built with each sanitizer; see docs/testing.md. Some minutes.
sanitize: $(STAMP)
	tests/sanitize.sh address,undefined $(BIN)/python $(ARGS)
	tests/sanitize.sh thread $(BIN)/python $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info edm_*/_*.so edm_*/_*.o edm_*/_core.c .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@$(MAKE) --no-print-directory -C benchmarks/floor clean
	@$(MAKE) --no-print-directory -C benchmarks/hiredis clean
	@$(MAKE) --no-print-directory -C benchmarks/versus clean

# The environment is made anew only when it is missing or another interpreter is asked for.
$(MADE):
	@command -v gcc >/dev/null || { echo "gcc is missing: sudo apt install gcc"; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: sudo apt install python3, or make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$$($(PYTHON) --version) is too old: Python 3.11 or newer is needed; make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "python3-venv is missing: sudo apt install python3-venv"; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || \
	  { echo "Python.h is missing: sudo apt install python3-dev"; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# An editable install compiles the C; it is done again when a C file, a header or the packaging changed.
$(STAMP): $(MADE) pyproject.toml setup.py $(C_SOURCES)
	@echo "installing (the first time takes a minute or two)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[test]'
	@touch $@

.PHONY: bench test setup deps docs picture floor sanitize clean
