import csv

import torch

from ddpm_lightning.callbacks.csv_log import RunLog


def read(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_step_and_a_column_for_each_metric(tmp_path):
    log = RunLog(str(tmp_path))
    log.log_metrics({"train/loss": torch.tensor(0.5), "epoch": 0}, 10)
    log.log_metrics({"val/loss": 0.25}, 10)
    log.log_metrics({"train/loss": 0.125}, 20)
    log.finalize("success")
    assert read(tmp_path) == [
        {"step": "10", "epoch": "0.0", "train/loss": "0.5", "val/loss": "0.25"},
        {"step": "20", "epoch": "", "train/loss": "0.125", "val/loss": ""},
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_resumed_run_replaces_repeated_steps(tmp_path):
    first = RunLog(str(tmp_path))
    for step in (10, 20, 30):
        first.log_metrics({"train/loss": float(step)}, step)
    first.save()
    second = RunLog(str(tmp_path))
    second.log_metrics({"train/loss": -1.0}, 30)
    second.log_metrics({"train/loss": -2.0}, 40)
    second.save()
    assert [(row["step"], float(row["train/loss"])) for row in read(tmp_path)] == [
        ("10", 10.0),
        ("20", 20.0),
        ("30", -1.0),
        ("40", -2.0),
    ]


def test_rows_are_written_now_and_then(tmp_path):
    log = RunLog(str(tmp_path), every=3)
    for step in range(4):
        log.log_metrics({"loss": 1.0}, step)
    assert len(read(tmp_path)) == 3
