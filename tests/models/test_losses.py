"""Losses of the baselines against numpy, scipy and formulas written out."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from ddpm_lightning.models.losses import (
    blind_spot_loss,
    edge_rmse_loss,
    laplace_nll,
    laplacian,
    pix2pix_discriminator_loss,
    pix2pix_generator_loss,
    unet_rcan_loss,
)


def arrays(count: int, shape: tuple[int, ...] = (3, 1, 12, 16)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for _ in range(count)]


def tensors(*values: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(value) for value in values]


def test_laplace_nll_agrees_with_scipy():
    mean, target, logarithm = arrays(3)
    scale = np.exp(logarithm)
    expected = -stats.laplace.logpdf(target, loc=mean, scale=scale).mean()
    assert laplace_nll(*tensors(mean, scale, target)).item() == pytest.approx(expected, rel=1e-12)


def test_laplace_nll_is_least_at_the_true_scale():
    target = torch.from_numpy(stats.laplace.rvs(scale=0.7, size=20_000, random_state=0))
    losses = [laplace_nll(torch.zeros(()), torch.tensor(scale), target) for scale in (0.6, 0.7, 0.8)]
    assert losses[1] < min(losses[0], losses[2])


def test_laplacian_agrees_with_scipy():
    (images,) = arrays(1)
    expected = np.stack([ndimage.laplace(image[0])[1:-1, 1:-1] for image in images])
    np.testing.assert_allclose(laplacian(*tensors(images))[:, 0].numpy(), expected, atol=1e-12)


def reference_edge_rmse(prediction: np.ndarray, target: np.ndarray, weight: float, factor: float) -> float:
    total = 0.0
    for restored, clean in zip(prediction[:, 0], target[:, 0], strict=True):
        pixels = clean.size
        edges = ndimage.laplace(restored)[1:-1, 1:-1] - ndimage.laplace(clean)[1:-1, 1:-1]
        total += math.sqrt(np.linalg.norm(restored - clean) ** 2 / (factor * pixels) + 1e-6)
        total += weight * math.sqrt(np.linalg.norm(edges) ** 2 / (factor * pixels) + 1e-6)
    return total / len(prediction)


@pytest.mark.parametrize(("weight", "factor"), [(0.05, 1.0), (0.05, 2.0), (0.0, 1.0), (0.3, 1.0)])
def test_unet_rcan_loss_agrees_with_numpy(weight, factor):
    first, second, target = arrays(3)
    expected = sum(reference_edge_rmse(stage, target, weight, factor) for stage in (first, second))
    *stages, clean = tensors(first, second, target)
    loss = unet_rcan_loss(stages, clean, edge_weight=weight, norm_factor=factor)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_unet_rcan_loss_defaults_are_the_original_ones():
    first, second, target = tensors(*arrays(3))
    expected = unet_rcan_loss([first, second], target, edge_weight=0.05, norm_factor=1.0)
    assert torch.equal(unet_rcan_loss((first, second), target), expected)


def test_edge_rmse_takes_the_root_image_by_image():
    """Errors 1 and 3 give a mean root of 2, where the root of the mean square would be sqrt(5)."""
    error = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    loss = edge_rmse_loss(error, torch.zeros_like(error))
    assert loss.item() == pytest.approx(2 + 0.05 * 1e-3, abs=1e-5)


def test_edge_rmse_gradient_is_finite_for_a_perfect_prediction():
    prediction = torch.ones(2, 1, 8, 8, requires_grad=True)
    edge_rmse_loss(prediction, torch.ones(2, 1, 8, 8)).backward()
    assert torch.isfinite(prediction.grad).all()


def test_pix2pix_losses_agree_with_cross_entropy_by_hand():
    real, fake = arrays(2, (2, 1, 6, 6))
    prediction, target = arrays(2)

    def sigmoid(logits: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-logits))

    expected = 0.5 * (-np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(fake)).mean())
    assert pix2pix_discriminator_loss(*tensors(real, fake)).item() == pytest.approx(expected, rel=1e-9)

    expected = -np.log(sigmoid(fake)).mean() + 100 * np.abs(prediction - target).mean()
    loss = pix2pix_generator_loss(*tensors(fake, prediction, target))
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    loss = pix2pix_generator_loss(*tensors(fake, prediction, target), l1_weight=0.0)
    assert loss.item() == pytest.approx(-np.log(sigmoid(fake)).mean(), rel=1e-9)


def test_undecided_discriminator():
    undecided = torch.zeros(1, 1, 6, 6)
    assert pix2pix_discriminator_loss(undecided, undecided).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(("kind", "power"), [("mse", 2), ("mae", 1)])
def test_blind_spot_loss_counts_the_mask_alone(kind, power):
    prediction, target = arrays(2)
    mask = np.random.default_rng(1).random(prediction.shape) < 0.1
    expected = (np.abs(prediction - target)[mask] ** power).mean()
    loss = blind_spot_loss(*tensors(prediction, target, mask), kind=kind)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_blind_spot_loss_without_blind_spots_is_zero():
    prediction = torch.ones(1, 1, 4, 4, requires_grad=True)
    loss = blind_spot_loss(prediction, torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and not prediction.grad.any()
    with pytest.raises(ValueError, match="'mse' or 'mae'"):
        blind_spot_loss(prediction, prediction, prediction, kind="huber")
