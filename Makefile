# install: what a user needs; demo: one real sweep; up, down: the service in containers (deploy/README.md);
# test, lint, test-deploy: what CI runs; bench: beside the peers.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: install dev demo up down test test-deploy lint bench clean

install: $(VENV)/.installed
dev: $(VENV)/.dev

$(VENV)/.installed: pyproject.toml constraints.txt setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) -e '.[dev]'
	touch $@

demo: install
	$(BIN)/sweeper run --dataset digits --space mlp --trials 64 --name demo

up: .env
	docker compose up --detach --build --wait
	@echo 'The first token, an admin'\''s: docker compose exec sweeper cat first-token (then rm it)'

down:
	docker compose down

.env:
	umask 077 && sh deploy/make-env.sh deploy/env.example >$@.new && mv $@.new $@

# Three processes on two cores: tests wait for other processes much of the time.
test: dev
	$(BIN)/python -m pytest -m 'not docker' --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Builds, starts and breaks the stack; installs a Docker Engine on Debian as root, or says loudly that it was skipped.
test-deploy: dev
	tests/deploy/with-engine.sh $(BIN)/python -m pytest tests/deploy

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: dev
	$(PIP) -e '.[dev,bench]'
	$(BIN)/python -m benchmarks

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
