# Each target builds its own .venv first; nothing but Python 3.11+ and make is needed.
#   make demo      the main job on the embedded corpus: table and report in runs/demo
#   make test      the test suite          make lint      ruff, pyright, import contracts
#   make parity    PyTorch as the oracle   make realdata  recordings in METAPERSER_DATA
#   make results   the tables of docs/results.md
#   make perf      docs/performance.md and the pages it names: speed, beside peers
#   make encoders  docs/encoders.md: the encoders beside PyTorch, number by number
PYTHON ?= python3
VENV ?= .venv
WORKDIR ?= runs/demo
export METAPERSER_DATA ?= ../shared/data
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c requirements/lock.txt

.PHONY: demo test parity realdata realdata-folder lint format perf encoders results clean
.DELETE_ON_ERROR:

demo: $(VENV)/.base
	$(BIN)/python run.py --config=configs/synthetic.py --mode=all --workdir=$(WORKDIR)

# Compiled without LLVM's optimisations: with them compiling takes most of the time. The
# other targets, and what users run, compile with all of them. A worker takes whole files:
# what a file sets up and compiles is then done once.
test: export XLA_FLAGS ?= --xla_backend_optimization_level=0
test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist=loadfile --no-loadscope-reorder --durations=20 \
	  --ignore=tests/parity --ignore=tests/realdata

parity: $(VENV)/.parity
	$(BIN)/python -m pytest tests/parity

realdata: realdata-folder $(VENV)/.test
	$(BIN)/python -m pytest tests/realdata

realdata-folder:
	@test -d "$$METAPERSER_DATA" || \
	  { echo "make realdata: METAPERSER_DATA=$$METAPERSER_DATA is no folder: name the one" \
	         "that holds the real recordings and ratings" >&2; exit 2; }

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

perf: $(VENV)/.parity
	$(BIN)/python -m perf
	$(BIN)/python -m perf.encoders
	$(BIN)/python -m perf.extraction $(METAPERSER_DATA)/emodb
	$(BIN)/python docs/make_encoders.py --speed
	$(BIN)/python -m perf.error_rates
	$(BIN)/python -m perf.scoring

encoders: $(VENV)/.parity
	$(BIN)/python docs/make_encoders.py

results: $(VENV)/.base
	$(BIN)/python docs/make_results.py

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .hypothesis .import_linter_cache

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

# higher is a peer in perf/ alone; where it cannot be had, the page says so.
$(VENV)/.parity: $(VENV)/.test
	$(PIP) torch==2.13.0
	-$(PIP) higher==0.2.1
	@touch $@
