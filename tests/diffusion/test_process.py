"""Identities of the forward process, as properties of any state and level."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_lightning.diffusion import process
from ddpm_lightning.diffusion.objective import NAMES, WEIGHTINGS, Objective
from ddpm_lightning.diffusion.schedule import CosineSchedule

levels = st.floats(1e-3, 1 - 1e-6)
seeds = st.integers(0, 2**31)


def state(seed: int, level: float) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    y_0, noise = torch.randn(2, 3, 1, 4, 5, generator=generator, dtype=torch.float64)
    alpha_bar = torch.full((3,), level, dtype=torch.float64)
    return y_0, noise, alpha_bar, process.q_sample(y_0, alpha_bar, noise)


@given(seeds, levels)
@settings(max_examples=50, deadline=None)
def test_start_and_noise_are_recovered(seed, level):
    y_0, noise, alpha_bar, y_t = state(seed, level)
    torch.testing.assert_close(process.start_from_noise(y_t, alpha_bar, noise), y_0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(process.noise_from_start(y_t, alpha_bar, y_0), noise, rtol=1e-9, atol=1e-9)


@given(seeds, levels, st.sampled_from(NAMES))
@settings(max_examples=60, deadline=None)
def test_every_objective_leads_back_to_the_start(seed, level, name):
    y_0, noise, alpha_bar, y_t = state(seed, level)
    objective = Objective(name)
    target = objective.target(y_0, alpha_bar, noise)
    torch.testing.assert_close(objective.start(target, y_t, alpha_bar), y_0, rtol=1e-8, atol=1e-8)
    assert objective.loss(target, y_0, alpha_bar, noise).max() < 1e-12


@given(seeds, st.floats(0.02, 0.98), st.floats(0.05, 0.95))
@settings(max_examples=50, deadline=None)
def test_objectives_weighted_by_min_snr_agree(seed, level, error):
    """The same error of the clean image costs the same, whatever the network predicts."""
    y_0, noise, alpha_bar, y_t = state(seed, level)
    wrong = y_0 + error
    losses = []
    for name in NAMES:
        objective = Objective(name, "min_snr")
        implied = {
            "x0": wrong,
            "epsilon": process.noise_from_start(y_t, alpha_bar, wrong),
            "v": process.velocity(wrong, alpha_bar, process.noise_from_start(y_t, alpha_bar, wrong)),
        }[name]
        losses.append(objective.loss(implied, y_0, alpha_bar, noise))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses[0], losses[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("s", "t"), [(0, 1), (0, 200), (1, 2), (40, 80), (199, 200)])
def test_posterior_equals_bayes_rule(s, t):
    """N(y_s; …y_0) · N(y_t; …y_s) as a function of y_s, normalised on a fine grid."""
    table = CosineSchedule(200).alpha_bar
    ab_s, ab_t = table[s], table[t]
    y_0, y_t = torch.tensor(0.3, dtype=torch.float64), torch.tensor(-0.7, dtype=torch.float64)
    mean, variance = process.posterior(*(v.reshape(1, 1, 1, 1) for v in (y_0, y_t)), ab_s[None], ab_t[None])
    if s == 0:
        assert mean.item() == pytest.approx(0.3, abs=1e-12)
        assert variance.item() == pytest.approx(0, abs=1e-12)
        return
    width = variance.sqrt().item()
    grid = mean.item() + width * torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    log_density = -((grid - ab_s.sqrt() * y_0) ** 2) / (2 * (1 - ab_s))
    log_density -= (y_t - (ab_t / ab_s).sqrt() * grid) ** 2 / (2 * (1 - ab_t / ab_s))
    density = torch.softmax(log_density, 0)
    expected = (density * grid).sum()
    assert mean.item() == pytest.approx(expected.item(), abs=1e-6 * width + 1e-12)
    assert variance.item() == pytest.approx((density * (grid - expected) ** 2).sum().item(), rel=1e-6)


def test_each_image_of_a_batch_has_its_own_level():
    y_0, noise, _, _ = state(0, 0.5)
    alpha_bar = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    together = process.q_sample(y_0, alpha_bar, noise)
    for k in range(3):
        alone = process.q_sample(y_0[k : k + 1], alpha_bar[k : k + 1], noise[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=0)


def test_unknown_objectives_are_refused():
    with pytest.raises(ValueError, match="epsilon, v, x0"):
        Objective("noise")
    with pytest.raises(ValueError, match=", ".join(WEIGHTINGS)):
        Objective("v", "snr")
