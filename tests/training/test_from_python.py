"""Training from Python: the same runs as the command line, and errors about what was given."""

import json

import pytest
import torch

import ddpm_lightning as dl
from tests.trained import TINY

NETWORK = {"base": 8, "multipliers": [1, 2], "channels_per_head": 8}
SPEED = {"accelerator": "cpu", "callbacks": {"images": None}}


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture
def data(pair_folder):
    return dl.dataset("folder", root=pair_folder, crop=32, batch_size=2)


@pytest.fixture
def method():
    return dl.method("ddpm_small", network=NETWORK, sampler={"steps": 3})


def test_a_run_equals_that_of_the_command_line(data, method, pair_folder, command, tmp_path):
    run = dl.fit(method, data, max_steps=2, run_folder=tmp_path / "a", **SPEED)
    settings = ["data=folder", f"data.root={pair_folder}", "data.batch_size=2", "trainer=cpu"]
    answer = command("train", *TINY, *settings, "trainer.max_steps=2", "~callbacks.images", "run_folder=b")
    assert answer.code == 0, answer.err
    first, second = weights(run.last), weights(tmp_path / "b/checkpoints/last.ckpt")
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    resumed = dl.resume(run.folder, max_steps=3)
    assert resumed.reached == 3
    answer = command("evaluate", f"checkpoint={run.best}", "samples=1", "sampler.steps=1", "output=c")
    assert answer.code == 0 and json.loads((tmp_path / "c/summary.json").read_text())["data"] == "pairs"


def test_a_trained_model_is_fine_tuned(data, method, tmp_path):
    first = dl.fit(method, data, max_steps=2, run_folder=tmp_path / "a", **SPEED)
    slower = dl.finetuned(first.last, optimizer={"lr": 1e-9})
    second = dl.fit(slower, data, max_steps=1, run_folder=tmp_path / "b", **SPEED)
    before, after = weights(first.last), weights(second.last)
    assert all(torch.allclose(before[key], after[key], atol=1e-5) for key in before)
    assert second.settings.finetune == str(first.last) and second.settings.model["optimizer"]["lr"] == 1e-9


def test_descriptions_build_their_objects(data, method):
    assert isinstance(method.build(), dl.Method)
    pairs = data.build()
    pairs.setup("fit")
    assert next(iter(pairs.train_dataloader()))["low"].shape == (2, 1, 32, 32)


def test_a_data_module_is_named_by_its_class(pair_folder):
    path = "ddpm_lightning.datasets.folder.FolderData"
    found = dl.dataset(path, root=str(pair_folder), normalisation="shared").settings()
    assert found["_target_"] == path and found["normalisation"]["target"] is None
    assert "matched" not in found["normalisation"]


@pytest.mark.parametrize(
    "call, subject",
    [
        (lambda: dl.method("ddpm_smal"), "ddpm_smal"),
        (lambda: dl.method("ddpm_small", network={"bas": 8}), "network.bas"),
        (lambda: dl.method("ddpm_small", network={"base": 0}), "network.base"),
        (lambda: dl.dataset("folder"), "data.root"),
        (lambda: dl.dataset("folder", root="x", crops=8), "data.crops"),
        (lambda: dl.dataset("folder", root="x", normalisation="share"), "share"),
        (lambda: dl.finetuned("defalt"), "finetune=defalt"),
        (lambda: dl.finetuned("default", net={}), "model.net"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(call, subject):
    with pytest.raises(dl.UserError) as caught:
        call()
    assert subject in str(caught.value.subject)


def test_arguments_of_the_trainer_are_checked(data, method, tmp_path):
    for wrong, subject in (
        ({"max_steps": 0}, "trainer.max_steps"),
        ({"max_steps": 1, "stepps": 1}, "trainer"),
    ):
        with pytest.raises(dl.UserError) as caught:
            dl.fit(method, data, run_folder=tmp_path / "a", **SPEED, **wrong)
        assert subject in str(caught.value.subject) and not (tmp_path / "a/config.yaml").exists()


def test_classes_of_ones_own_are_named_by_their_paths(tmp_path, monkeypatch, pair_folder):
    monkeypatch.syspath_prepend(tmp_path)
    lines = ["import torch", "class Own(torch.nn.Module):", "    def __init__(self, width: int = 1):"]
    (tmp_path / "ownnet.py").write_text("\n".join([*lines, "        super().__init__()"]))
    described = dl.method("ddpm_small", network={"_target_": "ownnet.Own", "width": 4})
    assert described.settings()["network"] == {"_target_": "ownnet.Own", "width": 4}
    assert type(described.build().network).__name__ == "Own"
