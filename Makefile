# Two commands matter: `make demo` and `make test`. Both share one environment, .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Debian packages that everything needs beyond python3, python3-venv, make and git: none so far; and those of tests alone.
DEBIAN_PACKAGES :=
DEBIAN_TEST_PACKAGES := blender chromium ffmpeg gcc libc6-dev

.DEFAULT_GOAL := help
# Of a long run of the state machine; the seed it prints repeats it.
EXAMPLES ?= 10000
SEED ?= $(shell date +%s)
# Of each route that `make fuzz` asks, beside those that its schema is covered with.
QUESTIONS ?= 100
# How often each of the tests that kill things does so.
ROUNDS ?= 5
# And how many requests those that lose requests and answers make.
OPERATIONS ?= 100000

# How long `make soak` loads an engine.
MINUTES ?= 120

.PHONY: help demo lessons test faults scale soak machine fuzz bench lint format check audit lock docs screenshots build clean system browser

help:  ## Say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED)  ## Run the main job on real photographs
	@$(BIN)/python notebooks/demo.py

lessons: $(INSTALLED)  ## Run the notebooks after the quickstart
	@$(BIN)/python notebooks/lessons.py $(ARGS)

test: $(INSTALLED) browser  ## Run all tests
	@$(BIN)/python -m pytest $(ARGS)

faults: $(INSTALLED) browser  ## Run the tests that break things, in their long form
	@DCENGINE_FAULTS=long DCENGINE_ROUNDS=$(ROUNDS) DCENGINE_OPERATIONS=$(OPERATIONS) $(BIN)/python -m pytest tests/faults -s --timeout 0 $(ARGS)

soak: $(INSTALLED)  ## Do everything at once for two hours, and look what grows
	@$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) $(ARGS)

machine: $(INSTALLED)  ## Do anything to projects, in any order, for hours
	@echo "seed $(SEED)"
	@DCENGINE_MACHINE=$(EXAMPLES) $(BIN)/python -m pytest tests/faults/test_state_machine.py --hypothesis-seed=$(SEED) $(ARGS)

scale: $(INSTALLED) browser  ## Look at the dashboard of 10^6 jobs and 5,000 workers
	@DCENGINE_SCALE=long $(BIN)/python -m pytest tests/acceptance/test_dashboard_scale.py -s --timeout 0 $(ARGS)

fuzz: $(INSTALLED)  ## Ask the HTTP server anything, made from its OpenAPI document, for long
	@echo "seed $(SEED)"
	@DCENGINE_FUZZ=$(QUESTIONS) DCENGINE_FUZZ_SEED=$(SEED) $(BIN)/python -m pytest tests/acceptance/test_schemathesis.py $(ARGS)

bench: $(INSTALLED)  ## Measure, with the peers beside us
	@$(BIN)/python -m benchmarks.store
	@$(BIN)/python -m benchmarks.functions
	@$(BIN)/python -m benchmarks.tracker
	@$(BIN)/python -m benchmarks.notebook
	@$(BIN)/python -m benchmarks.imports
	@$(BIN)/python -m benchmarks.faults
	@$(BIN)/python -m benchmarks.render
	@$(BIN)/python -m benchmarks.events

lint: $(INSTALLED)  ## Check style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(INSTALLED)  ## Put the code into its form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

check: lint test  ## What a review asks for

audit: $(INSTALLED)  ## Look up known vulnerabilities of what is installed; asks a service on the internet
	@$(BIN)/pip-audit --local --skip-editable --progress-spinner off $(ARGS)

lock: $(INSTALLED)  ## Choose the newest versions of all dependencies, for every Python at once
	@$(BIN)/uv pip compile --quiet --universal --upgrade --all-extras --group dev --python-version 3.10 \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--output-file constraints.txt pyproject.toml

docs: $(INSTALLED)  ## Write the generated pages
	@$(BIN)/python -m dcengine.config > docs/settings.md.new
	@mv docs/settings.md.new docs/settings.md
	@$(BIN)/python -c 'from dcengine.server.reference import main; main()' > docs/http.md.new
	@mv docs/http.md.new docs/http.md

screenshots: $(INSTALLED) browser  ## Take the pictures of the dashboard anew
	@DCENGINE_PICTURES=docs/pictures $(BIN)/python -m pytest tests/acceptance/test_dashboard_pictures.py -q $(ARGS)

build: $(INSTALLED)  ## Make wheel and sdist in dist/
	@$(BIN)/python -m build --no-isolation

clean:  ## Remove the environment and all caches; jobs are kept
	@rm -rf $(VENV) dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment: made once, renewed when the dependencies change.
$(INSTALLED): pyproject.toml constraints.txt | system
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "dcengine needs Python 3.10 or newer; name one: make PYTHON=python3.12 ...")'
	@echo "Installing into $(VENV) (a minute or two, once) ..."
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,bench]' --group dev
	@touch $@

# Debian packages: installed where that is allowed, named where it is not. Tests without theirs are skipped.
system:
	$(call install,$(DEBIAN_PACKAGES))

browser:
	-$(call install,$(DEBIAN_TEST_PACKAGES))

define install
@missing=""; \
	for package in $(1); do \
		dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	else \
		echo "These Debian packages are missing, and installing them takes root: apt-get install$$missing"; \
	fi
endef
