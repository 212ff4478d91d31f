r"""Rigid registration of a pair: where the clean image must be moved to lie on the noisy one.

A motion maps points of the fixed image to points of the moving one, about the centre :math:`c` of the image,

.. math:: q = R(\theta) (p - c) + c + t, \qquad \text{registered}(p) = \text{moving}(q).

:math:`(t, \theta)` maximises the normalised cross-correlation of both images, slightly blurred against the noise. The
search starts from the peak of the plain cross-correlation and goes on by Powell's method from a quarter of the size to
full size. The correlation is taken over a window that no motion in question leaves, so that borders play no part.

The moved image is interpolated once, by cubic splines. What comes from outside the image is set to zero, in both
images: a padding that only one of them had could be learned. Motions below a tenth of a pixel are not applied:
interpolation would do more harm than they do.

References:
    Efficient subpixel image registration algorithms (Guizar-Sicairos, Thurman and Fienup, 2008),
    https://doi.org/10.1364/OL.33.000156
    An efficient method for finding the minimum of a function of several variables without calculating derivatives
    (Powell, 1964), https://doi.org/10.1093/comjnl/7.2.155
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize
from skimage.registration import phase_cross_correlation

from ddpm_lightning.data.normalise import without_offset

__all__ = ["Motion", "Registration", "correlation", "find_motion", "move", "pad_alike", "residual_shift"]

#: Motions that move the pixels by less than this (root mean square, in pixels) are not applied.
NEGLIGIBLE = 0.1


@dataclass(frozen=True)
class Motion:
    """A rigid motion from points of the fixed image to points of the moving one.

    Attributes:
        down: Shift along the rows in pixels.
        right: Shift along the columns in pixels.
        angle: Rotation about the centre of the image in degrees, from the first axis to the second.
    """

    down: float = 0.0
    right: float = 0.0
    angle: float = 0.0

    def matrix(self) -> np.ndarray:
        """Rotation matrix with shape (2, 2)."""
        turn = np.deg2rad(self.angle)
        return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])

    def offset(self, shape: tuple[int, int]) -> np.ndarray:
        """What is added to the rotated point, with shape (2,), for an image with this shape."""
        centre = (np.array(shape) - 1) / 2
        return centre + (self.down, self.right) - self.matrix() @ centre

    def displacement(self, shape: tuple[int, int]) -> float:
        """Root mean square, over an image with this shape, of how far its pixels move, in pixels."""
        spread = (shape[0] ** 2 + shape[1] ** 2) / 12
        rotated = 2 * (1 - np.cos(np.deg2rad(self.angle))) * spread
        return float(np.sqrt(self.down**2 + self.right**2 + rotated))


@dataclass(frozen=True)
class Registration:
    """A motion and what speaks for it.

    Attributes:
        motion: The motion found.
        before: Correlation of the (blurred) images as they were.
        after: Correlation after the motion.
        displacement: How far the pixels move (root mean square, in pixels).
    """

    motion: Motion
    before: float
    after: float
    displacement: float

    @property
    def negligible(self) -> bool:
        """Whether the images lie on each other well enough as they are."""
        return self.displacement < NEGLIGIBLE

    def distrust(self, largest_shift: float, least_correlation: float) -> str | None:
        """Returns why the motion should not be believed, or ``None``.

        Args:
            largest_shift: Displacement that is still plausible, in pixels.
            least_correlation: Correlation that images of one field have at least, once registered.
        """
        if self.displacement > largest_shift:
            return f"the images would be {self.displacement:.1f} px apart, more than {largest_shift:g} px"
        if self.after < least_correlation:
            return f"even when registered the images correlate by {self.after:.2f} only"
        return None


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation of two images; 0 where one is constant."""
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale else 0.0


def residual_shift(fixed: np.ndarray, moving: np.ndarray, blur: float = 1.5) -> tuple[float, float]:
    """Returns how far the moving image would have to go, (down, right) in pixels, to a tenth; rotation aside."""
    fixed, moving = _prepared(fixed, blur), _prepared(moving, blur)
    shift, _, _ = phase_cross_correlation(fixed, moving, upsample_factor=10, normalization=None)
    return float(shift[0]), float(shift[1])


def find_motion(
    fixed: np.ndarray, moving: np.ndarray, blur: float = 1.5, largest_angle: float = 3.0
) -> Registration:
    """Finds the motion that puts one image on another.

    Args:
        fixed: Image with shape (H, W) that stays, usually the noisy one.
        moving: Image with shape (H, W) that will be moved.
        blur: Standard deviation in pixels of the blur against noise.
        largest_angle: Angles beyond this many degrees are not searched.
    """
    fixed, moving = _prepared(fixed, blur), _prepared(moving, blur)
    shift, _, _ = phase_cross_correlation(fixed, moving, upsample_factor=4, normalization=None)
    found = Motion(-float(shift[0]), -float(shift[1]))
    side = min(fixed.shape)
    reach = max(abs(found.down), abs(found.right)) + 3 + np.deg2rad(largest_angle) * side / 2
    for level in (4, 2, 1):
        if side // level >= 32:
            found = _refined(fixed, moving, found, level, int(min(reach, side / 4)), largest_angle)
    window, splines = _window(fixed.shape, int(min(reach, side / 4))), _splines(moving)
    before, after = (
        correlation(fixed[window], _moved_window(splines, motion, window)) for motion in (Motion(), found)
    )
    return Registration(found, before, after, found.displacement(fixed.shape))


def move(image: np.ndarray, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Moves an image, interpolating once by cubic splines.

    Args:
        image: Image with shape (H, W).
        motion: Motion found with this image as the moving one.

    Returns:
        The moved image in its own dtype (rounded and clipped), and a mask of the pixels that come from inside of the
        image; the others are zero.
    """
    shape = image.shape
    moved = ndimage.affine_transform(
        image.astype(np.float64), motion.matrix(), motion.offset(shape), order=3, mode="nearest"
    )
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    (a, b), (c, d) = motion.matrix()
    down, right = motion.offset(shape)
    y, x = a * rows + b * columns + down, c * rows + d * columns + right
    # A hundredth of a pixel beyond the border is still the border.
    slack = 0.01
    inside = (y >= -slack) & (y <= shape[0] - 1 + slack) & (x >= -slack) & (x <= shape[1] - 1 + slack)
    moved[~inside] = 0
    if image.dtype.kind != "f":
        limits = np.iinfo(image.dtype)
        moved = np.clip(np.rint(moved), limits.min, limits.max)
    return moved.astype(image.dtype), inside


def pad_alike(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Sets to zero what is padding in the partner, with the mask that :func:`move` returned."""
    return np.where(inside, image, np.zeros((), image.dtype))


def _prepared(image: np.ndarray, blur: float) -> np.ndarray:
    image = ndimage.gaussian_filter(without_offset(image)[0], blur, mode="nearest")
    return image - image.mean()


def _splines(image: np.ndarray) -> np.ndarray:
    return ndimage.spline_filter(image, order=3, output=np.float32, mode="mirror")


def _window(shape: tuple[int, int], margin: int) -> tuple[slice, slice]:
    return slice(margin, shape[0] - margin), slice(margin, shape[1] - margin)


def _moved_window(coefficients: np.ndarray, motion: Motion, window: tuple[slice, slice]) -> np.ndarray:
    """Evaluates the moved image in a window only, from its spline coefficients.

    Linear interpolation would do for speed, but it smooths between pixels: where the moving image is the sharper one,
    the correlation then peaks a fifth of a pixel beside the truth.
    """
    start = np.array([side.start for side in window])
    shape = tuple(side.stop - side.start for side in window)
    offset = motion.offset(coefficients.shape) + motion.matrix() @ start
    return ndimage.affine_transform(
        coefficients, motion.matrix(), offset, shape, order=3, mode="mirror", prefilter=False
    )


def _refined(
    fixed: np.ndarray, moving: np.ndarray, start: Motion, level: int, margin: int, largest_angle: float
) -> Motion:
    """Improves a motion on images reduced by a whole factor."""
    if level > 1:
        fixed, moving = (_reduced(image, level) for image in (fixed, moving))
    window = _window(fixed.shape, max(margin // level, 2))
    target, splines = fixed[window], _splines(moving)
    # The angle is searched in pixels at half the side, so that all three numbers weigh the same.
    radius = min(fixed.shape) / 2
    limit = np.deg2rad(largest_angle) * radius

    def motion(point: np.ndarray) -> Motion:
        return Motion(point[0], point[1], float(np.rad2deg(point[2] / radius)))

    def cost(point: np.ndarray) -> float:
        return -correlation(target, _moved_window(splines, motion(point), window))

    first = np.array([start.down / level, start.right / level, np.deg2rad(start.angle) * radius])
    reach = 4.0 if level == 4 else 1.5
    bounds = [(value - reach, value + reach) for value in first[:2]]
    bounds.append(
        (max(first[2] - limit, -limit), min(first[2] + limit, limit))
        if level == 4
        else (first[2] - reach, first[2] + reach)
    )
    options = {"xtol": 0.01, "ftol": 1e-6}
    best = motion(optimize.minimize(cost, first, method="Powell", bounds=bounds, options=options).x)
    return Motion(float(best.down * level), float(best.right * level), best.angle)


def _reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks; rows and columns beyond the last whole block are left out evenly on both sides."""
    height, width = (side // factor * factor for side in image.shape)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    image = image[top : top + height, left : left + width]
    return image.reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3))
