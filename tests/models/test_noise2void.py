"""Noise2Void as a method: it never sees the clean image, and its blind spots are keyed."""

import pytest
import torch
from torch import nn

from ddpm_lightning.models.noise2void import Noise2Void
from ddpm_lightning.networks.unet import UNet

SETTINGS = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1)}


class Untouchable:
    """A clean image that nothing may be done with."""

    def __getattribute__(self, name):
        raise AssertionError(f"the clean image was touched: {name}")


class Identity(nn.Module):
    size_divisor = 1

    def forward(self, x):
        self.seen = x
        return x


def low(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 1, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def logged(monkeypatch):
    found = {}
    monkeypatch.setattr(Noise2Void, "log", lambda self, name, value, **_: found.update({name: value.item()}))
    monkeypatch.setattr(Noise2Void, "step_seed", property(lambda self: self.step))
    return found


def test_the_clean_image_is_never_touched(logged):
    model = Noise2Void(UNet(first_filters=4, residual=False, batch_norm=True), **SETTINGS)
    batch = {"low": low(), "high": Untouchable()}
    model.step = 0
    model.training_step(batch, 0).backward()
    model.validation_step(batch, 0)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert set(logged) == {"train/loss", "val/loss"}


def test_blind_spots_change_with_the_step_and_are_fixed_in_validation(logged):
    model, batch = Noise2Void(Identity(), **SETTINGS), {"low": low()}
    losses = []
    for model.step in (1, 2, 1):
        losses.append(model.training_step(batch, 0).item())
        assert not torch.equal(model.network.seen, (batch["low"] + 1) / 2), "the network sees blind spots"
    assert losses[0] == losses[2] != losses[1]
    model.validation_step(batch, 0)
    first = logged["val/loss"]
    model.step = 77
    model.validation_step(batch, 0)
    assert logged["val/loss"] == first > 0


def test_outputs_are_on_the_scale_of_the_low_image():
    assert torch.allclose(Noise2Void(Identity(), **SETTINGS).estimate(low()), low(), atol=1e-6)


def test_structures_hide_more_than_the_pixels_that_count():
    plain, structured = (
        Noise2Void(Identity(), structure=structure, **SETTINGS)
        for structure in (None, {"span": 11, "orientation": "vertical"})
    )
    hidden = []
    for model in (plain, structured):
        model.blind_loss(low(), 0)
        hidden.append((model.network.seen != (low() + 1) / 2).sum().item())
    assert hidden[1] > 8 * hidden[0] > 0


@pytest.mark.parametrize(
    "settings", [{"percent": 0.0}, {"radius": 0}, {"replacement": "mean"}, {"error": "huber"}]
)
def test_settings_that_cannot_be_are_refused_at_once(settings):
    with pytest.raises(ValueError, match="must"):
        Noise2Void(Identity(), **settings, **SETTINGS)
