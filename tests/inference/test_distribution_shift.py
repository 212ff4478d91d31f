"""Warnings where an image is unlike the training, and silence where it is not."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.inference.distribution_shift import DistributionShiftCheck, structure
from ddpm_lightning.metrics.input_statistics import SeenInputs
from tests.trained import write_checkpoint


def image(seed, noise=8.0, side=96, gain=1.0):
    """Blurred structure from about 0 to 100 with noise, which the model's scale maps to about [-1, 1]."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(side, side)), 3)
    return (gain * (50 + 15 * smooth / smooth.std()) + rng.normal(0, noise, (side, side))).astype(np.float32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt")
    content = torch.load(path, weights_only=True)
    content["card"]["inputs"] = SeenInputs.of(image(seed) / 50 - 1 for seed in range(32)).state()
    content["card"]["pixel_size_um"] = 0.1
    torch.save(content, path)
    return load(path)


def warnings(trained, planes, pixel_size=None):
    trust = DistributionShiftCheck(trained)
    return trust.warnings([trust.describe(plane) for plane in planes], pixel_size)


def test_images_of_the_same_kind_pass(trained):
    assert DistributionShiftCheck(trained).checks == ["intensity", "blank", "noise", "spectrum", "pixel size"]
    warned = [
        bool(warnings(trained, [image(seed, side=96 + seed % 64)], (0.1, 0.11))) for seed in range(100, 120)
    ]
    assert sum(warned) <= 1


@pytest.mark.parametrize(
    ("noise", "ratio", "extreme"), [(24.0, 3.0, "noisiest"), (1.6, 0.2, "cleanest")], ids=["noisy", "clean"]
)
def test_another_noise_level_is_named_with_its_ratio(trained, noise, ratio, extreme):
    (line,) = (line for line in warnings(trained, [image(200, noise=noise)]) if line.startswith("noise: "))
    assert float(line.split()[1]) == pytest.approx(ratio, rel=0.1) and extreme in line


def test_another_brightness_is_named(trained):
    lines = warnings(trained, [image(200, gain=2.5)])
    assert any(line.startswith("intensity: its mean is at 1.") for line in lines), lines


def test_a_blurred_image_lacks_power_at_short_periods(trained):
    lines = warnings(trained, [gaussian_filter(image(200), 2)])
    (line,) = (line for line in lines if line.startswith("spectrum"))
    assert "times less power" in line and "periods of 2 to 3.1 pixels" in line


def test_an_image_without_large_structure_needs_no_warning_but_one_with_more_does(trained):
    """A high-pass filter removes the power at periods above 20 pixels."""
    plain = image(200)
    large = gaussian_filter(plain, 4) - plain.mean()
    features = DistributionShiftCheck(trained).describe(plain - large)
    assert any(
        name.startswith("power_") for name in SeenInputs.load(trained.card["inputs"]).outside(features)
    )
    assert not any(line.startswith("spectrum") for line in warnings(trained, [plain - large]))
    (line,) = (line for line in warnings(trained, [plain + 4 * large]) if line.startswith("spectrum"))
    assert "times more power" in line


@pytest.mark.parametrize(("size", "warned"), [((0.1, 0.1), False), ((0.12, 0.12), False), ((0.2, 0.2), True)])
def test_pixel_sizes_are_compared(trained, size, warned):
    lines = [line for line in warnings(trained, [image(300)], size) if line.startswith("pixel size")]
    assert bool(lines) == warned
    if warned:
        assert "structures are 0.5 times as large in pixels" in lines[0]


def test_planes_that_differ_are_counted(trained):
    (line,) = (
        line
        for line in warnings(trained, [image(1), image(2, noise=24.0), image(3, noise=24.0)])
        if line.startswith("noise")
    )
    assert line.endswith("(in 2 of 3 planes)")


def test_an_older_checkpoint_knows_the_range_alone(tmp_path):
    path = write_checkpoint(tmp_path / "best.ckpt")
    content = torch.load(path, weights_only=True)
    del content["card"]["inputs"]
    torch.save(content, path)
    trained = load(path)  # its training images reached from -1 to 1 on its scale
    assert DistributionShiftCheck(trained).checks == ["intensity", "blank"]
    assert warnings(trained, [image(0)]) == []
    assert warnings(trained, [image(0, gain=4.0)])[0].startswith("intensity: its extreme is at")


@pytest.mark.parametrize("side", [96, 512])
def test_fields_of_noise_alone_are_called_blank(trained, side):
    rng = np.random.default_rng(0)
    assert structure(rng.normal(3, 2.0, (side, side))) == pytest.approx(1, abs=0.12)
    lines = warnings(trained, [rng.poisson(40, (side, side)).astype(np.float32)])
    assert any(line.startswith("blank: no structure is visible") for line in lines)
    assert not any(line.startswith("blank") for line in warnings(trained, [image(3, side=side)]))


def test_the_noise_of_an_image_with_a_scale_of_its_own_is_kept_low_and_named_all_the_same(tmp_path):
    path = write_checkpoint(tmp_path / "best.ckpt", per_image=True)
    content = torch.load(path, weights_only=True)
    scaling = load(path).normalisation.input
    content["card"]["inputs"] = SeenInputs.of(
        scaling.scale(image(seed)).normalise(image(seed)) for seed in range(32)
    ).state()
    torch.save(content, path)
    trained, blank = load(path), np.random.default_rng(0).normal(50, 8, (96, 96))
    seen = max(content["card"]["inputs"]["noise"])
    assert trained.normalisation.input.scale(blank, trained.most_noise).normalise(
        blank
    ).std() == pytest.approx(1.25 * seen, rel=0.05)
    assert trained.normalisation.input.scale(image(5), trained.most_noise) == scaling.scale(image(5))
    (line,) = (line for line in warnings(trained, [blank]) if line.startswith("noise: "))
    assert float(line.split()[1]) > 2
    assert warnings(trained, [image(100)]) == []


def test_large_images_are_measured_in_their_center(trained):
    large = np.full((1500, 1400), 50, np.float32)
    large[238:1262, 188:1212] = image(5, side=1024)
    trust = DistributionShiftCheck(trained)
    assert trust.describe(large) == trust.describe(image(5, side=1024))
