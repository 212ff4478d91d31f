"""A session in Python without Hydra: train, resume, evaluate, load and restore, as a notebook would."""

import numpy as np
import pytest
import tifffile
import torch

import ddpm_lightning as dl

NETWORK = {"base": 8, "multipliers": [1, 2], "channels_per_head": 8}
CPU = {"accelerator": "cpu", "precision": "32-true"}


@pytest.fixture
def data(pair_folder):
    return dl.dataset("folder", root=str(pair_folder), crop=32, batch_size=2)


@pytest.fixture
def method():
    return dl.method("ddpm_small", network=NETWORK, sampler={"steps": 3})


def state(path):
    return torch.load(path, weights_only=True)


def test_a_session(data, method, tmp_path):
    run = dl.fit(
        method, data, max_steps=2, run_folder=tmp_path / "run", callbacks={"images": None}, seed=3, **CPU
    )
    assert run.paired and run.reached == 2 and run.best.is_file()
    longer = dl.resume(run.folder, max_steps=3)
    assert longer.reached == 3 and state(longer.last)["global_step"] == 3

    settings = dl.EvaluateSettings(preset="fast", samples=2, limit=2)
    scored = dl.evaluate(longer.best, settings=settings)
    assert len(scored.scores) == 2 and scored.summary["samples"] == 2
    assert np.isfinite(scored.summary["estimators"]["average"]["psnr"]["median"])

    trained = dl.load_method(longer.last, preset="fast")
    assert isinstance(trained.method, dl.Method) and (trained.preset, trained.samples) == ("fast", 2)
    assert trained.step == 3 and trained.card["config"]["seed"] == 3 and trained.tta

    low = tifffile.imread(tmp_path / "pairs/test/low/00000.tif")
    restored = dl.Restorer(trained, seed=1).restore(low, image="00000")
    again = dl.Restorer.load(longer.last, "cpu", preset="fast", seed=1).restore(low, image="00000")
    assert restored.mean.shape == low.shape and restored.sample_count == 2 and restored.std is not None
    np.testing.assert_array_equal(restored.mean, again.mean)

    job = dl.restore_folder(
        checkpoint=longer.last,
        input=tmp_path / "pairs/test/low",
        output=tmp_path / "restored",
        preset="fast",
        seed=1,
        device="cpu",
    )
    assert len(job.records) == 3 and not job.failed
    written = tifffile.imread(tmp_path / "restored/00000_std.tif")
    np.testing.assert_array_equal(written, restored.std)


@pytest.mark.parametrize(
    "call, subject",
    [
        (lambda: dl.load_method("no_such_model"), "checkpoint=no_such_model"),
        (lambda: dl.Restorer.load("default", preset="slow"), "preset=slow"),
        (lambda: dl.restore_folder(checkpoint="default", input="nowhere", output="out"), "input=nowhere"),
        (lambda: dl.restore_folder(checkpoint="default", input="x", output="out", sample=2), "sample"),
    ],
)
def test_errors_name_what_was_given(call, subject, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(dl.UserError) as caught:
        call()
    assert str(caught.value.subject) == subject and (caught.value.allowed or caught.value.remedy)
    assert not list(tmp_path.iterdir())


def test_metrics_of_the_epochs_change_no_bit_of_the_training(data, method, tmp_path):
    images = {"budget": 1.0, "crop": 32, "samples": 2, "lpips": False}
    runs = [
        dl.fit(method, data, max_steps=4, run_folder=tmp_path / name, callbacks={"images": callback}, **CPU)
        for name, callback in (("with", images), ("without", None))
    ]
    assert (tmp_path / "with/figures").is_dir() and not (tmp_path / "without/figures").exists()
    first, second = (state(run.last) for run in runs)
    for part in ("state_dict", "current_model_state"):
        assert first[part].keys() == second[part].keys()
        assert all(torch.equal(tensor, second[part][name]) for name, tensor in first[part].items())
