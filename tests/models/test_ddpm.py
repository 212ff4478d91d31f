"""The wiring of the diffusion model: losses, samples, keys; its parts have tests of their own."""

import pytest
import torch
from torch import nn

from ddpm_lightning.diffusion.objective import Objective
from ddpm_lightning.diffusion.process import per_image
from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.diffusion.samplers import DDIM, Ancestral
from ddpm_lightning.diffusion.schedule import CosineSchedule
from ddpm_lightning.models.ddpm import DDPM
from ddpm_lightning.models.sampling import pad_to_multiple, samples_of
from ddpm_lightning.networks.mp_unet import MPUNet

STD = 0.25


class Exact(nn.Module):
    """The best predictor of v for y_0 ~ N(low, STD²), at every level; the label tells alpha_bar."""

    size_divisor = 4

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, label):
        y_t, low = x.split(1, dim=1)
        level = per_image(label, y_t)
        y_0 = low + STD**2 * level.sqrt() / (level * STD**2 + 1 - level) * (y_t - level.sqrt() * low)
        return (level.sqrt() * y_t - y_0) / (1 - level).sqrt()


def ddpm(network=None, sampler=None, **settings):
    return DDPM(
        network or Exact(),
        CosineSchedule(200),
        Objective("v"),
        sampler or Ancestral(),
        **settings,
    )


def small_network():
    torch.manual_seed(0)
    network = MPUNet(base=8, multipliers=(1, 2), blocks=1, channels_per_head=8, dropout=0.0)
    for name, parameter in network.named_parameters():
        if name.endswith("gain"):
            nn.init.constant_(parameter, 0.5)
    return network


def test_samples_have_the_mean_and_standard_deviation_of_the_posterior():
    low = torch.linspace(-0.4, 0.4, 64 * 64).reshape(1, 1, 64, 64)
    samples = torch.cat(list(samples_of(ddpm(), low, "image", range(16)))).double()
    assert (samples.mean(0) - low[0]).abs().mean() < 1.2 * STD / 16**0.5
    assert samples.var(0).mean().sqrt().item() == pytest.approx(STD, rel=0.05)


def test_samples_are_the_same_alone_and_in_any_batch():
    model, low = ddpm(small_network(), DDIM(5)).eval(), torch.randn(1, 1, 18, 22)
    one_by_one = list(samples_of(model, low, "image", range(5), batch=1))
    for batch in (2, 5):
        for ours, other in zip(
            samples_of(model, low, "image", range(5), batch=batch), one_by_one, strict=True
        ):
            torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)
    (late,) = samples_of(model, low, "image", [3])
    torch.testing.assert_close(late, one_by_one[3], rtol=1e-4, atol=1e-5)
    assert all(sample.shape == low.shape for sample in one_by_one)


def test_samples_of_two_images_in_a_batch_equal_those_of_each():
    model, low = ddpm(small_network(), Ancestral(4)).eval(), torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        together = model.sample(low, KeyedNoise(0, ["a", "b"], [0, 0]))
        for row, image in enumerate("ab"):
            alone = model.sample(low[row : row + 1], KeyedNoise(0, [image], [0]))
            torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


def test_estimates_stay_inside_of_the_bounds():
    model = ddpm(sampler=Ancestral(5))
    model.bounds = (-0.1, 0.2)
    (sample,) = samples_of(model, torch.zeros(1, 1, 16, 16), "image", [0])
    assert sample.min() >= -0.1 and sample.max() <= 0.2


@pytest.mark.parametrize(("size", "expected"), [((8, 8), (8, 8)), ((9, 13), (12, 16)), ((1, 3), (4, 4))])
def test_canvases_are_padded_at_bottom_and_right(size, expected):
    image = torch.randn(1, 1, *size)
    padded = pad_to_multiple(image, 4)
    assert padded.shape[-2:] == expected
    assert torch.equal(padded[..., : size[0], : size[1]], image)


def test_the_loss_of_the_exact_network_is_the_posterior_variance():
    """E[(v - E v)²] = Var(y_0 | y_t) / (1 - alpha_bar), in closed form."""
    generator = torch.Generator().manual_seed(0)
    low = torch.zeros(4, 1, 128, 128)
    batch = {"low": low, "high": STD * torch.randn(low.shape, generator=generator)}
    levels = torch.tensor([0.05, 0.4, 0.8, 0.99], dtype=torch.float64)
    losses = ddpm().losses(batch, levels, torch.randn(low.shape, generator=generator))
    variance = STD**2 * (1 - levels) / (levels * STD**2 + 1 - levels)
    torch.testing.assert_close(losses.double(), variance / (1 - levels), rtol=0.04, atol=0)


def test_labels():
    seen = []

    class Spy(Exact):
        def forward(self, x, label):
            seen.append(label)
            return x[:, :1]

    y_t, levels = torch.zeros(2, 1, 4, 4), torch.tensor([0.5, 0.9], dtype=torch.float64)
    ddpm(Spy()).predict(y_t, levels, y_t)
    ddpm(Spy(), label="log_snr").predict(y_t, levels, y_t)
    torch.testing.assert_close(seen[0], levels.float())
    torch.testing.assert_close(seen[1], torch.logit(levels).float() / 4, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="alpha_bar, log_snr"):
        ddpm(label="t")


def test_the_preset_is_named():
    assert ddpm(sampler=DDIM(10)).preset == "ddim with 10 of 200 steps"
    assert ddpm(sampler=Ancestral()).evaluations == 200
