"""Noise has the correlation and the strength that its cell says, and the tables are those of the rows."""

import numpy as np
import pytest

from experiments import common
from experiments.correlated_noise import run
from experiments.correlated_noise.mechanisms import MECHANISMS, correlation, degraded
from experiments.correlated_noise.specimens import SIDE, clean_images

WHITE = np.random.default_rng(3).normal(size=(SIDE, SIDE))


@pytest.mark.parametrize("wanted", run.CORRELATIONS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_neighbours_correlate_as_wanted_and_noise_keeps_its_strength(mechanism, wanted):
    noisy, expected = degraded(mechanism, wanted, np.full_like(WHITE, 50.0), 3 * WHITE)
    np.testing.assert_allclose(expected, 50, rtol=1e-6)
    assert correlation(noisy - expected) == pytest.approx(wanted, abs=0.02)
    assert (noisy - expected).std() == pytest.approx(3, rel=0.03)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_closed_forms_hold(mechanism):
    """Half a pixel of shift: 0.5; the green image of a Bayer pattern: 0.4, its variance 5/8."""
    strength = 0.5
    filtered = MECHANISMS[mechanism](WHITE, strength)
    known = {"drift correction": (0.5, 0.25), "colour mosaic": (0.4, 5 / 8)}
    if mechanism in known:
        assert correlation(filtered) == pytest.approx(known[mechanism][0], abs=0.02)
        assert filtered.var() == pytest.approx(known[mechanism][1], rel=0.03)


def test_images_alternate_and_none_comes_twice():
    images = dict(clean_images(None))
    assert len(images) == 16 and all(image.shape == (SIDE, SIDE) for image in images.values())
    assert len({image.tobytes() for image in images.values()}) == 16
    assert all(np.percentile(image, 99.5) == pytest.approx(1, abs=1e-3) for image in images.values())
    again = dict(clean_images(None))
    assert all(np.array_equal(image, again[name]) for name, image in images.items())


def test_a_cell_is_the_same_each_time_and_all_causes_act_on_the_same_noise():
    name, clean = next(clean_images(None))
    plain = run.Cell(25, run.NONE, 0.0).degrade(clean, name, 128)
    np.testing.assert_array_equal(plain.low, run.Cell(25, run.NONE, 0.0).degrade(clean, name, 128).low)
    assert plain.low.shape == plain.high.shape == (128, 128)
    filtered = run.Cell(25, "Gaussian filter", 0.4).degrade(clean, name, 128)
    np.testing.assert_array_equal(filtered.high, plain.high)
    apart = [(pair.low - pair.high).ravel() for pair in (plain, filtered)]
    assert np.corrcoef(apart)[0, 1] > 0.5


def test_tables_are_those_of_the_rows(tmp_path):
    rows = []
    for cell in run.CELLS:
        for image in ("a", "b"):
            for method, psnr in (
                ("raw", 20),
                ("best blur", 30),
                ("VST + BM3D", 31),
                ("default", 30.75 - cell.correlation),
            ):
                warned = "noise: …" if method == "default" and cell.correlation > 0.5 else ""
                rows.append(
                    {"image": image, "method": method, **cell._asdict(), "psnr": psnr, "warned": warned}
                )
    # An image that is not finished counts nowhere.
    rows.append({**rows[-1], "image": "c", "psnr": 0})
    table = common.Rows(tmp_path / "results" / "all.csv", {}, ("image", "method"))
    table.add(rows)
    tables = run.report(tmp_path)
    assert "| 25 | zoom | 0.4 | 20.00 | 30.00 | 31.00 | 30.35 | +0.35 | -0.65 | 0 |" in tables["cells"]
    assert "| best blur | 2 | 39 | 39 | 15 | +0.15 dB" in tables["summary"]
    assert "| 100 | none | 0.0 |" in tables["cells"]
    assert "| above | 78 | 24 |" in tables["warnings"] and "| below | 0 | 0 |" in tables["warnings"]
