# Everything a newcomer needs: `make run`, `make test`, `make check`. `make help` lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test check format wheel clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The first import compiles a package; without its result every start takes seconds longer.
unexport PYTHONDONTWRITEBYTECODE

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python .ci/install.py '.[all]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python .ci/install.py '.[dev]'
	@touch $@ $(VENV)/.installed

run: $(VENV)/.installed ## Set up, then train the main job: model=small task=summarize
	$(BIN)/python -m gptexp.run model=small task=summarize

test: $(VENV)/.installed-dev ## Set up, then run the tests, one process a core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

check: $(VENV)/.installed-dev ## Lint, types, spelling, and compose every shipped config
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m gptexp.check

format: $(VENV)/.installed-dev ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: $(VENV)/.installed-dev ## Build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## Remove the environment and the build's leftovers (runs in outputs/ stay)
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
