"""The flow between two normal distributions is known in closed form; so is every Euler step along it."""

import numpy as np
import pytest
import torch
from scipy import stats

from ddpm_lightning.diffusion.flow import (
    START,
    Euler,
    Heun,
    Midpoint,
    RectifiedFlow,
    interpolate,
    training_times,
)
from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.diffusion.samplers import DDIM, Sampler
from ddpm_lightning.diffusion.schedule import CosineSchedule

START_MEAN, START_STD, END_MEAN, END_STD = 0.1, 0.3, -0.2, 0.5


def gain(t: float) -> float:
    """Slope of E[y - z_0 | z_t] for independent normal ends: cov(y - z_0, z_t) / var(z_t)."""
    return (t * END_STD**2 - (1 - t) * START_STD**2) / ((1 - t) ** 2 * START_STD**2 + t**2 * END_STD**2)


def exact(state: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    time = t[0].item()
    mean = (1 - time) * START_MEAN + time * END_MEAN
    return END_MEAN - START_MEAN + gain(time) * (state - mean)


def starts(count: int = 40_000) -> torch.Tensor:
    noise = torch.randn(1, 1, 1, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return START_MEAN + START_STD * (noise - noise.mean()) / noise.std()


def test_many_steps_reach_the_end_distribution():
    ends = Euler(400).follow(exact, starts())
    assert ends.mean().item() == pytest.approx(END_MEAN, abs=1e-6)
    assert ends.std().item() == pytest.approx(END_STD, rel=0.01)
    assert stats.kstest(ends.flatten().numpy(), "norm", args=(END_MEAN, END_STD)).pvalue > 0.01


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_few_steps_give_the_standard_deviation_of_the_product_of_their_slopes(steps):
    expected = START_STD * np.prod([1 + gain(k / steps) / steps for k in range(steps)])
    ends = Euler(steps).follow(exact, starts())
    assert ends.mean().item() == pytest.approx(END_MEAN, abs=1e-6)
    assert ends.std().item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("sampler", "share"),
    [(Euler(4), 0.72), (Euler(10), 0.88), (Midpoint(2), 0.98), (Midpoint(3), 0.995), (Heun(3), 0.98)],
)
def test_steps_of_second_order_keep_the_standard_deviation_of_a_posterior(sampler, share):
    """The residual of a regressor, if it is Gaussian: start noise and end have one standard deviation."""

    def velocity(state, t):
        return (2 * t[0] - 1) / ((1 - t[0]) ** 2 + t[0] ** 2) * state

    noise = torch.randn(1, 1, 100, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ends = sampler.follow(velocity, noise)
    assert (ends.std() / noise.std()).item() == pytest.approx(share, abs=0.004)


@pytest.mark.parametrize(("rule", "order"), [(Euler, 1), (Midpoint, 2), (Heun, 2)])
def test_the_error_falls_with_the_order_of_the_step(rule, order):
    """The slope of exp is exp: the error at 1 falls by 2 to the order when steps are halved."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    errors = [abs(rule(steps).follow(lambda state, t: state, one).item() - np.e) for steps in (64, 128)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.03)


def test_a_step_of_second_order_costs_two_evaluations():
    flow = RectifiedFlow(torch.tensor(0.3))
    for rule in (Midpoint, Heun):
        assert rule(3).evaluations(flow) == 6 and rule(3, realism=0).evaluations(flow) == 0
        assert (
            rule(3).describe(flow).startswith("3 ")
            and rule.__name__.lower() in rule(3).describe(flow).lower()
        )


def test_one_step_is_the_mean_where_the_start_is_uninformative():
    torch.testing.assert_close(Euler(1).follow(exact, starts(8)), torch.full((1, 1, 1, 8), END_MEAN).double())


def test_states_are_asked_for_at_the_left_end_of_each_step():
    seen = []

    def record(state, t):
        seen.append((t.tolist(), state.mean().item()))
        return torch.ones_like(state)

    end = Euler(4).follow(record, torch.zeros(2, 1, 3, 3))
    assert seen == [([k / 4] * 2, k / 4) for k in range(4)]
    assert torch.equal(end, torch.ones(2, 1, 3, 3))


def test_interpolation_agrees_with_numpy():
    start, end = torch.randn(3, 1, 4, 5), torch.randn(3, 1, 4, 5)
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    states = interpolate(start, end, t)
    for row in range(3):
        expected = (1 - t[row].item()) * start[row].numpy() + t[row].item() * end[row].numpy()
        np.testing.assert_allclose(states[row].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(states[0], start[0]) and torch.equal(states[2], end[2])


def test_training_times_are_uniform_but_for_a_fraction_at_the_start():
    uniform = torch.rand(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = training_times(uniform, at_start=0.1)
    assert (t == 0).double().mean().item() == pytest.approx(0.1, abs=0.004)
    assert stats.kstest(t[t > 0].numpy(), "uniform").pvalue > 0.01
    assert 0 <= t.min() and t.max() < 1
    assert (training_times(uniform) == 0).double().mean().item() == pytest.approx(0.02, abs=0.002)


def test_realism_is_the_trade_of_averaging_at_the_price_of_one_sample():
    """Errors of the mean (a) and of the sample about it (b), independent, add to a + λ² b, as for 1 / λ² samples."""
    generator = torch.Generator().manual_seed(0)
    target, error, residual = torch.randn(3, 1, 1, 200, 200, generator=generator).double()
    mean = target + 0.4 * error
    sample = mean + 0.8 * residual
    assert torch.equal(Euler(realism=0).blend(mean, sample), mean)
    torch.testing.assert_close(Euler(realism=1).blend(mean, sample), sample)
    for realism in (0.25, 0.5, 0.707):
        blended = Euler(realism=realism).blend(mean, sample)
        expected = 0.4**2 + realism**2 * 0.8**2
        assert (blended - target).square().mean().item() == pytest.approx(expected, rel=0.03)


def test_the_mean_alone_costs_no_step():
    flow = RectifiedFlow(torch.tensor(0.3))
    assert Euler(5).evaluations(flow) == 5 and Euler(5, realism=0).evaluations(flow) == 0
    assert Euler(5).random and not Euler(5, realism=0).random


@pytest.mark.parametrize("settings", [{"steps": 0}, {"realism": -0.1}, {"realism": 1.1}])
def test_impossible_settings(settings):
    with pytest.raises(ValueError, match=f"sampler.{next(iter(settings))}"):
        Euler(**settings)


def test_samplers_of_flows_and_of_diffusion_models_are_called_alike():
    noise, guess = KeyedNoise(0, ["a", "b"], [0, 1]), torch.full((2, 1, 4, 4), 0.25)
    flow, schedule = RectifiedFlow(torch.tensor(0.3)), CosineSchedule(20)
    for sampler, process in ((Euler(3, realism=0.5), flow), (DDIM(3), schedule)):
        assert isinstance(sampler, Sampler)
        sampler.check(process)
        assert sampler.evaluations(process) == 3 and "3" in sampler.describe(process)
        image = sampler(lambda state, level: torch.zeros_like(state), process, noise, (1, 4, 4), guess=guess)
        assert image.shape == (2, 1, 4, 4)
        if process is flow:
            expected = guess + 0.5 * 0.3 * noise.antithetic()(START, (1, 4, 4))
            torch.testing.assert_close(image, expected)
    with pytest.raises(ValueError, match="Euler"):
        DDIM(3).check(flow)
    with pytest.raises(ValueError, match="diffusion"):
        Euler().check(schedule)
