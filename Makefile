# The two commands of the README; each makes .venv where there is none and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# For the Python in .venv, which is there by the time a recipe asks.
PINNED = requirements/py$(shell $(BIN)/python -c 'import sys; print("%d%d" % sys.version_info[:2])').txt
CONSTRAINT = $(if $(wildcard $(PINNED)),--constraint $(PINNED))
WORKDIR ?= runs/quickstart

.PHONY: quickstart test clean

quickstart: .venv/installed
	$(BIN)/python -m qad_jax.main --config configs/quickstart.py --workdir $(WORKDIR) \
		--config.dataset.data_dir=runs/data

test: .venv/installed-test
	$(BIN)/python -m pytest

clean:
	rm -rf .venv .cache runs

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml $(wildcard requirements/*.txt)
	@echo "installing (a minute)$(if $(CONSTRAINT),,: the newest versions, as there is no $(PINNED))"
	$(INSTALL) $(CONSTRAINT) --editable .
	@touch $@

.venv/installed-test: .venv/installed
	$(INSTALL) $(CONSTRAINT) --editable '.[test]'
	@touch $@
