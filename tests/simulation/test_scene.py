import numpy as np
import pytest
from scipy import ndimage
from scipy.interpolate import BSpline

from ddpm_lightning.simulation.scene import Canvas, disc_mask, log_uniform, smooth_field


def test_splat_keeps_light_and_centre_of_mass():
    canvas = Canvas(size=20, pixel=100, margin=4)
    points = np.array([[3.3, 7.8], [10.0, 12.0], [-2.5, 19.9]])
    weights = np.array([1.0, 2.0, 5.0])
    image = canvas.splat(points, weights)
    assert image.shape == (28, 28)
    assert image.sum() == pytest.approx(8)
    centre = np.array(ndimage.center_of_mass(image)) - 4
    np.testing.assert_allclose(centre, weights @ points / 8)


def test_splat_leaves_out_what_misses_the_map_and_takes_no_points():
    canvas = Canvas(size=8, pixel=100, margin=2)
    assert canvas.splat(np.array([[-3.0, 1], [1, 40.0]])).sum() == 0
    assert canvas.splat(np.empty((0, 2))).sum() == 0


def test_crop_undoes_the_margin():
    canvas = Canvas(size=8, pixel=100, margin=2)
    image = canvas.crop(canvas.splat(np.array([[3.0, 5.0]])))
    assert image.shape == (8, 8)
    assert image[3, 5] == 1


def test_smooth_field_has_unit_variance_and_the_correlation_of_its_splines():
    rng = np.random.default_rng(0)
    fields = np.stack([smooth_field(rng, 120, 8.0) for _ in range(200)])
    assert fields.mean() == pytest.approx(0, abs=0.05)
    assert fields.var() == pytest.approx(1, rel=0.05)
    # Averaged over the place, the correlation of interpolated white noise is the B-spline of degree 7.
    heptic = BSpline.basis_element(np.arange(-4, 5))
    for lag in (4, 8, 16):
        measured = np.mean(fields[:, :, lag:] * fields[:, :, :-lag])
        assert measured == pytest.approx(float(heptic(lag / 8) / heptic(0)), abs=0.05)


def test_log_uniform_is_uniform_in_the_logarithm():
    values = log_uniform(np.random.default_rng(0), 1, 100, 20000)
    counts, _ = np.histogram(np.log10(values), bins=4, range=(0, 2))
    np.testing.assert_allclose(counts, 5000, rtol=0.06)


def test_disc_mask_holds_the_pixels_within_the_radius():
    mask = disc_mask(np.array([[10.0, 12.0]]), 24, 4.5)
    rows, columns = np.indices((24, 24))
    np.testing.assert_array_equal(mask, np.hypot(rows - 10, columns - 12) <= 4.5)
    assert not disc_mask(np.empty((0, 2)), 24, 4.5).any()
