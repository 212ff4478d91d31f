"""The wiring of UNet-RCAN; its network and its loss have tests of their own."""

import torch
from torch import nn

from ddpm_lightning.models.losses import unet_rcan_loss
from ddpm_lightning.models.method import LossKey
from ddpm_lightning.models.unet_rcan import UNetRCANRegression


class TwoStages(nn.Module):
    size_divisor = 8

    def forward(self, x):
        return x * 0.5, x * 0.9


def model(**settings):
    return UNetRCANRegression(TwoStages(), **settings)


def test_the_second_stage_is_the_prediction_and_both_learn():
    generator = torch.Generator().manual_seed(0)
    low, high = torch.rand(2, 2, 1, 16, 16, generator=generator) * 2 - 1
    unit_low, unit_high = (low + 1) / 2, (high + 1) / 2
    torch.testing.assert_close(model().estimate(low), 2 * 0.9 * unit_low - 1)
    for settings in ({}, {"edge_weight": 0.3, "norm_factor": 2.0}):
        expected = unet_rcan_loss([0.5 * unit_low, 0.9 * unit_low], unit_high, **settings)
        torch.testing.assert_close(
            model(**settings).loss({"low": low, "high": high}, LossKey(0, 0, 0)), expected
        )


def test_protocol():
    assert (model().size_divisor, model().evaluations, model().deterministic) == (8, 1, True)
