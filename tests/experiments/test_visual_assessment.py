"""Metrics of regions against those of whole images, and tables from rows whose answer is known."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import spearmanr

from experiments import common
from experiments.visual_assessment import run


def test_regions_are_scored_on_the_scale_of_the_whole_image():
    rng = np.random.default_rng(0)
    target = rng.uniform(0, 1, (128, 128)) * np.linspace(1, 3, 128)
    wrong = target.copy()
    wrong[:64, :64] += rng.normal(0, 0.5, (64, 64))
    found = run.regions(7 + 2 * wrong, target, "no backbone")
    assert np.isnan(found["lpips"]).all()
    assert found["rmse"].argmax() == 0 and found["ssim"].argmin() == 0 and found["ms_ssim"].argmin() == 0
    exact = run.regions(7 + 2 * target, target, "no backbone")
    assert exact["rmse"] == pytest.approx(np.zeros(4), abs=1e-6) and exact["ssim"] == pytest.approx(
        np.ones(4)
    )
    blurred = ndimage.gaussian_filter(target, 2)
    gain, offset = np.polyfit(blurred.ravel(), target.ravel(), 1)
    low, high = np.percentile(target, (0.1, 99.9))
    units = [np.clip((i - low) / (high - low), 0, 1)[64:, :64] for i in (gain * blurred + offset, target)]
    expected = np.sqrt(np.mean((units[0] - units[1]) ** 2))
    assert run.regions(blurred, target, "no backbone")["rmse"][2] == pytest.approx(expected, rel=1e-4)


def test_correlations_of_the_table_are_those_of_scipy(tmp_path):
    rng = np.random.default_rng(1)
    rows = []
    for image in range(6):
        for region in range(9):
            std = rng.random()
            values = {"std": std, "brightness": rng.random(), "lpips": std + 0.3 * rng.random(), "ssim": -std}
            more = {"ms_ssim": rng.random(), "resolution": "", "rmse": std**2}
            for version in ("average", "one sample"):
                about = {
                    "set": "cells",
                    "image": f"{image}",
                    "field": "",
                    "region": region,
                    "version": version,
                }
                rows.append({**about, **values, **more})
    common.Rows(tmp_path / "results" / "regions.csv", {}, ("image",)).add(rows)
    found = run.report(tmp_path)
    cells, beyond = (
        [cell.strip() for cell in found[name].splitlines()[2].strip("|").split("|")]
        for name in ("regions", "beyond")
    )
    lpips = spearmanr([r["std"] for r in rows], [r["lpips"] for r in rows]).statistic
    assert cells[2].split()[0] == f"{lpips:.2f}"
    # Much SSIM is good: its sign is turned.
    assert cells[3].startswith("1.00") and cells[6].startswith("1.00") and beyond[3].startswith("1.00")
    assert cells[5] == "" and beyond[5] == "" and cells[-1] == "54"
    assert (tmp_path / "visual_assessment.png").stat().st_size > 1000
