"""LPIPS: the published values with genuine weights; conventions with a random backbone."""

import copy
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from skimage.io import imread

from ddpm_lightning.metrics.backbone import SHAPES
from ddpm_lightning.metrics.collection import score
from ddpm_lightning.metrics.lpips import Lpips
from ddpm_lightning.metrics.torchmetrics_classes import LPIPS
from ddpm_lightning.utils.errors import UserError


def random_features(seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights of the right shape that are no ImageNet weights: they test conventions, not values."""
    generator = torch.Generator().manual_seed(seed)
    features = {}
    for layer, shape in SHAPES.items():
        features[f"{layer}.weight"] = torch.randn(shape, generator=generator) / np.sqrt(np.prod(shape[1:]))
        features[f"{layer}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    return features


@pytest.fixture(scope="module")
def random_lpips() -> Lpips:
    return Lpips(random_features())


def grey(side: int = 64, batch: int = 1) -> torch.Tensor:
    return 2 * torch.rand(batch, 1, side, side + 3, generator=torch.Generator().manual_seed(1)) - 1


@pytest.mark.parametrize(("name", "value"), [("ex_p0", 0.722), ("ex_p1", 0.138)])
def test_the_published_values(shared: Path, name: str, value: float) -> None:
    lpips = Lpips.load(shared / "weights" / "alexnet_features_imagenet.safetensors")
    images = {}
    for key, file in (("prediction", name), ("target", "ex_ref")):
        pixels = imread(shared / "weights" / "lpips_check" / f"{file}.png")[..., :3]
        images[key] = torch.tensor(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    assert lpips(**images).item() == pytest.approx(value, abs=5e-4)


def test_the_linear_layers_are_the_published_ones(shared: Path, random_lpips: Lpips) -> None:
    published = safetensors.torch.load_file(shared / "weights" / "lpips_lin_alex_v0.1.safetensors")
    state = random_lpips._network.state_dict()
    for name, tensor in published.items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)


def test_the_formula_written_out(random_lpips: Lpips) -> None:
    target = grey()
    prediction = (target + 0.3 * torch.randn(target.shape, generator=torch.Generator().manual_seed(2))).clamp(
        -1, 1
    )
    features, state = random_features(), random_lpips._network.state_dict()
    shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    pair = [(image.expand(-1, 3, -1, -1) - shift) / scale for image in (prediction, target)]
    expected = 0.0
    for index, (layer, stride, padding) in enumerate(
        zip(SHAPES, (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), strict=True)
    ):
        if index in (1, 2):
            pair = [torch.nn.functional.max_pool2d(image, 3, 2) for image in pair]
        weights = features[f"{layer}.weight"], features[f"{layer}.bias"]
        pair = [torch.conv2d(image, *weights, stride=stride, padding=padding).relu() for image in pair]
        one, two = (image / (image.norm(dim=1, keepdim=True) + 1e-10) for image in pair)
        linear = state[f"lin{index}.model.1.weight"]
        expected += (linear * (one - two).square()).sum(dim=1).mean().item()
    assert random_lpips(prediction=prediction, target=target).item() == pytest.approx(expected, rel=1e-5)


def test_distance_symmetry_and_growth(random_lpips: Lpips) -> None:
    target = grey(batch=2)
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(3))
    near, far = target + 0.05 * noise, target + 0.4 * noise
    assert random_lpips(prediction=target, target=target).tolist() == [0.0, 0.0]
    near_value = random_lpips(prediction=near, target=target)
    torch.testing.assert_close(near_value, random_lpips(prediction=target, target=near))
    assert (random_lpips(prediction=far, target=target) > near_value).all()


def test_grey_is_repeated_and_values_are_clamped(random_lpips: Lpips) -> None:
    target, prediction = grey(), 3 * grey().flip(-1)
    expected = random_lpips(
        prediction=prediction.clamp(-1, 1).repeat(1, 3, 1, 1), target=target.repeat(1, 3, 1, 1)
    )
    torch.testing.assert_close(random_lpips(prediction=prediction, target=target), expected)


def test_mixed_precision_around_it_changes_nothing(random_lpips: Lpips) -> None:
    pair = {"prediction": grey().flip(-1), "target": grey()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = random_lpips(**pair)
    torch.testing.assert_close(found, random_lpips(**pair), rtol=0, atol=0)


def test_the_guards(random_lpips: Lpips) -> None:
    with pytest.raises(ValueError, match="at least 64 px, image is 63 x 66"):
        random_lpips(prediction=grey(63), target=grey(63))
    two = grey().repeat(1, 2, 1, 1)
    with pytest.raises(ValueError, match="2 channels"):
        random_lpips(prediction=two, target=two)


def test_it_is_no_child_of_a_model_and_samples_no_random_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = torch.nn.Linear(2, 2)
    torch.manual_seed(5)
    model.lpips = Lpips(random_features())
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    assert set(model.state_dict()) == {"weight", "bias"}
    assert len(list(model.parameters())) == 2
    metric = LPIPS(model.lpips)
    assert not metric.state_dict() and not list(metric.parameters())


def test_the_class_averages_images(random_lpips: Lpips) -> None:
    target = grey(batch=3)
    metric, unit = copy.deepcopy(LPIPS(random_lpips)), (target + 1) / 2
    metric.update(prediction=unit[:2].flip(-1), target=unit[:2])
    metric.update(prediction=unit[2:].flip(-1), target=unit[2:])
    torch.testing.assert_close(
        metric.compute(), random_lpips(prediction=target.flip(-1), target=target).mean()
    )


def test_the_score_maps_by_the_scale_of_the_target(random_lpips: Lpips) -> None:
    target = 100 + 1000 * (grey() + 1)
    prediction = target.flip(-1) * 1.2
    low, high = target.min(), target.max()
    unit = {"prediction": prediction, "target": target}
    unit = {name: 2 * ((image - low) / (high - low)).clamp(0, 1) - 1 for name, image in unit.items()}
    result = score(prediction, target, "range", lpips=random_lpips)
    assert result.values["lpips"] == pytest.approx(random_lpips(**unit).item(), rel=1e-5)
    assert result.facts["lpips_backbone"] == random_lpips.sha256
    small = score(prediction[..., :60], target[..., :60], "range", lpips=random_lpips)
    assert small.absent["lpips"] == "needs at least 64 px, image is 64 x 60"


def test_other_weights_have_another_hash(random_lpips: Lpips) -> None:
    assert len(random_lpips.sha256) == 64
    assert Lpips(random_features(1)).sha256 != random_lpips.sha256


def test_without_a_backbone_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDPM_LIGHTNING_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="prepare lpips"):
        Lpips.load()
    safetensors.torch.save_file(random_features(), tmp_path / "alexnet_features_imagenet.safetensors")
    assert Lpips.load().sha256 == Lpips(random_features()).sha256
