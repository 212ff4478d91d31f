"""UNet-RCAN: two stages, both trained against the clean image; the second is the prediction.

References:
    Ebrahimi et al. *Deep learning enables fast, gentle STED microscopy* (2023),
    https://doi.org/10.1038/s42003-023-05054-z
"""

from torch import Tensor, nn

from ddpm_lightning.models.losses import unet_rcan_loss
from ddpm_lightning.models.method import Apply, Batch, LossKey, apply_directly
from ddpm_lightning.models.regression import DeterministicRegressor, from_unit, to_unit

__all__ = ["UNetRCANRegression"]


class UNetRCANRegression(DeterministicRegressor):
    """Deep supervision of both stages by root mean square errors of the image and of its edges.

    The authors divide every image and patch by its maximum, and so lose absolute intensities; here images keep the
    scale of the data set.

    Args:
        network: Maps images (B, 1, H, W) to the outputs of both stages.
        edge_weight: Weight of the error of the Laplacian.
        norm_factor: Divisor of the squared errors: 1 originally, 2 in the authors' notebook.
    """

    def __init__(self, network: nn.Module, edge_weight: float = 0.05, norm_factor: float = 1.0) -> None:
        super().__init__(network)
        self.edge_weight, self.norm_factor = edge_weight, norm_factor

    def estimate(self, low: Tensor, apply: Apply = apply_directly) -> Tensor:
        """Returns the output of the second stage for low images with shape (B, 1, H, W), float32."""
        return from_unit(apply(lambda images: self.network(images)[1], to_unit(low)).float())

    def loss(self, batch: Batch, key: LossKey) -> Tensor:
        """Returns the errors of both stages; see :meth:`Method.loss`.

        Returns:
            Sum over the stages of the root mean square errors of image and edges, on the scale [0, 1]; a scalar.
        """
        stages = [stage.float() for stage in self.network(to_unit(batch["low"]))]
        return unet_rcan_loss(
            stages, to_unit(batch["high"]), edge_weight=self.edge_weight, norm_factor=self.norm_factor
        )
