# The commands of this project. `make demo` and `make test` need nothing but Python 3.11 or newer.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
BENCHMARKS := features quality encoder
export OMP_NUM_THREADS ?= 2
export TOKENIZERS_PARALLELISM := false

.PHONY: setup demo test check bench clean

setup: $(INSTALLED)

# torch comes first and by its exact version: that finds a CPU build where the index has one, and a torch that is in the
# environment already, a GPU build perhaps, is kept.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/pip install -q --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	grep -v '^torch==' constraints.txt > .venv/constraints.txt
	echo "torch==$$($(BIN)/python -c 'import torch; print(torch.__version__)')" >> .venv/constraints.txt
	$(BIN)/pip install -q --disable-pip-version-check -c .venv/constraints.txt -e '.[dev,redis,int8,bench]'
	touch $(INSTALLED)

demo: setup
	$(BIN)/python -m pipelines.demo

test: setup
	$(BIN)/pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

bench: setup
	for name in $(BENCHMARKS); do \
		$(BIN)/python -m benchmarks.$$name --quick || exit 1; done

clean:
	rm -rf .venv build *.egg-info demo
