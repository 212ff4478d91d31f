"""Trains on the first batch only: a model that cannot fit it has a bug."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

__all__ = ["Overfit"]


class Overfit(Callback):
    """Replaces every batch by the first; the noise of diffusion models still changes at each step."""

    def __init__(self) -> None:
        self._first: dict[str, Any] | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict, batch_idx: int
    ) -> None:
        """Replaces the contents of the batch."""
        self._first = self._first or dict(batch)
        batch.update(self._first)
