import numpy as np
import pytest
from scipy.optimize import curve_fit

from ddpm_lightning.simulation.optics import Psf, airyscan, confocal, sted, with_haze
from ddpm_lightning.simulation.scene import Canvas


def radial_samples(psf, pixel, reach):
    """Radius in nm and value of the pixels about points at random places between the pixels."""
    rng = np.random.default_rng(0)
    spacing = 4 * int(np.ceil(reach / pixel))
    canvas = Canvas(size=12 * spacing, pixel=pixel, margin=0)
    grid = spacing * (np.stack(np.mgrid[:12, :12], -1).reshape(-1, 2) + 0.5)
    points = grid + rng.uniform(-0.5, 0.5, grid.shape)
    image = psf(canvas.splat(points), pixel)
    rows, columns = np.indices(image.shape)
    nearest = np.minimum(rows // spacing, 11) * 12 + np.minimum(columns // spacing, 11)
    radius = pixel * np.hypot(rows - points[nearest, 0], columns - points[nearest, 1])
    near = radius < reach
    return radius[near], image[near]


def gaussian(radius, height, width):
    return height * np.exp(-4 * np.log(2) * (radius / width) ** 2)


@pytest.mark.parametrize(("width", "pixel"), [(60, 25), (60, 20), (240, 95), (214, 95), (450, 200), (50, 20)])
def test_width_of_a_point_is_that_asked_for(width, pixel):
    radius, value = radial_samples(Psf((width,)), pixel, 2 * width)
    (_, fitted), _ = curve_fit(gaussian, radius, value, p0=(value.max(), 1.3 * width))
    assert fitted == pytest.approx(width, rel=0.03)


def test_sted_has_its_core_on_a_pedestal():
    psf = sted(confocal(690, 1.42), saturation=16, pedestal=0.05)
    conf = 0.51 * 690 / 1.42
    assert psf.widths == pytest.approx((conf / np.sqrt(17), conf))

    def model(radius, height, width, pedestal):
        return gaussian(radius, height, width) + gaussian(radius, pedestal * height, conf)

    radius, value = radial_samples(psf, 20, 500)
    (_, width, pedestal), _ = curve_fit(model, radius, value, p0=(value.max(), 80, 0.1))
    assert width == pytest.approx(conf / np.sqrt(17), rel=0.03)
    assert pedestal == pytest.approx(0.05, rel=0.1)


def test_light_is_blurred_and_not_lost():
    emitters = np.random.default_rng(0).random((64, 64))
    psf = with_haze(sted(confocal(690, 1.42), 16), 1200, 0.1)
    image = psf(emitters, 25)
    assert image.sum() == pytest.approx(emitters.sum(), rel=1e-4)
    assert image.min() >= 0


def test_haze_has_the_requested_fraction_of_light():
    psf = with_haze(sted(confocal(690, 1.42), 16, 0.05), 1200, 0.1)
    assert psf.energies[-1] == pytest.approx(0.1)
    assert psf.amplitudes[1] == 0.05


def test_profile_agrees_with_the_image_of_a_point_that_is_well_sampled():
    psf = with_haze(sted(confocal(690, 1.42), 16), 800, 0.1)
    canvas = Canvas(size=257, pixel=8, margin=0)
    image = psf(canvas.splat(np.array([[128.0, 128.0]])), 8)
    radius = 8 * np.arange(60)
    # On a pixel nothing is shared, so the correction for bilinear sharing sharpens by a percent or two.
    np.testing.assert_allclose(image[128, 128:188] / image[128, 128], psf.profile(radius), atol=0.03)


def test_airyscan_is_sharper_than_confocal_and_a_psf_needs_a_width_per_amplitude():
    assert confocal(525, 1.0).widths[0] / airyscan(525, 1.0, 1.7).widths[0] == pytest.approx(1.7)
    with pytest.raises(ValueError, match="one positive width per amplitude"):
        Psf((50.0, 200.0))
