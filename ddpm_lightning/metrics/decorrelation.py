r"""Resolution of a single image by decorrelation analysis (the variant of the authors' MATLAB program).

The Fourier transform :math:`F` of the apodised image is correlated with its own phase inside a disc of radius
:math:`r`, where the radius :math:`R` of a frequency is 1 at Nyquist:

.. math:: d(r) = \frac{\sum_{R < r} |F|}{\sqrt{\sum_{R < 1} |F|^2} \sqrt{\#\{R < r\}}}

Structure raises :math:`d`, noise lowers it, and the curve peaks where structure ends. High-pass filters
:math:`1 - e^{-2 g^2 R^2}` of falling :math:`g` push the peak outwards; the outermost peak that still has an
amplitude of 0.05 is the cut-off :math:`k_c`, and the resolution is :math:`2 p / k_c` with the pixel size
:math:`p`.

There are two differences from the original. First, the peak without a high-pass filter is located after the mean of the
image has been subtracted, so that a camera offset has no effect (the reference values of the original are reproduced
either way); only the contrast, the height of that peak, is computed with the mean, like published contrasts. Second, if
no peak is valid, for example in pure noise, the resolution is missing rather than infinite.

The result is the highest frequency with *any* structure, so sharp hallucinations improve it: use it together with a
fidelity metric, and compare it with the resolution of the target instead of assuming that smaller is better. In
noise-free or interpolated images, the cut-off does not reflect the resolution. For sparse points it is about 1.05 times
the full width at half maximum; crops of one noisy image differ by a few per cent, and one in ten by more.

References:
    Parameter-free image resolution estimation based on decorrelation analysis (Descloux, Grußmayer and
    Radenovic, 2019), https://doi.org/10.1038/s41592-019-0515-7
"""

from dataclasses import dataclass

import numpy as np

SAMPLES = 50
FILTERS = 10
BORDER = 20
FINEST_FILTER = 0.15
LEAST_DROP = 0.0005
LEAST_AMPLITUDE = 0.05
SMALLEST_SIDE = 2 * BORDER + 8
# An endlessly coarse high-pass filter removes the mean and nothing else.
MEAN_ONLY = 1e9


@dataclass(frozen=True)
class Decorrelation:
    """Result of the analysis.

    Attributes:
        resolution: Smallest structured period, in the unit of the pixel size; NaN where no structure was
            found.
        cutoff: Normalised frequency of the outermost peak in (0, 1], 1 is Nyquist; 0 where no structure was
            found.
        contrast: Amplitude of the peak of the unfiltered curve in [0, 1], a measure of the signal-to-noise
            ratio; it depends on the offset of the image.
        radius: Radii of the curve with shape (50,), 1 is Nyquist.
        curve: Decorrelation of the image without its mean, with shape (50,).
    """

    resolution: float
    cutoff: float
    contrast: float
    radius: np.ndarray
    curve: np.ndarray


def decorrelation_resolution(image: np.ndarray, *, pixel_size: float = 1.0) -> Decorrelation:
    """Estimates the resolution of one image.

    Args:
        image: Image with shape (H, W), at least 48 pixels in height and width, in any unit.
        pixel_size: Size of a pixel in the unit that the resolution is wanted in; 1 for pixels.
    """
    if image.ndim != 2 or min(image.shape) < SMALLEST_SIDE:
        raise ValueError(
            f"needs an image of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} px, got {image.shape}"
        )
    spectrum = _Spectrum(_apodise(image.astype(np.float64)))
    coarse = np.linspace(0, 1, SAMPLES)
    curve = spectrum.curve(coarse, MEAN_ONLY)
    r_0, amplitude_0 = _peak(coarse, curve)
    contrast = _peak(coarse, spectrum.curve(coarse, None))[1]

    # g is the parameter of the filter, not a width in pixels: it removes a Gaussian of sigma = 2 g / pi
    # pixels.
    height = image.shape[0]
    coarsest = 2 / r_0 if r_0 > 0 else max(image.shape) / 2
    filters = np.array([height / 4, *np.geomspace(coarsest, FINEST_FILTER, FILTERS)])
    first = [_peak(coarse, spectrum.curve(coarse, g)) for g in filters]

    radii = np.array([r_0, *(r for r, _ in first)])
    outermost = int(np.flatnonzero(radii == radii.max())[-1])
    if outermost == 0:
        bounds = (height, filters[0])
    else:
        # radii[i] belongs to filters[i - 1]; the finest filter has no finer neighbour.
        start = min(outermost - 1, len(filters) - 2)
        bounds = (filters[start], filters[start + 1])
    step = coarse[1] - coarse[0]
    fine = np.linspace(max(0, radii[outermost] - step), min(1, radii[outermost] + 0.4), SAMPLES)
    second = [_peak(fine, spectrum.curve(fine, g)) for g in np.geomspace(*bounds, FILTERS)]

    # The original writes the second pass over the last entry of the first.
    candidates = [(r_0, amplitude_0), *first[:-1], *second]
    cutoff = max((r for r, amplitude in candidates if amplitude >= LEAST_AMPLITUDE), default=0.0)
    if image.min() == image.max():
        cutoff = 0.0
    resolution = 2 * pixel_size / cutoff if cutoff > 0 else float("nan")
    return Decorrelation(float(resolution), float(cutoff), float(contrast), coarse, curve)


class _Spectrum:
    """Modulus of the Fourier transform, sorted by radius, so that every curve is a cumulative sum."""

    def __init__(self, image: np.ndarray) -> None:
        height, width = (side - (side + 1) % 2 for side in image.shape)
        modulus = np.abs(np.fft.fftshift(np.fft.fft2(image[:height, :width])))
        radius = np.hypot(np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width))
        inside = radius < 1
        order = np.argsort(radius[inside], kind="stable")
        self.radius = radius[inside][order]
        self.modulus = modulus[inside][order]

    def curve(self, r: np.ndarray, g: float | None) -> np.ndarray:
        """Returns d(r), cut to three decimals as the original does, after the high-pass filter g."""
        modulus = self.modulus if g is None else self.modulus * -np.expm1(-2 * g**2 * self.radius**2)
        count = np.searchsorted(self.radius, r, side="left")
        total = np.concatenate([[0.0], np.cumsum(modulus)])[count]
        norm = np.sqrt(np.square(modulus).sum()) * np.sqrt(count)
        return np.floor(1000 * np.divide(total, norm, out=np.zeros_like(total), where=norm > 0)) / 1000


def _apodise(image: np.ndarray) -> np.ndarray:
    """Fades the image to its mean over the outer pixels by a raised sine."""
    rise = (np.sin(np.linspace(-np.pi / 2, np.pi / 2, BORDER)) + 1) / 2
    masks = []
    for side in image.shape:
        mask = np.ones(side)
        mask[:BORDER], mask[-BORDER:] = rise, rise[::-1]
        masks.append(mask)
    mean = image.mean()
    return (image - mean) * masks[0][:, None] * masks[1] + mean


def _peak(r: np.ndarray, curve: np.ndarray) -> tuple[float, float]:
    """Returns radius and height of the outermost maximum that the curve really falls from, else its start."""
    end = len(curve)
    while end > 1:
        top = int(np.argmax(curve[:end]))
        if top == 0:
            break
        if top < end - 1 and curve[top] - curve[top:end].min() >= LEAST_DROP:
            return float(r[top]), float(curve[top])
        end -= 1
    return float(r[0]), float(curve[0])
