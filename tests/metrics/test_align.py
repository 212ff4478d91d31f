"""Re-alignment undoes known shifts, and leaves alone what is no shift."""

import numpy as np
import pytest
import torch
from scipy.ndimage import fourier_shift, gaussian_filter

from ddpm_lightning.metrics.align import realign


def image(seed: int = 0, shape: tuple[int, int] = (90, 110)) -> np.ndarray:
    return 100 * gaussian_filter(np.random.default_rng(seed).random(shape), 2.5, mode="wrap")


def shifted(original: np.ndarray, shift: tuple[float, float]) -> torch.Tensor:
    moved = np.fft.ifft2(fourier_shift(np.fft.fft2(original), shift)).real
    return torch.tensor(moved)[None, None]


@pytest.mark.parametrize("shift", [(1.0, 0.0), (0.4, -1.3), (-3.7, 2.2)])
def test_a_shift_is_undone_to_a_tenth_of_a_pixel(shift: tuple[float, float]) -> None:
    original = image()
    target = torch.tensor(original)[None, None]
    found = realign(shifted(original, shift), target)
    np.testing.assert_allclose(found.shift, [-value for value in shift], atol=0.11)
    assert found.prediction.shape == found.target.shape
    before = (shifted(original, shift) - target).abs().mean()
    assert (found.prediction - found.target).abs().mean() < 0.1 * before


def test_an_aligned_pair_is_returned_as_it_is() -> None:
    target = torch.tensor(image())[None, None]
    noisy = target + 0.5 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    found = realign(noisy, target)
    assert found.shift == (0.0, 0.0) and found.crop == 0
    assert torch.equal(found.prediction, noisy)


@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_noise_and_new_structure_at_the_borders_do_not_matter(noise: float) -> None:
    field = image(3, (120, 130))
    target, prediction = field[10:110, 10:120], field[13:113, 8:118]
    noisy = prediction + noise * np.random.default_rng(0).normal(size=prediction.shape)
    found = realign(torch.tensor(noisy)[None, None], torch.tensor(target)[None, None])
    np.testing.assert_allclose(found.shift, (3.0, -2.0), atol=0.2)


def test_a_shift_beyond_the_largest_is_a_failed_match() -> None:
    original = image()
    found = realign(shifted(original, (20.0, 0.0)), torch.tensor(original)[None, None], largest=8)
    assert found.crop == 0


def test_channels_move_together() -> None:
    channels = [image(seed) for seed in (1, 2)]
    target = torch.tensor(np.stack(channels))[None]
    prediction = torch.cat([shifted(channel, (2.0, 1.0)) for channel in channels], dim=1)
    found = realign(prediction, target)
    assert found.shift == (-2.0, -1.0)
    torch.testing.assert_close(found.prediction, found.target)
