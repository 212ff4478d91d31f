"""Pairs of antithetic noise: exact opposites, and a mean from which the odd part is gone."""

import pytest
import torch

from ddpm_lightning.diffusion.process import per_image
from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.diffusion.samplers import DDIM, Ancestral
from ddpm_lightning.diffusion.schedule import CosineSchedule

MEAN, STD = 0.2, 0.3
SHAPE = (1, 32, 32)


def noise(samples, seed: int = 0) -> KeyedNoise:
    return KeyedNoise(seed, ["image"] * len(samples), samples)


def linear(y_t: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """E[y_0 | y_t] for y_0 ~ N(MEAN, STD²): linear, so samples are their mean plus something odd in the noise."""
    level = per_image(alpha_bar, y_t).to(y_t.dtype)
    gain = STD**2 * level.sqrt() / (level * STD**2 + 1 - level)
    return MEAN + gain * (y_t - level.sqrt() * MEAN)


def test_odd_samples_are_minus_the_samples_before_them():
    independent, paired = noise(range(6))(3, SHAPE), noise(range(6)).antithetic()(3, SHAPE)
    assert torch.equal(paired[1::2], -paired[::2])
    assert torch.equal(paired[::2], independent[::2])


def test_a_partner_needs_no_partner():
    paired = noise(range(4)).antithetic()
    for sample in range(4):
        assert torch.equal(noise([sample]).antithetic()(0, SHAPE)[0], paired(0, SHAPE)[sample])
    assert torch.equal(paired.antithetic()(0, SHAPE), paired(0, SHAPE))


def test_uniform_partners_are_mirrored():
    uniform = noise(range(4)).antithetic().uniform(1, 1000)
    torch.testing.assert_close(uniform[1::2], 1 - uniform[::2])
    assert 0 < uniform.min() and uniform.max() < 1
    assert torch.equal(uniform[::2], noise(range(4)).uniform(1, 1000)[::2])


@pytest.mark.parametrize("kind", [DDIM, Ancestral])
def test_the_mean_of_a_pair_has_no_odd_part(kind):
    sampler = kind(10, antithetic=True)
    pair = sampler(linear, CosineSchedule(200), noise([0, 1]), SHAPE, clip=None)
    assert pair.std() > 0.5 * STD, "each sample is far from the mean"
    torch.testing.assert_close(pair.mean(0), torch.full(SHAPE, MEAN), atol=2e-4, rtol=0)


def test_a_pair_is_better_than_eight_independent_samples():
    """Of a nonlinear predictor as well, as long as its errors are mostly odd."""
    truth = torch.full(SHAPE, MEAN)

    def curved(y_t, alpha_bar):
        return linear(y_t, alpha_bar) + 0.02 * (y_t**2 - 1) * (1 - per_image(alpha_bar, y_t).float())

    pairs, eights = [], []
    for seed in range(4):
        schedule = CosineSchedule(200)
        pair = DDIM(10, antithetic=True)(curved, schedule, noise([0, 1], seed), SHAPE, clip=None)
        eight = DDIM(10)(curved, schedule, noise(range(8), seed), SHAPE, clip=None)
        pairs.append((pair.mean(0) - truth).square().mean())
        eights.append((eight.mean(0) - truth).square().mean())
    assert sum(pairs) < sum(eights)


def test_samplers_are_independent_unless_asked():
    assert not DDIM(10).antithetic and not Ancestral(10).antithetic
    samples = DDIM(4)(linear, CosineSchedule(200), noise([0, 1]), SHAPE, clip=None) - MEAN
    assert abs(torch.corrcoef(samples.flatten(1))[0, 1]) < 0.15
