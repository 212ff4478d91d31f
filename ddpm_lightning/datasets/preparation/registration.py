r"""Rigid registration of a pair: the motion that aligns the clean image with the noisy one.

A motion maps points of the fixed image to points of the moving one, about the centre :math:`c` of the image,

.. math:: q = R(\theta) (p - c) + c + t, \qquad \text{registered}(p) = \text{moving}(q).

:math:`(t, \theta)` maximises the normalised cross-correlation of both images, slightly blurred to reduce the noise. The
search starts from the peak of the plain cross-correlation, and continues by Powell's method from a quarter of the size
to full size. The correlation is computed in a window that stays inside both images, so borders have no influence.

The moved image is interpolated once, by cubic splines. Pixels from outside the image are set to zero in both images:
if only one were padded, a model could learn it. Motions below a tenth of a pixel are not applied, because interpolation
would cost more than it gains.

References:
    Efficient subpixel image registration algorithms (Guizar-Sicairos, Thurman and Fienup, 2008),
    https://doi.org/10.1364/OL.33.000156
    An efficient method for finding the minimum of a function of several variables without calculating derivatives
    (Powell, 1964), https://doi.org/10.1093/comjnl/7.2.155
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, optimize
from skimage.registration import phase_cross_correlation

from ddpm_lightning.data.normalise import without_offset

__all__ = ["Motion", "Registration", "correlation", "find_motion", "move", "pad_alike", "residual_shift"]

#: Motions that move the pixels by less than this (root mean square, in pixels) are not applied.
NEGLIGIBLE = 0.1
#: Plain cross-correlation: whitening would amplify the noise.
PLAIN: dict[str, Any] = {"normalization": None}


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
        """Offset that is added to the rotated point, with shape (2,), for an image with this shape."""
        center = (np.array(shape) - 1) / 2
        return center + (self.down, self.right) - self.matrix() @ center

    def displacement(self, shape: tuple[int, int]) -> float:
        """Root mean square displacement of the pixels of an image with this shape, in pixels."""
        variance = (shape[0] ** 2 + shape[1] ** 2) / 12
        rotated = 2 * (1 - np.cos(np.deg2rad(self.angle))) * variance
        return float(np.sqrt(self.down**2 + self.right**2 + rotated))


@dataclass(frozen=True)
class Registration:
    """A motion and the evidence for it.

    Attributes:
        motion: The motion found.
        before: Correlation of the (blurred) images before the motion.
        after: Correlation after the motion.
        displacement: Root mean square displacement of the pixels.
    """

    motion: Motion
    before: float
    after: float
    displacement: float

    @property
    def negligible(self) -> bool:
        """Whether the images are aligned well enough without the motion."""
        return self.displacement < NEGLIGIBLE

    def reason_to_reject(self, largest_shift: float, least_correlation: float) -> str | None:
        """Returns why the motion is implausible, or ``None``.

        Args:
            largest_shift: Maximum plausible displacement in pixels.
            least_correlation: Minimum correlation of registered images of one field.
        """
        if self.displacement > largest_shift:
            return f"the images would be {self.displacement:.1f} px apart, more than {largest_shift:g} px"
        if self.after < least_correlation:
            return f"even after registration the correlation of the images is only {self.after:.2f}"
        return None


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation of two images; 0 where one is constant."""
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale else 0.0


def residual_shift(fixed: np.ndarray, moving: np.ndarray, blur: float = 1.5) -> tuple[float, float]:
    """Returns the shift (down, right) that aligns the moving image, to a tenth of a pixel, without rotation."""
    fixed, moving = _prepared(fixed, blur), _prepared(moving, blur)
    shift, _, _ = phase_cross_correlation(fixed, moving, upsample_factor=10, **PLAIN)
    return float(shift[0]), float(shift[1])


def find_motion(
    fixed: np.ndarray, moving: np.ndarray, blur: float = 1.5, largest_angle: float = 3.0
) -> Registration:
    """Finds the motion that aligns one image with another.

    Args:
        fixed: Image with shape (H, W) that stays, usually the noisy one.
        moving: Image with shape (H, W) that will be moved.
        blur: Standard deviation in pixels of the blur that reduces the noise.
        largest_angle: Maximum angle in degrees.
    """
    fixed, moving = _prepared(fixed, blur), _prepared(moving, blur)
    shift, _, _ = phase_cross_correlation(fixed, moving, upsample_factor=4, **PLAIN)
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
        The moved image in its own dtype (rounded and clipped), and a mask of the pixels that come from inside the
        image; the others are zero.
    """
    shape = image.shape
    options: dict[str, Any] = {"offset": motion.offset(shape), "order": 3, "mode": "nearest"}
    moved = ndimage.affine_transform(image.astype(np.float64), motion.matrix(), **options)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    (a, b), (c, d) = motion.matrix()
    down, right = motion.offset(shape)
    y, x = a * rows + b * columns + down, c * rows + d * columns + right
    # Up to a hundredth of a pixel beyond the border counts as inside.
    slack = 0.01
    inside = (y >= -slack) & (y <= shape[0] - 1 + slack) & (x >= -slack) & (x <= shape[1] - 1 + slack)
    moved[~inside] = 0
    if image.dtype.kind != "f":
        limits = np.iinfo(image.dtype)
        moved = np.clip(np.rint(moved), limits.min, limits.max)
    return moved.astype(image.dtype), inside


def pad_alike(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Sets pixels to zero that are padding in the partner, given the mask that :func:`move` returned."""
    return np.where(inside, image, np.zeros((), image.dtype))


def _prepared(image: np.ndarray, blur: float) -> np.ndarray:
    image = ndimage.gaussian_filter(without_offset(image)[0], blur, mode="nearest")
    return image - image.mean()


def _splines(image: np.ndarray) -> np.ndarray:
    options: dict[str, Any] = {"output": np.float32}
    return ndimage.spline_filter(image, order=3, mode="mirror", **options)


def _window(shape: tuple[int, int], margin: int) -> tuple[slice, slice]:
    return slice(margin, shape[0] - margin), slice(margin, shape[1] - margin)


def _moved_window(coefficients: np.ndarray, motion: Motion, window: tuple[slice, slice]) -> np.ndarray:
    """Evaluates the moved image in a window only, from its spline coefficients.

    Linear interpolation would be faster, but it smooths between pixels: if the moving image is the sharper one, the
    correlation then peaks a fifth of a pixel beside the true position.
    """
    start = np.array([side.start for side in window])
    shape = tuple(side.stop - side.start for side in window)
    options: dict[str, Any] = {"offset": motion.offset(coefficients.shape) + motion.matrix() @ start}
    options |= {"output_shape": shape, "order": 3, "mode": "mirror", "prefilter": False}
    return ndimage.affine_transform(coefficients, motion.matrix(), **options)


def _refined(
    fixed: np.ndarray, moving: np.ndarray, start: Motion, level: int, margin: int, largest_angle: float
) -> Motion:
    """Refines a motion on images reduced by an integer factor."""
    if level > 1:
        fixed, moving = (_reduced(image, level) for image in (fixed, moving))
    window = _window(fixed.shape, max(margin // level, 2))
    target, splines = fixed[window], _splines(moving)
    # The angle is expressed in pixels at half the side, so that all three numbers have equal weight.
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
    """Returns means over blocks; rows and columns beyond the last complete block are cropped evenly on both sides."""
    height, width = (side // factor * factor for side in image.shape)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    image = image[top : top + height, left : left + width]
    return image.reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3))
