# Each target makes its own virtual environment (.venv); nothing else is needed than Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

# Train a small convolutional network on handwritten digits, save it, load it in a new process, predict, draw a picture.
demo: $(VENV)/.demo
	$(BIN)/python examples/digits.py

# Run the test suite.
test: $(VENV)/.test
	$(BIN)/python -m pytest

# Compare with PyTorch, where PyTorch and the benchmark suite are installed.
bench: $(VENV)/.test
	$(BIN)/torsh bench --quick

clean:
	rm -rf $(VENV) demo-output build dist
