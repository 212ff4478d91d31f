"""Simulated stacks change as their names say, and the tables are those of the rows."""

import numpy as np
import pytest

from ddpm_lightning.inference.restoration import Restoration
from experiments import common
from experiments.stacks import run
from experiments.stacks.volumes import CASES, PLANES, peaks, recorded


def correlations(stack: np.ndarray) -> list[float]:
    return [
        float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
        for one, other in zip(stack, stack[1:], strict=False)
    ]


@pytest.mark.parametrize(
    ("case", "least", "most"),
    [
        ("nothing moves", 0.999, 1),
        ("deep focus", 0.95, 1),
        ("shallow focus", 0.6, 0.95),
        ("unrelated", -0.1, 0.3),
    ],
)
def test_planes_resemble_each_other_as_the_case_says(case, least, most):
    stack = CASES[case]()
    assert stack.shape == (PLANES, 128, 128) and stack.min() >= 0
    assert least <= min(correlations(stack)) <= max(correlations(stack)) <= most + 1e-9


def test_recorded_stacks_have_the_expected_mean_and_variance():
    low, expected = recorded(np.full((4, 128, 128), 1.0), photons=40)
    assert low.mean() == pytest.approx(expected.mean(), rel=1e-3)
    assert low.var() == pytest.approx(2**2 * (40 * 1.1 + 1.5**2), rel=0.03)


def test_heights_of_transients_are_those_of_the_movie():
    light = CASES["transients"]()
    _, clean = recorded(light, 40)
    still, half = np.median(clean, axis=0), clean.copy()
    half = still + (clean - still) / 2
    assert (peaks(clean) > 0).all()
    np.testing.assert_allclose(peaks(half), peaks(clean) / 2, rtol=1e-6)


def test_scores_of_a_perfect_mean_with_exact_samples():
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(5, 64, 64))
    mean, samples = (clean + rng.normal(size=(n, 5, 64, 64)) for n in (1, 400))
    found = run.scores(Restoration(mean[0], samples.std(axis=0), 400, samples=samples), clean)
    assert found["mse"] == pytest.approx(1, rel=0.05) and found["std_ratio"] == pytest.approx(1, rel=0.05)
    assert found["jumps_of_clean"] == pytest.approx(2, rel=0.05)
    assert found["jumps"] == pytest.approx(4, rel=0.05) == found["jumps_of_samples"]
    assert found["std_ratio_mean"] == pytest.approx(1, rel=0.1)


def test_tables_are_those_of_the_rows(tmp_path):
    rows = [
        {
            "case": case,
            "photons": "40",
            "setting": setting,
            "mse": mse,
            "jumps": 2 * mse,
            "jumps_of_samples": 3.0,
            "jumps_of_clean": 0.0 if case == "nothing moves" else 2.0,
            **dict.fromkeys(("std_ratio", "std_ratio_mean", "std_ratio_max"), 1.5),
            **dict.fromkeys(("peak", "peak_error"), 0.98 if case == "transients" else ""),
        }
        for case in CASES
        for setting, mse in zip(run.SETTINGS, (1.0, 1.0, 1.0, 0.5, 0.1), strict=True)
    ]
    common.Rows(tmp_path / "results" / "stacks.csv", {}, ("case", "photons", "setting")).add(rows)
    tables = run.report(tmp_path)
    assert "| volume | +0.00 | +0.00 | +0.00 | +3.01 | +10.00 |" in tables["accuracy"]
    assert "| volume | 1.00 | 1.00 | 1.00 | 0.50 | 0.10 |" in tables["flicker"]
    assert "| volume | 1.50 |" in tables["samples"] and "| nothing moves |  |" in tables["samples"]
    assert "| default | 1.50 (1.50 to 1.50) |" in tables["deviation"]
    assert "| default | 0.980, error 0.980 |" in tables["transients"]
