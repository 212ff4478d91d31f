"""Keyed noise is the same on every device: its bits, and the normal numbers made of them up to rounding."""

import pytest
import torch

from ddpm_lightning.diffusion.randomness import KeyedNoise, Mixture

pytestmark = pytest.mark.gpu


def test_noise_is_that_of_the_cpu(device):
    mixture = Mixture(("a", "b"), (0.6, 0.8))
    noise = KeyedNoise(3, ["a", "b", mixture], [0, 1, 2])
    plain = KeyedNoise(3, ["a", "b"], [0, 1])
    assert torch.equal(plain.uniform(5, 1001, device).cpu(), plain.uniform(5, 1001))
    for kind in (noise, noise.antithetic(), noise.oriented([1, 3, 5])):
        found, expected = kind(7, (1, 24, 40), device).cpu(), kind(7, (1, 24, 40))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        assert (found == expected).float().mean() > 0.9
