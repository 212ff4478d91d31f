"""Radial spectrum: white noise is flat, a wave lands in its ring, a blur follows its transfer function."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ddpm_lightning.metrics.spectrum import high_frequency_ratio, radial_power_spectrum


def white_noise(shape: tuple[int, ...], sigma: float = 1.0, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(0, sigma, shape))


@pytest.mark.parametrize("shape", [(2, 1, 128, 128), (1, 3, 96, 161)])
def test_white_noise_is_flat_at_its_variance(shape: tuple[int, ...]) -> None:
    spectrum = radial_power_spectrum(white_noise(shape, sigma=3.0))
    assert spectrum.power.shape == (shape[0], len(spectrum.frequency))
    assert spectrum.power[:, 3:].mean().item() == pytest.approx(9.0, rel=0.05)
    low, high = spectrum.power[:, 3:20].mean(), spectrum.power[:, -20:].mean()
    assert (low / high).item() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("cycles", [8, 20, 37])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_wave_lands_in_its_ring(cycles: int, axis: int) -> None:
    grid = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")[axis]
    spectrum = radial_power_spectrum(torch.sin(2 * torch.pi * cycles / 128 * grid)[None, None] + 7)
    strongest = spectrum.frequency[spectrum.power[0].argmax()].item()
    assert strongest == pytest.approx(cycles / 128, abs=1 / 128)


def test_a_blur_follows_the_square_of_its_transfer_function() -> None:
    noise = white_noise((1, 1, 256, 256))
    blurred = torch.tensor(gaussian_filter(noise.numpy(), (0, 0, 1, 1), mode="wrap"))
    before, after = radial_power_spectrum(noise), radial_power_spectrum(blurred)
    band = slice(10, 60)
    expected = np.exp(-((2 * np.pi * before.frequency[band].numpy()) ** 2))
    np.testing.assert_allclose((after.power / before.power)[0, band], expected, rtol=0.1)


def test_the_ratio_sees_smoothing_and_grain() -> None:
    target = torch.tensor(gaussian_filter(white_noise((1, 1, 128, 128)).numpy(), (0, 0, 1, 1)))
    smooth = torch.tensor(gaussian_filter(target.numpy(), (0, 0, 2, 2)))
    grainy = target + white_noise((1, 1, 128, 128), 0.1, seed=1)
    assert high_frequency_ratio(prediction=target, target=target).item() == 1.0
    assert high_frequency_ratio(prediction=smooth, target=target).item() < 0.3
    assert high_frequency_ratio(prediction=grainy, target=target).item() > 1.2
    assert high_frequency_ratio(prediction=2 * target, target=target).item() == pytest.approx(4.0)


def test_the_cutoff_is_checked_and_a_flat_target_gives_nan() -> None:
    image = white_noise((1, 1, 16, 16))
    assert high_frequency_ratio(prediction=image, target=torch.ones_like(image)).isnan().all()
    with pytest.raises(ValueError, match="cutoff"):
        high_frequency_ratio(prediction=image, target=image, cutoff=0.5)
