# Each target builds its own .venv first; nothing but Python 3.11+ and make is needed.
#   make demo      the main job on the embedded corpus: table and report in runs/demo
#   make test      the test suite          make lint      ruff, pyright, import contracts
#   make parity    PyTorch as the oracle   make realdata  real recordings beside the project
#   make results   the tables of docs/results.md           make perf   side by side with peers
PYTHON ?= python3
VENV ?= .venv
WORKDIR ?= runs/demo
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c requirements/lock.txt

.PHONY: demo test parity realdata lint format perf results clean
.DELETE_ON_ERROR:

demo: $(VENV)/.base
	$(BIN)/python run.py --config=configs/synthetic.py --mode=all --workdir=$(WORKDIR)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --ignore=tests/parity --ignore=tests/realdata

parity: $(VENV)/.parity
	$(BIN)/python -m pytest tests/parity

realdata: $(VENV)/.test
	$(BIN)/python -m pytest tests/realdata

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

perf: $(VENV)/.parity
	$(BIN)/python -m perf

results: $(VENV)/.base
	$(BIN)/python docs/make_results.py

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .hypothesis

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $$($(PYTHON) --version 2>&1) was found:" \
	         "make PYTHON=/path/to/python3.11 ..." >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.base: $(VENV)/.created pyproject.toml requirements/lock.txt
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) -e '.[lint]'
	@touch $@

$(VENV)/.parity: $(VENV)/.test
	$(PIP) torch==2.13.0
	@touch $@
