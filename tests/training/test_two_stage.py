"""Runs of two stages: the mean first, then the flow; resumed in either, or with a mean of one's own."""

import json

import pytest
import torch
import yaml

from ddpm_lightning.callbacks.max_time import MaxTime
from ddpm_lightning.models.method import FirstStage
from ddpm_lightning.training.settings import TrainSettings
from ddpm_lightning.training.two_stage import first_settings
from ddpm_lightning.utils.errors import UserError

TINY = [
    "model=pmrf_small",
    "model.network.base=8",
    "model.network.multipliers=[1,2]",
    "model.regression.network.base=8",
    "model.regression.network.multipliers=[1,2]",
    "data=folder",
    "data.crop=32",
    "data.batch_size=4",
    "data.validation_crops=4",
    "trainer=cpu",
    "trainer.precision=32-true",
    "callbacks.images=null",
]
MEAN = ["model=regression_small", *TINY[1:3], *TINY[5:]]


def steps(path) -> int:
    return torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


@pytest.fixture
def train(command, pair_folder):
    def call(*arguments: str):
        return command("train", *arguments, f"data.root={pair_folder}")

    return call


def test_both_stages_share_the_steps_and_leave_a_run_each(train, command, tmp_path):
    answer = train(*TINY, "trainer.max_steps=9", f"run_folder={tmp_path}/run")
    assert answer.code == 0, answer.err
    assert (steps(tmp_path / "run/mean"), steps(tmp_path / "run")) == (6, 3)
    assert "the regressor, 6 steps, then the second stage, 3 steps" in answer.out
    stored = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert stored["trainer"]["max_steps"] == 9 and stored["model"]["mean"] is None
    for folder in ("run", "run/mean"):
        assert json.loads((tmp_path / folder / "status.json").read_text())["state"] == "finished"
        assert (tmp_path / folder / "metrics.csv").is_file()
    answer = train(*TINY, "trainer.max_steps=9", f"run_folder={tmp_path}/run")
    assert answer.code == 2 and "already contains a run" in answer.err

    low = next((tmp_path / "pairs/test/low").iterdir())
    answer = command(
        "restore",
        f"checkpoint={tmp_path}/run/checkpoints/best.ckpt",
        f"input={low}",
        f"output={tmp_path}/out",
        "sampler.steps=2",
        "sampler.realism=0.5",
        "samples=2",
    )
    assert answer.code == 0, answer.err
    record = json.loads((tmp_path / "out/restore.json").read_text())
    sampling = "mean, then 2 steps, realism 0.5, test-time augmentation"
    assert (record["preset"], record["sampler"]) == ("custom", sampling)
    assert record["evaluations_per_sample"] == 4  # the mean in two orientations, and two steps


@pytest.mark.slow
def test_a_longer_run_lengthens_the_flow_alone(train, command, tmp_path):
    assert train(*TINY, "trainer.max_steps=6", f"run_folder={tmp_path}/run").code == 0
    before = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    answer = command("train", f"resume={tmp_path}/run", "trainer.max_steps=12")
    assert answer.code == 0, answer.err
    assert (steps(tmp_path / "run/mean"), steps(tmp_path / "run")) == (4, 8)
    after = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(before["sigma"], after["sigma"])


def test_the_flow_has_the_time_that_the_regressor_leaves(tmp_path):
    stage = FirstStage("regression", "regression", "mean", None, 0.75)
    run = {"model": {"regression": {}}, "data": {}, "names": {"model": "pmrf"}, "run_folder": str(tmp_path)}

    def first(**trainer):
        return first_settings(TrainSettings.of({**run, "trainer": trainer}), stage).trainer

    for duration in ("00:00:20:00", {"minutes": 20}):
        assert first(max_steps=8, max_time=duration) == {"max_steps": 6, "max_time": {"seconds": 900}}
        timer = MaxTime(duration)
        for took, left in ((300, 900), (900, 300), (5000, 300)):
            timer.spend(took, stage.share)
            assert timer.time_remaining() == left and timer.text == "00:00:20:00"
    assert "max_time" not in first(max_steps=8)
    for wrong in ("20:00", 20, {"weks": 1}, {"minutes": "a"}, "00:00:00:00", [1]):
        with pytest.raises(UserError, match="trainer.max_time"):
            MaxTime(wrong)


@pytest.mark.slow
def test_both_stages_share_the_time(train, command, tmp_path):
    run, share = tmp_path / "run", 0.75
    settings = [*TINY, f"model.mean_share={share}", "trainer.max_steps=100000", f"run_folder={run}"]
    answer = train(*settings, "trainer.max_time=00:00:00:04")
    assert answer.code == 0, answer.err
    first, second = (json.loads((run / name / "status.json").read_text()) for name in ("mean", "."))
    # The regressor has three of the four seconds, and the flow what is left of them.
    assert first["ended"].startswith("after 00:00:00:03") and second["ended"].startswith("after 00:00:00:04")
    regressor = f"step {first['step']} of 75000"
    assert f"the regressor was stopped at {regressor} by trainer.max_time" in answer.out
    stored = yaml.safe_load((run / "mean/config.yaml").read_text())
    assert stored["trainer"]["max_time"] == {"seconds": 3}
    card = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["card"]
    assert card["training"] == {"steps": 25000, "regressor": {"step": first["step"], "steps": 75000}}

    shown = command("show", run).out
    assert (
        f"regressor      stopped at {regressor}" in shown
        and f"regressor {first['step']} of 75000 steps, flow " in shown
    )
    assert f"run            stopped at step {second['step']} of 25000" in shown

    # The first stage resumes by itself: the flow keeps the regressor that it began with.
    assert command("train", f"resume={run}/mean", "trainer.max_time=00:00:00:01").code == 0
    assert steps(run / "mean") > first["step"]
    answer = command("train", f"resume={run}", "trainer.max_steps=75001")
    assert answer.code == 2 and f"is at step {75000 + second['step']}" in answer.err
    answer = command(
        "train", f"resume={run}", "trainer.max_time=null", f"trainer.max_steps={75000 + second['step'] + 2}"
    )
    assert answer.code == 0, answer.err
    assert f"the regressor is kept as it was ({regressor})" in answer.out
    assert f"the run is at step {75000 + second['step'] + 2}; " in answer.out
    assert steps(run) == second["step"] + 2


def test_a_run_that_stopped_in_its_first_stage_resumes(train, command, tmp_path, monkeypatch):
    from ddpm_lightning.models.pmrf import PMRF

    def stop(self, batches, reduce):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PMRF, "calibrate", stop)
        assert train(*TINY, "trainer.max_steps=6", f"run_folder={tmp_path}/run").code != 0
    assert steps(tmp_path / "run/mean") == 4 and not (tmp_path / "run/checkpoints/last.ckpt").exists()
    answer = command("train", f"resume={tmp_path}/run")
    assert answer.code == 0, answer.err
    assert (steps(tmp_path / "run/mean"), steps(tmp_path / "run")) == (4, 2)


@pytest.mark.slow
def test_a_trained_mean_takes_no_steps(train, tmp_path):
    assert train(*MEAN, "trainer.max_steps=4", f"run_folder={tmp_path}/mean").code == 0
    given = f"model.mean={tmp_path}/mean/checkpoints/best.ckpt"
    answer = train(*TINY, "trainer.max_steps=3", f"run_folder={tmp_path}/run", given)
    assert answer.code == 0, answer.err
    assert steps(tmp_path / "run") == 3 and not (tmp_path / "run/mean").exists()
    best = torch.load(tmp_path / "mean/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    ours = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(ours["regression.network.output_gain"], best["network.output_gain"])

    for wrong, message in (
        ([*TINY, "model.regression.network.base=16"], "has another network"),
        ([*TINY, "data/normalisation=dataset"], "another normalisation"),
    ):
        answer = train(*wrong, f"run_folder={tmp_path}/wrong", given)
        assert answer.code == 2 and message in answer.err and not (tmp_path / "wrong").exists()
    answer = train(*TINY, f"run_folder={tmp_path}/wrong", f"model.mean={tmp_path}/run/checkpoints/best.ckpt")
    assert answer.code == 2 and "model=regression" in answer.err
    answer = train(*TINY, f"run_folder={tmp_path}/wrong", "trainer.max_steps=1")
    assert answer.code == 2 and "at least 2" in answer.err


def test_samplers_must_suit_the_model(train, command, tmp_path):
    assert train(*TINY, "trainer.max_steps=3", f"run_folder={tmp_path}/run").code == 0
    best = f"checkpoint={tmp_path}/run/checkpoints/best.ckpt"
    answer = command("evaluate", best, "sampler=ddim", f"output={tmp_path}/scores")
    assert answer.code == 2 and "Heun steps, not by DDIM" in answer.err
    answer = command("evaluate", best, "sampler.realism=2", f"output={tmp_path}/scores")
    assert answer.code == 2 and "sampler.realism: is 2" in answer.err
