"""NRMSE against scikit-image and torchmetrics, by name of its denominator."""

import numpy as np
import pytest
import torch
from skimage.metrics import normalized_root_mse
from torchmetrics.functional import normalized_root_mean_squared_error

from ddpm_lightning.metrics.nrmse import DENOMINATORS, nrmse


def images(shape: tuple[int, ...] = (3, 1, 20, 31)) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(3)
    target = rng.gamma(2.0, 10.0, shape)
    return {"prediction": torch.tensor(target + rng.normal(0, 5, shape)), "target": torch.tensor(target)}


@pytest.mark.parametrize(("by", "name"), [("euclidean", "euclidean"), ("range", "min-max"), ("mean", "mean")])
@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (3, 2, 9, 25)])
def test_nrmse_agrees_with_scikit_image(by: str, name: str, shape: tuple[int, ...]) -> None:
    pair = images(shape)
    expected = [
        normalized_root_mse(y.numpy(), p.numpy(), normalization=name)
        for p, y in zip(pair["prediction"], pair["target"], strict=True)
    ]
    np.testing.assert_allclose(nrmse(**pair, by=by), expected)


def test_nrmse_by_std_agrees_with_torchmetrics() -> None:
    pair = images()
    for p, y, found in zip(pair["prediction"], pair["target"], nrmse(**pair, by="std"), strict=True):
        expected = normalized_root_mean_squared_error(p.flatten(), y.flatten(), normalization="std")
        torch.testing.assert_close(found, expected.squeeze(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("by", sorted(DENOMINATORS))
def test_a_denominator_that_is_not_positive_gives_nan(by: str) -> None:
    prediction = torch.rand(1, 1, 8, 8)
    assert nrmse(prediction=prediction, target=torch.zeros(1, 1, 8, 8), by=by).isnan().all()


def test_the_mean_of_a_signed_image_is_no_denominator() -> None:
    pair = images()
    negative = {name: -image for name, image in pair.items()}
    assert nrmse(**negative, by="mean").isnan().all()
    torch.testing.assert_close(nrmse(**negative, by="range"), nrmse(**pair, by="range"))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="mean, range, euclidean, std"):
        nrmse(**images(), by="l2")
