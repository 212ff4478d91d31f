"""Trainings and evaluations as the paper describes them, with small networks and few steps."""

import csv
import json

import pytest
import torch

from tests.conftest import write_pairs

SMALL = [
    "data=folder",
    "trainer=cpu",
    "data.crop=32",
    "data.batch_size=4",
    "model.network.base=8",
    "model.network.multipliers=[1,2]",
    "model.network.channels_per_head=8",
    "trainer.max_steps=2",
    "model.schedule.steps=20",
    "trainer.check_val_every_n_epoch=1",
    "data.crops_per_image=1",
]


@pytest.mark.parametrize(("name", "attention"), [("paper", "[1]"), ("released_code", "[]")])
def test_two_steps_of_the_papers_experiments(command, tmp_path, name, attention):
    """In 20 steps a sample, which is where epsilon models can begin at pure noise, instead of 200."""
    run, scores, pairs = tmp_path / "run", tmp_path / "scores", write_pairs(tmp_path / "pairs", size=32)
    overrides = [*SMALL, f"experiment={name}", f"model.network.attention_levels={attention}"]
    answer = command("train", *overrides, f"data.root={pairs}", f"run_folder={run}")
    assert answer.code == 0, answer.err
    with (run / "metrics.csv").open(newline="") as file:
        found = {
            int(row["step"]): float(row["val/mae"]) for row in csv.DictReader(file) if row.get("val/mae")
        }
    assert len(found) == 2
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    (score,) = [
        state["best_model_score"] for key, state in best["callbacks"].items() if "ModelCheckpoint" in key
    ]
    assert float(score) == pytest.approx(min(found.values()))
    assert "averaging_state" not in best
    evaluate = ["evaluation=paper", "metrics.resolution=false", "figures=0", "limit=1"]
    answer = command("evaluate", f"checkpoint={run}/checkpoints/best.ckpt", *evaluate, f"output={scores}")
    assert answer.code == 0, answer.err
    summary = json.loads((scores / "summary.json").read_text())
    assert (summary["protocol"], summary["samples"], summary["nfe"]) == ("paper", 15, 300)
    assert summary["preset"] == "paper" and "augmentation" not in summary["sampler"]
