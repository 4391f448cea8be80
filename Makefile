# What you do with graphc, one target each. Each makes .venv first, where it is missing or old.
#
#   make setup       .venv alone               make demo        train the demo network
#   make test        lint, types and tests     make bench       timings on the CPU
#   make test-gpu    tests that need a GPU     make bench-gpu   timings on the GPU
#
# make bench takes ROWS="W1 W7" (by default all) and QUICK=1, make bench-gpu rows and groups of
# docs/gpu.md: ROWS="kernels step_gpt2".
# make TARGET PY=/path/to/python uses an interpreter that you have prepared, and installs nothing.

PYTHON ?= python3
VENV ?= .venv

ifdef PY
  DEV_READY :=
  DEMO_READY :=
  BENCH_READY :=
else
  PY := $(VENV)/bin/python
  # An environment whose interpreter has gone, with the machine's own Python, is made anew.
  $(shell test -x $(PY) || rm -f $(VENV)/.*-ready)
  DEV_READY := $(VENV)/.dev-ready
  BENCH_READY := $(VENV)/.bench-ready
  # What the tests need contains what the demo needs.
  DEMO_READY := $(if $(wildcard $(DEV_READY)),$(DEV_READY),$(VENV)/.demo-ready)
endif

PIP_INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
DEMO_EXTRAS = $(if $(shell nvidia-smi -L 2>/dev/null),demo$(comma)gpu,demo)
comma := ,

.PHONY: setup test test-gpu demo bench bench-gpu clean

setup: $(DEV_READY)

test: $(DEV_READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 -m "not gpu"

test-gpu: $(DEV_READY)
	$(PY) -m pytest -m gpu

demo: $(DEMO_READY)
	$(PY) -m graphc.demo

bench: $(BENCH_READY)
	$(PY) -m benchmarks $(if $(QUICK),--quick) $(ROWS)

bench-gpu: $(DEV_READY)
	$(PY) -m benchmarks --device gpu $(ROWS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One pip call, so that the exact torch is settled together with everything that asks for a torch.
$(VENV)/.dev-ready: pyproject.toml | $(VENV)/bin/python
	$(PIP_INSTALL) -e '.[dev]'
	touch $@

# TensorFlow is one of the peers where pip can get it for this Python; rows say what is missing.
$(VENV)/.bench-ready: pyproject.toml | $(VENV)/bin/python
	$(PIP_INSTALL) -e '.[dev,bench,bench-tensorflow]' \
	  || { echo "graphc: no TensorFlow to be had; going on without" >&2; \
	       $(PIP_INSTALL) -e '.[dev,bench]'; }
	touch $(VENV)/.dev-ready $@

$(VENV)/.demo-ready: pyproject.toml | $(VENV)/bin/python
	$(PIP_INSTALL) -e '.[$(DEMO_EXTRAS)]'
	touch $@

# Installs Debian packages where it may (as root), else names them. $(1): packages, $(2): purpose.
define apt_install
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  echo "graphc: installing $(1) ($(2))"; \
  export DEBIAN_FRONTEND=noninteractive; \
  apt-get install -y -qq --no-install-recommends $(1) >/dev/null 2>&1 \
    || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(1) >/dev/null; }; \
else \
  echo "graphc: missing $(2); on Debian or Ubuntu: sudo apt-get install $(1)" >&2; \
  false; \
fi
endef

PYTHON_VERSION = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
HAS_PYTHON_H = import os, sysconfig; \
  exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))

# Without pip nothing goes; without a C compiler graphc still runs, on NumPy: that is no error.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; exit(sys.version_info < (3, 10))' \
	  || { echo "graphc: $(PYTHON) must be Python 3.10 or later; try make PYTHON=..." >&2; false; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { $(call apt_install,python$(PYTHON_VERSION)-venv,Python's venv and ensurepip); }
	@command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null \
	  || { $(call apt_install,gcc libc6-dev,a C compiler); } \
	  || echo "graphc: going on without; the native and Triton back ends will not work" >&2
	@$(PYTHON) -c '$(HAS_PYTHON_H)' \
	  || { $(call apt_install,python$(PYTHON_VERSION)-dev,Python's C headers); } \
	  || echo "graphc: going on without; the Triton back end will not work" >&2
	$(PYTHON) -m venv --clear $(VENV)
