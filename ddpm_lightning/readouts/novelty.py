r"""Whether an image belongs to the images of a calibration.

Each image is described by a few features. In the bag of the calibration images and the new one, each has a Mahalanobis
distance from the mean of the bag; the p-value of the new image is the share of the bag that is at least as far away. As
all distances are the same function of the bag, an image that is exchangeable with the others has a p-value of at most
:math:`\alpha` with a probability of at most :math:`\alpha` (conformal anomaly detection; Laxhammar and Falkman, 2010).
"""

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["MOST_UNUSUAL", "novelty"]

#: p-value up to which an image counts as of another kind.
MOST_UNUSUAL = 0.05
#: Weight of the unit matrix in the correlations of the features, which are estimated from few images.
SHRINKAGE = 0.2


def novelty(seen: Mapping[str, Sequence[float]], features: Mapping[str, float]) -> float:
    """Returns the p-value of an image.

    Args:
        seen: The value of each calibration image by feature.
        features: Those of the image; others are left aside.
    """
    names = [name for name in seen if name in features]
    bag = np.array([[*seen[name], features[name]] for name in names]).T
    centred = bag - bag.mean(axis=0)
    std = centred.std(axis=0)
    scaled = centred[:, std > 0] / std[std > 0]
    if not scaled.size:
        return 1.0
    correlation = scaled.T @ scaled / len(scaled)
    matrix = (1 - SHRINKAGE) * correlation + SHRINKAGE * np.eye(len(correlation))
    distance = np.einsum("ij,ij->i", scaled @ np.linalg.inv(matrix), scaled)
    return float((distance >= distance[-1] * (1 - 1e-9)).mean())
