r"""Samplers against a posterior that is known in closed form.

With a prior y ~ N(m, s^2) for each pixel, the best estimate of y_0 from y_t is linear, and a sampler that is given it
must return samples of N(m, s^2).
"""

import pytest
import torch

from ddpm_lightning.diffusion.objective import Objective
from ddpm_lightning.diffusion.process import per_image
from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.diffusion.samplers import DDIM, Ancestral, OneStep
from ddpm_lightning.diffusion.schedule import CosineSchedule, LinearSchedule


def type_name(sampler) -> str:
    return type(sampler).__name__


MEAN, STD = 0.2, 0.3
SHAPE = (1, 64, 64)


def exact(y_t: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """E[y_0 | y_t] for the Gaussian prior."""
    level = per_image(alpha_bar, y_t).to(y_t.dtype)
    gain = STD**2 * level.sqrt() / (level * STD**2 + 1 - level)
    return MEAN + gain * (y_t - level.sqrt() * MEAN)


def samples(sampler, count=8, schedule=None, clip=None, seed=0):
    noise = KeyedNoise(seed, ["image"] * count, range(count))
    return sampler(exact, schedule or CosineSchedule(200), noise, SHAPE, clip=clip)


def predicted_std(schedule, eta: float) -> float:
    """Spread that a chain of these steps has: each is linear, so its variance follows by recursion.

    A step takes y_t to a · y_t + (constant) + noise, with the coefficients of equation 12 of the DDIM paper and the
    estimate written out; the finite number of steps loses a little of STD.
    """
    table = schedule.alpha_bar.double()
    variance = 1.0
    for t in range(schedule.steps, 0, -1):
        ab_t, ab_s = table[t].item(), table[t - 1].item()
        gain = STD**2 * ab_t**0.5 / (ab_t * STD**2 + 1 - ab_t)
        added = eta**2 * (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)
        slope = ab_s**0.5 * gain + ((1 - ab_s - added) / (1 - ab_t)) ** 0.5 * (1 - ab_t**0.5 * gain)
        variance = slope**2 * variance + added
    return variance**0.5


SAMPLERS = {
    "ancestral": (Ancestral(), 1.0),
    "ddim": (DDIM(None), 0.0),
    "ddim eta 0.5": (DDIM(None, eta=0.5), 0.5),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("schedule", [CosineSchedule(200), LinearSchedule(200)], ids=["cosine", "linear"])
def test_all_steps_return_the_posterior(name, schedule):
    sampler, eta = SAMPLERS[name]
    y = samples(sampler, schedule=schedule).double()
    assert y.mean().item() == pytest.approx(MEAN, abs=0.005)
    assert y.std().item() == pytest.approx(
        predicted_std(schedule, eta), rel=0.012
    )  # 1.2 % is 3 sigma of 32768 pixels
    assert y.std().item() == pytest.approx(STD, rel=0.06)


@pytest.mark.parametrize("name", ["ancestral", "ddim"])
def test_many_steps_reach_the_known_variance(name):
    sampler, eta = SAMPLERS[name]
    y = samples(sampler, schedule=CosineSchedule(1000)).double()
    assert y.mean().item() == pytest.approx(MEAN, abs=0.005)
    assert y.std().item() == pytest.approx(STD, rel=0.015)
    assert predicted_std(CosineSchedule(1000), eta) == pytest.approx(STD, rel=0.01)


def test_averaging_k_samples_divides_the_variance_by_k():
    y = samples(Ancestral(50), count=16).double()
    for k in (2, 4, 16):
        averages = y.reshape(16 // k, k, *SHAPE).mean(1)
        assert averages.var().item() == pytest.approx(y.var().item() / k, rel=0.08)


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_strided_grids_keep_the_mean_and_lose_standard_deviation(steps):
    y = samples(Ancestral(steps)).double()
    assert y.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert y.std().item() < STD * 1.02


def test_ddim_with_eta_one_is_ancestral():
    torch.testing.assert_close(samples(DDIM(20, eta=1.0), 2), samples(Ancestral(20), 2), rtol=1e-4, atol=1e-4)


def test_deterministic_samplers_depend_on_the_start_noise_alone():
    class Frozen(KeyedNoise):
        def __call__(self, step, shape, device="cpu"):
            assert step == 200, "only the start may be drawn"
            return super().__call__(step, shape, device)

    assert DDIM(10).deterministic and not DDIM(10, eta=0.1).deterministic
    DDIM(10)(exact, CosineSchedule(200), Frozen(0, ["a"], [0]), SHAPE)


def test_batch_and_single_samples_are_equal():
    together = samples(Ancestral(10), count=5)
    for k in range(5):
        noise = KeyedNoise(0, ["image"], [k])
        assert torch.equal(Ancestral(10)(exact, CosineSchedule(200), noise, SHAPE, clip=None)[0], together[k])


@pytest.mark.parametrize("sampler", [Ancestral(20), DDIM(20)], ids=type_name)
def test_estimates_are_clipped_and_the_noise_follows(sampler):
    y = sampler(
        lambda y_t, level: 5 * torch.ones_like(y_t), CosineSchedule(200), KeyedNoise(0, ["a"], [0]), SHAPE
    )
    assert torch.equal(y, torch.ones(1, *SHAPE))
    # Were the noise not recomputed, intermediate states of DDIM would keep the unclipped start and leave the path.
    seen = []

    def watch(y_t, level):
        seen.append(y_t)
        return 5 * torch.ones_like(y_t)

    sampler(watch, CosineSchedule(200), KeyedNoise(0, ["a"], [0]), SHAPE)
    last_level = CosineSchedule(200).alpha_bar[10]
    assert seen[-1].mean().item() == pytest.approx(last_level.sqrt().item(), abs=0.02)


def test_number_of_evaluations():
    calls = []

    def count(y_t, level):
        calls.append(level)
        return y_t

    Ancestral(7)(count, CosineSchedule(200), KeyedNoise(0, ["a"], [0]), (1, 4, 4))
    assert len(calls) == 7 == Ancestral(7).evaluations(CosineSchedule(200))
    assert Ancestral().evaluations(CosineSchedule(200)) == 200


def test_eta_outside_of_its_range_is_refused():
    with pytest.raises(ValueError, match="eta"):
        DDIM(10, eta=1.5)


@pytest.mark.parametrize("at", [1.0, 0.9])
def test_one_step_is_the_estimate_at_its_level(at):
    """At T that is the mean of the posterior, whatever the noise; at 0.9 T a little of the noise is left."""
    y = samples(OneStep(at)).double()
    level = CosineSchedule(200).alpha_bar[round(200 * at)].item()
    gain = STD**2 * level**0.5 / (level * STD**2 + 1 - level)
    assert y.std().item() == pytest.approx(gain, rel=0.02)
    assert y.mean().item() == pytest.approx(MEAN - gain * level**0.5 * MEAN, abs=0.002)
    assert OneStep(at).evaluations(CosineSchedule(200)) == 1


def test_a_grid_may_begin_below_pure_noise():
    assert CosineSchedule(200).times(3, 0.9) == [180, 120, 60, 0]
    assert Ancestral(start=0.9).evaluations(CosineSchedule(200)) == 180
    y = samples(Ancestral(60, start=0.9)).double()
    assert y.mean().item() == pytest.approx(MEAN, abs=0.02) and 0.9 * STD < y.std().item() < STD * 1.02
    with pytest.raises(ValueError, match=r"sampler\.start is 1\.2; allowed: above 0, at most 1"):
        Ancestral(5, start=1.2).times(CosineSchedule(200))


def test_a_guess_of_the_right_law_makes_a_grid_exact_that_begins_far_below_pure_noise():
    """Diffused clean images are what the state should be there; pure noise is not, and the samples show it."""
    sampler, schedule = Ancestral(start=0.4), CosineSchedule(200)
    noise = KeyedNoise(0, ["image"] * 8, range(8))
    guess = MEAN + STD * KeyedNoise(1, ["guess"] * 8, range(8))(0, SHAPE)
    y = sampler(exact, schedule, noise, SHAPE, clip=None, guess=guess).double()
    assert y.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert y.std().item() == pytest.approx(STD, rel=0.03)
    blind = sampler(exact, schedule, noise, SHAPE, clip=None).double()
    assert abs(blind.mean().item() - MEAN) > 0.02  # twelve standard errors
    # From pure noise there is nothing to stand for.
    full = Ancestral(20)
    assert torch.equal(full(exact, schedule, noise, SHAPE, guess=guess), full(exact, schedule, noise, SHAPE))


@pytest.mark.parametrize(
    ("sampler", "fits"),
    [
        (Ancestral(), True),  # the paper
        (Ancestral(20), True),
        (Ancestral(5), False),
        (Ancestral(5, start=0.9), True),
        (DDIM(5), False),
        (OneStep(1.0), False),
        (OneStep(0.9), True),
    ],
)
def test_epsilon_models_are_refused_where_their_error_becomes_the_state(sampler, fits):
    """The rule against a chain: noise that is predicted 1 % wrong at the start must hardly move the state after it."""
    schedule = CosineSchedule(200)

    def second_state(error):
        states = []

        def predict(y_t, level):
            states.append(y_t)
            alpha = per_image(level, y_t).to(y_t.dtype)
            return exact(y_t, level) - error * (1 / alpha - 1).sqrt()

        result = sampler(predict, schedule, KeyedNoise(0, ["image"], [0]), SHAPE)
        return states[1] if len(states) > 1 else result

    moved = (second_state(0.01) - second_state(0.0)).abs().mean().item()
    assert (moved < 0.1) == fits, moved
    for objective in ("v", "x0"):
        sampler.check(schedule, Objective(objective))
    if fits:
        sampler.check(schedule, Objective("epsilon"))
    else:
        with pytest.raises(ValueError, match="the first step goes from 200 .* up to 4058 times.*start=0.9"):
            sampler.check(schedule, Objective("epsilon"))
