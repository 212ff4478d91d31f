"""Conformal intervals reach their coverage on fresh images, whatever the spread was."""

import json
import math

import numpy as np
import pytest
import torch

from ddpm_lightning.metrics.conformal import Conformal, calibrate, conformal_scores


def image(generator: torch.Generator, factor: float = 1.0, side: int = 24) -> dict[str, torch.Tensor]:
    """Mean and spread of 15 samples and the truth; each image has a level of noise of its own."""
    shape = (1, side, side)
    std = (0.5 + torch.rand(1, generator=generator)) * (0.2 + torch.rand(shape, generator=generator))
    mean = torch.randn(shape, generator=generator)
    samples = mean + factor * std * torch.randn(15, *shape, generator=generator)
    # An error of the model that is the same for all samples, larger in some images than in others.
    wrong = torch.rand(1, generator=generator) * std * torch.randn(shape, generator=generator)
    target = mean + wrong + std * torch.randn(shape, generator=generator)
    return {"mean": samples.mean(dim=0), "std": samples.std(dim=0), "target": target}


def fitted(factor: float, level: float, count: int = 300, epsilon: float = 0.0) -> Conformal:
    generator = torch.Generator().manual_seed(0)
    scores = [conformal_scores(**image(generator, factor), epsilon=epsilon) for _ in range(count)]
    return calibrate(scores, level=level, epsilon=epsilon)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_fresh_images_are_covered(factor: float, level: float) -> None:
    conformal = fitted(factor, level, epsilon=0.05)
    generator = torch.Generator().manual_seed(1)
    coverage = np.mean([conformal.coverage(**image(generator, factor)) for _ in range(300)])
    assert coverage == pytest.approx(level, abs=0.02)


def test_the_promise_holds_on_average_over_few_calibration_images() -> None:
    generator = torch.Generator().manual_seed(2)
    coverages = []
    for _ in range(60):
        conformal = calibrate([conformal_scores(**image(generator, side=16)) for _ in range(12)], level=0.8)
        coverages.append(conformal.coverage(**image(generator, side=16)))
    assert 0.8 <= np.mean(coverages) <= 0.8 + 2 / 13 + 0.02


def test_a_halved_standard_deviation_doubles_the_factor() -> None:
    assert fitted(0.5, 0.9).factor == pytest.approx(2 * fitted(1.0, 0.9).factor, rel=0.1)


def test_the_factor_is_the_least_that_controls_the_risk() -> None:
    generator = torch.Generator().manual_seed(3)
    images = [image(generator) for _ in range(30)]
    conformal = calibrate([conformal_scores(**one) for one in images], level=0.9)

    def bound(factor: float) -> float:
        wider = Conformal(factor=factor, level=0.9, epsilon=0.0, images=30)
        risk = np.mean([1 - wider.coverage(**one) for one in images])
        return 30 / 31 * risk + 1 / 31

    assert bound(conformal.factor * 1.001) <= 0.1 + 1e-3
    assert bound(conformal.factor * 0.98) > 0.1


def test_images_count_once_whatever_their_size() -> None:
    small = {
        "mean": torch.zeros(1, 20, 20),
        "std": torch.ones(1, 20, 20),
        "target": torch.full((1, 20, 20), 5.0),
    }
    large = {name: value.repeat(1, 10, 10) for name, value in small.items()} | {
        "target": torch.ones(1, 200, 200)
    }
    scores = [conformal_scores(**one) for one in [small] * 10 + [large] * 10]
    assert calibrate(scores, level=0.4).factor == 1.0
    assert calibrate(scores, level=0.8).factor == 5.0


@pytest.mark.parametrize(("level", "least"), [(0.9, 9), (0.8, 4), (0.95, 19), (0.5, 1)])
def test_the_least_number_of_images(level: float, least: int) -> None:
    scores = [torch.arange(10_000.0)] * least
    assert calibrate(scores, level=level).factor == 9999.0
    with pytest.raises(ValueError, match=f"at least {least} calibration images, got {least - 1}"):
        calibrate(scores[1:], level=level)


def test_pixels_without_standard_deviation() -> None:
    zero = torch.zeros(1, 4, 4)
    assert conformal_scores(mean=zero, std=zero, target=zero).max() == 0
    assert math.isinf(conformal_scores(mean=zero, std=zero, target=zero + 1).min())
    assert conformal_scores(mean=zero, std=zero, target=zero + 1, epsilon=0.5).max() == 2


def test_it_is_stored_as_plain_numbers() -> None:
    conformal = fitted(1.0, 0.9, count=20, epsilon=0.1)
    read = Conformal(**json.loads(json.dumps(conformal.model_dump())))
    assert read == conformal
    low, high = read.interval(mean=torch.tensor([1.0]), std=torch.tensor([2.0]))
    assert (high - low).item() == pytest.approx(2 * conformal.factor * 2.1)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        conformal_scores(mean=torch.zeros(4), std=torch.zeros(4), target=torch.zeros(5))
    with pytest.raises(ValueError, match="level"):
        calibrate([torch.zeros(10)], level=0.0)
