# `make demo` and `make test` do all their own set-up; both work on a fresh machine and again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := .make
PYTEST_FLAGS ?=
NATIVE := $(filter-out %.so %.so.1 %/__pycache__,$(wildcard mockfail/native/*)) mockfail/properties.py

.PHONY: demo test check lint test-real real-environments bench man clean

demo: $(STAMP)/base $(STAMP)/native
	$(BIN)/aibrixctl demo --out demo-out $(if $(TRACE),--trace $(TRACE))

test: $(STAMP)/dev $(STAMP)/native $(STAMP)/system $(STAMP)/kube
	$(MAKE) --no-print-directory check

check: lint
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not real"

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# What can't be installed is said, and its tests are skipped with the reason.
test-real: $(STAMP)/dev $(STAMP)/native $(STAMP)/system $(STAMP)/kube real-environments
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -o faulthandler_timeout=3600 -m real

real-environments: $(STAMP)/dev
	@$(BIN)/python -m tests.real.environments

bench: $(STAMP)/dev $(STAMP)/native
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

man: $(STAMP)/dev
	$(BIN)/python -m aibrixctl.manpages man

clean:
	rm -rf $(VENV) $(STAMP) build dist demo-out *.egg-info mockfail/native/*.so*

$(STAMP)/venv:
	@mkdir -p $(STAMP)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || \
	  { tools/system-packages python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(STAMP)/compiler:
	@mkdir -p $(STAMP)
	@command -v $${CC:-cc} >/dev/null || tools/system-packages gcc libc6-dev || \
	  echo "without a C compiler everything works but mock-fail" >&2
	@touch $@

$(STAMP)/base: $(STAMP)/venv $(STAMP)/compiler pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# The editable install has compiled them once; this follows the sources.
$(STAMP)/native: $(STAMP)/base $(NATIVE)
	@if command -v $${CC:-cc} >/dev/null; then $(BIN)/python -m mockfail.native; fi
	@touch $@

$(STAMP)/dev: $(STAMP)/base
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

$(STAMP)/system:
	@command -v redis-server >/dev/null || tools/system-packages redis-server
	@touch $@

# The tests of the cluster need etcd and kube-apiserver; without them they skip, and say so.
$(STAMP)/kube:
	@tools/kube-apiserver
	@touch $@
