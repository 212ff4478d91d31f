"""The LightningModule that trains all methods: clipping, names of weights, keys."""

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from ddpm_lightning.models.method import LossKey, Method
from ddpm_lightning.training.lr_schedules import Plateau
from ddpm_lightning.training.module import LightningMethod


class Steep(Method):
    """One number whose loss has the gradient 100."""

    def __init__(self):
        super().__init__()
        self.number = torch.nn.Parameter(torch.tensor([0.0]))
        self.keys = []

    def loss(self, batch, key):
        self.keys.append(key)
        return 100 * self.number.sum()

    def sample(self, low, noise, apply=None):
        return low


class Scripted(Steep):
    """Its validation losses are those of a list."""

    def __init__(self, losses):
        super().__init__()
        self.losses = iter(losses)

    def validation_loss(self, batch, key):
        return torch.tensor(next(self.losses))


def fit(module, folder, validation=None, **settings):
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **settings,
    )
    trainer.fit(module, DataLoader([{"low": torch.zeros(1)}] * 2), validation)
    return trainer


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_clipped_whatever_the_optimiser(precision, fused, algorithm, tmp_path):
    module = LightningMethod(Steep(), lambda parameters: torch.optim.SGD(parameters, lr=1.0, fused=fused))
    clipping = {"gradient_clip_val": 0.5, "gradient_clip_algorithm": algorithm}
    fit(module, tmp_path, max_steps=1, precision=precision, **clipping)
    assert module.method.number.item() == pytest.approx(-0.5, rel=1e-4)


def test_each_step_has_its_own_key(tmp_path):
    module = LightningMethod(Steep(), lambda parameters: torch.optim.SGD(parameters, lr=0.1), seed=7)
    fit(module, tmp_path, max_steps=3)
    assert module.method.keys == [LossKey.of_step(7, step) for step in range(3)]
    assert len({key.stream for key in module.method.keys}) == 3


def test_weights_have_the_names_of_the_method_wherever_the_module_is_wrapped(tmp_path):
    module = LightningMethod(Steep(), lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    assert set(module.state_dict()) == set(module.method.state_dict()) == {"number"}
    outer = torch.nn.ModuleDict({"inner": module})
    assert set(outer.state_dict()) == {"inner.number"}
    for target, prefix in ((module, ""), (outer, "inner.")):
        target.load_state_dict({f"{prefix}number": torch.tensor([len(prefix) + 1.0])}, strict=True)
        assert module.method.number.item() == len(prefix) + 1
    trainer = fit(module, tmp_path, max_steps=2)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert set(content["state_dict"]) == {"number"} and content["card"] == {}


#: Validations of ten epochs of two batches each: settings of the trainer, and how many.
VALIDATIONS = [
    ({"check_val_every_n_epoch": 1}, 10),
    ({"check_val_every_n_epoch": 5}, 2),
    ({"check_val_every_n_epoch": 1, "val_check_interval": 1}, 20),
    ({"check_val_every_n_epoch": None, "val_check_interval": 4}, 5),
]


@pytest.mark.parametrize(("often", "count"), VALIDATIONS)
@pytest.mark.parametrize("improves", [True, False])
def test_a_plateau_schedule_counts_validations_whatever_the_epochs(often, count, improves, tmp_path):
    """Epochs without a validation have no new loss: they are no reason to lower the rate."""
    losses = [1.0 / (number + 1) if improves else 1.0 for number in range(count)]
    module = LightningMethod(
        Scripted(losses), lambda parameters: torch.optim.SGD(parameters, lr=1.0), Plateau(0.5, patience=1)
    )
    loader = DataLoader([{"low": torch.zeros(1)}])
    trainer = fit(module, tmp_path, loader, max_epochs=10, num_sanity_val_steps=0, **often)
    assert next(module.method.losses, None) is None
    # Of equal losses the first is the best, and every second one after it lowers the rate.
    falls = 0 if improves else (count - 1) // 2
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.5**falls
