r"""DPM-Solver++(2M) against the exact solution of the flow of a Gaussian.

For y ~ N(m, s²) the probability flow keeps the quantile of a state: :math:`y_t = \sqrt{\bar\alpha_t} m +
\sqrt{\bar\alpha_t s^2 + 1 - \bar\alpha_t}\, z` with the same z at all t.
"""

import math
from itertools import pairwise

import pytest
import torch

from ddpm_lightning.diffusion.dpm_solver import DPMSolver, half_log_snr
from ddpm_lightning.diffusion.objective import Objective
from ddpm_lightning.diffusion.process import per_image
from ddpm_lightning.diffusion.samplers import DDIM
from ddpm_lightning.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule
from tests.diffusion.test_samplers import MEAN, STD, samples


class Doubles:
    """Normal numbers in float64, so that rounding does not hide the order."""

    def __len__(self):
        return 1

    def __call__(self, step, shape, device):
        return torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def exact(y_t, alpha_bar):
    level = per_image(alpha_bar, y_t)
    return MEAN + STD**2 * level.sqrt() / (level * STD**2 + 1 - level) * (y_t - level.sqrt() * MEAN)


def error(sampler, steps: int) -> float:
    """Largest error of the state at λ = 2.5, from λ = -2.5, on a grid that is even in λ."""
    lambdas = torch.linspace(2.5, -2.5, steps + 1, dtype=torch.float64)
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), torch.sigmoid(2 * lambdas)])
    schedule = Schedule(1 - alpha_bar[1:] / alpha_bar[:-1])
    states = []

    def watch(y_t, level):
        states.append(y_t)
        return exact(y_t, level)

    sampler(watch, schedule, Doubles(), (1, 8, 8), clip=None)
    first, last = schedule.alpha_bar[-1], schedule.alpha_bar[1]
    z = (states[0] - first.sqrt() * MEAN) / (first * STD**2 + 1 - first).sqrt()
    return (states[-1] - last.sqrt() * MEAN - (last * STD**2 + 1 - last).sqrt() * z).abs().max().item()


@pytest.mark.parametrize(("sampler", "order"), [(DPMSolver(), 2), (DDIM(), 1)])
def test_order_of_convergence(sampler, order):
    errors = [error(sampler, steps) for steps in (40, 80, 160)]
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_twenty_steps_are_nearer_to_the_posterior_than_ddim():
    spread = {sampler.name: samples(sampler).double().std().item() for sampler in (DPMSolver(20), DDIM(20))}
    assert abs(spread["dpm_solver"] - STD) < 0.5 * abs(spread["ddim"] - STD)
    assert spread["dpm_solver"] == pytest.approx(STD, rel=0.04)


def test_one_step_is_the_estimate():
    torch.testing.assert_close(samples(DPMSolver(1)), samples(DDIM(1)))


@pytest.mark.parametrize("std", [0.1, 0.2, 0.3])
def test_ten_steps_even_in_log_snr_keep_the_standard_deviation_of_a_gaussian(std):
    def predict(y_t, level):
        level = per_image(level, y_t)
        return std**2 * level.sqrt() / (level * std**2 + 1 - level) * y_t

    sampler = DPMSolver(10, spacing="log_snr")
    found = sampler(predict, CosineSchedule(200), Doubles(), (1, 200, 200), clip=None)
    assert found.double().std().item() == pytest.approx(std, rel=0.03)


def test_the_grid_in_log_snr_is_even_between_the_first_and_the_last_level():
    schedule = CosineSchedule(200)
    times = DPMSolver(10, spacing="log_snr").times(schedule)
    assert (times[0], times[-2:]) == (200, [1, 0])
    lengths = half_log_snr(schedule.alpha_bar[times[1:-1]]).diff()
    # Levels are those of the table, which is coarse near its ends.
    assert lengths.min() > 0.8 * lengths.mean()
    assert lengths.max() < 1.2 * lengths.mean()


@pytest.mark.parametrize("start", [0.9, 1.0])
@pytest.mark.parametrize("spacing", ["time", "log_snr"])
@pytest.mark.parametrize("schedule", [CosineSchedule(200), LinearSchedule(200)], ids=["cosine", "linear"])
def test_even_grids_are_accepted(schedule, spacing, start):
    for steps in range(1, round(200 * start) + 1):
        solver = DPMSolver(steps, start=start, spacing=spacing)
        assert solver.evaluations(schedule) == steps
        assert all(later < earlier for earlier, later in pairwise(solver.times(schedule)))
        assert solver.check(schedule, Objective("v")) is None


def test_an_unknown_spacing_is_refused():
    with pytest.raises(ValueError, match="sampler.spacing is 'karras'; allowed: time, log_snr"):
        DPMSolver(spacing="karras")


def test_grids_on_which_it_diverges_are_refused():
    """A step many times as long as the one before prolongs a short line far: errors of the estimate explode."""
    alpha_bar = torch.sigmoid(2 * torch.tensor([6.0, -1.0, -1.02, -1.04], dtype=torch.float64))
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar])
    schedule = Schedule(1 - alpha_bar[1:] / alpha_bar[:-1])
    calls = []

    def noisy(y_t, level):
        calls.append(y_t)
        return exact(y_t, level) + 0.01 * (-1) ** len(calls)

    DPMSolver()(noisy, schedule, Doubles(), (1, 8, 8), clip=None)
    assert calls[-1].abs().max() > 3, "the state has left the range of images"
    with pytest.raises(
        ValueError, match=r"diverges on this grid: the step from 2 to 1 is 350\.0 times.*ddim"
    ):
        DPMSolver().check(schedule, Objective("v"))
