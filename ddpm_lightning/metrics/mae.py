r"""Mean absolute error, in the unit of the images.

.. math:: \mathrm{MAE} = \frac{1}{N} \sum_i |\hat y_i - y_i|

It depends on the intensity scale, so always state the protocol with it; in sparse images it is dominated by the
background.
"""

from torch import Tensor

from ddpm_lightning.metrics.per_image import checked_pair


def mae(*, prediction: Tensor, target: Tensor) -> Tensor:
    """Returns the mean absolute error of each image, shape (B,), in float64.

    Args:
        prediction: Restored images with shape (B, C, H, W), in any unit.
        target: Clean images with shape (B, C, H, W), in the unit of the prediction.
    """
    predicted, wanted = checked_pair(prediction=prediction, target=target)
    return (predicted - wanted).abs().mean(dim=1)
