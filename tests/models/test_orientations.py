"""Test-time augmentation: each sample restores the image in another orientation."""

import pytest
import torch
from torch.nn import functional

from ddpm_lightning.models.method import Posterior, apply_directly
from ddpm_lightning.models.sampling import ORIENTATIONS, ImageSampler, evaluations_of, samples_of

ROUND = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16
ASKEW = torch.tensor([[0.0, 1, 0], [0, 2, 3], [0, 0, 0]])[None, None] / 6


class Filter:
    """Adds noise and filters: a method of one network, of which all that is known is its kernel."""

    size_divisor, deterministic, antithetic, bounds, evaluations, preset = 2, False, True, (-1.0, 1.0), 1, ""

    def __init__(self, kernel):
        self.kernel = kernel

    def posterior(self, low, apply=apply_directly):
        return None

    def sample(self, low, noise, apply=apply_directly):
        state = low + noise.antithetic()(7, low.shape[1:], low.device)
        return apply(lambda x: functional.conv2d(functional.pad(x, (1,) * 4), self.kernel), state)


@pytest.fixture
def low():
    return torch.randn(1, 1, 9, 14, generator=torch.Generator().manual_seed(0))


def sample(kernel, low, tta, batch=None, samples=range(8)):
    return torch.cat(list(samples_of(Filter(kernel), low, "a", samples, batch=batch, margin=2, tta=tta)))


def test_a_network_that_knows_no_direction_gives_the_same_samples(low):
    assert torch.allclose(sample(ROUND, low, True), sample(ROUND, low, False), atol=1e-6)


def test_each_sample_is_that_of_the_kernel_rotated_back(low):
    found = sample(ASKEW, low, True)
    for number, which in enumerate(ORIENTATIONS):
        kernel = ASKEW.rot90(-(which % 4), (-2, -1))
        kernel = kernel.flip(-1) if which >= 4 else kernel
        expected = sample(kernel, low, False)[number]
        assert torch.allclose(found[number], expected, atol=1e-6), f"sample {number}"
    assert sorted(ORIENTATIONS) == list(range(8)) and ORIENTATIONS[0] == 0


def test_opposite_noise_still_cancels_and_batches_change_nothing(low):
    found = sample(ASKEW, low, True)
    alone = torch.cat([sample(ASKEW, low, True, samples=[number]) for number in range(8)])
    assert torch.allclose(found, alone, atol=1e-6)
    assert torch.allclose(found, sample(ASKEW, low, True, batch=3), atol=1e-6)
    # Of eight samples in four opposite pairs the noise that all kernels have in common is gone.
    symmetric = sample(ROUND, low, True).reshape(4, 2, 9, 14).mean(1)
    noiseless = torch.cat(list(samples_of(Quiet(ROUND), low, "a", [0], margin=2, tta=True)))[0, 0]
    assert torch.allclose(symmetric, noiseless.expand(4, -1, -1), atol=1e-6)


class Quiet(Filter):
    """The filter without noise."""

    def sample(self, low, noise, apply=apply_directly):
        return apply(lambda x: functional.conv2d(functional.pad(x, (1,) * 4), self.kernel), low)


class Around(Filter):
    """Samples around the output of a network for mean and standard deviation, which is counted."""

    mean_evaluations = 1
    calls = 0

    def posterior(self, low, apply=apply_directly):
        self.calls += 1
        mean = apply(lambda x: functional.conv2d(functional.pad(x, (1,) * 4), self.kernel), low)
        return Posterior(mean, 2 * mean)

    def sample_around(self, posterior, low, noise, apply=apply_directly):
        assert torch.equal(posterior.std, 2 * posterior.mean)
        return posterior.mean + noise(7, low.shape[1:], low.device)


@pytest.mark.parametrize("tta", [False, True])
def test_samples_share_one_posterior(low, tta):
    method = Around(ASKEW)
    sampler = ImageSampler(method, low, "a", margin=2, tta=tta)
    (mean, std), found = sampler.posterior(), torch.cat(list(sampler.samples(range(8), batch=3)))
    assert method.calls == (2 if tta else 1)
    assert evaluations_of(method, 8, tta) == (method.calls, 8)

    # The filter applied to the image by hand, with reflected borders; with augmentation also to the second orientation.
    by_hand = [functional.conv2d(functional.pad(low, (1,) * 4, mode="reflect"), ASKEW)]
    if tta:
        rotated = ASKEW.flip(-1).rot90(-(ORIENTATIONS[1] % 4), (-2, -1)) if ORIENTATIONS[1] >= 4 else ASKEW
        by_hand.append(functional.conv2d(functional.pad(low, (1,) * 4, mode="reflect"), rotated))
    assert torch.allclose(mean, sum(by_hand) / len(by_hand), atol=1e-6)
    assert torch.equal(std, 2 * mean)
    # Noise is keyed by the sample alone, so what samples add to the mean is the same with and without augmentation.
    noise = torch.cat(list(samples_of(Around(ASKEW), low, "a", range(8), margin=2))) - by_hand[0]
    assert torch.allclose(found - mean, noise, atol=1e-5)


class Once(Quiet):
    """The filter without noise, as a deterministic method, whose calls are counted."""

    deterministic, mean_evaluations, calls = True, 0, 0

    def sample(self, low, noise, apply=apply_directly):
        self.calls += 1
        return super().sample(low, noise, apply)


@pytest.mark.parametrize(("tta", "orientations"), [(False, 1), (True, 2), (3, 3), (8, 8)])
def test_a_deterministic_method_is_averaged_over_orientations_and_each_is_counted(low, tta, orientations):
    method = Once(ASKEW)
    (found,) = ImageSampler(method, low, "a", margin=2, tta=tta).samples(range(15))
    by_hand = torch.cat(list(samples_of(Quiet(ASKEW), low, "a", range(orientations), margin=2, tta=True)))
    assert method.calls == orientations == evaluations_of(method, 15, tta).total
    assert torch.allclose(found, by_hand.mean(0, keepdim=True), atol=1e-6)
    if not tta:
        assert torch.equal(found, by_hand), "without augmentation, nothing is averaged"


def test_a_posterior_mean_is_averaged_over_as_many_orientations_as_a_regressor(low):
    around, alone = Around(ASKEW), Once(ASKEW)
    mean = ImageSampler(around, low, "a", margin=2, tta=8).posterior().mean
    (regressed,) = ImageSampler(alone, low, "a", margin=2, tta=8).samples([0])
    assert torch.allclose(mean, regressed, atol=1e-6)
    assert evaluations_of(around, 3, 8) == (around.calls, 3) and around.calls == 8
