"""Which sampler and how many samples: presets, what is given explicitly, and answers to what a model does not offer."""

import json
import re

import numpy as np
import pytest
import torch

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.checkpoints.presets import choose
from ddpm_lightning.cli import compose, evaluate, restore
from ddpm_lightning.cli.tree import config_folder
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.models.build import build_method
from ddpm_lightning.models.presets import ONE_PASS, SCORED, of_diffusion, of_flow
from ddpm_lightning.models.sampling import evaluations_of
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint


def description(model: str, *overrides: str) -> dict:
    config = compose.compose("train", [f"model={model}", *overrides])
    config.run_folder = "somewhere"
    return compose.plain(config)["model"]


def evaluations(sampling) -> int:
    with torch.device("meta"):
        return evaluations_of(build_method(sampling.model), sampling.samples, sampling.tta).total


@pytest.mark.parametrize(
    ("model", "costs"),
    [
        (
            "ddpm_small",
            {"paper": 3000, "mean": 75, "uncertainty": 225, "realistic": 5, "fast": 10, "one_step": 1},
        ),
        ("ddpm", {"paper": 3000, "mean": 75, "uncertainty": 225, "realistic": 5, "fast": 10, "one_step": 1}),
        ("pmrf_small", {"mean": 8, "realistic": 6, "balanced": 4, "fast": 4, "one_step": 1}),
        ("scored_small", {"mean": 12, "uncertainty": 19, "realistic": 3}),
        (
            "residual_flow_small",
            {"mean": 8, "realistic": 6, "balanced": 4, "fast": 4, "one_step": 1, "uncertainty": 152},
        ),
        ("regression_small", {"one_pass": 1}),
        ("care_probabilistic_small", {"one_pass": 15}),
        ("noise2void_small", {"one_pass": 1}),
        ("gaussian", {"one_pass": 1}),
    ],
)
def test_each_model_offers_its_own_presets(model, costs):
    """Every preset can be built, whatever the model predicts: an epsilon model has grids of its own."""
    node = description(model)
    with torch.device("meta"):
        offered = build_method(node).presets
    assert {name: evaluations(choose(node, name)) for name in offered} == costs
    assert all(preset.use for preset in offered.values())
    assert choose(node).preset == next(iter(offered))


def test_one_step_begins_at_pure_noise_where_that_was_trained():
    assert choose(description("ddpm_small"), "one_step").model["sampler"]["at"] == 0.8
    terminal = description("ddpm_small", "model.p_terminal=0.25")
    assert choose(terminal, "one_step").model["sampler"]["at"] == 1.0


def test_what_is_given_wins():
    node = description("ddpm_small")
    assert choose(node, "mean").preset == "mean" and choose(node, "mean", samples=15).preset == "mean"
    fewer = choose(node, "mean", samples=4)
    assert (fewer.preset, fewer.samples, evaluations(fewer)) == ("mean (samples=4)", 4, 20)
    changed = choose(node, "uncertainty", {"steps": 7, "antithetic": None})
    assert (changed.preset, changed.samples, evaluations(changed)) == ("custom", 15, 105)
    assert changed.model["sampler"]["_target_"].endswith("DPMSolver")
    own = choose(node, None, {"steps": 7})
    assert own.preset == "custom" and own.model["sampler"]["_target_"].endswith("Ancestral")
    stored = choose(node, "stored")
    assert (stored.preset, evaluations(stored)) == ("stored", 300) and stored.model == node


@pytest.mark.parametrize(
    ("model", "preset", "words"),
    [
        (
            "ddpm_small",
            "meen",
            r"not offered by this model(.|\n)*mean \(.*did you mean preset=mean",
        ),
        ("ddpm_small", "balanced", r"allowed: mean \(.*; stored \(the sampler of the checkpoint\)"),
        ("pmrf_small", "uncertainty", "not offered by this model.*train a model of the posterior"),
        ("regression_small", "paper", r"allowed: one_pass \(the only preset of this model\)\n"),
        ("regression_small", "stored", "not offered by this model"),
    ],
)
def test_names_that_are_not_offered_are_refused(model, preset, words):
    with pytest.raises(UserError, match="(?s)" + words):
        choose(description(model), preset)
    with pytest.raises(UserError, match="without a sampler"):
        choose(description("regression_small"), None, {"steps": 3})


def test_a_restorer_takes_the_first_preset_or_the_named_one(tmp_path):
    path = write_checkpoint(tmp_path / "best.ckpt")
    plane = np.random.default_rng(0).poisson(30, (32, 32))
    named = Restorer.load(path, "cpu", preset="fast")
    assert named.trained.preset == "fast" and named.restore(plane).sample_count == 2
    assert Restorer.load(path, "cpu").trained.preset == "mean"
    by_hand = Restorer.load(path, "cpu", {"steps": 2})
    assert (by_hand.trained.preset, by_hand.method.evaluations) == ("custom", 2)
    assert json.dumps(named.restore(plane).precision)


@pytest.mark.parametrize("verb", [restore, evaluate])
def test_help_names_all_presets_and_samplers(verb):
    presets = {*of_diffusion(False, False), *of_flow(True), *SCORED, *ONE_PASS}
    samplers = {path.stem for path in (config_folder() / "sampler").glob("*.yaml")}
    words = set(re.split(r"[\s,;=]+", verb.__doc__))
    assert presets | samplers <= words


def test_augmentation_of_a_deterministic_model_is_opt_in(tmp_path):
    regressor, sampled = (choose(description(name)) for name in ("regression_small", "ddpm_small"))
    assert sampled.tta and not regressor.tta
    model = ["model=regression_small", "model.network.base=8", "model.network.channels_per_head=8"]
    path = write_checkpoint(tmp_path / "best.ckpt", model=model)
    by_default, asked = load(path), load(path, tta=8)
    assert (by_default.tta, by_default.evaluations(15).total) == (False, 1)
    assert (asked.tta, asked.evaluations(15).total) == (8, 8) and asked.sampling != by_default.sampling
