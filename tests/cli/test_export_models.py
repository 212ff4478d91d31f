"""Every model that ships a configuration and is trained: exported, loaded again, and its packages validated."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.cli import compose, export
from ddpm_lightning.cli.tree import choices, config_folder
from ddpm_lightning.inference.export import RestorationModule, traced
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint

MODELS = {
    name: yaml.safe_load((config_folder() / f"model/{name}.yaml").read_text(encoding="utf-8"))
    for name in choices("model")
}
CLASSICAL = [name for name, node in MODELS.items() if "Classical" in node.get("_target_", "")]
TRAINED = sorted(MODELS.keys() - CLASSICAL)
UNET = ["network.base=8", "network.multipliers=[1,2]", "network.blocks=1", "network.channels_per_head=8"]
UNET += ["network.attention_levels=[]"]
#: What makes each kind of network small.
SMALL = {
    "ddpm": UNET,
    "regression": UNET,
    "pmrf": [*UNET, *(f"regression.{setting}" for setting in UNET)],
    "residual_flow": [*UNET, *(f"regression.{setting}" for setting in UNET)],
    "scored": [*(u for u in UNET if "per_head" not in u), *(f"regression.{setting}" for setting in UNET)],
    "pix2pix": ["generator.num_downs=5", "generator.filters=4", "discriminator.filters=4"],
    "unet_rcan": ["network.filters=[4,8]", "network.rcan_filters=4", "network.groups=1", "network.blocks=1"],
}
ONE_LEVEL = ["network.depth=1", "network.first_filters=4"]


def written(folder, name):
    """Returns a checkpoint of a model that is as small as can be, with random weights."""
    kind = next((kind for kind in SMALL if name.startswith(kind)), None)
    small = [f"model.{setting}" for setting in SMALL.get(kind, ONE_LEVEL)]
    return write_checkpoint(folder / f"{name}.ckpt", model=[f"model={name}", *small, "data.crop=32"])


def exported(checkpoint, output, *arguments):
    given = [f"checkpoint='{checkpoint}'", f"output='{output}'", "authors=[A. Scientist]", *arguments]
    assert export.run(compose.compose("export", given)) == 0


def restored(file):
    model = load(file).card["model"]
    # A network that predicts the noise takes no long steps.
    steps = 50 if model.get("objective", {}).get("name") == "epsilon" else 2
    sampler = {"steps": steps} if "sampler" in model else None
    image = np.random.default_rng(0).poisson(30, (32, 48)).astype(np.uint16)
    trained = load(file, sampler=sampler, samples=2)
    if hasattr(trained.method, "sigma"):
        trained.method.sigma.fill_(0.2)  # which training would have measured
    return Restorer(trained).restore(image)


def test_all_kinds_of_models_are_here():
    assert len(CLASSICAL) == 5 and {"care", "ddpm", "pix2pix", "pmrf", "residual_flow"} <= set(TRAINED)


@pytest.mark.parametrize(
    "name",
    [name if name.endswith("_small") else pytest.param(name, marks=pytest.mark.slow) for name in TRAINED],
)
def test_a_model_loads_again_with_the_same_output(name, tmp_path):
    checkpoint = written(tmp_path, name)
    exported(checkpoint, tmp_path / "small.safetensors")
    one, other = restored(checkpoint), restored(tmp_path / "small.safetensors")
    assert np.array_equal(one.mean, other.mean) and one.mean.std() > 0
    assert (one.std is None) == (other.std is None)
    assert one.std is None or np.array_equal(one.std, other.std)


def test_half_precision_on_request(tmp_path):
    checkpoint = written(tmp_path, "regression_small")
    for name, more in (("full", []), ("half", ["half=true"])):
        exported(checkpoint, tmp_path / f"{name}.safetensors", *more)
    full, half = (restored(tmp_path / f"{name}.safetensors").mean for name in ("full", "half"))
    assert 0 < np.abs(half - full).max() < 0.01 * np.ptp(full)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.75 * sizes[1]


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("suffix", ["safetensors", "zip"])
def test_of_a_filter_there_is_nothing_to_export(name, suffix, tmp_path):
    if suffix == "zip":
        pytest.importorskip("bioimageio.core")
    checkpoint = write_checkpoint(tmp_path / "best.ckpt", model=[f"model={name}", "data.crop=32"])
    with pytest.raises(UserError, match="nothing to export"):
        exported(checkpoint, tmp_path / f"out.{suffix}")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("name", ["care_small", "noise2void_small", "pix2pix_small", "unet_rcan_small"])
def test_a_model_of_one_pass_is_traced_with_one_output(name, tmp_path):
    trained = load(written(tmp_path, name), samples=1)
    image = torch.from_numpy(np.random.default_rng(0).poisson(30, (1, 1, 64, 96)).astype(np.float32))
    found = traced(RestorationModule(trained, samples=1), image)(image)
    assert isinstance(found, torch.Tensor) and found.shape == image.shape
    restoration = RestorationModule(trained, samples=1)
    step = restoration.size_divisor
    other = torch.rand(1, 1, 64 + step, 96 + 3 * step) * 60
    module = traced(restoration, image)
    torch.testing.assert_close(module(other), restoration(other), rtol=1e-4, atol=1e-3)
    expected = Restorer(trained).restore(image[0, 0].numpy(), 1)
    np.testing.assert_allclose(found[0, 0].numpy(), expected.mean, rtol=1e-3, atol=1e-2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "more", "outputs"),
    [
        ("regression_small", [], {"restored.npy"}),
        ("care_small", [], {"restored.npy"}),
        ("ddpm_small", ["sampler.steps=2", "samples=1"], {"restored.npy"}),
        ("ddpm_small", ["sampler.steps=2", "samples=2"], {"restored.npy", "std.npy"}),
        ("residual_flow_small", ["sampler.steps=2", "samples=2"], {"restored.npy", "std.npy"}),
        ("pmrf_small", ["sampler.steps=2", "samples=2"], {"restored.npy", "std.npy"}),
    ],
)
def test_packages_pass_their_validator(name, more, outputs, tmp_path):
    pytest.importorskip(
        "bioimageio.core", reason="needs the extra export: pip install 'ddpm-lightning[export]'"
    )
    checkpoint = written(tmp_path, name)
    if "flow" in name or "pmrf" in name:
        content = torch.load(checkpoint, weights_only=True)
        content["state_dict"]["sigma"].fill_(0.2)  # which training would have measured
        torch.save(content, checkpoint)
    tifffile.imwrite(tmp_path / "low.tif", np.random.default_rng(0).poisson(30, (70, 90)).astype(np.uint16))
    package = tmp_path / "model.zip"
    exported(checkpoint, package, f"sample='{tmp_path}/low.tif'", *more)
    assert {one for one in zipfile.ZipFile(package).namelist() if one.endswith(".npy")} == {
        "low.npy",
        *outputs,
    }
    validator = [str(Path(sys.executable).parent / "bioimageio"), "test", str(package)]
    tested = subprocess.run(validator, capture_output=True, text=True, timeout=250)
    assert tested.returncode == 0, tested.stdout + tested.stderr
