"""A posterior that is known in closed form is sampled, and the score agrees with other implementations of it."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import nn

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.metrics.calibration import crps
from ddpm_lightning.models.method import LossKey
from ddpm_lightning.models.regression import Regression, scale_input
from ddpm_lightning.models.scored import FILTER, Scored
from ddpm_lightning.models.scoring_rules import almost_fair, score_of_pair

SIDE, NOISE = 16, 0.5


def test_the_fair_score_is_that_of_the_metric():
    samples, target = torch.randn(2, 1, 8, 8).double(), torch.randn(1, 8, 8).double()
    first, second = samples - target
    score = almost_fair(first.abs(), second.abs(), (first - second).abs(), alpha=1).mean()
    assert score.item() == pytest.approx(crps(samples=samples, target=target))


def test_the_fair_score_of_a_normal_distribution_is_the_analytic_one():
    errors = stats.norm(0.5, 2).rvs((2, 400_000), random_state=0)
    first, second = torch.from_numpy(errors)
    score = almost_fair(first.abs(), second.abs(), (first - second).abs(), alpha=1).mean().item()
    z = 0.25
    expected = 2 * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert score == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("alpha", [0.9, 0.99])
def test_the_almost_fair_score_is_never_negative(alpha):
    first, second = torch.randn(2, 1000)
    assert (almost_fair(first.abs(), second.abs(), (first - second).abs(), alpha) >= 0).all()


def test_the_score_of_a_pair_is_that_of_its_pixels_and_of_its_spectrum():
    first, second = torch.randn(2, 3, 1, 8, 8)
    spectra = [np.fft.rfft2(errors.numpy(), norm="ortho") for errors in (first, second)]
    fourier = torch.from_numpy(np.stack([(each.real, each.imag) for each in spectra]))
    expected = sum(
        almost_fair(a.abs(), b.abs(), (a - b).abs()).mean() / 2 for a, b in ((first, second), fourier)
    )
    torch.testing.assert_close(score_of_pair(first, second, 8, torch.Generator()), expected)


@pytest.mark.parametrize("size", [(4, 6), (8, 15), (16, 17), (40, 33)])
def test_images_of_any_size_are_scored_and_the_windows_move(size):
    first, second = torch.randn(2, 3, 1, *size)
    scores = {score_of_pair(first, second, 8, torch.Generator().manual_seed(k)).item() for k in range(20)}
    assert np.isfinite(list(scores)).all()
    assert len(scores) > 1


def frequency() -> torch.Tensor:
    """Radius of each frequency of a periodic canvas, in cycles per pixel."""
    return torch.hypot(torch.fft.fftfreq(SIDE)[:, None], torch.fft.fftfreq(SIDE)[None])


def spectrum() -> torch.Tensor:
    """Power of the clean images, a blurred white noise, at each frequency."""
    power = torch.exp(-40 * frequency() ** 2)
    return power / power.mean()


def filtered(images: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    return torch.fft.ifft2(torch.fft.fft2(images) * gain).real


class Wiener(Regression):
    """The exact mean of the posterior."""

    def __init__(self):
        super().__init__(nn.Identity())

    def estimate(self, low, apply=None):
        return filtered(low, spectrum() / (spectrum() + NOISE**2))


class Nothing(nn.Module):
    """No content, so that samples are the mean plus filtered noise, which suffices for this posterior."""

    def forward(self, seen, label):
        return torch.zeros_like(seen[:, :1])


class TwoLevels(nn.Module):
    """Half the logarithm of a standard deviation with one value where the low image is negative, another elsewhere."""

    def __init__(self):
        super().__init__()
        self.levels = nn.Parameter(torch.tensor([0.2, -0.3]))

    def forward(self, seen, label):
        return torch.where(seen[:, :1] < scale_input(torch.zeros(())), *self.levels)


def train(method: Scored, batches, steps: int) -> None:
    optimiser = torch.optim.Adam(method.parameter_groups()["loss"], lr=0.02, betas=(0.9, 0.99))
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        optimiser.zero_grad()
        method.loss(batches(), LossKey(0, step, step)).backward()
        optimiser.step()
        fall.step()


def batch(generator: torch.Generator, count: int):
    high = filtered(torch.randn(count, 1, SIDE, SIDE, generator=generator), spectrum().sqrt())
    low = high + NOISE * torch.randn(high.shape, generator=generator)
    return {"low": low, "high": high, "name": [str(k) for k in range(count)]}


def test_samples_of_a_linear_gaussian_problem_have_the_mean_and_covariance_of_the_posterior():
    generator = torch.Generator().manual_seed(0)
    method = Scored(Wiener(), Nothing(), TwoLevels())
    method.calibrate([batch(generator, 1024)], lambda total, how: total)
    train(method, lambda: batch(generator, 128), 800)

    posterior = spectrum() * NOISE**2 / (spectrum() + NOISE**2)
    expected = torch.fft.ifft2(posterior).real
    assert method.sigma.item() == pytest.approx(expected[0, 0].sqrt().item(), rel=0.03)
    low = batch(generator, 1)["low"]
    predicted = method.posterior(low).std
    torch.testing.assert_close(predicted, expected[0, 0].sqrt().expand_as(predicted), rtol=0.02, atol=0)
    count = 4000
    noise = KeyedNoise(0, ["a"] * count, list(range(count)))
    with torch.no_grad():
        samples = method.sample(low.expand(count, -1, -1, -1), noise)
    residual = samples - method.regression.estimate(low)
    # The mean of 4000 samples is known up to a 60th of their standard deviation.
    assert residual.mean(dim=0).abs().max() < 5 / count**0.5 * method.sigma
    power = torch.fft.fft2(residual).abs().square().mean(dim=(0, 1)) / SIDE**2
    covariance = torch.fft.ifft2(power).real
    # Errors at all distances, in units of the variance.
    assert ((covariance - expected).abs().max() / expected[0, 0]).item() < 0.03


def test_the_filter_of_the_noise_adds_a_field_without_borders_or_grid():
    method = Scored(Wiener(), Nothing(), TwoLevels())
    kernel = torch.randn(FILTER, FILTER, generator=torch.Generator().manual_seed(1))
    method.noise_filter.weight.data[0, 0] = kernel
    low, z = torch.zeros(1, 1, 24, 32), torch.randn(1, 1, 24, 32, generator=torch.Generator().manual_seed(2))
    expected = ndimage.correlate(z[0, 0].double().numpy(), kernel.double().numpy(), mode="wrap")
    found = method.residual(low, low, z)[0, 0].detach()
    np.testing.assert_allclose(found, expected, atol=1e-5)


class Unchanged(Regression):
    """The low image as its own restoration."""

    def __init__(self):
        super().__init__(nn.Identity())

    def estimate(self, low, apply=None):
        return low


def test_where_the_error_depends_on_the_image_so_do_predicted_and_sampled_standard_deviation():
    generator = torch.Generator().manual_seed(0)

    def uneven():
        low, noise = torch.randn(2, 32, 1, SIDE, SIDE, generator=generator)
        return {
            "low": low,
            "high": low + noise * torch.where(low < 0, 0.1, 0.4),
            "name": list(map(str, range(32))),
        }

    method = Scored(Unchanged(), Nothing(), TwoLevels())
    method.calibrate([uneven()], lambda total, how: total)
    train(method, uneven, 300)
    low = uneven()["low"][:1]
    expected = torch.where(low < 0, 0.1, 0.4)
    torch.testing.assert_close(method.posterior(low).std, expected, rtol=0.03, atol=0)
    count = 2000
    samples = method.sample(low.expand(count, -1, -1, -1), KeyedNoise(0, ["a"] * count, list(range(count))))
    ratio = samples.detach().std(0) / expected[0]
    assert ratio.mean().item() == pytest.approx(1, abs=0.03) and ratio.std() < 0.03


def test_samples_are_keyed_and_share_the_mean():
    torch.manual_seed(0)
    method, low = Scored(Wiener(), Nothing(), TwoLevels()), torch.randn(1, 1, SIDE, SIDE)
    method.sigma.fill_(0.3)
    together = method.sample(low.expand(3, -1, -1, -1), KeyedNoise(0, ["a"] * 3, [0, 1, 2]))
    alone = method.sample(low, KeyedNoise(0, ["a"], [2]))
    torch.testing.assert_close(together[2:], alone)
    assert not torch.equal(together[0], together[1])


def test_the_two_samples_of_a_training_step_are_independent():
    """Antithetic samples would make the score smallest far from the posterior."""
    seen = []

    class Spy(Nothing):
        def forward(self, inputs, label):
            seen.append(inputs[:, 2])
            return super().forward(inputs, label)

    method = Scored(Wiener(), Spy(), TwoLevels())
    method.sigma.fill_(1)
    many = batch(torch.Generator().manual_seed(0), 200)
    method.loss(many, LossKey(0, 0, 0))
    first, second = seen[0].chunk(2)
    assert abs(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 0.02


def test_an_impossible_share_of_the_mean_is_refused():
    with pytest.raises(ValueError, match="model.mean_share"):
        Scored(Wiener(), Nothing(), TwoLevels(), mean_share=1.0)
