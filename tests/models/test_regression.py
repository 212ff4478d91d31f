"""One-pass methods: what their networks are told, what is minimised, and the Laplace samples of CARE."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from ddpm_lightning.models.method import LossKey
from ddpm_lightning.models.regression import CARE, Regression, laplace
from ddpm_lightning.models.sampling import samples_of
from ddpm_lightning.networks.unet import UNet

KEY = LossKey(0, 0, 0)


class Shift(nn.Module):
    """Adds a half to an image, on the scales of the regressor's input and output; remembers its label."""

    size_divisor = 4

    def forward(self, x, label):
        self.label = label
        image = x / 4 - 1
        return image + 0.5 + 1


class Distribution(nn.Module):
    """Mean 0.7 and scale 0.1, on the scale [0, 1], everywhere."""

    size_divisor = 1
    scale_head = True

    def forward(self, x):
        return torch.cat([torch.full_like(x, 0.7), torch.full_like(x, 0.1)], dim=1)


def batch() -> dict:
    generator = torch.Generator().manual_seed(0)
    return {role: torch.randn(2, 1, 16, 16, generator=generator) for role in ("low", "high")}


def care(**settings) -> CARE:
    torch.manual_seed(0)
    return CARE(UNet(depth=2, first_filters=4, **settings))


def test_regression_is_least_squares_with_label_zero():
    model, images = Regression(Shift()), batch()
    expected = ((images["low"].numpy() + 0.5 - images["high"].numpy()) ** 2).mean()
    assert model.loss(images, KEY).item() == pytest.approx(expected, rel=1e-6)
    assert torch.equal(model.network.label, torch.zeros(2))
    assert (model.size_divisor, model.evaluations, model.deterministic, model.antithetic) == (
        4,
        1,
        True,
        False,
    )


def test_one_sample_however_many_are_asked_for():
    samples = list(samples_of(Regression(Shift()), batch()["low"][:1], "image", range(5)))
    assert len(samples) == 1
    torch.testing.assert_close(samples[0], batch()["low"][:1] + 0.5)


@pytest.mark.parametrize(("error", "power"), [("mae", 1), ("mse", 2)])
def test_care_compares_on_the_normalised_scale(error, power):
    images = batch()
    model = care()
    model.error = error
    with torch.no_grad():
        output = 2 * model.network((images["low"] + 1) / 2).numpy() - 1
    expected = (np.abs(output - images["high"].numpy()) ** power).mean()
    assert model.loss(images, KEY).item() == pytest.approx(expected, rel=1e-5)


def test_probabilistic_care_is_the_likelihood_of_scipy():
    images = batch()
    model = care(probabilistic=True)
    with torch.no_grad():
        mean, scale = model.network((images["low"] + 1) / 2).chunk(2, dim=1)
    # The target on [-1, 1] is twice that on [0, 1]: so are location and scale.
    density = stats.laplace.logpdf(images["high"], loc=2 * mean - 1, scale=2 * scale)
    assert model.loss(images, KEY).item() == pytest.approx(-density.mean(), rel=1e-5)


def test_laplace_numbers_are_the_quantiles_of_scipy():
    uniform = torch.tensor([1e-9, 0.01, 0.25, 0.5, 0.75, 0.99, 1 - 1e-9], dtype=torch.float64)
    np.testing.assert_allclose(laplace(uniform).numpy(), stats.laplace.ppf(uniform.numpy()), rtol=1e-6)


def test_probabilistic_samples_have_the_predicted_mean_and_standard_deviation():
    model = CARE(Distribution())
    samples = torch.cat(list(samples_of(model, torch.zeros(1, 1, 64, 64), "image", range(8))))
    mean, scale = 0.4, 0.2  # on [-1, 1]
    torch.testing.assert_close(samples.mean(0), torch.full((1, 64, 64), mean))
    assert samples.std().item() == pytest.approx(math.sqrt(2) * scale, rel=0.02)
    assert stats.kstest(samples[0].flatten().numpy(), "laplace", args=(mean, scale)).pvalue > 0.01
    assert model.antithetic and not model.deterministic


def test_unknown_error():
    with pytest.raises(ValueError, match="allowed: mae, mse"):
        CARE(UNet(first_filters=4), error="huber")
