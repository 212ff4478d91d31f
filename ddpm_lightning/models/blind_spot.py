"""Blind spots of Noise2Void: which pixels are hidden from the network, and what replaces them.

A network that must predict a pixel from its surroundings alone learns the signal, as long as the noise of different
pixels is independent. The steps, each a function:

1. One pixel is chosen uniformly in each box of side b = sqrt(100 / percent) of a grid that starts at (0, 0). Pixels
   outside the patch, in boxes that extend beyond it, are dropped. b is not rounded, so each pixel is chosen
   1 / b² = percent / 100 times on average.
2. Each hidden pixel takes the value of a random pixel of its (2 r + 1)² window (Noise2Void), or the median of the
   window without itself (N2V2). Windows are cut at the borders. Values come from the unmodified patch.
3. If noise is correlated along lines, the pixels of a given structure around each hidden pixel are replaced by uniform
   random numbers, up to two standard deviations of the patch from its mean (structN2V). If they covered the full
   range of a sparse image, most would be far brighter than the surroundings of real pixels, and the network would be
   trained on inputs that never occur in real images.

All random numbers come from the given generator, on the generator's device: a CPU generator gives the same blind spots
on any device of the images.

References:
    Noise2Void (Krull, Buchholz, Jug, 2019), https://arxiv.org/abs/1811.10980
    N2V2 (Höck et al., 2022), https://arxiv.org/abs/2211.08512
    Removing structured noise with self-supervised blind-spot networks (Broaddus et al., 2020),
    https://doi.org/10.1109/ISBI45749.2020.9098336
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

#: Maximum length of a structure and maximum radius of a window, in pixels.
WIDEST = 255


class Pixels(NamedTuple):
    """Indices of K pixels in planes of shape (N, H, W), each an int64 tensor with shape (K,)."""

    plane: Tensor
    row: Tensor
    column: Tensor


def stratified_pixels(planes: int, height: int, width: int, percent: float, generator: Generator) -> Pixels:
    """Chooses about one pixel in each box of side sqrt(100 / percent).

    Args:
        planes: Number of planes, each with its own pixels.
        height: Rows of a plane.
        width: Columns of a plane.
        percent: Expected share of hidden pixels, in (0, 100].
        generator: Where the random numbers come from.

    Returns:
        The pixels, on the generator's device. A pixel that is cut by the edge between two boxes may occur twice.
    """
    if not 0 < percent <= 100:
        raise ValueError(f"percent of hidden pixels must be in (0, 100], not {percent}")
    box = math.sqrt(100 / percent)
    rows, columns = math.ceil(height / box), math.ceil(width / box)
    device = generator.device
    within = torch.rand(planes, rows, columns, 2, generator=generator, device=device)
    row = ((torch.arange(rows, device=device).view(-1, 1) + within[..., 0]) * box).long()
    column = ((torch.arange(columns, device=device) + within[..., 1]) * box).long()
    plane = torch.arange(planes, device=device).view(-1, 1, 1).expand_as(row)
    inside = (row < height) & (column < width)
    return Pixels(plane[inside], row[inside], column[inside])


def uniform_neighbours(
    planes: Tensor, pixels: Pixels, radius: int, generator: Generator, exclude_center: bool = False
) -> Tensor:
    """Returns the values of random pixels of the windows around `pixels`, cut at the borders.

    Args:
        planes: Unmodified planes with shape (N, H, W).
        pixels: K pixels, on the device of the planes.
        radius: Half the side of the window, r in (2 r + 1)².
        generator: Where the random numbers come from.
        exclude_center: Whether the pixel itself cannot be chosen.

    Returns:
        Values with shape (K,).
    """
    height, width = planes.shape[-2:]
    top, left = (pixels.row - radius).clamp(min=0), (pixels.column - radius).clamp(min=0)
    rows = (pixels.row + radius).clamp(max=height - 1) - top + 1
    columns = (pixels.column + radius).clamp(max=width - 1) - left + 1
    random = torch.rand(len(pixels.row), generator=generator, device=generator.device).to(planes.device)
    if exclude_center:
        centre = (pixels.row - top) * columns + pixels.column - left
        index = (random * (rows * columns - 1)).long()
        index = index + (index >= centre)
    else:
        index = (random * (rows * columns)).long()
    return planes[pixels.plane, top + index // columns, left + index % columns]


def median_neighbours(planes: Tensor, pixels: Pixels, radius: int) -> Tensor:
    """Returns the medians of the windows around `pixels` without the pixels themselves, cut at the borders.

    Args:
        planes: Unmodified planes with shape (N, H, W).
        pixels: K pixels, on the device of the planes.
        radius: Half the side of the window, r in (2 r + 1)².

    Returns:
        Values with shape (K,); the mean of the middle two if their number is even.
    """
    side = 2 * radius + 1
    window = torch.ones(side, side, device=planes.device)
    window[radius, radius] = 0
    neighbours, inside = _around(pixels, window, planes.shape)
    ordered = planes[neighbours].masked_fill(~inside, math.inf).sort(dim=1).values
    count = inside.sum(dim=1, keepdim=True)
    return (ordered.gather(1, (count - 1) // 2) + ordered.gather(1, count // 2)).squeeze(1) / 2


def line_structure(
    span: int = 11, orientation: Literal["horizontal", "vertical", "cross", "square"] = "horizontal"
) -> Tensor:
    """Returns a structure for :func:`hide_structure`.

    Args:
        span: Length of its lines in pixels, odd.
        orientation: A line along a row (horizontal) or column (vertical), both (cross), or all of the square.

    Returns:
        0/1 tensor with shape (1, span), (span, 1) or (span, span).
    """
    if not 1 <= span <= WIDEST or span % 2 == 0:
        raise ValueError(f"span of the structure must be odd, and 1 to {WIDEST}, not {span}")
    if orientation == "horizontal":
        return torch.ones(1, span)
    if orientation == "vertical":
        return torch.ones(span, 1)
    if orientation == "cross":
        middle = torch.arange(span) == span // 2
        return (middle | middle.view(-1, 1)).float()
    if orientation == "square":
        return torch.ones(span, span)
    raise ValueError(
        f"orientation of the structure must be horizontal, vertical, cross or square, not {orientation!r}"
    )


def hide_structure(
    planes: Tensor,
    pixels: Pixels,
    structure: Tensor,
    generator: Generator,
    reach: float = 2.0,
) -> Tensor:
    """Replaces the pixels of a structure around `pixels` by random numbers; the pixels themselves are kept.

    Args:
        planes: Planes with shape (N, H, W).
        pixels: K pixels, on the device of the planes.
        structure: 0/1 tensor with odd sides, centred on each pixel.
        generator: Where the random numbers come from.
        reach: Maximum distance of the random numbers from the mean of their plane, in its standard deviations.

    Returns:
        New planes with shape (N, H, W).
    """
    if structure.ndim != 2 or any(side % 2 == 0 for side in structure.shape):
        raise ValueError(f"the structure must be a matrix with odd sides, not {tuple(structure.shape)}")
    around, inside = _around(pixels, structure.to(planes.device), planes.shape)
    hidden = torch.zeros_like(planes, dtype=torch.bool)
    hidden[tuple(index[inside] for index in around)] = True
    hidden[pixels] = False

    random = torch.rand(planes.shape, generator=generator, device=generator.device).to(planes.device)
    mean, deviation = (of_plane(planes, dim=(1, 2), keepdim=True) for of_plane in (torch.mean, torch.std))
    return torch.where(hidden, mean + reach * deviation * (2 * random - 1), planes)


def hide_pixels(
    images: Tensor,
    generator: Generator,
    *,
    percent: float = 0.198,
    radius: int = 5,
    replacement: Literal["uniform", "median"] = "uniform",
    exclude_center: bool = False,
    structure: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Makes the input of a Noise2Void training step.

    The target of the step is `images`, and its loss is computed only at the mask.

    Args:
        images: Noisy patches with shape (B, C, H, W). Each channel of each image has its own blind spots.
        generator: Where the random numbers come from.
        percent: Expected share of hidden pixels; 0.198 hides about 8 in 64 x 64.
        radius: Half the side of the window that replacements come from.
        replacement: ``uniform``, a random neighbour (Noise2Void), or ``median`` of the neighbours (N2V2).
        exclude_center: Whether a pixel cannot be replaced by itself; the median always excludes it.
        structure: What else is replaced around each hidden pixel (structN2V), see :func:`line_structure`.

    Returns:
        The patches with blind spots, and the mask, True at the blind spots, both with shape (B, C, H, W).
    """
    if not 1 <= radius <= WIDEST:
        raise ValueError(f"radius of the window must be 1 to {WIDEST}, not {radius}")
    height, width = images.shape[-2:]
    if height * width < 2:
        raise ValueError(f"a patch of {height} x {width} pixels has no neighbours to replace a pixel with")
    planes = images.flatten(0, 1)
    chosen = stratified_pixels(len(planes), height, width, percent, generator)
    pixels = Pixels(*(index.to(planes.device) for index in chosen))
    if replacement == "uniform":
        values = uniform_neighbours(planes, pixels, radius, generator, exclude_center)
    elif replacement == "median":
        values = median_neighbours(planes, pixels, radius)
    else:
        raise ValueError(f"replacement must be 'uniform' or 'median', not {replacement!r}")

    hidden = planes.clone() if structure is None else hide_structure(planes, pixels, structure, generator)
    hidden[pixels] = values
    mask = torch.zeros_like(planes, dtype=torch.bool)
    mask[pixels] = True
    return hidden.reshape(images.shape), mask.reshape(images.shape)


def _around(pixels: Pixels, structure: Tensor, shape: torch.Size) -> tuple[Pixels, Tensor]:
    """Returns the pixels of a centred structure with M ones, clamped to the plane, and which are inside it.

    Returns:
        Pixels with shape (K, M) and booleans with shape (K, M).
    """
    height, width = shape[-2:]
    down, right = structure.nonzero(as_tuple=True)
    row = pixels.row.view(-1, 1) + down - structure.shape[0] // 2
    column = pixels.column.view(-1, 1) + right - structure.shape[1] // 2
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    plane = pixels.plane.view(-1, 1).expand_as(row)
    return Pixels(plane, row.clamp(0, height - 1), column.clamp(0, width - 1)), inside
