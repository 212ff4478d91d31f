"""What a finished training suggests to do next."""

import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import ddpm_lightning
from ddpm_lightning.cli import evaluate
from ddpm_lightning.inference.calibration import required_intervals
from ddpm_lightning.inference.restore_folder import RestoreSettings
from ddpm_lightning.training import fit
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.lock import _myself
from ddpm_lightning.utils.paths import command_of


@pytest.mark.parametrize(("normalisation", "protocol"), [("dataset", ""), ("image", " protocol=affine")])
def test_images_with_scales_of_their_own_are_compared_by_a_fit(
    command, monkeypatch, tmp_path, normalisation, protocol
):
    """A training that has happened is all that is needed."""
    best = Path("checkpoints/best.ckpt")
    monkeypatch.setattr(fit, "train", lambda settings, trust: fit.Run(settings, best, best, True))
    answer = command("train", f"data/normalisation={normalisation}", f"run_folder={tmp_path}")
    assert answer.code == 0, answer.err
    assert answer.out.rstrip().endswith(f"evaluate checkpoint={best}{protocol}")


def test_an_experiment_names_the_evaluation_that_belongs_to_it(command, monkeypatch, tmp_path):
    """After its training, and where its model is scored in another way."""
    best = Path("checkpoints/best.ckpt")
    monkeypatch.setattr(fit, "train", lambda settings, trust: fit.Run(settings, best, best, True))
    answer = command(
        "train", "experiment=paper", "data=simulated_microtubules", "trainer=cpu", f"run_folder={tmp_path}"
    )
    assert answer.code == 0, answer.err
    assert answer.out.rstrip().endswith(f"evaluate evaluation=paper checkpoint={best}")

    summary = {"checkpoint": {"evaluation": "paper"}, "failed": []}
    monkeypatch.setattr(evaluate, "evaluate_into_folder", lambda *_: (tmp_path, summary))
    monkeypatch.setattr(evaluate, "summary_markdown", lambda _: "numbers")
    plain, papers = (command("evaluate", "checkpoint=a", *more) for more in ([], ["evaluation=paper"]))
    assert "evaluation=paper" in plain.out and plain.code == papers.code == 0
    assert "evaluation=paper" not in papers.out


def test_printed_commands_can_be_pasted_whatever_folders_are_called():
    place = "my runs (1)/it's $HOME"
    assert shlex.split(command_of("train", resume=place, **{"data.root": "DIR"})) == [
        *("ddpm-lightning", "train", f"resume={place}", "data.root=DIR")
    ]
    root = Path(ddpm_lightning.__file__).parent
    for path in root.rglob("*.py"):
        assert not re.search(r"ddpm-lightning \w+ [^\n]*=\{", path.read_text(encoding="utf-8")), path


def test_a_lock_names_its_command_as_it_is_typed(monkeypatch):
    typed = ["restore", "output=two jobs"]
    monkeypatch.setattr(sys, "argv", ["/bin/ddpm-lightning", *typed])
    assert shlex.split(_myself().command) == ["ddpm-lightning", *typed]


@pytest.mark.parametrize("there", [True, False])
def test_a_calibration_is_asked_for_with_the_same_sampler_and_with_data_that_are_there(tmp_path, there):
    """The images of the training are often those of another machine."""
    path = tmp_path / "runs" / "mine a" / "best.ckpt"
    card = {"data": {"root": str(tmp_path if there else tmp_path / "gone")}}
    trained = SimpleNamespace(
        path=path,
        card=card,
        sampling="ddim with 10 steps",
        std_by_network=False,
        calibration=lambda samples: None,
    )
    settings = RestoreSettings(
        checkpoint="x",
        input="y",
        output="my out",
        preset="fast",
        sampler={"steps": 4, "start": None},
        samples=7,
    )
    with pytest.raises(UserError, match="not calibrated for 7 samples by ddim") as raised:
        required_intervals(trained, settings)
    typed = shlex.split(raised.value.remedy)
    same = {
        "preset=fast",
        "sampler.steps=4",
        f"checkpoint={path}",
        "split=val",
        "calibrate=true",
        "samples=7",
    }
    assert typed[:2] == ["ddpm-lightning", "evaluate"] and same <= set(typed) and "output=my out" not in typed
    assert ("data.root=DIR" in typed) is not there
