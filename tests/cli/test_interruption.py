"""A run that is told to stop saves and leaves with the code of the signal; going on, it ends with the same weights."""

import json
import os
import signal
import time

import pytest
import torch

from ddpm_lightning.training.module import LightningMethod
from ddpm_lightning.utils.lock import holder
from tests.cli.test_resume import same
from tests.cli.test_verbs import TINY

# An epoch is 4 images x 4 crops / 4 = 4 batches.
SETTINGS = [*TINY, "callbacks.images=null", "model.network.dropout=0.2", "trainer.log_every_n_steps=1"]


@pytest.fixture
def signalled(monkeypatch):
    """Sends a signal to this process while it works on a step."""

    def send(number, at):
        inner = LightningMethod.on_train_batch_start

        def start(self, batch, batch_idx):
            inner(self, batch, batch_idx)
            if self.trainer.global_step == at:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(LightningMethod, "on_train_batch_start", start)

    yield send
    monkeypatch.undo()


def weights(folder):
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return content["global_step"], content["state_dict"], content["current_model_state"]


@pytest.mark.parametrize(
    ("number", "at", "stands", "workers"),
    [
        (signal.SIGTERM, 5, 6, 0),
        (signal.SIGINT, 2, 3, 1),
        (signal.SIGTERM, 3, 4, 0),
        (signal.SIGHUP, 5, 6, 0),
    ],
    ids=["SIGTERM", "SIGINT, workers", "at the end of an epoch", "SIGHUP"],
)
def test_stopped(command, pair_folder, tmp_path, signalled, monkeypatch, number, at, stands, workers):
    settings = [*SETTINGS, f"data.root={pair_folder}", "trainer.max_steps=9", f"data.num_workers={workers}"]
    assert command("train", *settings, f"run_folder={tmp_path}/whole").code == 0
    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    with monkeypatch.context():
        signalled(number, at)
        answer = command("train", *settings, f"run_folder={tmp_path}/part")
    assert answer.code == 128 + number and f"resume={tmp_path}/part" in answer.err
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == handlers
    assert holder(tmp_path / "part") is None, "given back"
    status = json.loads((tmp_path / "part" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("interrupted", stands)
    assert weights(tmp_path / "part")[0] == stands
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(99)
    answer = command("train", "resume=part")
    assert answer.code == 0, answer.err
    for whole, part in zip(weights(tmp_path / "whole")[1:], weights(tmp_path / "part")[1:], strict=True):
        assert all(torch.equal(whole[name], part[name]) for name in whole)
    tables = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "part")]
    assert tables[0] == tables[1], "\n\n".join(tables)


def test_nohup(command, pair_folder, tmp_path, signalled):
    """A signal that is ignored from the start is ignored by a training as well."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signalled(signal.SIGHUP, 2)
        settings = [
            *SETTINGS,
            f"data.root={pair_folder}",
            "trainer.max_steps=4",
            f"run_folder={tmp_path}/run",
        ]
        assert command("train", *settings).code == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("pause", "step"), [(1.2, 2), (0.1, 3)], ids=["second", "echo"])
def test_a_second_signal_ends_it_at_once(command, pair_folder, tmp_path, monkeypatch, pause, step):
    inner = LightningMethod.training_step

    def told_twice(self, batch, batch_idx):
        if self.trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGHUP)
        return inner(self, batch, batch_idx)

    monkeypatch.setattr(LightningMethod, "training_step", told_twice)
    settings = [*SETTINGS, f"data.root={pair_folder}", "trainer.max_steps=9", f"run_folder={tmp_path}/run"]
    answer = command("train", *settings)
    assert answer.code == 129 and "a second signal stops it" in answer.err
    assert ("nothing was saved" in answer.err) == (step == 2)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file() == (step == 3)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["step"] == step
    assert holder(tmp_path / "run") is None


@pytest.mark.slow
def test_damaged_checkpoints(command, pair_folder, tmp_path):
    settings = [*SETTINGS, f"data.root={pair_folder}"]
    assert command("train", *settings, "trainer.max_steps=8", f"run_folder={tmp_path}/run").code == 0
    last, best = (tmp_path / "run" / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    content = last.read_bytes()
    middle = len(content) // 2
    for damaged in (content[:middle], content[:middle] + bytes(64) + content[middle + 64 :], b""):
        last.write_bytes(damaged)
        answer = command("train", "resume=run", "trainer.max_steps=9")
        assert answer.code == 0 and "resumes from best.ckpt" in answer.out, answer.err
        assert weights(tmp_path / "run")[0] == 9
    for path in (last, best):
        path.write_bytes(content[:middle])
    answer = command("train", "resume=run", "trainer.max_steps=12")
    assert answer.code == 2 and "last.ckpt" in answer.err and "what to do" in answer.err


@pytest.mark.parametrize(
    ("action", "accumulated"), [("stop", 1), pytest.param("stop", 2, marks=pytest.mark.slow), ("skip", 1)]
)
def test_a_loss_that_is_no_number(command, pair_folder, tmp_path, monkeypatch, action, accumulated):
    inner, seen = LightningMethod.training_step, []

    def spoilt(self, batch, batch_idx):
        seen.append(batch["name"])
        loss = inner(self, batch, batch_idx)
        return loss * torch.nan if self.trainer.global_step == 3 else loss

    monkeypatch.setattr(LightningMethod, "training_step", spoilt)
    settings = [*SETTINGS, f"data.root={pair_folder}", "trainer.max_steps=6", f"run_folder={tmp_path}/run"]
    settings[-1:-1] = [
        f"callbacks.divergence.action={action}",
        f"+trainer.accumulate_grad_batches={accumulated}",
    ]
    answer = command("train", *settings)
    dump = tmp_path / "run" / "diverged_0000003.pt"
    if action == "skip":
        assert answer.code == 0 and not dump.exists(), answer.err
        step, *both = weights(tmp_path / "run")
        assert step == 6 and all(weight.isfinite().all() for part in both for weight in part.values())
        assert "train/skipped" in (tmp_path / "run" / "metrics.csv").read_text()
        return
    assert answer.code == 2 and "train/loss: is nan at step 3" in answer.err
    seen = sum(seen[3 * accumulated :], [])
    assert all(name in answer.err for name in seen)
    content = torch.load(dump, weights_only=True)
    assert content["name"] == seen and content["low"].shape == (4 * accumulated, 1, 32, 32)
    assert content["gradients"]
    assert all(weight.isfinite().all() for weight in content["state_dict"].values())
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"
    # What was there before the step is kept: without the fault (a bad image, say) the run ends as if it had none.
    assert weights(tmp_path / "run")[0] == 3
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    for arguments in (["resume=run"], [*settings[:-1], "run_folder=whole"]):
        answer = command("train", *arguments)
        assert answer.code == 0, answer.err
    same(*(weights(tmp_path / name) for name in ("run", "whole")))


def test_skipping_for_ever_ends(command, pair_folder, tmp_path):
    settings = [*SETTINGS, f"data.root={pair_folder}", "trainer.max_steps=60", f"run_folder={tmp_path}/run"]
    answer = command("train", *settings, "callbacks.divergence.action=skip", "model.optimizer.lr=1e30")
    assert answer.code == 2 and "times in a row" in answer.err
    answer = command(
        "train", *settings[:-1], f"run_folder={tmp_path}/new", "callbacks.divergence.action=ignore"
    )
    assert answer.code == 2 and "callbacks.divergence.action" in answer.err
