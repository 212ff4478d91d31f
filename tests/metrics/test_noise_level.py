"""The noise level of images."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from ddpm_lightning.metrics.noise_level import noise_level


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16])
def test_it_is_that_of_white_noise_on_any_smooth_structure(dtype):
    rng = np.random.default_rng(0)
    smooth = 1000 + 500 * ndimage.gaussian_filter(rng.normal(size=(200, 200)), 6)
    image = (smooth + rng.normal(0, 3, smooth.shape)).astype(dtype)
    assert noise_level(image) == pytest.approx(3, rel=0.04)


def test_arrays_and_tensors_agree():
    image = np.random.default_rng(0).normal(size=(1, 1, 20, 30))
    assert noise_level(torch.from_numpy(image)).item() == pytest.approx(noise_level(image), rel=1e-12)


def test_a_single_row_has_no_noise_level():
    assert noise_level(np.ones((1, 9))) == 0
