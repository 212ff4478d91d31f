"""Tables of the standard deviation from rows whose answer is known."""

import numpy as np
import pytest
import torch
from scipy import stats

from ddpm_lightning.metrics.calibration import LEVELS
from experiments import common
from experiments.uncertainty import run, tables

QUANTILES = np.arange(1, 101) / 100


def text(values):
    return " ".join(f"{value:.6g}" for value in values)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Samples of half the right width, and a standard deviation that shows the failures, unlike brightness."""
    folder = tmp_path_factory.mktemp("uncertainty")
    rng = np.random.default_rng(0)
    wide = stats.halfnorm.ppf(QUANTILES - 0.005) * 2  # errors in standard deviations
    covered = [np.mean(wide <= stats.norm.ppf((1 + level) / 2)) for level in LEVELS]
    images, intervals, tiles = [], [], []
    for split, count in (("val", 39), ("test", 12)):
        for number in range(count):
            about = {"set": "cells", "split": split, "image": f"{number}", "truth": "clean"}
            error = 0.1 + 0.01 * number
            known = {"error": error, "std": error / 2, "entropy": -error, "brightness": rng.random()}
            names = ("coverage", "spread_skill", "spearman", "ause", "aurg")
            more = dict.fromkeys((*names, "spearman_entropy", "ause_entropy", "std_and_entropy"), 0.5)
            images.append({**about, "field": "", **more, **known})
            intervals.append({**about, "coverage": text(covered), "scores": text(wide)})
            if split == "test":
                for tile, worse in enumerate(rng.random(8)):
                    known = {
                        "error": worse,
                        "std": worse**2,
                        "entropy": 1 - worse,
                        "brightness": rng.random(),
                    }
                    tiles.append({**about, "field": "", "tile": tile, **known})
    for name, rows in (("images", images), ("intervals", intervals), ("tiles", tiles)):
        common.Rows(folder / "results" / f"{name}.csv", {}, ("image",)).add(rows)
    return folder


@pytest.fixture(scope="module")
def report(results):
    return run.report(results)


def cells(table):
    return [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]


def test_calibration_corrects_a_standard_deviation_that_is_too_small(report):
    found = cells(report["calibration"])
    assert float(found[3]) == pytest.approx(2 * stats.norm.cdf(stats.norm.ppf(0.95) / 2) - 1, abs=0.01)
    # 39 images allow (40 · 0.1 - 1) / 39 of the pixels outside: less than the 0.1 that was asked for.
    inside = 1 - (40 * 0.1 - 1) / 39
    assert float(found[5]) == pytest.approx(2 * stats.halfnorm.ppf(inside), abs=0.05)
    assert float(found[6]) == pytest.approx(inside, abs=0.011) and float(found[7]) < 0.04 < float(found[4])


def test_too_few_images_give_no_calibrated_number(results):
    rows = common.read(results / "results" / "intervals.csv")
    covered, factor = tables.calibrated(rows[:8], rows[39:], 0.9)
    assert factor == "too few images: 8"
    assert np.isnan(covered[LEVELS.index(0.9)]) and np.isfinite(covered[LEVELS.index(0.85)])


def test_the_standard_deviation_finds_failures_and_an_inverse_measure_does_not(results, report):
    found = cells(report["failures"])
    assert found[2].startswith("1.00") and found[3].startswith("0.00")
    assert 0.3 < float(found[4].split()[0]) < 0.7
    assert found[5].startswith("1.00") and found[6].startswith("0.00") and found[8:] == ["96", "12"]
    assert (results / "uncertainty.png").stat().st_size > 1000


def test_errors_are_those_of_samples_fitted_by_gain_and_offset():
    from types import SimpleNamespace

    from ddpm_lightning.data.normalise import Scale
    from ddpm_lightning.data.pairs import Pair
    from ddpm_lightning.inference.restoration import Restoration

    rng = np.random.default_rng(1)
    truth = rng.normal(size=(64, 64)).astype(np.float32)
    samples = (truth + 0.3 * rng.normal(size=(15, 64, 64))).astype(np.float32)
    # What a calibrated model does, in intensities of another microscope; one unit of its own scale is 20 of them.
    restored = Restoration(
        50 + 20 * samples.mean(0), 20 * samples.std(0), 15, 20.0, np.ones((64, 64)), 50 + 20 * samples
    )
    scale = Scale(30.0, 70.0)
    restorer = SimpleNamespace(
        restore_plane=lambda *_, **__: restored,
        input_scale=lambda _: scale,
        method=SimpleNamespace(antithetic=False),
        normalisation=SimpleNamespace(output_scale=lambda _: scale),
    )
    ((image,), (interval,), tiles) = run.rows_of(restorer, Pair(truth, truth, "0", "0"))[0]
    error = samples.mean(0) - truth
    assert image["error"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=0.02)
    assert image["std"] == pytest.approx(0.3 * (14 / 15) ** 0.5, rel=0.02)
    assert image["spread_skill"] == pytest.approx(np.sqrt(16 / 15 * 0.09 / np.mean(error**2)), rel=0.03)
    assert len(tiles) == 4 and np.mean([t["error"] ** 2 for t in tiles]) == pytest.approx(image["error"] ** 2)
    scores = torch.tensor([float(s) for s in interval["scores"].split()])
    assert scores[49] == pytest.approx(np.median(np.abs(error) / (samples.std(0) + 0.002)), rel=0.05)


def test_a_set_of_one_test_image_and_none_to_calibrate_has_its_row(results, tmp_path):
    for name in ("images", "intervals", "tiles"):
        rows = [row for row in common.read(results / "results" / f"{name}.csv") if row["split"] == "test"]
        common.Rows(tmp_path / "results" / f"{name}.csv", {}, ("image",)).add(
            [row for row in rows if row["image"] == "0"]
        )
    found = run.report(tmp_path)
    assert cells(found["calibration"])[5:] == ["too few images: 0", "", ""]
    assert cells(found["failures"])[-1] == "1"
