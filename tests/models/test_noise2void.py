"""Noise2Void as a method: it never sees the clean image, and its blind spots are keyed."""

import pytest
import torch
from torch import nn

from ddpm_lightning.models.method import LossKey
from ddpm_lightning.models.noise2void import Noise2Void
from ddpm_lightning.networks.unet import UNet


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


def test_the_clean_image_is_never_touched():
    model = Noise2Void(UNet(first_filters=4, residual=False, batch_norm=True))
    batch = {"low": low(), "high": Untouchable(), "name": ["a", "b"]}
    model.loss(batch, LossKey.of_step(0, 0)).backward()
    model.validation_loss(batch, LossKey.of_validation(0))
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_blind_spots_change_with_the_step_and_are_fixed_in_validation():
    model, batch = Noise2Void(Identity()), {"low": low()}
    losses = []
    for step in (1, 2, 1):
        losses.append(model.loss(batch, LossKey.of_step(0, step)).item())
        assert not torch.equal(model.network.seen, (batch["low"] + 1) / 2), "the network sees blind spots"
    assert losses[0] == losses[2] != losses[1]
    validated = [model.validation_loss(batch, LossKey.of_validation(number)).item() for number in (0, 1, 0)]
    assert validated[0] == validated[2] != validated[1]


def test_outputs_are_on_the_scale_of_the_low_image():
    assert torch.allclose(Noise2Void(Identity()).estimate(low()), low(), atol=1e-6)


def test_structures_hide_more_than_the_pixels_that_count():
    plain, structured = (
        Noise2Void(Identity(), structure=structure)
        for structure in (None, {"span": 11, "orientation": "vertical"})
    )
    hidden = []
    for model in (plain, structured):
        model.loss({"low": low()}, LossKey.of_validation(0))
        hidden.append((model.network.seen != (low() + 1) / 2).sum().item())
    assert hidden[1] > 8 * hidden[0] > 0


@pytest.mark.parametrize(
    "settings", [{"percent": 0.0}, {"radius": 0}, {"replacement": "mean"}, {"error": "huber"}]
)
def test_settings_that_cannot_be_are_refused_at_once(settings):
    with pytest.raises(ValueError, match="must"):
        Noise2Void(Identity(), **settings)
