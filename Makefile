# Every target sets up what it needs in .venv, from a bare python3; nothing is installed twice.
#   make PYTHON=python3.13 test     another interpreter (for a .venv that does not exist yet)
#   make ARGS="-k relu -x" test     more options for pytest
#   make SPEED="--rounds 3" bench   more options for benchmarks/speed.py

PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   := .venv
BIN    := $(VENV)/bin
HEAVY  := torch or jax or strict or slow
FAST   := $(wildcard tests/engines/test_kernels*.py) tests/engines/test_fast.py
TABLES := $(patsubst %,tests/engines/test_%.py,fast listing team update products)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint lanes bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16

demo: $(VENV)/.has-run ## train on the digits, check every gradient, explain one
	@$(BIN)/backlit demo

test: $(VENV)/.has-test ## the quick tests
	@$(BIN)/python -m pytest -m "not ($(HEAVY))" $(ARGS)

lint: $(VENV)/.has-dev ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports

lanes: $(VENV)/.has-test $(VENV)/.has-lanes $(VENV)/.has-torch ## the tests against PyTorch, JAX and array-api-strict, and the slow ones
	@$(BIN)/python -m pytest -m "$(HEAVY)" $(ARGS)
	@echo "the fast engine's tables as plain Python"
	@NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -m "not ($(HEAVY))" $(TABLES)
	@echo "products without the processor's matrix unit"
	@BACKLIT_MATRIX_UNIT=0 $(BIN)/python -m pytest -m "not ($(HEAVY))" tests/engines/test_products.py
	@echo "the fast engine's kernels with every index checked"
	@NUMBA_BOUNDSCHECK=1 $(BIN)/python -m pytest -m "not ($(HEAVY))" -k "compiled or bounds or float32" $(FAST)

bench: $(VENV)/.has-run $(VENV)/.has-lanes $(VENV)/.has-torch $(VENV)/.has-bench ## the benchmarks: quality on real data, speed beside other libraries, whole jobs, scaling
	@$(BIN)/python benchmarks/quality.py $(ARGS)
	@$(BIN)/python benchmarks/speed.py $(SPEED)
	@$(BIN)/python benchmarks/products.py
	@$(BIN)/python benchmarks/whole.py
	@$(BIN)/python benchmarks/scaling.py

clean: ## remove .venv and the caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# A stamp .venv/.has-<extra> says that the extra of pyproject.toml is installed; "run" is the package alone.
$(VENV)/.has-run: EXTRA :=
$(VENV)/.has-run $(VENV)/.has-test $(VENV)/.has-dev $(VENV)/.has-lanes $(VENV)/.has-bench: $(VENV)/.has-%: pyproject.toml | $(VENV)/.made
	@echo "setting up $(VENV): backlit$(EXTRA)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.$(EXTRA)'
	@touch $@
$(VENV)/.has-test: EXTRA := [test]
$(VENV)/.has-dev: EXTRA := [dev]
$(VENV)/.has-lanes: EXTRA := [lanes]
$(VENV)/.has-bench: EXTRA := [bench]

$(VENV)/.has-torch: Makefile | $(VENV)/.made
	@echo "setting up $(VENV): $(TORCH)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	@touch $@

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no $(PYTHON); install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || \
		{ echo "make: backlit needs Python 3.11 to 3.14, $(PYTHON) is $$($(PYTHON) --version 2>&1); name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "make: $(PYTHON) has no venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@touch $@
