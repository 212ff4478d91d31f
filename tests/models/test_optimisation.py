import pytest
import torch

from ddpm_lightning.models.optimisation import linear_fall, plateau


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_linear_fall_is_that_of_pix2pix():
    """100 epochs constant and 100 falling: 1 - max(0, epoch + 1 - 100) / 101."""
    sgd = optimizer()
    scheduler = linear_fall(sgd, total_steps=200)["scheduler"]
    for epoch in range(200):
        assert sgd.param_groups[0]["lr"] == pytest.approx(1 - max(0, epoch + 1 - 100) / 101)
        sgd.step()
        scheduler.step()


def test_plateau_waits_then_falls():
    sgd = optimizer()
    description = plateau(sgd, total_steps=1, factor=0.2, patience=2)
    assert description["monitor"] == "val/loss" and description["interval"] == "epoch"
    rates = []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.9, 0.8):
        description["scheduler"].step(loss)
        rates.append(sgd.param_groups[0]["lr"])
    assert rates == pytest.approx([1, 1, 1, 1, 0.2, 0.2])
