"""The factor gives a standard deviation the size of the error, whatever the number of samples."""

from math import sqrt

import numpy as np
import pytest
import torch

from ddpm_lightning.metrics.std_factor import fit_std_factor, ideal_factor, std_factor, std_moments
from tests.evaluation.gaussian import Posterior, gaussian_scores

WIDTHS = [1.0, 0.5, 0.25]


def moments_of(scores):
    return [image.std_moments for image in scores]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("samples", [2, 5, 15])
def test_a_known_under_dispersion_is_recovered(width, samples):
    """Samples of a Gaussian posterior whose standard deviation is a known share of the right one."""
    fitted = fit_std_factor(
        moments_of(gaussian_scores(images=4, samples=samples, width=width)), samples, False
    )
    expected = sqrt((1 + width**2 / samples) / (width**2 * (1 - 1 / samples)))
    # 4 images of 96 x 96 independent pixels: the standard error of the factor is about 1 / sqrt(2 * 36864) = 0.4 %.
    assert fitted.factor == pytest.approx(expected, rel=0.02)
    assert fitted.images == 4
    if width == 1:
        assert fitted.factor == pytest.approx(fitted.ideal, rel=0.02)


@pytest.mark.parametrize("width", WIDTHS)
def test_antithetic_pairs_need_no_correction_for_their_number(width):
    scores = gaussian_scores(images=4, samples=2, width=width, antithetic=True)
    fitted = fit_std_factor(moments_of(scores), 2, True)
    assert fitted.ideal == 1.0 and fitted.factor == pytest.approx(1 / width, rel=0.02)


def test_intervals_hold_after_scaling_as_far_as_the_number_of_samples_allows():
    many = fit_std_factor(moments_of(gaussian_scores(images=2, samples=60, side=48, width=0.3)), 60, False)
    assert many.coverage == pytest.approx(0.9, abs=0.02)
    # The ratio of two normal variables has a Cauchy distribution.
    pair = gaussian_scores(images=4, samples=2, width=0.3, antithetic=True)
    two = fit_std_factor(moments_of(pair), 2, True)
    assert two.coverage == pytest.approx(2 / np.pi * np.arctan(1.6449), abs=0.02)


def test_it_is_valid_for_other_images_of_the_kind():
    first, second = (gaussian_scores(images=4, samples=5, seed=seed, width=0.4) for seed in (0, 2))
    assert std_factor(moments_of(first)) == pytest.approx(std_factor(moments_of(second)), rel=0.02)


def test_pixels_count_once_whatever_the_size_of_their_image():
    def image(side, error, std):
        zero = torch.zeros(side, side)
        return std_moments(mean=zero, std=zero + std, target=zero + error)

    one, four = image(10, 1.0, 1.0), image(20, 3.0, 2.0)
    assert std_factor([one, four]) == pytest.approx(sqrt((1 + 4 * 9) / (1 + 4 * 4)))


def test_brightness_that_the_training_fits_away_is_no_error():
    """Of pairs of unrelated brightness, the restored image has that of its input."""
    from ddpm_lightning.data.normalise import FixedRange, PairNormalisation
    from ddpm_lightning.evaluation.restored_pair import restore_pair, std_moments_of
    from tests.evaluation.gaussian import GaussianRestorer

    class Brighter(Posterior):
        def __getitem__(self, index):
            from dataclasses import replace

            pair = super().__getitem__(index)
            return replace(pair, high=(3 * pair.high + 50).astype(np.float32))

    factors = []
    for source, normalisation in (
        (Posterior(), PairNormalisation(FixedRange(0, 200), None)),
        (Brighter(), PairNormalisation(FixedRange(0, 200), None, matched=True)),
    ):
        restorer = GaussianRestorer(width=0.5)
        restorer.normalisation = normalisation
        moments = [std_moments_of(restorer, restore_pair(restorer, source[k], [1, 8])) for k in range(2)]
        factors.append(std_factor(moments))
    # The fit by least squares shrinks the target by the share of its own noise.
    assert factors[1] == pytest.approx(factors[0], rel=0.15)


def test_without_samples_that_differ_there_is_no_factor():
    zero = torch.zeros(4, 4)
    for std, error in ((0.0, 1.0), (1.0, 0.0)):
        with pytest.raises(ValueError, match="no error"):
            std_factor([std_moments(mean=zero, std=zero + std, target=zero + error)])
    with pytest.raises(ValueError, match="no image"):
        fit_std_factor([], 2, False)


def test_the_ideal_factor_is_that_of_few_samples():
    assert ideal_factor(2, False) == pytest.approx(1.732, abs=1e-3)
    assert ideal_factor(15, False) == pytest.approx(1.069, abs=1e-3)
    samples = torch.randn(4, 200_000, generator=torch.Generator().manual_seed(0)).double()
    target = torch.randn(200_000, generator=torch.Generator().manual_seed(1)).double()
    std = samples.std(dim=0, correction=0)
    for network, mean in ((False, samples.mean(dim=0)), (True, torch.zeros(200_000).double())):
        found = std_factor([std_moments(mean=mean, std=std, target=target)])
        assert found == pytest.approx(ideal_factor(4, False, network), rel=0.01)
