# The two commands of the README; each makes .venv where there is none and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
# pip would compile all modules, which takes half a minute; most are never imported. Those that are
# must be compiled once, though, and not by each of the hundred processes that tests start.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# For the Python in .venv, which is there by the time a recipe asks.
PINNED = requirements/py$(shell $(BIN)/python -c 'import sys; print("%d%d" % sys.version_info[:2])').txt
CONSTRAINT = $(if $(wildcard $(PINNED)),--constraint $(PINNED))
WORKDIR ?= runs/quickstart

.PHONY: quickstart test lint docs wheel-test clean

quickstart: .venv/installed
	$(BIN)/python -m qad_jax.main --config configs/quickstart.py --workdir $(WORKDIR) \
		--config.dataset.data_dir=runs/data

test: .venv/installed-test
	$(BIN)/python -m pytest

lint: .venv/installed-test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

docs: .venv/installed-docs
	$(BIN)/python docs/build.py build/site
	@echo build/site/index.html

# The tests against the built wheel: outside of the checkout, in an environment of its own.
wheel-test: .venv/installed-test
	rm -rf build/wheel && mkdir -p build/wheel/tree
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(BIN)/python -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check \
		$(CONSTRAINT) "$$(ls build/wheel/*.whl)[test]"
	cp -r tests pyproject.toml build/wheel/tree
	cd build/wheel/tree && ../venv/bin/python -m pytest -m 'not checkout'

clean:
	rm -rf build .venv .cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml $(wildcard requirements/*.txt)
	@echo "installing (a minute)$(if $(CONSTRAINT),,: the newest versions, as there is no $(PINNED))"
	$(INSTALL) $(CONSTRAINT) --editable .
	@touch $@

.venv/installed-test: .venv/installed
	$(INSTALL) $(CONSTRAINT) --editable '.[test]'
	@touch $@

.venv/installed-docs: .venv/installed
	$(INSTALL) $(CONSTRAINT) --editable '.[docs]'
	@touch $@
