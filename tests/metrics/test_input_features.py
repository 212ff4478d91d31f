"""Features of inputs against known noise and power, and what counts as unlike the training."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ddpm_lightning.metrics.input_statistics import SeenInputs, describe_input


def image(seed, noise=0.1, side=96, gain=1.0):
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(side, side)), 4)
    return gain * (smooth / smooth.std() * 0.3 + rng.normal(0, noise, smooth.shape))


@pytest.fixture(scope="module")
def reference():
    return SeenInputs.of(image(seed) for seed in range(32))


@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_the_noise_level_is_found_under_structure(sigma):
    assert describe_input(image(0, sigma, 256))["noise"] == pytest.approx(sigma, rel=0.05)


def test_white_noise_has_its_variance_in_every_band():
    features = describe_input(np.random.default_rng(0).normal(0, 0.1, (256, 256)))
    assert [features[f"power_{band}"] for band in range(2, 8)] == pytest.approx([-2] * 6, abs=0.06)


def test_ends_of_the_intensities():
    ramp = np.arange(10_000.0).reshape(100, 100) / 10_000
    features = describe_input(ramp)
    assert features["dark"] == pytest.approx(0.005, abs=1e-4)
    assert features["bright"] == pytest.approx(0.995, abs=1e-4)
    assert features["mean"] == pytest.approx(0.5, abs=1e-4)


def test_images_of_the_same_kind_are_inside(reference):
    assert sum(bool(reference.outside(describe_input(image(seed)))) for seed in range(100, 130)) <= 1
    assert not reference.outside(describe_input(image(200, side=128)))


@pytest.mark.parametrize(
    ("changed", "feature"),
    [
        ({"noise": 0.2}, "noise"),
        ({"noise": 0.04}, "noise"),
        ({"gain": 3.0}, "bright"),
    ],
)
def test_other_images_are_outside(reference, changed, feature):
    for seed in range(100, 105):
        assert feature in reference.outside(describe_input(image(seed, **changed)))


def test_a_blurred_input_lacks_power(reference):
    blurred = gaussian_filter(image(100), 2)
    assert {"power_6", "power_7"} <= set(reference.outside(describe_input(blurred)))


def test_noise_of_other_correlation_is_outside(reference):
    features = describe_input(image(100))
    assert "correlation" not in reference.outside(features | {"correlation": features["correlation"] + 0.05})
    assert "correlation" in reference.outside(features | {"correlation": 0.6})


def test_a_reference_travels_in_plain_containers(reference):
    again = SeenInputs.load(json.loads(json.dumps(reference.state())))
    assert again == reference and again.bounds("noise") == reference.bounds("noise")
