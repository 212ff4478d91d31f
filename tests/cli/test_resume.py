"""N steps, a resume, and N more steps leave the very bits of 2N steps, wherever the run ended and whatever was best."""

import csv
import os
import signal

import pytest
import torch
from lightning.pytorch.callbacks import Timer

from ddpm_lightning.training.module import LightningMethod
from tests.cli.test_verbs import TINY
from tests.conftest import write_pairs

SLOW = pytest.mark.slow
#: An epoch is 4 images x 4 crops / 4 = 4 batches; dropout draws from the global generator.
DDPM = [*TINY, "model.network.dropout=0.2", "model/lr_schedule=saw_tooth"]
DATA = [setting for setting in TINY if not setting.startswith("model")]
#: A rate that falls at each validation that is not better.
FALLING = ["model/lr_schedule=plateau", "model.lr_schedule.patience=0"]
CARE = [*DATA, "model=care_small", "model.network.depth=2", "model.network.first_filters=4", *FALLING]
NOISE2VOID = [*DATA, "model=noise2void_small", "model.network.depth=2", "model.network.first_filters=4"]
PIX2PIX = [*DATA, "model=pix2pix_small", "data.crop=64", "data.crops_per_image=4"]
FLOW = [*DATA, "model.network.base=8", "model.network.multipliers=[1,2]", "model.regression.network.base=8"]
FLOW += ["model.regression.network.multipliers=[1,2]", "model.mean_share=0.5"]


def same(one, other, path=""):
    """Asserts that nested containers hold the same bits."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for number, pair in enumerate(zip(one, other, strict=True)):
            same(*pair, f"{path}.{number}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    else:
        assert one == other, path


def content(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): {k: v for k, v in row.items() if v} for row in csv.DictReader(file)}


def assert_same_run(whole, part, best=True):
    for name in ("last", "best")[: 1 + best]:
        one, other = (content(folder, name) for folder in (whole, part))
        assert one["global_step"] == other["global_step"]
        for kind in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "metrics"):
            assert (kind in one) == (kind in other)
            if kind in one:
                same(one[kind], other[kind], f"{name}: {kind}")
    scores = [
        next(state["best_model_score"] for key, state in one["callbacks"].items() if "Checkpoint" in key)
        for one in (content(whole), content(part))
    ]
    same(*scores, "best score")


@pytest.fixture
def best_at(monkeypatch):
    """Makes the validation at one step the best of the run, whatever the weights."""

    def choose(step):
        inner = LightningMethod.log

        def log(self, name, value, **settings):
            if name == "val/loss":
                value = value * 0 + (1.0 if self.trainer.global_step == step else 2.0)
            inner(self, name, value, **settings)

        monkeypatch.setattr(LightningMethod, "log", log)

    return choose


@pytest.fixture
def stopped(monkeypatch):
    """Ends a run at a step as its limit of time would, or by a signal that arrives while the step is at work."""

    def stop(how, at, method=""):
        def time_is_up(self, trainer):
            trainer.should_stop = trainer.should_stop or trainer.global_step == at

        inner = LightningMethod.on_train_batch_start

        def start(self, batch, batch_idx):
            inner(self, batch, batch_idx)
            if self.trainer.global_step == at - 1 and method in ("", type(self.method).__name__):
                os.kill(os.getpid(), signal.SIGTERM)

        if how == "time":
            monkeypatch.setattr(Timer, "_check_time_remaining", time_is_up)
        else:
            monkeypatch.setattr(LightningMethod, "on_train_batch_start", start)

    return stop


def assert_rows(whole, part):
    """Asserts that a part has all numbers of a whole run.

    It has more: where a run ends by itself, it validates and samples samples once more.
    """
    whole, part = rows(whole), rows(part)
    assert whole == {step: {key: part[step].get(key) for key in row} for step, row in whole.items()}


@pytest.mark.parametrize(
    ("model", "at", "more"),
    [
        (DDPM, 8, []),
        pytest.param(DDPM, 5, [], marks=SLOW),
        pytest.param(DDPM, 12, ["trainer.check_val_every_n_epoch=2"], marks=SLOW),
        pytest.param(DDPM, 6, ["+trainer.val_check_interval=2"], marks=SLOW),
        pytest.param(DDPM, 7, ["+trainer.limit_val_batches=0"], marks=SLOW),
        pytest.param(DDPM, 8, ["+trainer.limit_val_batches=0"], marks=SLOW),
        pytest.param(DDPM, 3, ["+trainer.accumulate_grad_batches=3"], marks=SLOW),
        pytest.param(CARE, 8, [], marks=SLOW),
        pytest.param(CARE, 12, ["trainer.check_val_every_n_epoch=2"], marks=SLOW),
        (CARE, 10, []),
    ],
)
def test_a_run_that_is_made_longer(command, pair_folder, tmp_path, best_at, model, at, more):
    best_at(4)
    common = [
        *model,
        *more,
        f"data.root={pair_folder}",
        "trainer.log_every_n_steps=1",
        "callbacks.images=null",
    ]
    for name, steps in (("whole", 16), ("part", at)):
        answer = command("train", *common, f"trainer.max_steps={steps}", f"run_folder={tmp_path}/{name}")
        assert answer.code == 0, answer.err
    assert content(tmp_path / "part")["global_step"] == at
    torch.manual_seed(99)
    answer = command("train", f"resume={tmp_path}/part", "trainer.max_steps=16")
    assert answer.code == 0, answer.err
    assert content(tmp_path / "whole")["global_step"] == 16
    assert_same_run(tmp_path / "whole", tmp_path / "part", best="+trainer.limit_val_batches=0" not in more)
    assert_rows(tmp_path / "whole", tmp_path / "part")


@pytest.mark.parametrize(
    ("model", "how", "at", "more"),
    [
        pytest.param(DDPM, "time", 6, [], marks=SLOW),
        pytest.param(DDPM, "time", 8, [], marks=SLOW),
        pytest.param(DDPM, "time", 8, ["trainer.check_val_every_n_epoch=3"], marks=SLOW),
        pytest.param(DDPM, "time", 7, ["+trainer.limit_val_batches=0"], marks=SLOW),
        (DDPM, "signal", 8, []),
        pytest.param(NOISE2VOID, "time", 8, ["callbacks.ema=null"], marks=SLOW),
        pytest.param(PIX2PIX, "time", 7, [], marks=SLOW),
        pytest.param(PIX2PIX, "signal", 8, [], marks=SLOW),
    ],
)
def test_a_run_that_is_ended(
    command, pair_folder, tmp_path, best_at, stopped, monkeypatch, model, how, at, more
):
    best_at(4)
    common = [
        *model,
        *more,
        f"data.root={pair_folder}",
        "trainer.log_every_n_steps=1",
        "trainer.max_steps=16",
    ]
    common += ["+trainer.max_time=00:12:00:00"] * (how == "time")
    assert command("train", *common, f"run_folder={tmp_path}/whole").code == 0
    with monkeypatch.context() as patch:
        stopped(how, at)
        answer = command("train", *common, f"run_folder={tmp_path}/part")
        patch.undo()
    assert answer.code == (0 if how == "time" else 143), answer.err
    assert content(tmp_path / "part")["global_step"] == at
    torch.manual_seed(99)
    answer = command("train", f"resume={tmp_path}/part")
    assert answer.code == 0, answer.err
    assert_same_run(tmp_path / "whole", tmp_path / "part", best="+trainer.limit_val_batches=0" not in more)
    assert_rows(tmp_path / "whole", tmp_path / "part")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pmrf_small", "residual_flow_small"])
@pytest.mark.parametrize("stage", ["Regression", "PMRF"])
def test_a_run_in_two_stages(command, pair_folder, tmp_path, best_at, stopped, monkeypatch, name, stage):
    best_at(4)
    common = [*FLOW, f"model={name}", f"data.root={pair_folder}", "trainer.max_steps=24"]
    common += ["trainer.log_every_n_steps=1", "callbacks.images=null"]
    assert command("train", *common, f"run_folder={tmp_path}/whole").code == 0
    with monkeypatch.context():
        stopped("signal", 8, stage)
        answer = command("train", *common, f"run_folder={tmp_path}/part")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert answer.code == 143, answer.err
    best_at(4)
    torch.manual_seed(99)
    answer = command("train", "resume=part")
    assert answer.code == 0, answer.err
    for folder in (".", "mean"):
        assert_same_run(tmp_path / "whole" / folder, tmp_path / "part" / folder)
        assert_rows(tmp_path / "whole" / folder, tmp_path / "part" / folder)


@pytest.mark.slow
def test_folder_and_data_that_have_moved(command, pair_folder, tmp_path, best_at):
    best_at(4)
    settings = [*DDPM, f"data.root={pair_folder}", "trainer.max_steps=16", "callbacks.images=null"]
    longer = "trainer.max_steps=16"
    assert command("train", *settings, "run_folder=whole").code == 0
    assert command("train", *settings, "trainer.max_steps=6", "run_folder=runs/part").code == 0
    place = tmp_path / "runs, moved" / "part"
    place.parent.mkdir()
    (tmp_path / "runs" / "part").rename(place)
    data = pair_folder.rename(tmp_path / "data (new)")

    answer = command("train", f"resume={place}", longer)
    assert answer.code == 2 and f"data.root={pair_folder}" in answer.err and "data.root=DIR" in answer.err
    answer = command("train", f"resume={place}", longer, f"data.root={tmp_path}/nowhere")
    assert answer.code == 2 and "nowhere" in answer.err
    other = write_pairs(tmp_path / "other", scale=3)
    answer = command("train", f"resume={place}", longer, f"data.root={other}")
    assert answer.code == 2 and str(other) in answer.err and "intensities differ" in answer.err
    answer = command("train", f"resume={place}", longer, f"data.root={data}", "seed=1")
    assert answer.code == 2 and "seed" in answer.err and "cannot be changed" in answer.err

    answer = command("train", f"resume={place}", longer, f"data.root={data}")
    assert answer.code == 0 and "may differ" not in answer.out, answer.err
    assert_same_run(tmp_path / "whole", place)
    assert_rows(tmp_path / "whole", place)
    assert not any((tmp_path / "runs").iterdir()), "nothing is written where the run was"
    (data / "train" / "notes.txt").write_text("a stray file")
    answer = command("train", f"resume={place}", "trainer.max_steps=18")
    assert answer.code == 0 and "the result may differ" in answer.out, "the new place is remembered"


def test_simulated_data_are_in_no_folder(command, tmp_path):
    settings = [
        "model=regression_small",
        "model.network.base=8",
        "model.network.multipliers=[1,2]",
        "data.crop=32",
    ]
    settings += [
        "data=simulated_microtubules",
        "data.counts={train:2,val:1,test:1}",
        "data.size=64",
        "trainer=cpu",
    ]
    settings += ["callbacks.images=null", "trainer.precision=32-true", "data.validation_crops=2"]
    assert command("train", *settings, "trainer.max_steps=1", "run_folder=run").code == 0
    answer = command("train", "resume=run", "trainer.max_steps=2", f"data.root={tmp_path}")
    assert answer.code == 2 and "data.root" in answer.err and "not in a folder" in answer.err
    assert command("train", "resume=run", "trainer.max_steps=2").code == 0


def test_a_lost_best_checkpoint_does_not_keep_its_score(command, pair_folder, tmp_path, best_at):
    best_at(4)
    settings = [*TINY, f"data.root={pair_folder}", "trainer.max_steps=8", "callbacks.images=null"]
    assert command("train", *settings, "run_folder=run").code == 0
    (tmp_path / "run" / "checkpoints" / "best.ckpt").unlink()
    assert command("train", "resume=run", "trainer.max_steps=16").code == 0
    assert content(tmp_path / "run", "best")["global_step"] == 12


def test_the_best_step_may_be_the_last_one(command, pair_folder, tmp_path, best_at):
    """A run that ends inside of an epoch is validated at its end, and a longer run keeps that score."""
    best_at(6)
    settings = [*TINY, f"data.root={pair_folder}", "trainer.max_steps=6", "callbacks.images=null"]
    assert command("train", *settings, "run_folder=run").code == 0
    assert content(tmp_path / "run", "best")["global_step"] == 6
    assert command("train", "resume=run", "trainer.max_steps=16").code == 0
    assert content(tmp_path / "run", "best")["global_step"] == 6
    assert content(tmp_path / "run")["global_step"] == 16


def test_there_must_be_something_to_resume(command, tmp_path):
    (tmp_path / "empty").mkdir()
    answer = command("train", f"resume={tmp_path}/empty")
    assert answer.code == 2 and "nothing to resume" in answer.err


def test_processes_of_torchrun_need_a_common_folder(command, pair_folder, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
    answer = command("train", *TINY, f"data.root={pair_folder}")
    assert answer.code == 2 and "run_folder=DIR" in answer.remedy
