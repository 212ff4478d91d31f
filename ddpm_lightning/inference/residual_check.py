"""Warnings about what a restoration left in an image, or removed from it.

Each compared plane is tested against its restoration (:mod:`ddpm_lightning.metrics.residual_tests`): no clean image and
no knowledge of the training is needed. The limits were chosen on images whose clean version is known: see ``experiments/residual_tests``.
"""

from collections.abc import Iterable

import numpy as np

from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.inference.distribution_shift import center, of_planes
from ddpm_lightning.metrics.input_statistics import SeenInputs
from ddpm_lightning.metrics.residual_tests import ResidualTests, examine_residual

__all__ = ["ResidualCheck", "sentences_of"]

#: Share of the noise that is left, above which a restoration has failed whatever the noise is like.
MOST_LEFT = 0.45
#: Noise that is left relative to what the best blur would leave, above which that blur is the better restoration, if at
#: least this share of the noise is left and the noise of neighbouring pixels correlates at least so much.
MOST_EXCESS, LEAST_LEFT, LEAST_CORRELATION = 0.75, 0.05, 0.13
#: Most correlation of the noise in the training of models that do not record it: their noise was independent.
INDEPENDENT = 0.1
#: Fewest spots in the residual that count as removed structure; single ones may be hot pixels or cosmic rays.
FEWEST_SPOTS = 4
#: Correlation of the residual beyond that of the noise, above which it contains structure.
MOST_STRUCTURE = 0.05


class ResidualCheck:
    """Compares images with their restorations.

    Args:
        trained: The method that restored them. How much the noise of its training images correlated is part of the
            explanation, not of the test.
    """

    def __init__(self, trained: Trained) -> None:
        state = trained.card.get("inputs")
        seen = SeenInputs.load(state).features if state else {}
        self.most_correlation = max(seen.get("correlation", [INDEPENDENT]))

    @staticmethod
    def test(low: np.ndarray, restored: np.ndarray) -> ResidualTests | None:
        """Tests a plane with shape (H, W) against its restoration, both in intensities, in the middle if it is large.

        Returns:
            What was found, or ``None`` if the plane is too small or has no noise.
        """
        return examine_residual(center(low), center(restored))

    def warnings(self, tested: Iterable[ResidualTests]) -> list[str]:
        """Returns a sentence for each kind of failure in some planes of a file."""
        return of_planes([sentences_of(found, self.most_correlation) for found in tested])


def sentences_of(found: ResidualTests, most_correlation: float = INDEPENDENT) -> dict[str, str]:
    """Returns a sentence for each kind of failure of a plane, by kind.

    Args:
        found: What the comparison of the plane with its restoration shows.
        most_correlation: Most correlation of the noise of neighbouring pixels in training.
    """
    sentences = {}
    correlated = found.measurable and found.correlation > LEAST_CORRELATION
    if correlated and found.excess > MOST_EXCESS and found.noise_left > LEAST_LEFT:
        sentences["noise left"] = _correlated(found, most_correlation)
    elif found.noise_left > MOST_LEFT:
        sentences["noise left"] = (
            f"about {found.noise_left:.0%} of the noise is still in the restored image; "
            "train or fine-tune a model on images with such noise"
        )
    if found.measurable and found.spots >= FEWEST_SPOTS:
        sentences["structure removed"] = (
            f"{found.spots} spots in the difference of image and restored image are brighter than noise can be; "
            "look at them with preview=true, and do not count or measure small structures in the restored image"
        )
    elif found.measurable and found.residual_correlation > found.correlation + MOST_STRUCTURE:
        sentences["structure removed"] = (
            f"neighbouring pixels of the difference of image and restored image correlate by "
            f"{found.residual_correlation:.2f}, those of the noise by {found.correlation:.2f}; look at it with "
            "preview=true"
        )
    return sentences


def _correlated(found: ResidualTests, most_correlation: float) -> str:
    """Describes noise that was taken for structure because it correlates."""
    unlike = ""
    if found.correlation > most_correlation:
        unlike = f" (at most {most_correlation:.2f} in training)"
    return (
        f"the noise of neighbouring pixels correlates by {found.correlation:.2f}{unlike}, and about "
        f"{found.noise_left:.0%} of it is still in the restored image: a Gaussian blur of {found.blur:.1f} pixels "
        "may be closer to the truth. Use images without interpolation, drift correction and JPEG, bin them 2 x 2, "
        "or fine-tune the model on such images"
    )
