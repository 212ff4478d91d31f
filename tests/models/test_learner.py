"""What all methods share while they learn."""

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from ddpm_lightning.models.learner import Learner


class Steep(Learner):
    """One number whose loss has the gradient 100."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.number = torch.nn.Parameter(torch.tensor([0.0]))

    def training_step(self, batch, batch_idx):
        return 100 * self.number.sum()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_clipped_whatever_the_optimiser(precision, fused, algorithm, tmp_path):
    model = Steep(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0, fused=fused))
    trainer = lightning.Trainer(
        accelerator="cpu",
        precision=precision,
        max_steps=1,
        gradient_clip_val=0.5,
        gradient_clip_algorithm=algorithm,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, DataLoader([torch.zeros(1)] * 2))
    assert model.number.item() == pytest.approx(-0.5, rel=1e-4)
