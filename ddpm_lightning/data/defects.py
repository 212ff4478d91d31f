r"""Defective pixels: hot and dead ones, small clusters, tracks of cosmic rays, dead or stuck rows and columns.

A defect differs from structure in shape and from noise in strength. Both are required.

Strength: the pixel deviates from the median of the 5 x 5 pixels around it by more than noise can explain. The noise is
estimated from the pixels of similar brightness in the same image: the tail of their deviations between the 98th and
the 99.5th percentile is extrapolated as an exponential to a probability of :data:`CHANCE`. For Gaussian noise this
gives 7.5 standard deviations; heavier tails, the photon noise of bright regions and residual structure raise the limit.
It is at least :data:`QUANTA` grey levels, so that single photons are never taken for defects. If more isolated pixels
are just below the limit than above it, they are a tail of the noise as well, and the limit is doubled. In a plane that
is constant except for one pixel, that pixel may be a single photon: it is kept.

Shape: optics blur a point of light over its neighbours, but a defect is confined to its pixel. The neighbours of a
point source with a standard deviation of 0.6 pixels have on average 0.16 of its height above the background (0.25 for
0.7 pixels, 0.5 for 1 pixel), and those of the end of a sharp line have 1/8. A pixel whose neighbours have less than
:data:`SHARE` is isolated. The same holds for groups of up to three pixels and for thin bright tracks of up to
:data:`TRACK` pixels. A point source of 0.6 pixels that is centred between four pixels appears as a square whose
neighbours have 0.04, so a square is a defect only below :data:`SQUARE_SHARE`.

A row or column is defective if it deviates as a whole from those beside it. It is also defective from the border of the
image on, over at least :data:`STUCK` pixels, if it has one value there that is outside the range of those beside it.
Constant lines that do not reach the border may be drawn, such as scale bars: they are kept.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np

__all__ = ["Repairs", "repaired", "repairs_of"]

#: Percentiles between which the tail of the noise is measured, and the probability to which it is extrapolated.
TAIL, CHANCE = (98.0, 99.5), 1e-8
#: Minimum deviation of a defect, in grey levels of the image.
QUANTA = 16
#: Mean deviation of the pixels around a defect from the background, as a fraction of its own.
SHARE = 0.1
#: The same for squares of 2 x 2 pixels.
SQUARE_SHARE = 0.03
#: Maximum number of pixels of a group of any shape, and maximum length of a thin track.
GROUP, TRACK = 3, 12
#: Minimum length of a constant part of a row or column, and maximum fraction of such rows or columns.
STUCK, MOST_STUCK = 24, 0.02
#: Maximum fraction of defective pixels; if there are more, they are a kind of noise.
MOST = 0.005
#: Text in an image: an isolated pixel belongs to it if at least WRITING pixels within a distance of NEAR have one grey
#: level that is at least as bright, and stand out nearly as sharply (DROP). This number of grey levels is examined.
WRITING, NEAR, DROP, LEVELS = 8, 24, 0.8, 8
#: Deviation of a defective row: relative to the 90th percentile over the rows, and, unless the row is constant, in
#: standard deviations of the noise.
LINE, LINE_PIXELS = 4.0, 2.0
#: Number of pixels from which the noise is estimated, and minimum number of pixels of similar brightness.
SAMPLES, LEAST = 2**17, 2**13
#: The noise of smaller images cannot be estimated.
SMALLEST = 16
#: One defect may hide another: the search is repeated up to this number of times.
PASSES = 5
SQUARE = np.ones((3, 3), bool)
AROUND = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])


def repaired(image: np.ndarray) -> tuple[np.ndarray, int]:
    """Replaces defective pixels by the median of the intact pixels around them.

    Args:
        image: Image with shape (H, W), finite, of any real dtype.

    Returns:
        The image itself and 0 if there are no defects; else a copy, and the number of replaced pixels.
    """
    found, result = np.zeros(image.shape, bool), image
    for _ in range(PASSES):
        new = find_defects(result) & ~found
        if not new.any():
            break
        found |= new
        result = _filled(image, found)
    return result, int(found.sum())


@dataclass(frozen=True)
class Repairs:
    """The replacements of :func:`repaired` in an image, for its crops.

    Attributes:
        width: Width of the image in pixels.
        places: Positions of the replaced pixels in the flattened image, with shape (N,), ascending.
        values: Their new values, with shape (N,), in the dtype of the image.
    """

    width: int
    places: np.ndarray
    values: np.ndarray

    def apply(self, crop: np.ndarray, y: int = 0, x: int = 0) -> np.ndarray:
        """Replaces the defective pixels of a crop; the cost depends on the rows of the crop only.

        Args:
            crop: Part of the recorded image with shape (h, w); it is not changed.
            y: Row of the image in which the crop begins.
            x: Column of the image in which the crop begins.

        Returns:
            The crop itself if it contains no defect, else a copy.
        """
        height, width = crop.shape
        first, last = np.searchsorted(self.places, (y * self.width, (y + height) * self.width))
        rows, columns = np.divmod(self.places[first:last], self.width)
        inside = (columns >= x) & (columns < x + width)
        if not inside.any():
            return crop
        result = crop.copy()
        result[rows[inside] - y, columns[inside] - x] = self.values[first:last][inside]
        return result


def repairs_of(image: np.ndarray) -> Repairs | None:
    """Returns the replacements in an image with shape (H, W); ``None`` if there are none."""
    sound, count = repaired(image)
    if not count:
        return None
    places = np.flatnonzero(sound != image)
    return Repairs(image.shape[1], places, sound.ravel()[places])


def find_defects(image: np.ndarray) -> np.ndarray:
    """Returns the defective pixels of an image with shape (H, W) that a single search finds."""
    if min(image.shape) < SMALLEST:
        return np.zeros(image.shape, bool)
    x = (image - np.float64(image.min())).astype(np.float32)
    # An odd step visits all columns.
    chosen = np.s_[:: max(1, x.size // SAMPLES) | 1]
    values = np.unique(x.ravel()[chosen])
    least = max(QUANTA * np.diff(values).min() if len(values) > 1 else 0.0, 1e-30)
    found = _stuck(x, least) | _stuck(x.T, least).T
    if found.any():
        x = _filled(x, found)
    columns = _median5(x, 0)
    lines = _lines(x, columns) | _lines(x.T, _median5(x, 1).T).T
    if lines.any():
        x = _filled(x, lines)
        columns = _median5(x, 0)
        found |= lines
    background = _median5(columns, 1)
    height = x - background
    levels, deviations = background.ravel()[chosen], height.ravel()[chosen]
    for sign in (1, -1):
        limits = np.maximum(_limits(sign * deviations, levels, background), least)
        found = found | _points(sign * x, sign * height, limits, TRACK if sign > 0 else GROUP)
    return found


def _points(x: np.ndarray, height: np.ndarray, limits: np.ndarray, track: int) -> np.ndarray:
    """Returns the pixels that are too bright; all arrays have shape (H, W).

    Args:
        x: The image.
        height: Its height above the background.
        limits: Heights that noise does not reach.
        track: Maximum length of a thin track; cosmic rays leave only bright ones.
    """
    # Pixels from half of the limit on are counted, to see whether defects are the tail of something more frequent.
    found = _isolated(x, height, height > limits / 2, track)
    ratios = height[found] / limits[found]
    factor = 1.0
    while ((ratios > factor / 2) & (ratios <= factor)).sum() > (ratios > factor).sum() > 0:
        factor *= 2
    found &= height > factor * limits
    return found if found.sum() <= MOST * found.size else np.zeros_like(found)


def _limits(deviations: np.ndarray, levels: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Returns the limit beyond which a deviation is too strong for noise, by the brightness of the background."""
    groups = max(1, min(32, len(levels) // LEAST))
    edges = np.unique(np.quantile(levels, np.arange(1, groups) / groups)) if groups > 1 else np.zeros(0)
    group = np.searchsorted(edges, levels, side="right")
    centres, limits = [], []
    for number in np.unique(group):
        lower, upper = np.percentile(deviations[group == number], TAIL)
        slope = max(upper - max(lower, 0), 0) / np.log((100 - TAIL[0]) / (100 - TAIL[1]))
        centres.append(np.median(levels[group == number]))
        limits.append(max(upper, 0) + slope * np.log((1 - TAIL[1] / 100) / CHANCE))
    return np.interp(background, centres, limits).astype(np.float32)


def _isolated(x: np.ndarray, height: np.ndarray, strong: np.ndarray, track: int) -> np.ndarray:
    """Returns which of the strong pixels are isolated."""
    from scipy import ndimage  # imported here because it is slow to load

    found = np.zeros(height.shape, bool)
    labels, count = cast("tuple[np.ndarray, int]", ndimage.label(strong, SQUARE))
    if not count:
        return found
    places = np.nonzero(strong)
    of, values = labels[places], height[places]
    sizes = np.bincount(of, minlength=count + 1)
    means = np.bincount(of, values, count + 1) / np.maximum(sizes, 1)
    levels, total, ring, pixels = x[places] - values, 0.0, 0.0, 0
    padded, taken = np.pad(x, 1, mode="reflect"), np.pad(strong, 1, mode="reflect")
    for down, right in np.argwhere(AROUND):
        at = places[0] + down, places[1] + right
        beside, outside = np.abs(padded[at] - levels), ~taken[at]
        total, ring, pixels = total + beside, ring + beside * outside, pixels + outside
    found[places] = total < 8 * SHARE * values
    around = np.bincount(of, ring, count + 1) / np.maximum(means * np.bincount(of, pixels, count + 1), 1e-30)
    boxes = ndimage.find_objects(labels)
    lengths = np.array([0] + [max(side.stop - side.start for side in box) for box in boxes])
    thin = (lengths > GROUP) & (lengths <= track) & (sizes <= 1.5 * lengths)
    square = (sizes == 4) & (lengths == 2)
    group = (around < SHARE) & ((sizes > 1) & (sizes <= GROUP) | thin) | (around < SQUARE_SHARE) & square
    # Of a group at the border, only a part may be visible.
    group[np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()])] = False
    found[places] |= group[of]
    _keep_writing(x, height, found)
    return found


def _keep_writing(x: np.ndarray, height: np.ndarray, found: np.ndarray) -> None:
    """Excludes parts of text: a full stop is as isolated as a hot pixel, but no brighter than the letters."""
    if not found.any():
        return
    from scipy import ndimage  # imported here because it is slow to load

    # Text falls to the background within one pixel, unlike structure of that brightness, and has one grey level.
    steep = ~found & (x - ndimage.minimum_filter(x, 3) > DROP * height[found].min())
    levels, counts = np.unique(x[steep], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:LEVELS]
    side = 2 * NEAR + 1
    for level in levels[order][counts[order] >= WRITING]:
        if (own := found & (x <= level)).any():
            strokes = (steep & (x == level)).astype(np.float32)
            near = ndimage.uniform_filter(strokes, side, mode="constant") * side**2
            found[own & (near > WRITING - 0.5)] = False


def _stuck(x: np.ndarray, least: float) -> np.ndarray:
    """Returns the pixels of rows that have one wrong value from the left or right border on.

    Args:
        x: Image with shape (H, W).
        least: Least difference to the rows beside them.
    """
    found = np.zeros(x.shape, bool)
    for side in (np.s_[:, :], np.s_[:, ::-1]):
        view, marked = x[side], found[side]
        constant = (view[:, :STUCK] == view[:, :1]).all(axis=1)
        # Wider areas, and those at the border of the image, may be padding.
        alone = constant[1:-1] & ~constant[:-2] & ~constant[2:]
        for row in 1 + np.flatnonzero(alone):
            value = view[row, 0]
            end = int(np.argmax(np.append(view[row] != value, True)))
            beside = view[[row - 1, row + 1], :end]
            outside = value < beside.min() or value > beside.max()
            marked[row, :end] |= outside and abs(np.median(beside) - value) >= least
    few = found.any(axis=1).sum() <= MOST_STUCK * len(x)
    return found if few else np.zeros_like(found)


def _lines(x: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    """Returns the pixels of rows that are entirely dead or stuck.

    Args:
        x: Image with shape (H, W).
        smooth: Its running median along the columns.
    """
    deviation = x - smooth
    rows = np.median(deviation, axis=1)
    sample = deviation.ravel()[:: max(1, x.size // SAMPLES) | 1]
    pixels = 1.4826 * np.median(np.abs(sample - np.median(sample)))
    limit = LINE * max(np.percentile(np.abs(rows), 90), 2 * pixels / np.sqrt(x.shape[1]))
    found = np.zeros(x.shape, bool)
    suspects = np.flatnonzero(np.abs(rows) > limit)
    last = len(x) - 1
    for row in suspects:
        alike = (deviation[row] / rows[row] > 0.25).mean() > 0.75
        if not alike or (np.ptp(x[row]) > 0 and np.abs(rows[row]) < LINE_PIXELS * pixels):
            continue
        # A straight object has wider flanks than a defect.
        far = [at for at in (row - 3, row + 3) if 0 <= at <= last]
        near = [at for at in (row - 1, row + 1) if 0 <= at <= last and at not in suspects]
        level = np.mean(x[far], axis=0)
        own = np.median(x[row] - level)
        found[row] = own != 0 and all(np.median(x[at] - level) / own < 0.25 for at in near)
    return found


def _median5(x: np.ndarray, axis: int) -> np.ndarray:
    """Returns the running median of five along an axis; minima and maxima of arrays are faster than a rank filter."""
    wide = np.pad(x, [(2, 2) if each == axis else (0, 0) for each in (0, 1)], mode="reflect")
    size = x.shape[axis]
    a, b, c, d, e = (wide[k : k + size] if axis == 0 else wide[:, k : k + size] for k in range(5))
    low = np.maximum(np.minimum(a, b), np.minimum(c, d))
    high = np.minimum(np.maximum(a, b), np.maximum(c, d))
    return np.maximum(np.minimum(low, high), np.minimum(e, np.maximum(low, high)))


def _filled(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns a copy in which the masked pixels are the median of at least three intact pixels around them."""
    result, todo = image.copy(), mask
    for radius in range(1, max(image.shape)):
        places = np.argwhere(todo)
        if not len(places):
            break
        offsets = np.indices((2 * radius + 1, 2 * radius + 1)).reshape(2, -1).T - radius
        at = places[:, None] + offsets
        inside = np.all((at >= 0) & (at < np.array(image.shape)), axis=-1)
        y, x = np.moveaxis(np.where(inside[..., None], at, 0), -1, 0)
        values = np.where(inside & ~mask[y, x], image[y, x].astype(np.float64), np.nan)
        enough = np.isfinite(values).sum(axis=1) >= 3
        medians = np.nanmedian(values[enough], axis=1)
        result[tuple(places[enough].T)] = np.rint(medians) if image.dtype.kind in "iu" else medians
        todo = todo.copy()
        todo[tuple(places[enough].T)] = False
    return result
