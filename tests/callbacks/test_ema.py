import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from ddpm_lightning.callbacks.ema import EMA


class Ramp(lightning.LightningModule):
    """A single weight that each step raises by 1, and a buffer."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.seen_in_validation = []

    def training_step(self, batch, batch_idx):
        self.steps += 1
        return -self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.seen_in_validation.append((self.weight[0].item(), self.training))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(tmp_path, decay, steps):
    model, loader = Ramp(), DataLoader(torch.zeros(steps), batch_size=1)
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[EMA(decay), lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, filename="a")],
    )
    trainer.fit(model, loader, DataLoader(torch.zeros(1)))
    return model, torch.load(tmp_path / "a.ckpt", weights_only=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_follows_its_formula(tmp_path, decay):
    model, checkpoint = fit(tmp_path, decay, steps=20)
    average = 1.0  # the first step is copied
    for n in range(1, 20):
        d = min(decay, (1 + n) / (10 + n))
        average = d * average + (1 - d) * (n + 1)
    assert checkpoint["state_dict"]["weight"].tolist() == pytest.approx([average] * 3, rel=1e-5)
    assert checkpoint["current_model_state"]["weight"].tolist() == [20.0] * 3
    assert model.seen_in_validation == [(pytest.approx(average, rel=1e-5), False)]


@pytest.mark.filterwarnings("ignore")
def test_buffers_are_not_averaged(tmp_path):
    _, checkpoint = fit(tmp_path, 0.9, steps=5)
    assert checkpoint["current_model_state"]["steps"] == 5
    assert checkpoint["state_dict"]["steps"] in (0, 5)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_impossible_decays_are_refused(decay):
    with pytest.raises(ValueError, match=r"callbacks\.ema\.decay"):
        EMA(decay)
