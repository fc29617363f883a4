# Everything is installed into .venv and kept in .runtimedb; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export RUNTIMEDB_HOME ?= $(CURDIR)/.runtimedb
export DAGSTER_HOME ?= $(RUNTIMEDB_HOME)/dagster
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PORT ?= 3000
SECONDS ?= 60
EXTRAS_LOCKED := ui downstream postgresql s3 workers ducklake iceberg motherduck
TESTS := runtimedb_dagster_tests
# Six parts side by side, which mostly wait: for a disk, for servers, for a daemon's minutes.
CORE := $(TESTS)/unit $(TESTS)/catalog $(TESTS)/engine $(TESTS)/query
STORAGES := $(TESTS)/storage $(TESTS)/stress $(TESTS)/cli
SPREAD := $(TESTS)/deployment/test_spread.py $(TESTS)/deployment/test_workers.py \
	$(filter-out %/test_jobs.py,$(wildcard $(TESTS)/dagster/test_*.py))
SOURCES := $(TESTS)/sources
DEPLOYMENT := $(TESTS)/deployment/test_deployment.py $(TESTS)/deployment/test_browser.py
JOBS := $(TESTS)/dagster/test_jobs.py $(TESTS)/deployment/test_demo.py
REPEAT ?= 20
STORAGE ?= files
MINUTES ?= inf
OF ?= signals
PYTEST = env -u RUNTIMEDB_HOME -u DAGSTER_HOME $(BIN)/python -m pytest

.PHONY: help demo dev instance test test-core test-storages test-sources test-deployment test-spread test-jobs torture campaign regress race soak crowd fuzz lock audit lint bench docs format clean

help:
	@echo "make demo    a real database, connected, materialized by Dagster, queried"
	@echo "make dev     the Dagster UI on port $(PORT), over the same instance"
	@echo "make test    all tests"
	@echo "make torture every fault REPEAT=$(REPEAT) times on every catalog and storage (80 minutes on 2 cores; MINUTES=15 ends it sooner)"
	@echo "make campaign OF=signals (or store, or mute) MINUTES=15: what is drawn by lot, for as long as is said"
	@echo "make regress     PostgreSQL's and MariaDB's own test databases, every value compared (Debian; 15 minutes)"
	@echo "make race    refreshes by changes against writers for SECONDS=$(SECONDS), each against a full read"
	@echo "make soak    everything at once for SECONDS=$(SECONDS) on STORAGE=$(STORAGE) (or s3), while servers restart and clocks are off"
	@echo "make lint    ruff, mypy, import-linter"
	@echo "make crowd   many processes over the same tables (SECONDS=60 for each storage)"
	@echo "make fuzz    a fuzzer on URLs, options, requests, queries and types (SECONDS=60)"
	@echo "make audit   requirements.lock against the published vulnerabilities; make lock renews it"
	@echo "make bench   speed against the sources' own clients and other tools (half an hour)"

demo: $(VENV)/demo.stamp instance
	@$(BIN)/python examples/demo.py

dev: $(VENV)/demo.stamp instance
	$(BIN)/dagster dev -p $(PORT)

test: $(VENV)/test.stamp
	@$(MAKE) --no-print-directory -j6 --output-sync=target test-core test-storages test-sources test-deployment test-spread test-jobs

# Each prints when it is done.
test-core:
	@$(PYTEST) $(CORE)
test-storages:
	@$(PYTEST) $(STORAGES)
test-sources:
	@$(PYTEST) $(SOURCES)
test-deployment:
	@$(PYTEST) $(DEPLOYMENT)
test-spread:
	@$(PYTEST) $(SPREAD)
test-jobs:
	@$(PYTEST) $(JOBS)

# Kills, errors, lost answers and delays at every failpoint; one table, and exit status 1 on any failure.
torture: $(VENV)/test.stamp
	@env -u RUNTIMEDB_HOME -u DAGSTER_HOME $(BIN)/python -W ignore -m $(TESTS).stress.torture --repeat $(REPEAT) --minutes $(MINUTES)

# Signals to processes, a store that misbehaves, sources that go mute, all at random; one table, and exit status 1.
campaign: $(VENV)/test.stamp
	@env -u RUNTIMEDB_HOME -u DAGSTER_HOME $(BIN)/python -W ignore -m $(TESTS).stress.torture.campaign $(OF) --minutes $(MINUTES)

# What other projects test themselves with, from Debian's packages, on servers of the tests' own.
regress: $(VENV)/test.stamp
	@env -u RUNTIMEDB_HOME -u DAGSTER_HOME $(BIN)/python -W ignore -m $(TESTS).stress.regress --cache $(VENV)/regress

# Refreshes by changes against writers, DDL and restarts, each compared with a full read of the same snapshot.
race: $(VENV)/test.stamp
	@env -u RUNTIMEDB_HOME -u DAGSTER_HOME $(BIN)/python -W ignore -m $(TESTS).stress.race --seconds $(SECONDS)

# Refreshes, readers, sweeps, changes, restarts at once, on two servers of its own; by hand, for it takes its time.
soak: $(VENV)/test.stamp
	@env -u RUNTIMEDB_HOME -u DAGSTER_HOME $(BIN)/python -W ignore -m $(TESTS).stress.soak --seconds $(SECONDS) --storage $(STORAGE)

lint: $(VENV)/lint.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict deploy
	$(BIN)/check-jsonschema -q --builtin-schema vendor.compose-spec deploy/docker-compose.yaml

# Speed, by hand: half an hour, and figures that mean something on a quiet machine only.
# BENCH="--only postgresql --repeat 3 --scale 0.1" for a part.
bench: $(VENV)/bench.stamp
	$(BIN)/python -W ignore -m benchmarks.run $(BENCH)

# 32 processes that refresh the same tables, query them and sweep; fails if anything is lost, torn or left over.
crowd: $(VENV)/test.stamp
	@$(BIN)/python -W ignore -m runtimedb_dagster_tests.stress.torture.crowd --seconds $(SECONDS) --storage files
	@$(BIN)/python -W ignore -m runtimedb_dagster_tests.stress.torture.crowd --seconds $(SECONDS) --storage s3

# A fuzzer on what is read from outside.
fuzz: $(VENV)/fuzz.stamp
	@$(BIN)/python -W ignore -m runtimedb_dagster_tests.stress.torture.fuzz --seconds $(SECONDS)

# What the newest releases allowed by pyproject.toml are, with hashes, for all supported Pythons and systems.
lock: $(VENV)/audit.stamp
	@$(BIN)/uv pip compile -q pyproject.toml $(EXTRAS_LOCKED:%=--extra %) --universal --python-version 3.10 \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements.lock

# The locked releases against the published vulnerabilities; needs the network.
audit: $(VENV)/audit.stamp
	@$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements.lock

# The pages that are made from the code.
docs: $(VENV)/test.stamp
	@$(BIN)/python -m runtimedb_dagster_tests.support.pages docs

format: $(VENV)/lint.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Made once and by one process: several that open an empty instance at once break its database.
instance: $(VENV)/demo.stamp
	@mkdir -p "$(DAGSTER_HOME)"
	@ln -sf "$(CURDIR)/dagster.yaml" "$(DAGSTER_HOME)/dagster.yaml"
	@output=$$($(BIN)/dagster instance migrate 2>&1) || { echo "$$output"; exit 1; }

clean:
	rm -rf $(VENV) .runtimedb

# One stamp per set of dependencies, made again when pyproject.toml changes.
$(VENV)/demo.stamp: EXTRAS := ui,demo
$(VENV)/test.stamp: EXTRAS := ui,demo,test
$(VENV)/lint.stamp: EXTRAS := ui,demo,test,lint
$(VENV)/bench.stamp: EXTRAS := ui,demo,test,bench
$(VENV)/audit.stamp: EXTRAS := audit
$(VENV)/fuzz.stamp: EXTRAS := ui,demo,fuzz
$(VENV)/%.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e ".[$(EXTRAS)]"
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "The venv module is missing; on Debian: apt install python3-venv"; exit 1; }
