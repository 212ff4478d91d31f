"""The energy score against a double loop, closed forms, and samples with wrong correlation between pixels."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import gammaln

from ddpm_lightning.metrics.calibration import crps
from ddpm_lightning.metrics.energy_score import energy_score


def tensors(samples, target):
    return {"samples": torch.as_tensor(samples), "target": torch.as_tensor(target)}


def naive(samples, target, side):
    """The definition, window by window and pair by pair."""
    found, number = [], len(samples)
    for top in range(0, target.shape[-2] - side + 1, side):
        for left in range(0, target.shape[-1] - side + 1, side):
            square = (..., slice(top, top + side), slice(left, left + side))
            y, s = target[square].ravel(), [sample[square].ravel() for sample in samples]
            error = sum(np.linalg.norm(one - y) for one in s) / number
            between = sum(np.linalg.norm(one - two) for one in s for two in s) / (2 * number * (number - 1))
            found.append((error - between) / np.sqrt(y.size))
    return np.mean(found)


@pytest.mark.parametrize("shape", [(1, 12, 16), (2, 9, 14)])
@pytest.mark.parametrize("number", [2, 5])
def test_it_is_the_double_loop(shape, number):
    rng = np.random.default_rng(0)
    samples, target = rng.normal(size=(number, *shape)), rng.normal(size=shape)
    for side in (1, 3, 4):
        found = energy_score(**tensors(samples, target), window=side)
        assert found == pytest.approx(naive(samples, target, side), rel=1e-9)


@pytest.mark.parametrize("number", [1, 2, 7])
def test_windows_of_one_pixel_have_the_crps(number):
    rng = np.random.default_rng(1)
    images = tensors(rng.normal(size=(number, 1, 8, 8)), rng.normal(size=(1, 8, 8)))
    assert energy_score(**images, window=1) == pytest.approx(crps(**images))


@pytest.mark.parametrize("number", [2, 15])
@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_independent_gaussian_pixels_have_the_closed_form_for_any_number_of_samples(number, width):
    """The norm of d normal numbers has the mean √2 Γ((d + 1) / 2) / Γ(d / 2)."""
    rng = np.random.default_rng(2)
    target = rng.normal(size=(1, 400, 400))
    samples = width * rng.normal(size=(number, 1, 400, 400))
    norm = np.sqrt(2) * np.exp(gammaln(32.5) - gammaln(32)) / 8
    expected = norm * (np.sqrt(1 + width**2) - np.sqrt(2) * width / 2)
    assert energy_score(**tensors(samples, target)) == pytest.approx(expected, rel=0.01)


def test_one_sample_has_the_error_of_its_windows():
    rng = np.random.default_rng(3)
    sample, target = rng.normal(size=(2, 1, 16, 24))
    squares = ((sample - target) ** 2).reshape(2, 8, 3, 8).mean(axis=(1, 3))
    assert energy_score(**tensors(sample[None], target)) == pytest.approx(np.sqrt(squares).mean())


def test_it_sees_a_wrong_correlation_between_pixels_that_the_crps_cannot_see():
    rng = np.random.default_rng(4)

    def smooth(count):
        images = gaussian_filter(rng.normal(size=(count, 1, 240, 240)), (0, 0, 2, 2), mode="wrap")
        return images / images.std()

    target, right, grainy = smooth(1)[0], smooth(8), rng.normal(size=(8, 1, 240, 240))
    one, other = tensors(right, target), tensors(grainy, target)
    assert crps(**one) == pytest.approx(crps(**other), rel=0.03)
    assert energy_score(**other) > 1.02 * energy_score(**one)


def test_incomplete_windows_are_left_out_and_small_images_are_one_window():
    rng = np.random.default_rng(5)
    samples, target = rng.normal(size=(3, 1, 19, 16)), rng.normal(size=(1, 19, 16))
    part = tensors(samples[..., :16, :], target[:, :16])
    assert energy_score(**tensors(samples, target)) == pytest.approx(energy_score(**part))
    small = tensors(samples[..., :5, :5], target[:, :5, :5])
    assert energy_score(**small) == pytest.approx(energy_score(**small, window=5))


def test_equal_samples_far_from_zero_lose_no_digits():
    samples = 1e8 + np.arange(3.0)[:, None, None, None] * np.ones((3, 1, 8, 8))
    found = energy_score(**tensors(samples, np.full((1, 8, 8), 1e8)))
    assert found == pytest.approx(1 - (1 + 1 + 2) / 6, rel=1e-6)


def test_few_distances_are_in_memory_at_a_time(monkeypatch):
    sizes, cdist = [], torch.cdist
    monkeypatch.setattr(torch, "cdist", lambda *a, **k: sizes.append(cdist(*a, **k)) or sizes[-1])
    samples = torch.zeros(20, 1, 128, 128)
    energy_score(samples=samples, target=samples[0])
    assert max(found.numel() for found in sizes) < samples.numel() / 10


def test_images_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="images differ"):
        energy_score(samples=torch.zeros(2, 1, 8, 8), target=torch.zeros(1, 8, 9))
