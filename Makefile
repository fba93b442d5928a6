# make demo: everything once on digits. make test: every check. Both install what they need first.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
QUICK := not slow and not network and not gpu

.PHONY: setup demo test test-long promises lint types reference results bench screenshots requirements clean

demo: $(INSTALLED)
	$(BIN)/harness demo --out demo

test: $(INSTALLED) lint types
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "$(QUICK)"

test-long: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

# Every test that docs/promises.md names, the slow ones included.
promises: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto $$(grep -o 'tests/[a-z_/.]*' docs/promises.md | sort -u)

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(INSTALLED)
	$(BIN)/mypy

setup: $(INSTALLED)

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# The command reference, from --help, and what the site says of defenses and attacks; tests compare.
reference: $(INSTALLED)
	$(BIN)/python -m harness.cli.reference > docs/commands.md
	$(BIN)/python -c 'from harness.cli.site_texts import write; write()'

# The project's own results.db and docs/results.md, from nothing; hours on 2 cores, and it resumes.
results: $(INSTALLED)
	$(BIN)/python -m harness.cli.published

# Every comparison with the peers, side by side: benchmarks/results.json and docs/performance.md.
# Under 15 minutes on 2 cores, once the model of the comparisons is trained. BENCH="--device cuda".
bench: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --group bench
	$(BIN)/python -m benchmarks $(BENCH)

# The pictures of the site in the README, from results.db; needs Chromium.
screenshots: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python docs/screenshots.py

# The pinned requirements, after pyproject.toml changed.
requirements:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-header --extra dev pyproject.toml -o requirements.txt

clean:
	rm -rf .venv demo dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
