"""MAE against numpy."""

import numpy as np
import pytest
import torch

from ddpm_lightning.metrics.mae import mae


@pytest.mark.parametrize("shape", [(1, 1, 7, 9), (3, 1, 32, 17), (2, 3, 16, 16)])
def test_mae_is_the_mean_absolute_difference_of_each_image(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(size=shape), rng.normal(size=shape)
    found = mae(prediction=torch.tensor(prediction), target=torch.tensor(target))
    np.testing.assert_allclose(found, [np.abs(p - y).mean() for p, y in zip(prediction, target, strict=True)])


def test_mae_of_float32_images_is_computed_in_float64() -> None:
    target = torch.full((1, 1, 512, 512), 40000.0)
    found = mae(prediction=target + 0.25, target=target)
    assert found.dtype == torch.float64
    assert found.item() == 0.25
