# make demo         a search with the small model of the package, in a fresh environment
# make test         what CI runs: lint, types, layers, and all tests but the slow ones
# make test-all     every test, and new random examples
# make test-oldest  the tests of CI under the oldest releases that pyproject.toml allows, in .venv-oldest
# make test-server  the tests of LangGraph Server, which is installed in .venv-studio
# make lint         lint, types and layers alone
#
# Everything happens in .venv, which `PYTHON` (3.11 or later) makes when it is missing:
#   make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
STAMPS := .venv/.stamps
OLDEST := .venv-oldest
STUDIO := .venv-studio
comma := ,
PIP := $(BIN)/python -m pip install -qq --constraint constraints.txt
TEST_EXTRAS := local,agents,tools,mcp,retrieval,persist,train,serve,bench,plot,tracing

.PHONY: demo test test-all test-oldest test-server lint
.DELETE_ON_ERROR:

demo: $(STAMPS)/demo
	$(BIN)/rlm-agent solve "4 9 10 13 : 24" --task game24 --strategy mcts --model mini --seed 1
	$(BIN)/rlm-agent eval --task game24 --strategy mcts --strategy chain --n 20 --seed 1

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-all: lint
	$(BIN)/python -m pytest --hypothesis-profile=explore

test-oldest: $(OLDEST)/.stamp
	$(OLDEST)/bin/python -m pytest -m "not slow"

test-server: $(STUDIO)/.stamp
	LANGGRAPH_BIN=$(STUDIO)/bin/langgraph $(BIN)/python -m pytest tests/graphs/test_server.py

lint: $(STAMPS)/test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-logo

# The stamps follow each other, so that `make -j` never runs two installs at once.

$(STAMPS)/venv:
	@command -v "$(PYTHON)" >/dev/null || { echo "rlm-agent needs Python 3.11 or later, and there is no $(PYTHON); name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit("rlm-agent needs Python 3.11 or later, and $(PYTHON) is %d.%d; name another: make PYTHON=/path/to/python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install -qq --upgrade "pip>=25.1"
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/demo: pyproject.toml constraints.txt | $(STAMPS)/venv
	@echo "Installing rlm-agent into .venv; the first time llama.cpp is compiled, which takes some minutes."
	$(PIP) --editable ".[local]"
	@touch $@

$(STAMPS)/test: $(STAMPS)/demo
	$(PIP) --editable ".[$(TEST_EXTRAS)]" --group dev
	@touch $@

# uv chooses the releases, pip installs them: what pip has compiled before it need not compile again.
$(OLDEST)/.stamp: pyproject.toml constraints.txt $(STAMPS)/test
	"$(PYTHON)" -m venv --clear $(OLDEST)
	$(BIN)/python -m uv pip compile --quiet pyproject.toml --resolution lowest-direct --group dev \
		$(foreach extra,$(subst $(comma), ,$(TEST_EXTRAS)),--extra $(extra)) \
		--constraint constraints.txt --python $(OLDEST)/bin/python --output-file $(OLDEST)/releases.txt
	$(OLDEST)/bin/python -m pip install -qq --requirement $(OLDEST)/releases.txt
	$(OLDEST)/bin/python -m pip install -qq --no-deps --editable .
	@touch $@

# An environment of its own: the server pins versions that the development tools do not share.
$(STUDIO)/.stamp: pyproject.toml constraints.txt $(STAMPS)/test
	"$(PYTHON)" -m venv --clear $(STUDIO)
	$(STUDIO)/bin/python -m pip install -qq --constraint constraints.txt --editable ".[local,studio]"
	@touch $@
