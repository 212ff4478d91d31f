"""Blind spots of Noise2Void: their statistics against theory, their values against numpy."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from ddpm_lightning.models.blind_spot import (
    Pixels,
    hide_pixels,
    hide_structure,
    line_structure,
    stratified_pixels,
    uniform_neighbours,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramp(height: int, width: int, copies: int = 1) -> torch.Tensor:
    """Images with shape (copies, 1, height, width) in which each pixel holds its own flat index."""
    return torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width).repeat(copies, 1, 1, 1)


@pytest.mark.parametrize("percent", [0.198, 1.5])
@pytest.mark.parametrize("size", [(64, 64), (50, 37)])
def test_density(percent, size):
    planes = 3000
    pixels = stratified_pixels(planes, *size, percent, seeded())
    counts = np.bincount(pixels.plane.numpy(), minlength=planes)
    expected = size[0] * size[1] * percent / 100
    standard_error = counts.std(ddof=1) / math.sqrt(planes)
    assert abs(counts.mean() - expected) < 4 * standard_error
    assert standard_error < 0.01 * expected, "the test must be able to see an error of a few percent"


@pytest.mark.parametrize("percent", [4.0, 3.0])
def test_every_pixel_is_equally_likely(percent):
    """Whole (5) and fractional (5.77) boxes, on a patch that neither divides."""
    planes, side = 20_000, 24
    pixels = stratified_pixels(planes, side, side, percent, seeded())
    counts = np.bincount((pixels.row * side + pixels.column).numpy(), minlength=side**2)
    expected = planes * percent / 100
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert stats.chi2.sf(statistic, side**2 - 1) > 1e-3


def test_one_pixel_in_each_box():
    pixels = stratified_pixels(50, 20, 30, 4.0, seeded())
    boxes = pixels.plane * 24 + pixels.row // 5 * 6 + pixels.column // 5
    assert torch.equal(boxes.sort().values, torch.arange(50 * 24))


def offsets_at(row: int, column: int, exclude_center: bool, samples: int = 60_000) -> np.ndarray:
    """Flat indices in a 20 x 20 plane of what `samples` samples for one pixel took, with radius 5."""
    pixels = Pixels(*(torch.full((samples,), index) for index in (0, row, column)))
    return uniform_neighbours(ramp(20, 20)[0], pixels, 5, seeded(), exclude_center).numpy().astype(int)


@pytest.mark.parametrize("exclude_center", [False, True])
@pytest.mark.parametrize(("row", "column"), [(10, 9), (0, 0), (19, 2)])
def test_replacements_are_uniform_in_the_clipped_window(row, column, exclude_center):
    rows, columns = np.mgrid[:20, :20]
    window = (abs(rows - row) <= 5) & (abs(columns - column) <= 5)
    window[row, column] = not exclude_center
    counts = np.bincount(offsets_at(row, column, exclude_center), minlength=400).reshape(20, 20)
    assert not counts[~window].any()
    assert stats.chisquare(counts[window]).pvalue > 1e-3


def test_the_center_is_sampled_once_in_121():
    values = offsets_at(10, 10, exclude_center=False, samples=300_000)
    hits = int((values == 10 * 20 + 10).sum())
    assert stats.binomtest(hits, len(values), 1 / 121).pvalue > 1e-3
    assert stats.binomtest(hits, len(values), 1 / 100).pvalue < 1e-3, "the test must be able to fail"


def test_mask_counts_pixels_replaced_by_themselves():
    images = ramp(64, 64, copies=1000)
    hidden, mask = hide_pixels(images, seeded())
    assert torch.equal(hidden[~mask], images[~mask])
    same = int((hidden[mask] == images[mask]).sum())
    # Windows shrink at the borders: the mean over the patch of 1 / (rows · columns) is the square of this.
    side = np.mean([1 / (min(i + 5, 63) - max(i - 5, 0) + 1) for i in range(64)])
    assert stats.binomtest(same, int(mask.sum()), side**2).pvalue > 1e-3
    hidden, mask = hide_pixels(images, seeded(), exclude_center=True)
    assert (hidden[mask] != images[mask]).all()


@pytest.mark.parametrize("replacement", ["uniform", "median"])
def test_values_come_from_the_unmodified_patch(replacement):
    """With every pixel hidden, values read after a replacement would travel further than the radius."""
    images = ramp(16, 16, copies=20)
    hidden, mask = hide_pixels(images, seeded(), percent=100, radius=1, replacement=replacement)
    assert mask.all()
    if replacement == "median":
        torch.testing.assert_close(hidden[:, :, 1:-1, 1:-1], images[:, :, 1:-1, 1:-1])
    else:
        moved = torch.stack([hidden // 16 - images // 16, hidden % 16 - images % 16])
        assert moved.abs().max() == 1


@pytest.mark.parametrize("radius", [1, 5])
def test_median_agrees_with_numpy(radius):
    images = torch.rand(2, 2, 13, 17, generator=seeded(1))
    hidden, mask = hide_pixels(images, seeded(), percent=30, radius=radius, replacement="median")
    assert mask.sum() > 100
    for index in mask.nonzero().tolist():
        *plane, row, column = index
        values = images[tuple(plane)].numpy().copy()
        values[row, column] = np.nan
        window = values[
            max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1
        ]
        assert hidden[tuple(index)].item() == pytest.approx(np.nanmedian(window), rel=1e-6)


def test_generator_decides():
    images = torch.rand(4, 2, 64, 64, generator=seeded(1))
    before = torch.get_rng_state()
    first, second = hide_pixels(images, seeded(3)), hide_pixels(images, seeded(3))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first[1], hide_pixels(images, seeded(4))[1])
    assert not torch.equal(first[1][:, 0], first[1][:, 1]), "each channel has its own blind spots"


@pytest.mark.parametrize("orientation", ["horizontal", "vertical", "cross", "square"])
def test_structure_hides_what_dilation_says(orientation):
    images = 10 + torch.rand(6, 1, 40, 32, generator=seeded(1))
    structure = line_structure(7, orientation)
    hidden, mask = hide_pixels(images, seeded(), structure=structure, percent=0.5)
    for image, changed, spots in zip(images[:, 0], hidden[:, 0], mask[:, 0].numpy(), strict=True):
        covered = ndimage.binary_dilation(spots, structure.numpy() > 0)
        np.testing.assert_array_equal((changed != image).numpy() & ~spots, covered & ~spots)
        around = (changed.numpy()[covered & ~spots] - image.numpy().mean()) / image.numpy().std(ddof=1)
        assert -2 <= around.min() < around.max() <= 2
        assert np.isin(changed.numpy()[spots], image.numpy()).all(), (
            "blind spots keep their neighbour's value"
        )


def test_structure_spares_the_pixels_themselves():
    planes = ramp(9, 9)[0]
    pixels = Pixels(torch.tensor([0, 0]), torch.tensor([4, 4]), torch.tensor([3, 4]))
    hidden = hide_structure(planes, pixels, line_structure(5), seeded())
    assert (hidden[0] != planes[0]).nonzero().tolist() == [[4, 1], [4, 2], [4, 5], [4, 6]]


def test_structured_values_are_uniform_whatever_the_brightest_pixel():
    images = torch.randn(100, 1, 64, 64, generator=seeded(2))
    images[:, :, 0, 0] = 200.0
    hidden, mask = hide_pixels(images, seeded(), structure=line_structure(11))
    changed = (hidden != images) & ~mask
    mean, deviation = images.mean((2, 3), keepdim=True), images.std((2, 3), keepdim=True)
    values = ((hidden - mean) / deviation)[changed].numpy()
    assert len(values) > 5000
    assert stats.kstest(values, "uniform", args=(-2, 4)).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (7, 7)])
def test_line_structures(shape):
    orientation = {(1, 7): "horizontal", (7, 1): "vertical", (7, 7): "square"}[shape]
    np.testing.assert_array_equal(line_structure(7, orientation).numpy(), np.ones(shape))
    cross = line_structure(7, "cross")
    assert cross.sum() == 13 and cross[3].all() and cross[:, 3].all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"percent": 0}, "percent of hidden pixels"),
        ({"percent": 101}, "percent of hidden pixels"),
        ({"radius": 0}, "radius of the window"),
        ({"replacement": "mean"}, "'uniform' or 'median'"),
        ({"structure": torch.ones(2, 3)}, "odd sides"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        hide_pixels(torch.rand(1, 1, 64, 64), seeded(), **settings)


@pytest.mark.parametrize("settings", [{}, {"replacement": "median"}, {"structure": line_structure(3)}])
def test_patches_without_blind_spots_stay_as_they_are(settings):
    images = torch.rand(3, 2, 8, 8).contiguous(memory_format=torch.channels_last)
    hidden, mask = hide_pixels(images, seeded(), percent=1e-4, **settings)
    assert torch.equal(hidden, images) and not mask.any()


def test_impossible_structures_and_patches():
    with pytest.raises(ValueError, match="span of the structure"):
        line_structure(4)
    with pytest.raises(ValueError, match="orientation of the structure"):
        line_structure(5, "diagonal")
    with pytest.raises(ValueError, match="1 x 1 pixels"):
        hide_pixels(torch.rand(1, 1, 1, 1), seeded())
