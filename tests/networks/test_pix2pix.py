"""pix2pix: published parameter counts and logit sizes, the generator's noise, the discriminator's reach."""

import numpy as np
import pytest
import torch
from torch import nn

from ddpm_lightning.networks.pix2pix import PatchDiscriminator, Pix2PixGenerator, dropout, normal_init_


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def draw_noise(generator: Pix2PixGenerator, batch: int, side: int) -> list[torch.Tensor]:
    return [torch.rand(batch, *shape) for shape in generator.noise_shapes(side, side)]


def small_generator(num_downs: int = 7) -> Pix2PixGenerator:
    """A narrow generator with weights large enough that its innermost levels reach the output."""
    torch.manual_seed(0)
    network = Pix2PixGenerator(num_downs=num_downs, filters=4)
    normal_init_(network, std=0.2)
    return network


@pytest.mark.parametrize(
    ("arguments", "settings", "expected"),
    [((1, 1), {}, 54_407_809), ((3, 3), {}, 54_413_955), ((1, 1), {"num_downs": 7}, 41_822_849)],
)
def test_generator_parameter_counts(arguments, settings, expected):
    with torch.device("meta"):
        assert count(Pix2PixGenerator(*arguments, **settings)) == expected


@pytest.mark.parametrize(("channels", "expected"), [((1, 1), 2_764_609), ((3, 3), 2_768_705)])
def test_discriminator_parameter_counts(channels, expected):
    with torch.device("meta"):
        assert count(PatchDiscriminator(*channels)) == expected


@pytest.mark.parametrize(("side", "logits"), [(256, 30), (128, 14), (64, 6), (24, 1)])
def test_logit_sizes(side, logits):
    with torch.device("meta"):
        image = torch.rand(2, 1, side, side)
        assert PatchDiscriminator()(image, image).shape == (2, 1, logits, logits)


def test_generator_sizes_on_the_published_network():
    with torch.device("meta"):
        network = Pix2PixGenerator()
        assert network.size_divisor == 256
        assert network(torch.rand(1, 1, 256, 512)).shape == (1, 1, 256, 512)
    assert network.noise_shapes(256, 512) == [(512, 4, 8), (512, 8, 16), (512, 16, 32)]


def test_discriminator_sees_70_pixels():
    torch.manual_seed(0)
    network = PatchDiscriminator(filters=4).double().eval()
    image = torch.rand(1, 1, 128, 128, dtype=torch.double, requires_grad=True)
    network(image.detach(), image)[0, 0, 7, 7].backward()
    touched = image.grad[0, 0] != 0
    assert touched.any(dim=1).sum() == touched.any(dim=0).sum() == 70


def test_generator_is_a_function_of_image_and_noise():
    network = small_generator().double().eval()
    images, noise = torch.rand(3, 1, 128, 128).double() * 2 - 1, draw_noise(network, 3, 128)
    together = network(images, noise)
    assert together.abs().max() <= 1
    assert not torch.allclose(together, network(images, draw_noise(network, 3, 128)))
    for i in range(3):
        alone = network(images[i : i + 1], [z[i : i + 1] for z in noise])
        torch.testing.assert_close(alone, together[i : i + 1])


def test_dropout_without_noise_follows_the_mode():
    network = small_generator().eval()
    image = torch.rand(2, 1, 128, 128)
    assert torch.equal(network(image), network(image))
    network.train()
    assert not torch.equal(network(image), network(image))
    with torch.device("meta"):
        assert Pix2PixGenerator(num_downs=5).noise_shapes(32, 32) == []


def test_dropout_agrees_with_its_definition():
    rng = np.random.default_rng(0)
    image, noise = rng.normal(size=(2, 3, 4, 4)), rng.random((4000, 2, 3, 4, 4))
    dropped = dropout(torch.from_numpy(image), 0.25, torch.from_numpy(noise))
    np.testing.assert_allclose(dropped.numpy(), np.where(noise < 0.25, 0, image / 0.75))
    standard_error = np.abs(image) * np.sqrt(0.25 / 0.75 / 4000)
    assert np.all(np.abs(dropped.mean(0).numpy() - image) < 5 * standard_error)


def test_normal_start():
    torch.manual_seed(0)
    network = Pix2PixGenerator(num_downs=5, filters=16)
    weights = [
        layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    flat = torch.cat([weight.detach().flatten() for weight in weights])
    assert abs(flat.mean()) < 1e-4 and abs(flat.std() - 0.02) < 1e-4
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    flat = torch.cat([norm.weight.detach() for norm in norms])
    assert abs(flat.mean() - 1) < 0.005 and abs(flat.std() - 0.02) < 0.005
    assert not any(norm.bias.any() for norm in norms) and not network.ups[0][1].bias.any()


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_every_parameter_has_a_finite_gradient(name):
    image = torch.rand(2, 1, 128, 128)
    network = small_generator() if name == "generator" else PatchDiscriminator(filters=4)
    restored = network(image) if name == "generator" else network(image, image)
    restored.square().mean().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name
        if parameter.ndim == 4:
            assert parameter.grad.abs().sum() > 0, parameter_name


def test_sizes_that_do_not_fit():
    network = small_generator()
    with pytest.raises(ValueError, match="128 x 192 pixels.*divisible by 128"):
        network(torch.rand(1, 1, 128, 192))
    with pytest.raises(ValueError, match="divisible by 128"):
        network.noise_shapes(64, 64)
    with pytest.raises(ValueError, match="noise must hold 2 tensors, not 0"):
        network(torch.rand(1, 1, 128, 128), [])
    with pytest.raises(ValueError, match="at least 24 pixels"):
        PatchDiscriminator(filters=4)(torch.rand(1, 1, 23, 64), torch.rand(1, 1, 23, 64))
    for depth in (4, 17):
        with pytest.raises(ValueError, match=f"num_downs must be 5 to 16, not {depth}"):
            Pix2PixGenerator(num_downs=depth)
    for depth in (0, 17):
        with pytest.raises(ValueError, match=f"layers must be 1 to 16, not {depth}"):
            PatchDiscriminator(layers=depth)
    with pytest.raises(ValueError, match="dropout_probability"):
        Pix2PixGenerator(dropout_probability=1.0)
