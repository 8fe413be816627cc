# Everything lives in .venv, made from the project's own files. Python: any 3.11+ (PYTHON=python3.12 make ...).
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/distilc

.PHONY: help demo test quick schema lint bench clean

help:  ## what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1  \t/'

demo: .venv/installed  ## the quick start: a teacher, a student, a table (minutes; CPU, two processes)
	$(RUN) run specs/quickstart.yaml --devices 2

test: .venv/installed  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q

quick: .venv/installed  ## tests that start no runs and take less than a minute
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q -m "not slow"

schema: .venv/installed  ## put what is registered into schema/experiment.schema.json, for editors
	$(RUN) schema > experiment.schema.new
	@mv experiment.schema.new schema/experiment.schema.json

lint: .venv/installed  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy compiler runtime

bench: .venv/installed  ## speed, as ratios within one run
	$(BIN)/python tests/benchmarks/bench.py

# torch comes first and alone: with the pinned version there, nothing pulls another build.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:  ## remove .venv and caches; .distilc (your results) stays
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
