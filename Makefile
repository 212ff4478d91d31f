# One command for each job; every target creates the environment .venv if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.DEFAULT_GOAL := help
# Real pairs for the benchmark, if they are available.
PAIRS ?= $(wildcard ../shared/data/w2s-widefield)
# Real pairs, size and LPIPS backbone for the experiments.
EXPERIMENT_PAIRS ?= $(wildcard ../shared/data/fmd ../shared/data/w2s-widefield ../shared/data/sted-confocal-pairs \
                    ../shared/data/bacteria-16bit)
CALIBRATION_PAIRS ?= $(wildcard ../shared/data/fmd ../shared/data/w2s-widefield)
SIZE ?= small
LPIPS ?= $(wildcard ../shared/weights/alexnet_features_imagenet.safetensors)

.PHONY: help setup demo benchmark default-model speed gpu test test-slow coverage lint lock format sweep clean

help:  ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | awk -F'\t' '{printf "  %-12s %s\n", $$1, $$2}'

$(VENV)/.made: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.made-dev: $(VENV)/.made
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

$(VENV)/.made-speed: $(VENV)/.made
	$(BIN)/pip install --quiet --editable ".[speed]"
	touch $@

setup: $(VENV)/.made  ## create the environment
demo: $(VENV)/.made  ## train, evaluate and restore on simulated data, in minutes; writes runs/demo/
	$(BIN)/ddpm-lightning demo

benchmark: $(VENV)/.made  ## all methods on all data sets, in hours on a CPU; SIZE=full on a GPU; resumes where it stopped
	$(BIN)/python -m experiments.benchmark.run --size $(SIZE) --pairs $(PAIRS)

speed: $(VENV)/.made-speed  ## compare speed with diffusers and others, in 15 minutes on an idle machine
	$(BIN)/python experiments/speed/speed.py

gpu: $(VENV)/.made-dev  ## test and measure everything on a GPU, in nine minutes; resumes where it stopped
	$(BIN)/python -m experiments.gpu.run

default-model: $(VENV)/.made  ## train the shipped model again, in about three hours; its std is fitted to CALIBRATION_PAIRS
	$(BIN)/ddpm-lightning train experiment=default_model run_folder=runs/default_model
	$(BIN)/ddpm-lightning export checkpoint=runs/default_model/checkpoints/best.ckpt name=default \
	  output=runs/default_model/default.safetensors half=true authors='[the authors of ddpm_lightning]' \
	  description='Removes noise from single planes. Trained on simulated images only'
	$(BIN)/python -m experiments.default_model.calibrate runs/default_model/default.safetensors $(CALIBRATION_PAIRS)
	cp runs/default_model/default.safetensors ddpm_lightning/shipped/

reproduce-correlated-noise: EXPERIMENT_PAIRS = $(wildcard ../shared/data/fmd-confocal-clean)

reproduce-%: $(VENV)/.made  ## repeat an experiment: make reproduce-averaging; SIZE=full on a GPU
	$(BIN)/python -m experiments.$(subst -,_,$*).run --size $(SIZE) --pairs $(EXPERIMENT_PAIRS) $(if $(LPIPS),--lpips $(LPIPS))

test: $(VENV)/.made-dev  ## run the default tests
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile

test-slow: $(VENV)/.made-dev  ## run the end-to-end tests, which take minutes
	$(BIN)/python -m pytest -m slow -n $(WORKERS) --dist loadfile

coverage: $(VENV)/.made-dev  ## run the default tests and list the lines that they do not reach
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile --cov --cov-report term-missing

lock: $(VENV)/.made  ## renew requirements-lock.txt, the versions and hashes that CI installs
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --python-version 3.11 \
	  --no-config --default-index https://pypi.org/simple --no-header --quiet --output-file requirements-lock.txt

lint: $(VENV)/.made-dev  ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: $(VENV)/.made-dev  ## fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sweep: $(VENV)/.made  ## learning rate x width on simulated data, in 15 minutes; resumes where it stopped
	$(BIN)/ddpm-lightning train sweep=learning_rate_width experiment=demo trainer.max_steps=150 hydra.sweep.dir=runs/sweep

clean:  ## remove the environment and the caches of tools
	rm -rf $(VENV) .pytest_cache .ruff_cache .coverage build dist
