"""Runs that start from a trained model."""

import pytest
import torch
import yaml

from ddpm_lightning.checkpoints.load import load
from tests.trained import write_checkpoint

FLOW = [
    "model=residual_flow_small",
    "model.network.base=8",
    "model.network.multipliers=[1,2]",
    "model.regression.network.base=8",
    "model.regression.network.multipliers=[1,2]",
]


@pytest.fixture
def train(command, pair_folder, tmp_path):
    common = [f"data.root={pair_folder}", "data=folder", "data.crop=32", "data.batch_size=4"]
    common += [
        "data.validation_crops=4",
        "trainer=cpu",
        "trainer.precision=32-true",
        "callbacks.images=null",
    ]

    def call(*arguments: str):
        return command("train", *common, f"run_folder={tmp_path}/run", *arguments)

    return call


def largest_change(before: dict, after: dict) -> float:
    assert before.keys() == after.keys()
    return max((before[name] - after[name]).abs().max().item() for name in before if "weight" in name)


def test_a_run_takes_model_normalisation_and_weights_and_fits_the_scale_anew(train, tmp_path):
    origin = write_checkpoint(tmp_path / "origin.ckpt", "model.label=log_snr", per_image=True)
    answer = train(f"finetune={origin}", "trainer.max_steps=1", "model.optimizer.lr=1e-7", "seed=3")
    assert answer.code == 0, answer.err
    stored = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert stored["model"]["label"] == "log_snr" and stored["model"]["network"]["base"] == 8
    assert stored["model"]["optimizer"]["lr"] == 1e-7 and stored["model"]["seed"] == 3
    assert stored["data"]["normalisation"]["input"]["per_image"]
    before, after = load(origin), load(tmp_path / "run/checkpoints/last.ckpt")
    assert after.card["finetune"] == {"checkpoint": str(origin), "sha256": before.sha256}
    assert after.card["normalisation"]["state"] != before.card["normalisation"]["state"]
    # A step of 1e-7 leaves the weights where they were; those of a fresh model are elsewhere by about 1.
    assert largest_change(before.method.state_dict(), after.method.state_dict()) < 1e-3


def test_own_pairs_are_matched_even_where_the_trained_model_shared_a_scale(train, tmp_path):
    origin = write_checkpoint(tmp_path / "origin.ckpt", per_image=True)
    content = torch.load(origin, weights_only=True)
    content["card"]["normalisation"]["config"] |= {"target": None, "matched": False}
    torch.save(content, origin)
    assert train(f"finetune={origin}", "trainer.max_steps=1").code == 0
    stored = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert stored["data"]["normalisation"]["target"] is None and stored["data"]["normalisation"]["matched"]


def test_a_normalisation_of_ones_own_holds(train, tmp_path):
    origin = write_checkpoint(tmp_path / "origin.ckpt", per_image=True)
    answer = train(f"finetune={origin}", "data/normalisation=dataset", "trainer.max_steps=1")
    assert answer.code == 0, answer.err
    stored = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert not stored["data"]["normalisation"]["input"].get("per_image")


@pytest.mark.slow
def test_both_stages_of_a_flow_start_from_those_of_the_trained_one(train, tmp_path):
    origin = write_checkpoint(tmp_path / "origin.ckpt", *FLOW)
    content = torch.load(origin, weights_only=True)
    content["state_dict"]["sigma"] = torch.tensor(123.0)
    torch.save(content, origin)
    slow = ["model.optimizer.lr=1e-7", "model.regression.optimizer.lr=1e-7"]
    answer = train("model=residual_flow_small", f"finetune={origin}", "trainer.max_steps=3", *slow)
    assert answer.code == 0, answer.err
    before = load(origin).method.state_dict()
    after = load(tmp_path / "run/checkpoints/last.ckpt").method.state_dict()
    mean = load(tmp_path / "run/mean/checkpoints/last.ckpt").method.state_dict()
    assert largest_change(before, after) < 1e-3
    assert largest_change(mean, {n: before[f"regression.{n}"] for n in mean}) < 1e-3
    assert 0 < after["sigma"] < 10  # measured on the new data
    best = tmp_path / "run/mean/checkpoints/best.ckpt"
    content = torch.load(best, weights_only=True)
    content["state_dict"]["network.output_gain"] += 0.5
    torch.save(content, best)
    given = (f"model.mean={best}", f"run_folder={tmp_path}/again")
    answer = train("model=residual_flow_small", f"finetune={origin}", "trainer.max_steps=1", *slow, *given)
    assert answer.code == 0, answer.err
    again = load(tmp_path / "again/checkpoints/last.ckpt").method.state_dict()
    gains = content["state_dict"]["network.output_gain"], before["network.output_gain"]
    assert torch.equal(again["regression.network.output_gain"], gains[0])
    assert again["network.output_gain"].item() == pytest.approx(gains[1].item(), abs=1e-3)


@pytest.mark.slow
def test_a_model_of_another_kind_takes_the_regressor_that_both_have(train, tmp_path):
    origin = write_checkpoint(tmp_path / "origin.ckpt", *FLOW)
    before = load(origin).method.state_dict()
    small = ["model.network.base=8", "model.regression.optimizer.lr=1e-7", "trainer.max_steps=3"]
    answer = train("model=scored_small", f"finetune={origin}", *small)
    assert answer.code == 0, answer.err
    run = tmp_path / "run"
    found = load(run / "checkpoints/last.ckpt")
    assert found.card["names"]["model"] == "scored_small" and type(found.method).__name__ == "Scored"
    stage = regressor(before)
    assert largest_change(stage, regressor(found.method.state_dict())) < 1e-3
    assert (run / "mean/checkpoints/best.ckpt").is_file()

    # Its regressor alone goes the same way, and a regressor may be given in place of a model that has one.
    alone = ["model.optimizer.lr=1e-7", "trainer.max_steps=1", f"run_folder={tmp_path}/alone"]
    answer = train("model=regression_small", f"finetune={origin}", *alone)
    assert answer.code == 0, answer.err
    best = tmp_path / "alone/checkpoints/best.ckpt"
    assert largest_change(load(best).method.state_dict(), stage) < 1e-3
    answer = train("model=scored_small", f"finetune={best}", *small, f"run_folder={tmp_path}/again")
    assert answer.code == 0, answer.err
    again = load(tmp_path / "again/checkpoints/last.ckpt").method.state_dict()
    assert largest_change(stage, regressor(again)) < 1e-3


def regressor(weights):
    part = "regression."
    return {name.removeprefix(part): weights[name] for name in weights if name.startswith(part)}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["model=care_small"], "is a ddpm_small"),
        (["model.network.base=16"], "another network"),
        (["finetune=nowhere.ckpt"], "error: finetune=nowhere.ckpt: no such file"),
        (["finetune=[a,b]"], "error: finetune=[a,b]: no such file"),
        (["finetune=3"], "error: finetune=3: no such file"),
        (["model=ddpm_small", "+model.colour=red"], "no setting of the model"),
    ],
)
def test_what_does_not_suit_is_refused_before_a_run_begins(train, tmp_path, given, says):
    origin = write_checkpoint(tmp_path / "origin.ckpt")
    answer = train(f"finetune={origin}", *given)
    assert answer.code == 2 and says in answer.err
    assert not (tmp_path / "run").exists()
