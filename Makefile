# The commands of this project. `make demo` and `make test` need nothing but Python 3.11 or newer.
# `make test` leaves out the tests marked `slow`; `make check` runs everything, and so does CI.

PYTHON ?= python3
BIN := .venv/bin
BASE := .venv/installed-base
DEV := .venv/installed-dev
EXTRAS := dev,client,redis,postgres,int8,tracing,s3,ray,bench
LOWEST := .venv-lowest
AUDIT := .venv-audit
KNOWN_ADVISORY := import json; from urllib.request import urlopen as get; \
	assert json.load(get('https://pypi.org/pypi/pip/19.0/json', timeout=20))['vulnerabilities']
BENCHMARKS := features quality encoder serving overload soak explanations sizing promotion_gate batch
TEST_PROCESSES ?= 2
PYTEST := $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
PIP_INSTALL := $(BIN)/pip install -q --disable-pip-version-check
TORCH_VERSION := $(BIN)/python -c "from importlib.metadata import version; print(version('torch'))"
export TOKENIZERS_PARALLELISM := false

.PHONY: setup demo test test-lowest check audit-dependencies bench clean

setup: $(DEV)

# What users need. torch comes first and by its exact version: that finds a CPU build where the index has one, and a
# torch that is in the environment already, a GPU build perhaps, is kept. torch warns where it finds no NumPy.
$(BASE): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(TORCH_VERSION) >/dev/null 2>&1 || $(PIP_INSTALL) $$(grep -E '^(torch|numpy)==' constraints.txt)
	grep -v '^torch==' constraints.txt > .venv/constraints.txt
	echo "torch==$$($(TORCH_VERSION))" >> .venv/constraints.txt
	$(PIP_INSTALL) -c .venv/constraints.txt -e .
	touch $(BASE)

# The same with what tests, checks and benchmarks need.
$(DEV): $(BASE)
	$(PIP_INSTALL) -c .venv/constraints.txt -e '.[$(EXTRAS)]'
	touch $(DEV)

# Tests run in several processes with one thread each; whatever else runs has the cores for itself.
test test-lowest check: export OMP_NUM_THREADS ?= 1
demo bench: export OMP_NUM_THREADS ?= 2

demo: $(BASE)
	$(BIN)/python -m pipelines.demo

test: setup
	$(PYTEST) -m 'not slow'

# The same tests with the lowest versions that pyproject.toml allows, in an environment of their own.
test-lowest: $(LOWEST)/installed
	$(subst $(BIN),$(LOWEST)/bin,$(PYTEST)) -m 'not slow'

$(LOWEST)/installed: pyproject.toml constraints.txt tests/lowest_versions.py
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(PYTHON) tests/lowest_versions.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/pip install -q $$(grep -E '^torch==' constraints.txt) $$(grep -E '^numpy==' $(LOWEST)/constraints.txt)
	$(LOWEST)/bin/pip install -q -c $(LOWEST)/constraints.txt -e '.[$(EXTRAS)]'
	touch $(LOWEST)/installed

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/class_names.py
	$(BIN)/python tests/layout_limits.py
	$(BIN)/python tests/licences.py > .venv/licences.txt || { cat .venv/licences.txt; exit 1; }
	$(PYTEST)

# Known vulnerabilities of what is installed in .venv, by pip-audit in an environment of its own. Not part of `make check`:
# it needs the advisories at pypi.org, not a mirror without them, and an advisory of today is no fault of a change.
audit-dependencies: $(BASE)
	test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/pip install -q pip-audit; }
	@$(PYTHON) -c "$(KNOWN_ADVISORY)" 2>/dev/null \
		|| { echo "expected the advisories of pip 19.0 at pypi.org, got none; nothing was audited" >&2; exit 1; }
	$(AUDIT)/bin/pip-audit --skip-editable --progress-spinner off \
		--path $$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")

bench: setup
	for name in $(BENCHMARKS); do \
		$(BIN)/python -m benchmarks.$$name --quick || exit 1; done

clean:
	rm -rf .venv $(LOWEST) $(AUDIT) build dist *.egg-info demo
