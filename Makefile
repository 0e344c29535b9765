# Two commands for everybody: `make demo` and `make test`. `make check` is for changes to the code.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# Trust what the machine trusts, as pip does: networks with a certificate of their own are common.
export UV_SYSTEM_CERTS ?= 1
# Else every process that a test starts compiles PyTorch's Python anew: 10 seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check docs format lock clean

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site: open docs/_build/index.html.
docs: $(INSTALLED)
	$(BIN)/python -m sphinx -q -W -b html docs docs/_build

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# uv fills the environment: an installed one if there is, else one of its own inside it.
$(INSTALLED): requirements.txt requirements-photos.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "leaf-fer needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@uv=$$(command -v uv || echo $(BIN)/uv); \
	test -x "$$uv" || $(BIN)/python -m pip install --quiet uv; \
	set -x; \
	"$$uv" pip install --quiet --python $(BIN)/python -r requirements.txt && \
	"$$uv" pip install --quiet --python $(BIN)/python --no-deps -r requirements-photos.txt && \
	"$$uv" pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

# Names and versions only. Raise a bound in pyproject.toml, then run this.
lock: $(INSTALLED)
	@uv=$$(command -v uv || echo $(BIN)/uv); \
	"$$uv" pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev \
		--no-annotate --no-header pyproject.toml -o requirements.txt

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache runs/demo docs/_build
