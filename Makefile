# Everything happens in .venv, which is made when it is first needed. "make help" lists the targets.

PYTHON ?= python3
HOST ?= localhost
PORT ?= 5000
ARGS ?=
JOBS ?= 6
TESTS_COMPILED ?= tests/unit tests/contract/test_clients.py
SECONDS ?= 60

VENV := .venv
BIN := $(VENV)/bin
COMPILED := .compiled
COMPILED_PATH = $(abspath $(COMPILED))
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Building uWSGI needs a C compiler and Python's headers. Without them its binary wheel is installed.
# It is built for each .venv: pip's cache may hold one that was built for another Python of the
# same version, which can't import this one's modules.
HAS_COMPILER = command -v cc gcc clang >/dev/null
HAS_HEADERS = $(BIN)/python -c 'import os, sysconfig as s; open(os.path.join(s.get_path("include"), "Python.h")).close()' 2>/dev/null
CHOOSE_UWSGI = \
	if ! $(HAS_COMPILER); then uwsgi=pyuwsgi; echo "There is no C compiler: installing pyuwsgi, a binary wheel, instead of uwsgi."; \
	elif ! $(HAS_HEADERS); then uwsgi=pyuwsgi; echo "Python's C headers are missing: installing pyuwsgi, a binary wheel, instead of uwsgi."; \
	else uwsgi=uwsgi; echo "Installing into $(VENV); building uWSGI takes half a minute."; fi

# Tests start hundreds of processes: each would compile every module if none were kept.
unexport PYTHONDONTWRITEBYTECODE

URL = http://$(if $(filter 0.0.0.0,$(HOST)),localhost,$(HOST)):$(PORT)/

.PHONY: help demo test test-compiled lint docs dist pure autobahn fuzz soak bench bench-echo bench-idle bench-fanout bench-typed
.DELETE_ON_ERROR:

help:
	@echo "make demo   start the chat of examples/chat-gevent (PORT=8000 and HOST=0.0.0.0 to choose)"
	@echo "make test   run all tests, JOBS=6 side by side (ARGS='-k chat' to choose)"
	@echo "make test-compiled   compile the modules listed in setup.py, and run tests with them (ARGS to choose)"
	@echo "make pure   run the tests that need no server (ARGS to choose)"
	@echo "make lint   check style and types"
	@echo "make docs   build the documentation as pages, docs/_build/html/index.html"
	@echo "make dist   make a source distribution and a wheel in dist/"
	@echo "make autobahn   run the Autobahn test suite on all engines (ARGS='-c 1.* -- gevent' to choose)"
	@echo "make fuzz       send malformed input (SECONDS=600 for each of three targets)"
	@echo "make soak       run many clients, reloads and restarts for ten minutes (ARGS='-s 60' to choose)"
	@echo "make bench      run all benchmarks and write their tables (ARGS=--quick takes a few minutes)"
	@echo "make bench-echo   compare echoes with other libraries (ARGS='-r 1 picows' to choose)"
	@echo "make bench-fanout   measure broadcasts (ARGS='-m 10 500 gevent' to choose)"
	@echo "make bench-idle   measure memory and CPU of idle connections (ARGS='-n 10000' to choose)"
	@echo "make bench-typed  measure the CPU of a typed message"

demo: $(VENV)/.installed-demo
	@$(BIN)/python -c 'import socket; socket.create_server(("$(HOST)", $(PORT))).close()' 2>/dev/null || \
		{ echo "Can't listen on $(HOST), port $(PORT). If the port is in use, choose another: make demo PORT=8000" >&2; exit 1; }
	@echo "Starting the chat under uWSGI on $(URL) (Ctrl-C ends it)."
	@cd examples/chat-gevent && HOST="$(HOST)" PORT="$(PORT)" \
		UWSGI_HOOK_ACCEPTING1_ONCE="print:Open $(URL) in two tabs" exec ../../$(BIN)/python chat.py

# Most tests wait for servers, so more processes than cores run.
test: $(VENV)/.installed-test
	@$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

# The same tests with the modules of setup.py compiled; the sources in flask_wsviews/ aren't touched.
test-compiled: $(COMPILED)/.made
	@PYTHONPATH=$(COMPILED_PATH) $(BIN)/pytest $(or $(ARGS),$(TESTS_COMPILED))

$(COMPILED)/.made: setup.py setup.cfg $(shell find flask_wsviews -name "*.py" -o -name "*.c") | $(VENV)/.installed-test
	@echo "Compiling takes a minute."
	@rm -rf $(COMPILED) build
	@FLASK_WSVIEWS_COMPILE=1 $(PIP) install --no-cache-dir --no-deps --target $(COMPILED) .
	@PYTHONPATH=$(COMPILED_PATH) $(BIN)/python tests/support/check_compiled.py
	@touch $@

# These tests rarely wait, and each process collects all of them: one process per core.
pure: $(VENV)/.installed-test
	@$(BIN)/python -m pytest -n auto --maxprocesses $(JOBS) tests/unit $(ARGS)

lint: $(VENV)/.installed-test
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/mypy tests/types
	@$(BIN)/basedpyright

# Build the wheel from the source distribution, and check the metadata of both.
dist: $(VENV)/.installed-test
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist .
	@$(BIN)/python -m twine check --strict dist/*

# A broken link or an unknown name is an error.
docs: $(VENV)/.installed-docs
	@$(BIN)/python -m sphinx -W --keep-going -n -q -E -a -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

autobahn: $(VENV)/.installed-test
	@$(BIN)/python tests/conformance/autobahn.py $(ARGS)

fuzz: $(VENV)/.installed-fuzz
	@for target in connection handshake messages; do \
		echo "== $$target"; $(BIN)/python tests/fuzz/fuzz.py $$target $(SECONDS) || exit 1; done

soak: $(VENV)/.installed-test
	@$(BIN)/python tests/soak/soak.py $(ARGS)

# The benchmarks measure the compiled modules.
BENCH = PYTHONPATH=$(COMPILED_PATH) $(BIN)/python benchmarks

bench: $(VENV)/.installed-bench $(COMPILED)/.made
	@$(BENCH)/suite.py $(ARGS)

bench-echo: $(VENV)/.installed-bench $(COMPILED)/.made
	@$(BENCH)/echo.py $(ARGS)

bench-fanout: $(COMPILED)/.made
	@$(BENCH)/fanout.py $(ARGS)

bench-idle: $(COMPILED)/.made
	@$(BENCH)/idle.py $(ARGS)

bench-typed: $(COMPILED)/.made
	@$(BENCH)/typed.py $(ARGS)

$(VENV)/.installed-demo: EXTRAS = gevent
$(VENV)/.installed-test: EXTRAS = gevent,test
$(VENV)/.installed-docs: EXTRAS = gevent,test,docs
$(VENV)/.installed-fuzz: EXTRAS = gevent,test,fuzz
$(VENV)/.installed-bench: EXTRAS = gevent,test,bench
$(VENV)/.installed-%: setup.cfg | $(BIN)/python
	@$(CHOOSE_UWSGI); \
		$(PIP) install -e ".[$(EXTRAS)]" && $(PIP) install --no-cache-dir -e ".[$$uwsgi]"
	@touch $@

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)
