"""Classical filters: their strength is that of a grid search by hand."""

import numpy as np
import pytest
import torch
from scipy import ndimage, optimize

from ddpm_lightning.models.classical import FILTERS, Classical, affine_error
from ddpm_lightning.models.sampling import samples_of

STRENGTHS = {
    "gaussian": [0.5, 1.0, 1.5, 2.0, 3.0, 5.0],
    "median": [1, 2, 3],
    "non_local_means": [0.1, 0.3, 1.0],
    "total_variation": [0.05, 0.2, 0.8, 3.0],
    "wavelet": [0.05, 0.2, 0.8],
}


def crops(count: int = 3, side: int = 32) -> dict:
    """Smooth clean images, and low ones with half their gain and much noise."""
    rng = np.random.default_rng(0)
    high = np.stack([ndimage.gaussian_filter(rng.normal(size=(side, side)), 3) for _ in range(count)])
    high /= high.std()
    low = 0.5 * high + 0.3 + 0.4 * rng.normal(size=high.shape)
    return {role: torch.from_numpy(x[:, None]).float() for role, x in (("low", low), ("high", high))}


def model(name: str, strengths=None) -> Classical:
    return Classical(name, strengths or STRENGTHS[name])


def test_the_best_strength_is_that_of_a_grid_search_by_hand():
    batch = crops()
    found = model("gaussian").errors([batch, batch])
    expected = []
    for sigma in STRENGTHS["gaussian"]:
        errors = []
        for low, high in zip(batch["low"][:, 0].numpy(), batch["high"][:, 0].numpy(), strict=True):
            blurred = ndimage.gaussian_filter(low, sigma, mode="nearest").ravel()
            gain, offset = np.polyfit(blurred, high.ravel(), 1)
            errors.append(((gain * blurred + offset - high.ravel()) ** 2).mean())
        expected.append(np.mean(errors))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)
    assert 0 < np.argmin(expected) < len(expected) - 1, "the test must be able to fail"
    best = optimize.minimize_scalar(lambda s: model("gaussian", [s]).errors([batch]).item(), bounds=(0.5, 5))
    assert abs(STRENGTHS["gaussian"][int(found.argmin())] - best.x) < 0.7


def test_errors_of_batches_of_different_size_weigh_crops_equally():
    batch = crops()
    parts = [{role: images[rows] for role, images in batch.items()} for rows in (slice(1), slice(1, 3))]
    torch.testing.assert_close(model("gaussian").errors(parts), model("gaussian").errors([batch]))


def test_gain_and_offset_do_not_count():
    batch = crops()
    assert affine_error(3 * batch["high"] - 7, batch["high"]).max() < 1e-10
    torch.testing.assert_close(
        affine_error(batch["low"], batch["high"]), affine_error(5 * batch["low"] + 1, batch["high"])
    )


def test_an_inverted_image_is_no_better_than_a_constant_one():
    high = crops()["high"]
    variance = high.double().var((1, 2, 3), correction=0)
    for image in (-5 * high + 1, torch.ones_like(high)):
        torch.testing.assert_close(affine_error(image, high), variance)


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_denoises(name):
    batch = crops()
    found = model(name).errors([batch])
    raw = affine_error(batch["low"], batch["high"]).mean()
    assert found.min() < 0.7 * raw
    filtered = model(name).apply_filter(batch["low"], STRENGTHS[name][0])
    assert filtered.shape == batch["low"].shape and filtered.dtype == torch.float32


def test_the_strength_travels_with_the_weights():
    fitted = model("gaussian")
    with torch.no_grad():
        fitted.strength.fill_(1.5)
    other = model("gaussian")
    other.load_state_dict(fitted.state_dict())
    assert other.preset == "gaussian of strength 1.5"
    low = crops(1)["low"]
    (sample,) = samples_of(other, low, "image", range(3))
    expected = ndimage.gaussian_filter(low[0, 0].numpy(), 1.5, mode="nearest")
    np.testing.assert_allclose(sample[0, 0].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_impossible_settings():
    with pytest.raises(ValueError, match="gaussian, median"):
        Classical("mean", [1.0])
    with pytest.raises(ValueError, match="model.strengths"):
        Classical("gaussian", [])
