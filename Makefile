# make demo: one picture to a 3D mouse.  make test: the whole suite.  make lint: what CI checks besides.
# Needs Python 3.11 or newer and, for the fast renderer, a C++ compiler; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt
# What the installation is made of: the metadata and the renderer's C++ sources, which are compiled by it.
SOURCES := pyproject.toml $(wildcard setup.py src/mouselift/render/native/*)
# Two thread pools that spin while they wait slow each other down several times on a small machine.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test lint clean

demo: .venv/.demo-installed
	$(BIN)/mouselift demo

test: .venv/.dev-installed
	$(BIN)/python -m pytest

lint: .venv/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

clean:
	rm -rf .venv build .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/.demo-installed: .venv/.torch-installed $(SOURCES)
	$(PIP_INSTALL) -e '.[foreground]'
	touch $@

.venv/.dev-installed: .venv/.torch-installed $(SOURCES)
	$(PIP_INSTALL) -e '.[foreground,dev]'
	touch $@

# torch comes first and alone: as somebody's dependency pip would take the newest, with gigabytes of CUDA.
.venv/.torch-installed: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("expected Python 3.11 or newer, found %d.%d: make PYTHON=/path/to/python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP_INSTALL) torch
	touch $@
