"""Warnings about noise that a restoration left in an image, and about structure that it removed.

Each compared plane is tested against its restoration (:mod:`ddpm_lightning.metrics.residual_tests`), without a clean
image. The limits were chosen on simulated images, so that few results that are better than the best blur cause a
warning; ``experiments/residual_tests`` measures how often the warnings are right on other images.
"""

from collections.abc import Iterable

import numpy as np

from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.inference.distribution_shift import central_part, warnings_of_planes
from ddpm_lightning.metrics.input_statistics import SeenInputs
from ddpm_lightning.metrics.residual_tests import ResidualTests, examine_residual

__all__ = ["ResidualCheck", "sentences_of"]

#: Variance of the noise that is left, relative to that left by the best blur, above which this blur is likely to be
#: closer to the truth.
MOST_NOISE = 0.25
#: Share of the noise that is left, above which next to nothing was removed.
MOST_LEFT = 0.6
#: Correlation of neighbouring pixels up to which noise counts as independent, also in the training of models that do
#: not record it.
INDEPENDENT = 0.1
#: Fewest spots in the residual that count as removed structure; single ones may be hot pixels or cosmic rays.
FEWEST_SPOTS = 4
#: Share of the regions that vary too much, and correlation of the residual beyond that of the noise, above which the
#: residual contains structure.
MOST_VARIED, MOST_CORRELATION = 0.05, 0.05


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
        """Tests a plane with shape (H, W) against its restoration, both in intensities; of large planes, the centre.

        Returns:
            What was found, or ``None`` if the plane is too small or has no noise.
        """
        return examine_residual(central_part(low), central_part(restored))

    def warnings(self, tested: Iterable[ResidualTests]) -> list[str]:
        """Returns a sentence for each kind of failure in some planes of a file."""
        return warnings_of_planes([sentences_of(found, self.most_correlation) for found in tested])


def sentences_of(found: ResidualTests, most_correlation: float = INDEPENDENT) -> dict[str, str]:
    """Returns a sentence for each kind of failure of a plane, by kind.

    Args:
        found: What the comparison of the plane with its restoration shows.
        most_correlation: Most correlation of the noise of neighbouring pixels in training.
    """
    sentences = {}
    if found.noise_ratio > MOST_NOISE or found.noise_left > MOST_LEFT:
        sentences["noise left"] = _noise_left(found, most_correlation)
    if removed := _removed(found):
        sentences["structure removed"] = (
            f"in the difference of image and restored image, {removed}; look at it with preview=true, and do not count "
            "or measure small structures in the restored image"
        )
    return sentences


def _noise_left(found: ResidualTests, most_correlation: float) -> str:
    """Describes noise that was taken for structure, and what to do."""
    left = (
        f"about {found.noise_left:.0%} of the noise is still in the restored image; a Gaussian blur of "
        f"{found.blur:.1f} pixels may be closer to the truth"
    )
    if not found.measurable or found.correlation <= INDEPENDENT:
        return f"{left}. Train or fine-tune a model on images with such noise"
    unlike = f" (at most {most_correlation:.2f} in training)" if found.correlation > most_correlation else ""
    return (
        f"{left}. The noise of neighbouring pixels correlates by {found.correlation:.2f}{unlike}: use images without "
        "interpolation, drift correction and JPEG, bin them 2 x 2, or fine-tune the model on such images"
    )


def _removed(found: ResidualTests) -> str:
    """Describes structure in the residual; empty if there is none."""
    if found.spots >= FEWEST_SPOTS:
        return f"{found.spots} spots are brighter than noise can be"
    if not found.measurable:
        return ""
    if found.varied_regions > MOST_VARIED:
        return f"{found.varied_regions:.0%} of the regions vary more than twice as much as the noise"
    if found.residual_correlation > found.correlation + MOST_CORRELATION:
        return (
            f"neighbouring pixels correlate by {found.residual_correlation:.2f}, those of the noise by "
            f"{found.correlation:.2f}"
        )
    return ""
