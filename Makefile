# Everything runs in .venv, which is made on first use and again when pyproject.toml changes.
PYTHON ?= python3
PORT ?= 8321
DATA ?=
MEASUREMENTS ?=
# On Linux the default index serves PyTorch with CUDA, several gigabytes. For the CPU build alone:
# make install TORCH_INDEX=<PyTorch's CPU index>
TORCH ?= torch==2.13.0
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.PHONY: help install demo serve test outages check format bench clean

help:
	@echo 'make demo    install, then compress the example network on two devices and show the result'
	@echo 'make serve   the service and its pages on http://127.0.0.1:$(PORT)'
	@echo 'make test    every test but the next (servers, Ray and a browser among them)'
	@echo 'make outages tests that take database, store, disk or cluster away from a service; 20 minutes'
	@echo 'make check   format, lint, types, import contracts, fast tests'
	@echo 'make format  put the code into its format'
	@echo 'make bench   the figures of the README; DATA= and MEASUREMENTS= say where data lies'

install: $(VENV)/.installed

# One line says what is going on, one how long it took; pip speaks up only when something is wrong.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, $(PYTHON) is {sys.version.split()[0]}")'
	@echo 'Installing $(TORCH) and what else pyproject.toml names into $(VENV) (once; two to five minutes) ...'
	@$(PYTHON) -m venv $(VENV)
	@start=$$(date +%s) \
	  && $(PIP) install --quiet --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)' \
	  && $(PIP) install --quiet --quiet --editable '.[dev]' \
	  && echo "Installed in $$(($$(date +%s) - start)) s."
	@touch $@

demo: install
	@$(BIN)/tightfit demo

serve: install
	@$(BIN)/tightfit serve --port $(PORT)

# One thread each: networks in tests are small, and threads that wait for each other only slow them down.
test outages check: export OMP_NUM_THREADS = 1

# What starts servers, Ray or a browser measures time and has the machine for itself; the rest shares it.
test: install
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal
	$(BIN)/python -m pytest -m "slow and not outage"

# These say how long a service may take to notice and to recover, and have the machine for themselves.
outages: install
	$(BIN)/python -m pytest -m outage

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install
	$(BIN)/python -m benchmarks.overhead
	$(if $(DATA),$(BIN)/python -m benchmarks.quantization --data $(DATA))
	$(if $(MEASUREMENTS),$(BIN)/python -m benchmarks.cost_accuracy --data $(MEASUREMENTS))
	@$(if $(DATA),,echo 'left out: benchmarks.quantization, which needs DATA=folder with the data sets')
	@$(if $(MEASUREMENTS),,echo 'left out: benchmarks.cost_accuracy, which needs MEASUREMENTS=folder with published latencies')

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
