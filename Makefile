# Every way of working, one target each. `make help` lists them; .ci/run calls the same ones.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := console controlplane media themes
PYTEST_ARGS ?=
DURATION ?= 30m
VIEWERS ?= 300

.DEFAULT_GOAL := help
.PHONY: help setup run test check fmt bench soak docs snapshots lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16

setup: $(VENV)/.run  ## makes .venv with what the program needs, and nothing else

$(VENV)/.run: requirements.lock pyproject.toml
	@PYTHON=$(PYTHON) .ci/system-packages run
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up .venv (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "adding what the tests and checks need to .venv (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

run: setup  ## opens the console on an embedded stage (without a terminal: runs the test broadcast)
	@exec $(BIN)/showcaller

# First of all, so that one command names everything that is missing.
.PHONY: test-packages
test-packages:
	@PYTHON=$(PYTHON) .ci/system-packages test

test: test-packages $(VENV)/.dev  ## passes every test, in two lanes; PYTEST_ARGS="-k name" narrows it, "-n 0" takes one lane
	@$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

check: $(VENV)/.dev  ## lint, formatting, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fmt: $(VENV)/.dev  ## formats the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench-packages
bench-packages:
	@PYTHON=$(PYTHON) .ci/system-packages bench

bench: bench-packages $(VENV)/.dev  ## measures, as ratios and percentiles of one run; writes bench/results/latest.json
	@$(BIN)/python -m bench

soak: test-packages $(VENV)/.dev  ## thirty minutes of 300 viewers: memory stays flat, no descriptor is left; DURATION=5m VIEWERS=50
	@$(BIN)/python -m tests.soak --seconds $(DURATION) --viewers $(VIEWERS)

docs: $(VENV)/.dev  ## makes the generated pages anew (state diagrams)
	$(BIN)/python -m controlplane.domain.diagrams

snapshots: $(VENV)/.dev  ## makes the golden screens, SDP answers and wire answers anew (look at the diff)
	SHOWCALLER_GOLDEN=new $(BIN)/python -m pytest -q tests/console/screens/test_golden.py tests/media/golden \
		tests/controlplane/services/test_events.py

lock: $(VENV)/.dev  ## pins every dependency anew, with hashes and no index named
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade pyproject.toml --group build -o requirements.lock
	$(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --group build --group dev -o requirements-dev.lock

clean:  ## removes .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
