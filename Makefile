# `make demo` and `make test` set up everything they need; Python 3.13 and make are all they ask for.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses=4
STAMP := $(VENV)/.installed
export PYTHONHASHSEED ?= 0

.PHONY: demo test test-slow test-mutants lint bench clean

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 13))' || \
		{ echo "Beaufort needs Python 3.13 or newer; '$(PYTHON)' is older. Try: make PYTHON=python3.13 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	$(BIN)/python -m engine.compiling
	@touch $@

demo: $(STAMP)
	$(BIN)/python -m engine.demo

test: $(STAMP)
	$(PYTEST)

test-slow: $(STAMP)
	$(PYTEST) -m slow

test-mutants: $(STAMP)
	$(PYTEST) -m mutants

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build *.egg-info
