# `make demo` and `make test` do everything on a fresh clone; a second run starts at once.
# Needed: Python 3.11 or newer (another one: make PYTHON=python3.12 …) and a package index for pip.
# CPU=1 installs the build of torch for CPUs, without 4 GB of libraries for NVIDIA's GPUs; CPU=0 the build of the
# package index. Without either: the build for CPUs on Linux without nvidia-smi, where its index can be reached.

PYTHON ?= python3
CPU ?= auto
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt
INSTALLED := $(VENV)/.installed

.PHONY: setup demo test test-all check size slow wheel docs bench constraints

# The questions of the bundled demo, with figures in out/demo/.
demo: $(INSTALLED)
	$(BIN)/p2r demo

# The tests to run while working: all but the long and the slow ones, in four processes.
test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 4 --dist loadscope

# The long ones too; CI runs these.
test-all: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 4 --dist loadscope -m "not slow"

# Style and types.
check: $(INSTALLED) size
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell

# Lines of the source by package; fails above a ceiling.
size:
	@$(PYTHON) scripts/size.py

# The tests that take minutes or need another server (docs/testing.md).
slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

# The sdist and the wheel in dist/, and the wheel in new environments: without extras, with [local], with [all].
wheel: $(INSTALLED)
	$(BIN)/uv build --quiet --clear
	$(BIN)/python -m pytest -m slow tests/test_wheel.py

# The documentation as a site in out/site; open out/site/index.html.
# Its search needs a server: python3 -m http.server --directory out/site
docs: $(INSTALLED)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Every measurement that needs nothing but this machine; each can be run alone and says how in its first lines.
# Fails when one misses its target.
bench: $(INSTALLED)
	@failed=0; for name in images patch_embedding evaluation evaluation_memory training serving; do \
		echo "== $$name"; $(BIN)/python benchmarks/$$name.py || failed=1; done; exit $$failed

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is older: make PYTHON=python3.12 …" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make environments; on Debian: apt install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	@echo "Installing into $(VENV): a few minutes the first time"
	@set -e; backend=; \
	if [ "$(CPU)" = 1 ]; then backend="--torch-backend cpu"; \
	elif [ "$(CPU)" = auto ] && [ "$$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
		if UV_HTTP_RETRIES=0 $(INSTALL) --quiet --dry-run --torch-backend cpu torch 2>/dev/null; \
		then backend="--torch-backend cpu"; echo "No nvidia-smi: the build of torch for CPUs (make CPU=0 … for GPUs)"; \
		else echo "The index of torch's builds for CPUs cannot be reached: the default build, 4 GB larger"; fi; \
	fi; set -x; \
	$(INSTALL) $$backend --group dev --editable '.[all]'
	@touch $@

# Pin anew what pyproject.toml asks for; see CONTRIBUTING.md.
constraints:
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --group docs --universal --python-version 3.11 \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate --upgrade --output-file constraints.txt
