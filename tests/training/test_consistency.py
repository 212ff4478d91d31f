"""Wrong configurations, also such as are wrong only together: each message names the key, the value and the way out."""

import json

import pytest

from ddpm_lightning.reporting.dashboard import definition
from tests.cli.test_verbs import TINY

#: Overrides, and the key, the value and the way out that the message must name.
WRONG = {
    "a misspelt key": (["trainer.max_step=3"], "trainer.max_step", "max_step", "trainer.max_steps"),
    "a misspelt choice": (["model=regresion"], "model", "regresion", "regression"),
    "a misspelt sweep": (["sweep=doses"], "sweep", "doses", "dose"),
    "a misspelt trial": (["debug=fats"], "debug", "fats", "fast"),
    "a number out of range": (["model.optimizer.lr=-0.1"], "model.optimizer.lr", "-0.1", "above 0"),
    "a word for a number": (["data.batch_size=many"], "data.batch_size", "many", "whole number"),
    "a crop off the levels": (["data.crop=33"], "data.crop", "33", "data.crop=32"),
    "a crop larger than the images": (["data.crop=128"], "data.crop", "128", "data.crop=64"),
    "a batch that cannot be shared": (
        ["trainer=ddp_cpu", "data.batch_size=5"],
        "data.batch_size",
        "5",
        "batch_size=4",
    ),
    "MS-SSIM of a small crop": (
        ["callbacks.checkpoint.monitor=val/ms_ssim", "callbacks.images.crop=96"],
        "callbacks.images.crop",
        "96",
        "callbacks.images.crop=176",
    ),
    "a metric that is switched off": (
        ["callbacks.checkpoint.monitor=val/psnr", "callbacks.images=null"],
        "callbacks.checkpoint.monitor",
        "val/psnr",
        "val/loss",
    ),
    "a metric that is rarely there": (
        ["callbacks.checkpoint.monitor=val/psnr"],
        "callbacks.images.budget",
        "0.1",
        "budget=1",
    ),
    "an action that is none": (
        ["callbacks.divergence.action=wait"],
        "callbacks.divergence",
        "wait",
        "stop, skip",
    ),
    "a choice given as a setting": (
        ["data=simulated_zebrafish", "data.degradations=[dose]"],
        "data.degradations",
        "[dose]",
        "set data/degradations=[dose]",
    ),
    "a choice that would be built as a text": (
        ["model.lr_schedule=saw_tooth"],
        "model.lr_schedule",
        "saw_tooth",
        "set model/lr_schedule=saw_tooth",
    ),
    "a misspelt group": (["datta=zebrafish"], "datta", "zebrafish", "did you mean data=zebrafish"),
    "more steps than levels": (["model.sampler.steps=999"], "sampler.steps", "999", "200"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_configurations(command, pair_folder, tmp_path, case):
    overrides, key, value, way_out = WRONG[case]
    settings = [s for s in TINY if s != "callbacks.images.samples=2"]
    answer = command("train", *settings, f"data.root={pair_folder}", "run_folder=run", *overrides)
    assert answer.code == 2 and "Traceback" not in answer.err, answer
    for words in (key, value, way_out):
        assert words in answer.err, answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["evaluate", "prepare"])
def test_groups_that_are_not_chosen_are_known(command, verb):
    answer = command(verb, "datta=zebrafish")
    assert answer.code == 2 and "did you mean data=zebrafish" in answer.err


@pytest.mark.parametrize("key", ["sampler.steps", "model.sampler.steps"])
def test_settings_of_other_choices_are_known(command, key):
    answer = command("train", "data=simulated_synapses", "model=care_small", f"{key}=5")
    assert answer.code == 2 and f"{key}: is not a setting with model=care_small" in answer.err
    assert "leave it out" in answer.err and "model.sampler.steps exists" in answer.err


def test_options_come_first(command):
    answer = command("train", "seed=1", "--multirun", "model=ddpm_small,regression_small")
    assert answer.code == 2 and "model=ddpm_small,regression_small: is separated from" in answer.err
    assert "put options such as --multirun first" in answer.err


def test_seed_zero_is_a_seed(command):
    answer = command("train", "--cfg", "job", "seed=0")
    assert answer.code == 0 and answer.out.startswith("seed: 0\n")


def test_the_dashboard_without_an_account(command, tmp_path):
    keys = [
        metric
        for section in definition()["sections"]
        for panel in section["panels"]
        for metric in panel.get("y", [])
    ]
    assert "val/psnr" in keys and "val/loss" in keys
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError:
        answer = command("dashboard")
        assert answer.code == 2 and "ddpm-lightning[dashboard]" in answer.err and not list(tmp_path.iterdir())
        return
    answer = command("dashboard", "output=here")
    assert answer.code == 0 and "nothing was sent" in answer.out, answer.err
    workspace = (tmp_path / "here" / "workspace.json").read_text()
    assert all(key in workspace for key in keys) and json.loads(workspace)["section"]
    assert json.loads((tmp_path / "here" / "report.json").read_text())["groupby"] == [
        "names.model",
        "names.data",
    ]
