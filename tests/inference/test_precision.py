"""Standard errors against their definition, and samples that end when they are precise enough."""

import numpy as np
import pytest
import torch

from ddpm_lightning.diffusion.ensemble import Ensemble
from ddpm_lightning.inference.precision import Precision
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.averaging_law import averaging_law
from tests.trained import write_checkpoint

#: A bright square on black: range 1, foreground a quarter.
TRUTH = torch.zeros(128, 128, dtype=torch.float64)
TRUTH[32:96, 32:96] = 1.0


def seen(count: int, std: float = 0.1, together: int = 1, seed: int = 0) -> Precision:
    generator = torch.Generator().manual_seed(seed)
    precision = Precision(Ensemble(), together)
    noise = None
    for number in range(count):
        if together == 1 or number % 2 == 0:
            noise = torch.randn(TRUTH.shape, generator=generator, dtype=torch.float64)
        else:
            # Opposite but for a fifth, which the mean of a pair keeps.
            noise = -noise + 0.2 * torch.randn(TRUTH.shape, generator=generator, dtype=torch.float64)
        precision.update(TRUTH + std * noise * (0.2 + TRUTH))
    return precision


@pytest.mark.parametrize("count", [3, 4, 8, 30])
def test_the_median_of_few_samples_is_not_too_small(count):
    """Noise of 0.12 in the foreground: the standard error is 0.12 / √N of a range of 1 and the tails of the noise."""
    precision = seen(count)
    low, high = torch.quantile(precision.ensemble.mean, torch.tensor([0.001, 0.999], dtype=torch.float64))
    assert precision.standard_error * (high - low).item() == pytest.approx(0.12 / count**0.5, rel=0.04)


def test_the_background_does_not_count():
    precision = Precision(Ensemble())
    for number in range(6):
        noise = torch.randn(TRUTH.shape, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        precision.update(TRUTH + 0.2 * noise * (1 - TRUTH))
    assert precision.standard_error == 0.0


def test_pairs_count_as_one():
    precision = seen(12, together=2)
    assert precision.units == 6 and precision.ensemble.count == 12
    # A pair's mean keeps half of a fifth of the noise.
    assert precision.standard_error == pytest.approx(0.12 * 0.1 / 6**0.5, rel=0.12)
    assert seen(5, together=2).standard_error is None, "two pairs and a half are too few"


def test_the_gain_follows_the_law_where_the_standard_deviation_is_consistent():
    """Samples and truth of one distribution: a = b, and what is said is what the law says."""
    generator = torch.Generator().manual_seed(1)
    samples = torch.randn(15, 256, 256, generator=generator, dtype=torch.float64)
    target = torch.randn(1, 256, 256, generator=generator, dtype=torch.float64)
    precision = Precision(Ensemble())
    for sample in samples:
        precision.update(sample)
    law = averaging_law(samples=samples[:, None], target=target)
    record = precision.record()
    assert record["gain_of_endless_samples_db"] == pytest.approx(law.remaining(15), abs=0.02)
    assert record["gain_of_twice_as_many_samples_db"] == pytest.approx(law.gain(30) - law.gain(15), abs=0.02)


def test_samples_end_once_they_suffice():
    precision = Precision(Ensemble())
    for number in range(100):
        noise = torch.randn(TRUTH.shape, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        precision.update(TRUTH + 0.1 * noise)
        if precision.suffices(0.02):
            break
    assert number + 1 == pytest.approx((0.1 / 0.02) ** 2, abs=5)
    assert not precision.suffices(None) and not seen(2).suffices(0.9)


def test_blank_images_have_no_precision():
    precision = Precision(Ensemble())
    for _ in range(4):
        precision.update(torch.zeros(16, 16))
    assert precision.standard_error is None and not precision.suffices(0.5)


@pytest.mark.parametrize("preset", ["uncertainty", "fast"])
def test_a_restorer_stops_by_itself(tmp_path, preset):
    path = write_checkpoint(tmp_path / "best.ckpt")
    plane = np.random.default_rng(0).poisson(30, (32, 32))
    whole = Restorer.load(path, "cpu", preset=preset).restore(plane, 20, "a")
    error = whole.precision["standard_error"]
    early = Restorer.load(path, "cpu", preset=preset, tolerance=error * 1.5).restore(plane, 20, "a")
    assert 3 <= early.sample_count < 20 and early.precision["standard_error"] < error * 1.5
    never = Restorer.load(path, "cpu", preset=preset, tolerance=error / 2).restore(plane, 20, "a")
    assert never.sample_count == 20 and np.array_equal(never.mean, whole.mean)
