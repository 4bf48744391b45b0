# Every act of this repository, by name. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUST := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock
export HF_HUB_OFFLINE = 1

.PHONY: help demo test test-rust test-python lint format golden picture bench bench-guard bench-guard-update clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 20

demo: $(INSTALLED) ## Build, install into .venv, and scan the embedded model.
	$(BIN)/lmfacts demo

test: test-rust test-python ## Run all tests.

test-rust: ## Run the Rust tests.
	cargo test --workspace --locked

test-python: $(INSTALLED) ## Build, install into .venv, and run the Python tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(INSTALLED) ## Check formatting, lints, types and stubs.
	cargo fmt --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest lmfacts._native

format: $(INSTALLED) ## Format all code.
	cargo fmt
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

golden: $(INSTALLED) ## Write the expected texts of the golden tests anew; look at the difference before you commit it.
	LMFACTS_UPDATE_GOLDEN=1 $(BIN)/python -m pytest tests/golden

picture: $(INSTALLED) ## Draw the README's picture from a run of the embedded model.
	$(BIN)/python docs/draw_terminal.py

bench: $(VENV)/.bench ## Run all benchmarks and write benches/record/cpu.md: some twelve minutes on a machine that does nothing else.
	$(BIN)/python benches/run_all.py

bench-guard: $(INSTALLED) ## Show whether an update or a hook became slower, by counting instructions (needs valgrind).
	$(BIN)/python benches/guard.py

bench-guard-update: $(INSTALLED) ## Write the counts that bench-guard compares with anew, after a change that is meant to show.
	$(BIN)/python benches/guard.py --update

clean: ## Remove everything that is built.
	rm -rf $(VENV) target .cache python/lmfacts/*.so

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(INSTALLED): $(VENV)/.created pyproject.toml $(RUST)
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@

$(VENV)/.bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[dev,bench]'
	touch $@
