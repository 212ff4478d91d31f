"""Experiments from a checkpoint to a README, stopped and taken up again."""

import importlib
import re

import pytest

from experiments import common
from tests.trained import write_checkpoint

SIZES = {
    "uncertainty": {"images": 2, "calibration": 1, "side": 64},
    "visual_assessment": {"images": 2, "side": 128},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_an_experiment_resumes_and_fills_its_readme(name, tmp_path, monkeypatch, capsys):
    run = importlib.import_module(f"experiments.{name}.run")
    monkeypatch.setattr(run, "SAMPLES", 3)
    monkeypatch.setattr(common, "SPECIMENS", ("synapses",))
    checkpoint = write_checkpoint(tmp_path / "model.ckpt", per_image=True)
    arguments = [
        "--model",
        str(checkpoint),
        "--work",
        str(tmp_path / "work"),
        "--output",
        str(tmp_path / "out"),
    ]

    def go():
        common.run(name, {"small": SIZES[name]}, run.measure, run.report, arguments)
        printed = re.findall(r"^ +synapses .*", capsys.readouterr().out, re.MULTILINE)
        return printed, (tmp_path / "out" / "README.md").read_text("utf-8")

    rows, readme = go()
    assert len(rows) >= 2 and "| synapses |" in readme
    again, same = go()
    assert again == [] and same == readme
    # A row too few, as after a stop: the last image is measured again, to the same numbers.
    table = sorted((tmp_path / "work" / "small").glob("*.csv"))[0]
    lines = table.read_text().splitlines(keepends=True)
    place = lines[0].split(",").index("image")
    last = lines[-1].split(",")[place]
    table.write_text("".join(line for line in lines if line.split(",")[place] != last))
    taken_up, repeated = go()
    assert taken_up and repeated == readme
