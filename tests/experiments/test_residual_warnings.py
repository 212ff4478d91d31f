"""Rows say what a restoration shows, planted puncta have their height, and the tables are those of the rows."""

import csv

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.inference.restorer import Restorer
from experiments.residual_tests import run
from tests.trained import write_checkpoint

SIDE = 192


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    clean = 100 + 400 * gaussian_filter(rng.normal(size=(SIDE, SIDE)), 8).clip(0)
    return Pair(
        (clean + rng.normal(0, 5, clean.shape)).astype(np.float32), clean.astype(np.float32), "a", "a"
    )


@pytest.fixture(scope="module")
def row(tmp_path_factory, pair):
    model = Restorer.load(
        write_checkpoint(tmp_path_factory.mktemp("model") / "a.ckpt", per_image=True), samples=2
    )
    return run.tested(model, pair, 0)


def test_a_useless_restoration_is_below_the_best_blur_and_has_a_warning(row):
    assert row["gain"] < -3 and run.of_residual(row) and row["gain_of_smoothed"] <= 0


def test_planted_puncta_have_their_height(pair):
    added = run._with_puncta(pair.low, pair.high, 0) - pair.low
    assert added.max() == pytest.approx(run.HEIGHT * 5, rel=0.25)
    assert run.REMOVED in run._kinds(pair.low + added, pair.high)
    assert not run._kinds(pair.low, pair.high)


def test_tables_are_those_of_the_rows(tmp_path, row):
    def other(half, name, gain, warnings):
        about = {"half": half, "set": name, "cause": "zoom 0.4, 25 photons", "image": "a"}
        return {
            **about,
            **row,
            "gain": gain,
            "warnings": warnings,
            "half_kept": True,
            "puncta_removed": False,
        }

    rows = [
        other("calibration", run.SIMULATED, -1.0, "noise left"),
        other("test", run.ADDED, -0.1, ""),
        other("test", run.ADDED, -1.0, "noise left, spectrum"),
        other("test", run.ADDED, 1.0, "spectrum"),
        other("test", "real", 0.1, "structure removed"),
    ]
    (tmp_path / "results").mkdir()
    with (tmp_path / "results/residual_tests.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    tables = run.report(tmp_path)
    last = tables["warnings"].splitlines()[-1]
    assert last == "| test: all | 1 of 2 (50.0%) | 1 of 1 (100.0%) | 1 of 2 (50.0%) | 0 of 1 (0.0%) |"
    assert tables["all_warnings"].splitlines()[-1].count("2 of 2 (100.0%)") == 1
    assert "| added noise, zoom 0.4 | 3 | -0.03 | 1 of 2 (50.0%) | 0 of 1 (0.0%) | 0 |" in tables["sets"]
    assert "| test: all | 4 of 4 (100.0%) | 0 of 4 (0.0%) |" in tables["planted"]
