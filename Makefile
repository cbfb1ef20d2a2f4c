# `make demo` and `make test` are all that a fresh machine needs. Everything runs in .venv, which is set up once from
# PYTHON with the versions in constraints.txt, and again only when one of these two files changes.

PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
READY := .venv/.ready

.PHONY: docs demo demo-quick test coverage mutants test-versions test-pythons test-clients lint types format licences benchmark clean help
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(READY)  ## diffusion beside random choice on handwritten digits: one to three minutes (ARGS="--seeds 2" ...)
	$(BIN)/diffal demo $(ARGS)

demo-quick: $(READY)  ## the same in half a minute
	$(BIN)/diffal demo --quick $(ARGS)

test: $(READY)  ## the whole test suite, with the examples in the documentation
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile $(ARGS)

coverage: $(READY)  ## branch coverage of the package by its tests, subprocesses included; fails under 95 % (slow)
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --cov --cov-report=term --cov-fail-under=95 $(ARGS)

mutants: $(READY)  ## change one thing at a time and see whether tests notice (ARGS="pool --every 5"; slow)
	$(BIN)/python tests/benchmarks/mutants.py $(ARGS)

test-versions: $(READY)  ## what touches Lightning, on Lightning 2.2 to 2.6 and on lightning.pytorch
	$(BIN)/python tests/versions.py $(ARGS)

test-pythons:  ## the tests on each Python from 3.10 to 3.14 that is on PATH, or that uv brings (ARGS="3.12")
	for version in $(or $(ARGS),3.10 3.11 3.12 3.13 3.14); do \
	    if python$$version -c '' 2>/dev/null; then python$$version -m venv --clear .pythons/$$version; \
	    else uv python install $$version && uv venv --clear --seed --python $$version .pythons/$$version; fi && \
	    .pythons/$$version/bin/python -m pip install --quiet -c constraints.txt -e '.[dev]' && \
	    .pythons/$$version/bin/python -m pytest -n auto --maxprocesses 8 --dist loadfile || exit 1; done

test-clients: .venv-clients/.ready .venv-peers/.ready  ## models of a dozen libraries, and the peers' code, in environments of their own (large)
	LIGHTNING_DIFFAL_NAMESPACE=lightning.pytorch .venv-clients/bin/python -m pytest -o addopts= -q -rs tests/clients $(ARGS)
	LIGHTNING_DIFFAL_NAMESPACE=pytorch_lightning .venv-clients/bin/python -m pytest -o addopts= -q -rs \
	    tests/clients/test_tables.py "tests/docs/test_pages.py::test_the_code_of_a_page_runs[images]" $(ARGS)
	.venv-peers/bin/python -m pytest -o addopts= -q -rs tests/clients/test_peers.py

.venv-clients/.ready: pyproject.toml constraints.txt tests/clients/constraints.txt
	$(PYTHON) -m venv --clear .venv-clients
	grep -vE '^(torch|torchmetrics|pandas)==' constraints.txt > .venv-clients/constraints.txt
	.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check \
	    -c .venv-clients/constraints.txt -c tests/clients/constraints.txt -e '.[clients]'
	@touch $@

.venv-peers/.ready: pyproject.toml constraints.txt tests/clients/peers.txt
	$(PYTHON) -m venv --clear .venv-peers
	grep -vE '^(scikit-learn)==' constraints.txt > .venv-peers/constraints.txt
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check \
	    -c .venv-peers/constraints.txt -e . -r tests/clients/peers.txt
	@touch $@

lint: $(READY)  ## style, and that imports run downwards
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)  ## types, strictly
	$(BIN)/mypy

format: $(READY)  ## fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

licences: $(READY)  ## name, version and licence of everything that is installed
	@$(BIN)/python tests/licences.py

docs: $(READY)  ## the documentation, into docs/_build (warnings are errors)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

benchmark: $(READY)  ## timings of the parts that must stay fast
	$(BIN)/python -m pytest -o addopts= tests/benchmarks $(ARGS)
	$(BIN)/python tests/benchmarks/speed.py --write docs/reference/speed.md $(SPEED)

clean:  ## remove the environment, caches and results
	rm -rf .venv .venv-clients .venv-peers build dist docs/_build *.egg-info .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache .versions .pythons lightning_logs runs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "Python 3.10 or newer is needed, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1 || true)." \
	        "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) -V) (once; torch is large)"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
