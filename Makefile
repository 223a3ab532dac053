# Each target makes .venv, installs into it what it needs, and runs. Nothing is installed twice:
# a stamp in .venv is younger than the three files that say what to install.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test coverage lint docs site bench
.NOTPARALLEL:

help:
	@echo "make demo    fit the detectors on scikit-learn's data and print a table"
	@echo "make test    run the tests and the examples in docstrings"
	@echo "make coverage    say which lines and branches the tests miss; build/coverage/html"
	@echo "make lint    check style, format, types, and known weaknesses of what is installed"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make site    build it and test every page in Chromium: links, widths, errors"
	@echo "make bench   measure speed; with DATA=folder also quality (benchmarks/README.md)"
	@echo "Another Python than python3: make test PYTHON=python3.12"

demo: $(VENV)/.installed-demo
	$(BIN)/gandetect demo

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

coverage: $(VENV)/.installed-test
	mkdir -p build/coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal \
	    --cov --cov-report= --cov-fail-under=0
	$(BIN)/python -m coverage html --directory build/coverage/html
	$(BIN)/python -m coverage report

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/ruff format --check --line-length 75 --config "format.exclude = ['*.py', '*.pyi']"
	$(BIN)/mypy
	.ci/audit $(BIN)/python

docs: $(VENV)/.installed-docs
	rm -rf docs/api/generated docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -E -b html docs docs/_build/html

site: docs $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow tests/docs/test_site.py

bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/speed.py
ifdef DATA
	mkdir -p build
	$(BIN)/python benchmarks/quality.py --data "$(DATA)" --protocol adbench --out build/adbench.csv
	$(BIN)/python benchmarks/report.py build/adbench.csv
endif

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "gandetect needs Python 3.11 or newer, and \"$(PYTHON)\" is not:" \
	        "name one that is, as in: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	    echo "$(PYTHON) could not make $(VENV); on Debian and Ubuntu:" \
	        "apt install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.installed-%: setup.cfg pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing gandetect[$*] into $(VENV), once. torch is large: this can take minutes."
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[$*]"
	@touch $@
