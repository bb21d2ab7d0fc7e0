# Two words do everything: `make demo` and `make test`. Both make .venv first if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-fast lint audit docs reference pictures install clean help

help:
	@echo "make demo        install, then generate-data, train, evaluate, recommend, ab-test"
	@echo "make test        install what the tests need, run them all"
	@echo "make test-fast   the same without those marked slow"
	@echo "make lint        ruff, and mypy for the types"
	@echo "make audit       known holes in what is installed, where a database of them is in reach"
	@echo "make docs        the documents as a site that opens from disk: build/site/index.html"
	@echo "make reference   write the pages again that the program writes about itself"
	@echo "make pictures    draw the pictures of the README again, from the run in use"
	@echo "make clean       remove .venv, data/world and artifacts"

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/installed-tests: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[test]'
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	@touch $@

install: $(VENV)/installed

demo: install
	$(BIN)/recsys generate-data
	$(BIN)/recsys train
	$(BIN)/recsys evaluate
	$(BIN)/recsys recommend --user 1
	$(BIN)/recsys ab-test configs/experiments/diversity.yaml
	@echo
	@echo "That was the whole loop. Next:"
	@echo "  . $(BIN)/activate"
	@echo "  recsys recommend --user 2 --explain               why each item is there"
	@echo "  recsys recommend --user 1 --format json | head    the same for programs"
	@echo "  recsys config show                                every setting, and where it came from"
	@echo "  recsys train --set ranking.heavy.epochs=3         try a setting; then: recsys runs compare"
	@echo "  recsys import-data --guess FILE...                your own data: a mapping is written from the files"

test: $(VENV)/installed-tests
	$(BIN)/python -m pytest -n auto --dist loadfile

test-fast: $(VENV)/installed-tests
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

lint: $(VENV)/installed-tests
	$(BIN)/ruff check .
	$(BIN)/mypy

audit: $(VENV)/installed-tests
	$(BIN)/python .ci/audit.py

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --config-file .ci/mkdocs.yml
	@echo "open build/site/index.html"

reference: install
	$(BIN)/python -m recsys_cli.cli.reference

pictures: install
	$(BIN)/python .ci/pictures.py

clean:
	rm -rf $(VENV) build/site data/world artifacts/runs artifacts/work artifacts/logs artifacts/reports artifacts/current
