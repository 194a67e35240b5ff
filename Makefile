# DSA-110 continuum platform: `make demo` shows it, `make test` proves it; both set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
# One BLAS thread everywhere: the platform's own threads do the work (six times slower otherwise).
export OPENBLAS_NUM_THREADS = 1

.PHONY: help setup demo run test lint bench truth lock

help:
	@echo "make setup            environment from the lock; says which Debian packages would help"
	@echo "make demo             a simulated evening in the Dagster UI on http://127.0.0.1:3000 (Ctrl-C ends it)"
	@echo "make demo ARGS=--once the same headless: exits 0 only if every product exists and passes its checks"
	@echo "make run              the platform on DSA110_INCOMING (see README)"
	@echo "make test             lint, types, import walls and tests"
	@echo "make bench            speed beside the peers, measured in one run"
	@echo "make truth            full-array and many-day truths (hours); writes docs/truth.md"

setup: $(STAMP)
	-@$(BIN)/dsa110 doctor

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

demo: $(STAMP)
	$(BIN)/dsa110 demo $(ARGS)

run: $(STAMP)
	$(BIN)/dsa110 run $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP) lint
	$(BIN)/pytest $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks $(ARGS)

truth: $(STAMP)
	$(BIN)/pytest -m truth $(ARGS)

lock:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --group dev --generate-hashes \
	  --no-emit-index-url --no-header pyproject.toml -o requirements.lock
