# Everything by one command each; every target makes the environment .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
comma := ,

.DEFAULT_GOAL := help
# Real pairs for the benchmark, where they are.
PAIRS ?= $(wildcard ../shared/data/w2s-widefield)
# Real pairs, size, and backbone of LPIPS for the experiments.
EXPERIMENT_PAIRS ?= $(wildcard ../shared/data/fmd ../shared/data/w2s-widefield ../shared/data/sted-confocal-pairs \
                    ../shared/data/bacteria-16bit)
SIZE ?= small
LPIPS ?= $(wildcard ../shared/weights/alexnet_features_imagenet.safetensors)

.PHONY: help setup demo benchmark default-model speed test test-slow lint format sweep clean

help:  ## what there is to make
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

setup: $(VENV)/.made  ## make the environment
demo: $(VENV)/.made  ## the main job on simulated data, in minutes; leaves runs/demo/
	$(BIN)/ddpm-lightning demo

benchmark: $(VENV)/.made  ## all methods on all sets, in hours on a CPU; goes on where it stopped
	$(BIN)/ddpm-lightning benchmark $(if $(PAIRS),'+sets.w2s_widefield=["data=folder"$(comma)"data.root=$(PAIRS)"]')
	$(BIN)/python -m experiments.benchmark.run

speed: $(VENV)/.made-speed  ## ratios against the plain path, diffusers and others, in a quarter of an hour on a quiet machine
	$(BIN)/python experiments/speed/speed.py

default-model: $(VENV)/.made  ## trains the model that comes with the package anew, in about two hours
	$(BIN)/ddpm-lightning train experiment=default_model run_folder=runs/default_model
	$(BIN)/ddpm-lightning export checkpoint=runs/default_model/checkpoints/best.ckpt name=default \
	  output=ddpm_lightning/shipped/default.safetensors half=true authors='[the authors of ddpm_lightning]' \
	  description='Removes noise of any strength from single planes. Learnt on simulated images alone'

reproduce-%: $(VENV)/.made  ## an experiment by its name: make reproduce-averaging; SIZE=full on a GPU
	$(BIN)/python -m experiments.$(subst -,_,$*).run --size $(SIZE) --pairs $(EXPERIMENT_PAIRS) $(if $(LPIPS),--lpips $(LPIPS))

test: $(VENV)/.made-dev  ## the test suite
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile

test-slow: $(VENV)/.made-dev  ## the end-to-end tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.made-dev  ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.made-dev  ## mend what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sweep: $(VENV)/.made  ## learning rate x width on simulated data, in a quarter of an hour; stopped and started again, it goes on
	$(BIN)/ddpm-lightning train sweep=learning_rate_width experiment=demo trainer.max_steps=150 hydra.sweep.dir=runs/sweep

clean:  ## remove the environment and what tools leave
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist
