# `make` lists the targets. Everything runs inside .venv; nothing is installed outside it.
# Options: STALE=1 executes stale notebooks, FORCE=1 all of them, PROFILE=smoke|cpu|gpu sets how much they do,
# NB=<slug> names one notebook, EXP=<name> one of its experiments, PY=<python> picks the
# interpreter for a new .venv, MINUTES=90 is how long `make weights-all` may take.

SHELL := /bin/bash
B := .venv/bin
PROFILE ?= cpu
MINUTES ?= 90
CANDIDATES := python3.11 python3.12 python3.13 python3.14 python3
# The first interpreter of the right version that can also make virtual environments.
PY ?= $(shell for python in $(CANDIDATES); do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11, 5) <= sys.version_info < (3, 15))' \
	2>/dev/null && echo $$python && break; done)
# Two workers with one thread each: OpenMP's threads would wait for each other otherwise.
PYTEST := OMP_NUM_THREADS=1 $(B)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help book site epub pdf execute study renew weights weights-all stale lab test test-fast test-units \
	test-notebooks lint student slides pages mutate harden bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# environment.yml names what to install, so that conda users and this file cannot drift apart.
.venv/.stamp: pyproject.toml constraints.txt environment.yml
	@test -x $(B)/python || { test -n "$(PY)" || { echo "error: no Python 3.11 to 3.14 with the\
	venv module found (tried $(CANDIDATES)); install one or run: make PY=/path/to/python" >&2; \
	exit 2; }; echo "making .venv with $(PY)"; $(PY) -m venv .venv; }
	@echo "installing under constraints.txt (minutes, about 2.2 GB, the first time)"
	@sed -n '/- pip:/,$$p' environment.yml | sed -n 's/^ *- //p' | grep -v '^pip:' > .requirements.tmp
	@$(B)/python -m pip install -q --disable-pip-version-check -r .requirements.tmp
	@rm .requirements.tmp && touch $@

book: .venv/.stamp ## install, render the site, name what is stale (STALE=1 executes it, FORCE=1 all)
	@$(B)/python -m gentok.book.notebook refresh --profile $(PROFILE) --run $(if $(FORCE),all,$(if $(STALE),stale,new))
	@$(MAKE) --no-print-directory site
	@echo "open $(CURDIR)/_build/html/index.html"

site: .venv/.stamp ## render the site from the committed outputs; warnings are errors
	@$(B)/jupyter-book build . --toc book/_toc.yml -W --keep-going -q

epub: .venv/.stamp ## the book for e-readers, in _build/epub; formulas stay as TeX
	@$(B)/python -m gentok.book epub

pdf: site ## the book as one PDF, in _build/pdf; printed by an installed Chromium
	@$(B)/python -m gentok.book pdf

execute: .venv/.stamp ## run one notebook and store its outputs (NB=enat PROFILE=cpu)
	@test -n "$(NB)" || { echo "error: say which: make execute NB=<slug>" >&2; exit 2; }
	@$(B)/python -m gentok.book.notebook execute $(NB) --profile $(PROFILE)

study: .venv/.stamp ## measure a notebook's claims over all seeds (NB=enat EXP=blocks)
	@test -n "$(NB)" || { echo "error: say which: make study NB=<slug>" >&2; exit 2; }
	@OMP_NUM_THREADS=1 $(B)/python -m gentok.book.notebook study $(NB) $(if $(EXP),--experiment "$(EXP)")

weights: .venv/.stamp ## train a system well and keep its weights (NB=enat, NB=base/vqgan)
	@test -n "$(NB)" || { echo "error: say which: make weights NB=<slug>" >&2; exit 2; }
	@$(B)/python -m gentok.book.weights make $(NB)

weights-all: .venv/.stamp ## make the weights that are missing, in MINUTES=90; goes on next time
	@$(B)/python -m gentok.book.weights all --minutes $(MINUTES) $(if $(FORCE),--force)

renew: .venv/.stamp ## prove by replay that changed code gives the same rows (NB= EXP=, or all)
	@OMP_NUM_THREADS=1 $(B)/python -m gentok.book.renew $(NB) $(if $(EXP),--experiment "$(EXP)")

stale: .venv/.stamp ## name the notebooks and experiments whose code has changed
	@$(B)/python -m gentok.book.notebook stale --profile $(PROFILE)

lab: .venv/.stamp ## open JupyterLab; saving a notebook writes both of its halves
	@$(B)/jupyter lab notebooks

test: lint test-units test-notebooks ## the whole suite: lint, tests, notebooks, site

test-units: .venv/.stamp
	@$(PYTEST) -m "not harden" tests

test-notebooks: .venv/.stamp
	@GENTOK_PROFILE=smoke $(PYTEST) --nbval-lax --nbval-current-env --nbval-cell-timeout=120 notebooks

test-fast: .venv/.stamp ## the quick part of the tests, under 3 minutes
	@$(PYTEST) -m "not slow and not book and not mutation and not harden" tests

lint: .venv/.stamp ## ruff, the floors of the library (import-linter), spelling
	@$(B)/ruff check . && $(B)/ruff format --check -q .
	@$(B)/lint-imports --no-cache
	@$(B)/codespell

student: .venv/.stamp ## copies without solutions, in _build/student, and graded assignments
	@$(B)/python -m gentok.book.notebook student

slides: .venv/.stamp ## a self-contained deck a part and a chapter, in _build/slides
	@$(B)/python -m gentok.book.notebook slides

pages: .venv/.stamp ## make again what follows from the registry and the stored runs
	@$(B)/python -m gentok.book.pages

mutate: .venv/.stamp ## break mechanisms on purpose; the tests must notice each
	@$(PYTEST) -m mutation tests

harden: .venv/.stamp ## damage files, kill runs, misspell commands, by the hundred (HARDEN_SEED=1 HARDEN_COUNT=200)
	@$(PYTEST) -m harden tests/harden

bench: .venv/.stamp ## the library beside its peers; writes a page of the book
	@OMP_NUM_THREADS=1 $(B)/python -m benchmarks

clean: ## remove what was built; .venv stays
	rm -rf _build .ruff_cache .import_linter_cache .hypothesis
