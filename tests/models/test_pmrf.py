"""The flow from the mean: its exact solution, what it sees, what it measures, and what stays frozen."""

import numpy as np
import pytest
import torch
from torch import nn

from ddpm_lightning.diffusion.flow import Euler
from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.diffusion.samplers import DDIM
from ddpm_lightning.models.method import LossKey
from ddpm_lightning.models.pmrf import PMRF
from ddpm_lightning.models.regression import Regression
from ddpm_lightning.models.sampling import samples_of

SIGMA, END_MEAN, END_STD = 0.3, -0.2, 0.5


class HalfLow(nn.Module):
    """A regressor that returns half the low image; it counts the images that it sees."""

    size_divisor = 4

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.images = 0

    def forward(self, x, label):
        self.images += len(x)
        image = x / 4 - 1
        return self.gain * image + 1


class ExactVelocity(nn.Module):
    """E[y - z_0 | z_t] / sigma for y ~ N(END_MEAN, END_STD²) and a mean of 0; the label is 4 t - 2."""

    size_divisor = 2

    def forward(self, x, label):
        z = x / 4 - 1
        t = ((label + 2) / 4).reshape(-1, 1, 1, 1)
        gain = (t * END_STD**2 - (1 - t) * SIGMA**2) / ((1 - t) ** 2 * SIGMA**2 + t**2 * END_STD**2)
        return (END_MEAN + gain * (z - t * END_MEAN)) / SIGMA


class Learnable(nn.Module):
    """A velocity that is a learnt multiple of its first input; it remembers what it saw."""

    size_divisor = 2

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.7))

    def forward(self, z, label):
        self.seen, self.label = z, label
        return self.factor * z[:, :1]


def flow(network=None, sampler=None, sigma: float = SIGMA, **settings) -> PMRF:
    model = PMRF(Regression(HalfLow()), network or Learnable(), sampler or Euler(), **settings)
    model.sigma.fill_(sigma)
    return model.eval()


def images(count: int = 2, side: int = 16) -> dict:
    generator = torch.Generator().manual_seed(0)
    batch = {role: torch.randn(count, 1, side, side, generator=generator) for role in ("low", "high")}
    return {**batch, "name": [f"crop {n}" for n in range(count)]}


def test_the_exact_flow_reaches_the_distribution_of_clean_images():
    model = flow(ExactVelocity(), Euler(200, antithetic=False))
    samples = torch.cat(list(samples_of(model, torch.zeros(1, 1, 64, 64), "image", range(8)))).double()
    assert samples.mean().item() == pytest.approx(END_MEAN, abs=0.01)
    assert samples.std().item() == pytest.approx(END_STD, rel=0.02)


def test_the_mean_of_a_pair_is_free_of_the_odd_part():
    model = flow(ExactVelocity(), Euler(3))
    first, second = samples_of(model, torch.zeros(1, 1, 32, 32), "image", range(2))
    assert (first - second).std() > 0.3
    torch.testing.assert_close((first + second) / 2, torch.full_like(first, END_MEAN))
    assert model.antithetic and not flow(sampler=Euler(antithetic=False)).antithetic


def test_realism_leads_from_the_mean_to_the_sample():
    low = images(1)["low"]
    (sample,) = samples_of(flow(), low, "image", [0])
    mean_model = flow(sampler=Euler(realism=0))
    (mean,) = samples_of(mean_model, low, "image", range(4))
    torch.testing.assert_close(mean, 0.5 * low)
    (between,) = samples_of(flow(sampler=Euler(realism=0.3)), low, "image", [0])
    torch.testing.assert_close(between, mean + 0.3 * (sample - mean))
    assert mean_model.deterministic and mean_model.evaluations == 0 and mean_model.preset == "mean"
    assert not flow().deterministic and flow().evaluations == 3
    assert flow(sampler=Euler(5, realism=0.5)).preset == "mean, then 5 steps, realism 0.5"


def test_what_the_network_sees():
    batch, key = images(), LossKey(0, 0, 0)
    alone, beside = flow(), flow(condition="input_and_mean")
    alone.loss(batch, key)
    beside.loss(batch, key)
    state, low = alone.network.seen / 4 - 1, batch["low"]
    assert state.shape[1] == 1 and beside.network.seen.shape[1] == 3
    expected = torch.cat([(state - 0.5 * low) / SIGMA, 4 * (low + 1), 4 * (0.5 * low + 1)], dim=1)
    torch.testing.assert_close(beside.network.seen, expected)
    assert (alone.network.label >= -2).all() and (alone.network.label < 2).all()


def test_the_loss_is_the_error_of_the_velocity_in_units_of_sigma():
    batch, key = images(), LossKey(seed=3, step=5, stream=0)
    noise = KeyedNoise(3, batch["name"], [5, 5])
    model = flow()
    loss = model.loss(batch, key)
    start = 0.5 * batch["low"].numpy() + SIGMA * noise(1, (1, 16, 16)).numpy()
    t = np.maximum((noise.uniform(0, 1).numpy() - 0.02) / 0.98, 0).reshape(-1, 1, 1, 1)
    state = (1 - t) * start + t * batch["high"].numpy()
    expected = ((0.7 * 4 * (state + 1) - (batch["high"].numpy() - start) / SIGMA) ** 2).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(model.network.label.numpy(), 4 * t.ravel() - 2, rtol=1e-5)


def test_the_regressor_is_frozen():
    model = flow().train()
    assert model.network.training and not model.regression.training
    model.loss(images(), LossKey(0, 0, 0)).backward()
    assert model.regression.network.gain.grad is None and model.network.factor.grad is not None
    assert {"sigma", "regression.network.gain", "network.factor"} == set(model.state_dict())


def test_sigma_is_the_error_on_the_validation_crops_and_is_measured_once():
    batches = [images(3), {role: 2 * images(1)[role] for role in ("low", "high")}]
    asked = []

    def reduce(tensor, how):
        asked.append(how)
        return tensor

    model = flow(sigma=0.0, sigma_factor=2.0)
    model.calibrate(batches, reduce)
    errors = np.concatenate([(0.5 * batch["low"] - batch["high"]).numpy().ravel() for batch in batches])
    assert model.sigma.item() == pytest.approx(2 * np.sqrt((errors**2).mean()), rel=1e-5)
    before = model.sigma.item()
    batches.pop()
    model.calibrate(batches, reduce)
    assert model.sigma.item() == before and asked == ["sum"]
    model.reset_calibration()
    model.calibrate(batches, reduce)
    assert model.sigma.item() not in (0, before)


def test_the_mean_of_an_image_is_computed_once_for_all_of_its_samples():
    model = flow()
    together = torch.cat(list(samples_of(model, images(1)["low"], "image", range(4))))
    assert model.regression.network.images == 1
    one_by_one = torch.cat(list(samples_of(model, images(1)["low"], "image", range(4), batch=1)))
    torch.testing.assert_close(together, one_by_one)


def test_two_images_keep_their_own_means():
    model, low = flow(), images(2)["low"]
    together = model.sample(low, KeyedNoise(0, ["a", "b"], [0, 0]))
    for row, name in enumerate("ab"):
        alone = model.sample(low[row : row + 1], KeyedNoise(0, [name], [0]))
        torch.testing.assert_close(together[row : row + 1], alone)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"condition": "input"}, "input_and_mean"),
        ({"sampler": DDIM(5)}, "Heun steps, not by DDIM"),
        ({"mean_share": 1.0}, "between 0 and 1"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        flow(**settings)
