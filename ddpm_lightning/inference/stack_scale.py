"""The intensity scale of a stack, from the scales of its planes.

If each plane of a stack has its own scale, the noise of a plane that is out of focus is amplified to full contrast,
and a plane is restored differently from the next only because its percentiles differ. All planes of a channel therefore
share a scale: the median of their darkest intensities, and a range that is above most of theirs, because networks
underestimate structure that exceeds it. The weight of a plane is its own range, up to a limit: dark planes at the ends
of a stack thus hardly matter, and neither does a single bright one.
"""

from collections.abc import Sequence

import numpy as np

from ddpm_lightning.data.normalise import Scale

__all__ = ["common_scale", "followed_scales", "scale_of_plane"]

#: Share of the planes, by weight, whose range is at most that of the stack.
MOST = 0.8
#: A plane that is brighter than this many times the range of its stack, or darker than its darkest intensity by more
#: than the range, keeps its own scale: networks have not seen such intensities.
BRIGHTEST = 2.0
#: If the scale follows slow changes of brightness: planes over which a running median is taken, and standard deviation
#: in planes of the blur after it.
WINDOW, BLUR = 15, 4.0


def common_scale(scales: Sequence[Scale]) -> Scale:
    """Returns the scale that planes share.

    Args:
        scales: Scales of the planes, at least one.
    """
    low, gain = (np.array([getattr(scale, name) for scale in scales]) for name in ("low", "gain"))
    weights = np.minimum(gain, BRIGHTEST * _quantile(gain, gain, 0.5))
    darkest = _quantile(low, weights, 0.5)
    return Scale(darkest, darkest + 2 * _quantile(gain, weights, MOST))


def followed_scales(scales: Sequence[Scale | None]) -> list[Scale]:
    """Returns scales that follow slow changes of brightness along an axis, such as bleaching, but no single plane.

    Args:
        scales: A scale for each place along the axis, at least one of which is known.
    """
    from scipy import ndimage  # imported here because it is slow to load

    known = [place for place, scale in enumerate(scales) if scale is not None]
    low, gain = (
        np.interp(range(len(scales)), known, [getattr(scales[place], name) for place in known])
        for name in ("low", "gain")
    )
    low, log = (
        ndimage.gaussian_filter1d(ndimage.median_filter(values, WINDOW, mode="nearest"), BLUR, mode="nearest")
        for values in (low, np.log(gain))
    )
    return [
        Scale(float(darkest), float(darkest + 2 * np.exp(one))) for darkest, one in zip(low, log, strict=True)
    ]


def scale_of_plane(shared: Scale, own: Scale) -> Scale:
    """Returns the scale of a plane: that of its stack, unless its intensities are far from those of the stack."""
    span = shared.high - shared.low
    fits = own.high <= shared.low + BRIGHTEST * span and own.low >= shared.low - span
    return shared if fits else own


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] * share)])
