r"""Filaments: ridges, thinned to lines of one pixel.

The length of such a line is that of its steps, :math:`0.948 n_e + 1.343 n_o` for :math:`n_e` straight and :math:`n_o`
diagonal ones, which is correct on average over directions.

References:
    Kulpa. *Area and perimeter measurement of blobs in discrete binary pictures* (1977).
    Sato et al. *Three-dimensional multi-scale line filter for segmentation and visualization of curvilinear structures
    in medical images* (1998).
"""

from typing import Any

import numpy as np
from scipy import ndimage

from ddpm_lightning.readouts.connected import AROUND, label, without_specks
from ddpm_lightning.utils.settings import Count, NonNegative, Positive

__all__ = ["branch_points", "branches_of", "filaments", "length_of", "trace"]

#: Scale of the ridge filter in pixels, and the fewest pixels of a line.
WIDTH, SHORTEST = 1.5, 12
#: Ends of branches with fewer pixels beyond the place where they meet others are spurs of the thinning.
SPUR = 4
#: Strength from which a ridge counts, in units of Otsu's threshold of all strengths.
THRESHOLD = 0.7


def trace(
    image: np.ndarray,
    width: float = WIDTH,
    threshold: float = THRESHOLD,
    level: float | None = None,
    shortest: int = SHORTEST,
    reference: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the pixels of the centre lines of filaments.

    Args:
        image: Image with shape (H, W).
        width: Scale of the ridge filter in pixels.
        threshold: Strength from which a ridge counts, in units of Otsu's threshold of all strengths.
        level: This strength itself, in units of the image; it takes precedence.
        shortest: Fewest pixels of a line.
        reference: Image that ``threshold`` is taken from; by default the image itself.

    Returns:
        Mask with shape (H, W).
    """
    from skimage.filters import threshold_otsu  # imported here because they are slow to load
    from skimage.morphology import skeletonize

    ridge = _ridges(image, width)
    if level is None:
        seen = ridge if reference is None else _ridges(reference, width)
        level = threshold * float(threshold_otsu(seen)) if np.ptp(seen) > 0 else float("inf")
    skeleton = skeletonize(ridge > level)
    return without_specks(skeleton, shortest, AROUND)


def _ridges(image: np.ndarray, width: float) -> np.ndarray:
    from skimage.filters import sato

    sigmas: Any = [width]  # declared as a range
    return sato(image.astype(np.float64), sigmas=sigmas, black_ridges=False, mode="reflect")


def length_of(skeleton: np.ndarray) -> float:
    """Returns the length of lines of one pixel, with shape (H, W), in pixels."""
    s = skeleton.astype(bool)
    straight = (s[1:] & s[:-1]).sum() + (s[:, 1:] & s[:, :-1]).sum()
    # A diagonal step beside a pixel that both touch is that corner walked twice.
    falling = s[1:, 1:] & s[:-1, :-1] & ~s[1:, :-1] & ~s[:-1, 1:]
    rising = s[1:, :-1] & s[:-1, 1:] & ~s[1:, 1:] & ~s[:-1, :-1]
    return float(0.948 * straight + 1.343 * (falling.sum() + rising.sum()))


def neighbours_of(skeleton: np.ndarray) -> np.ndarray:
    """Returns how many of the eight neighbours of each pixel, with shape (H, W), belong to a line."""
    return np.asarray(ndimage.convolve(skeleton.astype(int), AROUND.astype(int), mode="constant")) - skeleton


def branches_of(skeleton: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divides lines of one pixel at the places where three or more meet.

    Args:
        skeleton: Mask with shape (H, W).

    Returns:
        Masks with this shape: the surroundings of these places, and the branches between them.
    """
    joints = _widened(skeleton & (neighbours_of(skeleton) > 2))
    return joints, skeleton & ~joints


def _widened(mask: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.binary_dilation(mask, AROUND))


def branch_points(skeleton: np.ndarray) -> int:
    """Counts the places where at least three branches meet; short ends are spurs."""
    joints, branches = branches_of(skeleton)
    ends = skeleton & (neighbours_of(skeleton) < 2)
    pieces, count = label(branches, AROUND)
    spurs = np.bincount(pieces.ravel(), minlength=count + 1) < SPUR
    spurs &= np.bincount(pieces[ends], minlength=count + 1) > 0
    places, number = label(_widened(joints), AROUND)
    meeting = {(place, piece) for place, piece in zip(places[branches], pieces[branches], strict=True)}
    found = np.bincount([place for place, piece in meeting if not spurs[piece]], minlength=number + 1)
    return int((found[1:] > 2).sum())


def filaments(
    image: np.ndarray,
    pixel_size: float = 1.0,
    *,
    width: Positive = WIDTH,
    threshold: NonNegative = THRESHOLD,
    level: float | None = None,
    shortest: Count = SHORTEST,
    reference: np.ndarray | None = None,
) -> dict[str, float]:
    """Measures filaments; for the arguments see :func:`trace`.

    Returns:
        ``length`` of all filaments together, in units of ``pixel_size``, and the number of ``branch_points``, where
        they branch or cross.
    """
    skeleton = trace(image, width, threshold, level, shortest, reference)
    return {"length": length_of(skeleton) * pixel_size, "branch_points": branch_points(skeleton)}
