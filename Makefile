# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check bench clean

demo: $(STAMP)
	rm -rf demo
	$(BIN)/whenabouts demo --out demo

# A process a core, each with one thread: threads that wait for a busy core spin. In the order of the
# folders: the longest files, of the commands, come first.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 \
	    --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_floors.py

bench: $(STAMP)
	$(BIN)/python bench/run.py

# constraints.txt pins torch: an open range takes gigabytes of CUDA packages.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
