# Every target stands alone: on a fresh machine with Python >= 3.11 it first makes what it needs.
#   make demo    edit twelve pictures, write demo/contact_sheet.png and demo/report.json
#   make test    lint, types and tests
#   make ablations  the paper's ablations, small: docs/ablations.md and plots (hours; goes on when stopped)
#   make venv    the environment alone: .venv, with the `emu-edit` command in it
#   make lint    lint and types
#   make clean   remove what was made, the environment too

PYTHON ?= python3
# Override to choose another release, for instance: make venv TORCH=torch (the newest)
TORCH ?= torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# mypy wants to see the root folder under its package name, whatever the checkout is called.
ALIAS := $(VENV)/alias
CHECKED := -m emu_edit -p emu_edit.core -p emu_edit.nodes -p emu_edit.commands -p emu_edit.training -p emu_edit.benchmarks

.PHONY: venv demo test lint clean ablations
.DELETE_ON_ERROR:

venv: $(READY)

# torch goes in first and by itself, and its version then binds the rest: a resolver that is free to choose
# takes the newest torch with gigabytes of CUDA libraries, or replaces the one that is there.
$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "emu-edit needs Python 3.11 or newer, and there is no '$(PYTHON)' here; name another: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "emu-edit needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V); name another: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --constraint $(VENV)/constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/python -m emu_edit.commands.demo --out demo

ablations: $(READY)
	$(BIN)/python -m emu_edit.training.ablations --out docs

lint: $(READY)
	$(BIN)/python -m ruff check .
	@mkdir -p $(ALIAS) && ln -sfn ../.. $(ALIAS)/emu_edit
	MYPYPATH=$(ALIAS) $(BIN)/python -m mypy $(CHECKED)

test: lint
	$(BIN)/python -m pytest tests

clean:
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache tests/.pytest_cache
