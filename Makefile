# Two commands are enough: `make book` and `make test`. Both make .venv first; `make help` lists the rest.
PYTHON ?= python3
BIN    := .venv/bin
EXP    ?= phase_transition

# One process a core: notebooks and tests run side by side, each with one thread that waits without spinning.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export RHMDIFF_ROOT := $(CURDIR)
unexport IN_TEST

.PHONY: help env book pdf test lint sync notebooks pytest check coverage mutants reference status readme clean clean-all
.DEFAULT_GOAL := help

help:
	@echo 'make book       the book: install, run one experiment (quick preset), show the results of all, render;'
	@echo '                prints the path of its front page, and the times of the install and of the book'
	@echo 'make pdf        the book as one PDF, printed by Chromium: book/_build/rhmdiff.pdf'
	@echo 'make test       lint, export in sync, notebooks, pytest, a small book in the browser; prints the slowest parts'
	@echo 'make lint       ruff over notebooks, modules, tests and benchmarks; mypy over rhmdiff; codespell; prose'
	@echo 'make check      make test, 2,000 random grammars, the slow tests (which measure a slice of all reference results'
	@echo '                again), and every page of the full book in the browser'
	@echo 'make coverage   the lines of the library that notebooks and tests reach, at least 95 %'
	@echo 'make mutants    changes in lines of the exact modules that no test notices, of 60 a module: 25 minutes on a core'
	@echo '                (make mutants EACH=10 SEED=1 MODULES="grammar engine/passes" for another sample)'
	@echo 'make status     every experiment: the state of its reference results, and what they cost'
	@echo 'make reference EXP=phase_transition   the reference preset of an experiment, results into book/reference/'
	@echo 'make readme     README.md from nbs/index.ipynb'
	@echo 'make env        only the environment, .venv (make PYTHON=python3.12 for another interpreter;'
	@echo '                TORCH_INDEX=https://download.pytorch.org/whl/cpu for a build of torch without CUDA)'
	@echo 'make clean      remove what was built; make clean-all removes .venv as well'

# The stamp is newer than the files that say what is installed, so a second make installs nothing.
env: .venv/installed
.venv/installed: install.py pyproject.toml constraints.txt
	$(PYTHON) install.py $(TORCH_INDEX)

book: env
	$(BIN)/python book/build.py

pdf: book
	$(BIN)/python book/pdf.py

# Each part of `make test` leaves its seconds in .venv/parts.
timed = @start=$$(date +%s); echo "== $(1)"; $(2) || exit 1; echo "$$(($$(date +%s) - start)) s  $(1)" >> .venv/parts

test: env
	@rm -f .venv/parts
	@$(MAKE) --no-print-directory lint sync notebooks pytest
	@echo '== slowest parts'; sort -rn .venv/parts

lint: env
	$(call timed,ruff and mypy,$(BIN)/ruff check . && $(BIN)/mypy)
	$(call timed,spelling and prose,$(BIN)/codespell && $(BIN)/python tests/prose.py)

sync: env
	$(call timed,export in sync,$(BIN)/python tests/in_sync.py)

notebooks: env
	$(call timed,library notebooks and walkthroughs,$(BIN)/nbdev_test --skip_folder_re '^([_.]|experiments)' --n_workers 2 --timing)

# Tests of one file run in one process, because they share what is costly to make, as a book.
pytest: env
	$(call timed,pytest,$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow' --durations 12 --durations-min 1)

check: book test
	RHMDIFF_GRAMMARS=2000 $(BIN)/python -m pytest tests/test_grammar.py tests/test_inference.py -m 'not slow'
	RHMDIFF_BOOK=book/_build/html $(BIN)/python -m pytest -m slow --durations 12
	RHMDIFF_BOOK=book/_build/html $(BIN)/python -m pytest tests/test_book.py

# Lines of the library that notebooks and tests of the first tier reach, but for tests of book, repository and pages.
APART := book play pdf house install wheel experiments parameters
coverage: env
	@mkdir -p runs/coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run tests/covered.py
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile -m 'not slow' $(APART:%=--ignore tests/test_%.py)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under 95

# Cosmic Ray lives in a folder of its own, beside the copy of the library that it changes.
EACH    ?= 60
SEED    ?= 0
MODULES ?=
mutants: env
	test -x runs/mutants/env/bin/cosmic-ray || ($(PYTHON) -m venv runs/mutants/env && runs/mutants/env/bin/pip install -q cosmic-ray==8.7.0)
	runs/mutants/env/bin/python tests/mutants.py --each $(EACH) --seed $(SEED) $(MODULES)

reference: env
	$(BIN)/rhm reference $(EXP)

status: env
	@$(BIN)/rhm status

readme: env
	$(BIN)/python book/readme.py

clean:
	rm -rf book/_build book/_stage build dist runs .pytest_cache .hypothesis
	find rhmdiff tests book nbs -name __pycache__ -prune -exec rm -rf {} +

clean-all: clean
	rm -rf .venv rhmdiff.egg-info
