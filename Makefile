# Every act of this repository, by name. `make help` lists them.

PYTHON ?= python3
OLDEST_PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
NEWEST := .venv-newest
OLDEST := .venv-oldest
RUST := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock
PYTEST := -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command 'make lock' pyproject.toml
export HF_HUB_OFFLINE = 1
# uv does not read pip's settings; an index that is given to pip is meant for both.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

.PHONY: help demo test test-rust test-python test-families test-newest test-oldest fuzz lock lint format golden tables picture bench calibration bench-guard bench-guard-update clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 20

demo: $(INSTALLED) ## Build, install into .venv, and scan the embedded model.
	$(BIN)/lmfacts demo

test: test-rust test-python ## Run all tests.

test-rust: ## Run the Rust tests.
	cargo test --workspace --locked

test-python: $(INSTALLED) ## Build, install into .venv, and run the Python tests.
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

test-families: $(INSTALLED) ## Run every family of transformers under attach and print the table: minutes, and no part of `make test`.
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) -m every_family tests/families

test-newest: $(NEWEST)/.created ## Run the Python tests with the newest versions of everything, in .venv-newest.
	$(NEWEST)/bin/python -m pip install --upgrade --upgrade-strategy eager --editable '.[test]'
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python $(PYTEST)

test-oldest: $(OLDEST)/.created $(INSTALLED) ## Run them with the lower bounds in pyproject.toml, in .venv-oldest (needs Python 3.11).
	$(BIN)/uv pip install --python $(OLDEST)/bin/python --resolution lowest-direct --editable '.[test]'
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python $(PYTEST)

fuzz: $(INSTALLED) ## Try many damaged run files and checkpoints, others each time: LMFACTS_FUZZ_CASES of each kind.
	LMFACTS_FUZZ_CASES=$${LMFACTS_FUZZ_CASES:-20000} LMFACTS_FUZZ_SEED=$${LMFACTS_FUZZ_SEED:-$$(date +%s)} OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest --timeout 0 tests/fuzz

lock: $(INSTALLED) ## Write requirements/ anew, with the newest versions that pyproject.toml allows.
	$(BIN)/$(LOCK) --extra dev --output-file requirements/dev.txt
	$(BIN)/$(LOCK) --extra bench --constraint requirements/dev.txt --output-file requirements/bench.txt

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

tables: $(INSTALLED) ## Write the tables of docs/export.md from the code.
	$(BIN)/python docs/write_tables.py

picture: $(INSTALLED) ## Draw the README's picture from a run of the embedded model.
	$(BIN)/python docs/draw_terminal.py

bench: $(VENV)/.bench ## Run all benchmarks in 15 minutes, on a machine that does nothing else, and write its processor's record.
	$(BIN)/python benches/run_all.py

calibration: $(INSTALLED) ## Show how often verdicts are firm and wrong, on models whose numbers are known, and write the record.
	OMP_NUM_THREADS=1 $(BIN)/python benches/calibration.py

bench-guard: $(INSTALLED) ## Show whether an update or a hook became slower, by counting instructions (needs valgrind).
	$(BIN)/python benches/guard.py

bench-guard-update: $(INSTALLED) ## Write the counts that bench-guard compares with anew, after a change that is meant to show.
	$(BIN)/python benches/guard.py --update

clean: ## Remove everything that is built.
	rm -rf $(VENV) $(NEWEST) $(OLDEST) target .cache python/lmfacts/*.so

$(VENV)/.created $(NEWEST)/.created:
	$(PYTHON) -m venv $(@D)
	touch $@

$(OLDEST)/.created:
	$(OLDEST_PYTHON) -m venv $(@D)
	touch $@

# Everything comes from the lock file, the build backend too: nothing is resolved here.
$(INSTALLED): $(VENV)/.created requirements/dev.txt pyproject.toml $(RUST)
	$(BIN)/python -m pip install --require-hashes --requirement requirements/dev.txt
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.bench: $(INSTALLED) requirements/bench.txt
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/bench.txt
	touch $@
