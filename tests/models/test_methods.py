"""Every method from its configuration to a restored image: a short training must beat the raw image."""

import numpy as np
import pytest
import torch
from torch import nn

from ddpm_lightning.cli import compose
from ddpm_lightning.cli.train import new_settings
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.protocol import PROTOCOLS
from ddpm_lightning.training.fit import TrainSettings, start_run
from ddpm_lightning.utils.instantiate import build

TINY = [
    "data=folder",
    "data.crop=32",
    "data.batch_size=4",
    "data.validation_crops=8",
    "trainer=cpu",
    "trainer.precision=32-true",
    "data.crops_per_image=100",
    "callbacks.images=null",
    "callbacks.progress=null",
    "logger=csv",
]
FLOW = ["model.network.base=8", "model.network.multipliers=[1,2]"]
MEAN = [f"model.regression.network.{size}" for size in ("base=8", "multipliers=[1,2]")]
MEAN += [f"model.{part}optimizer.lr=0.04" for part in ("regression.", "")]
UNET = ["model.network.depth=2", "model.network.first_filters=8"]
#: What makes each method tiny, and its steps.
METHODS = {
    "regression_small": ([*FLOW, "model.optimizer.lr=0.04"], 50),
    "care_small": ([*UNET, "model.optimizer.lr=0.004"], 50),
    "care_probabilistic_small": ([*UNET, "model.optimizer.lr=0.004"], 150),
    "noise2void_small": ([*UNET, "model.percent=5"], 100),
    "pix2pix_small": (["data.crop=64", "model.generator.filters=8", "model.discriminator.filters=8"], 60),
    "unet_rcan_small": (["model.network.filters=[8,16]", "model.network.rcan_filters=8"], 30),
    "pmrf_small": ([*MEAN, *FLOW], 60),
    "residual_flow_small": ([*MEAN, *FLOW, "model.sampler.steps=3"], 60),
    "scored_small": ([*MEAN, *FLOW], 60),
    "gaussian": ([], 5000),
    "median": ([], 5000),
    "non_local_means": ([], 5000),
    "total_variation": ([], 5000),
    "wavelet": ([], 5000),
}


def settings(name: str, root, folder, *more: str) -> TrainSettings:
    tiny, steps = METHODS[name]
    config = compose.compose(
        "train", [f"model={name}", f"data.root='{root}'", *TINY, *tiny, f"trainer.max_steps={steps}", *more]
    )
    config.run_folder = str(folder)
    return new_settings(config, {"model": name, "data": "folder"})


def affine_psnr(image: np.ndarray, target: np.ndarray) -> float:
    pair = (torch.from_numpy(np.asarray(x, dtype=np.float32))[None, None] for x in (image, target))
    scored = PROTOCOLS["affine"].apply(*pair)
    return 10 * np.log10(scored.data_range**2 / (scored.prediction - scored.target).square().mean().item())


@pytest.mark.parametrize("name", METHODS)
def test_a_short_training_beats_the_raw_image(name, pair_folder, tmp_path):
    config = settings(name, pair_folder, tmp_path / "run")
    finished = start_run(config)
    assert finished.best.name == "best.ckpt"
    restorer = Restorer.load(finished.best, device="cpu")
    averaged = "averaging_state" in torch.load(finished.best, weights_only=True)
    assert averaged == restorer.method.averaged
    assert not (averaged and any(isinstance(layer, nn.BatchNorm2d) for layer in restorer.method.modules()))
    gains = []
    for pair in build(config.data).source("test"):
        restored = restorer.restore(pair.low, samples=2, image=pair.name)
        gains.append(affine_psnr(restored.mean, pair.high) - affine_psnr(pair.low, pair.high))
        assert (restored.std is None) == restorer.method.deterministic
        assert restored.mean.shape == pair.low.shape and restored.mean.dtype == np.float32
    assert min(gains) > 1.0, gains


def test_checkpoints_of_the_flow_hold_both_networks_and_sigma(pair_folder, tmp_path):
    config = settings("pmrf_small", pair_folder, tmp_path / "run", "trainer.max_steps=30")
    finished = start_run(config)
    weights = torch.load(finished.last, weights_only=True)["state_dict"]
    mean = torch.load(tmp_path / "run/mean/checkpoints/best.ckpt", weights_only=True)
    assert weights["sigma"] > 0
    for key, value in mean["state_dict"].items():
        torch.testing.assert_close(
            nn.functional.normalize(weights[f"regression.{key}"].flatten(), dim=0),
            nn.functional.normalize(value.flatten(), dim=0),
        )
    restorer = Restorer.load(tmp_path / "run/mean/checkpoints/best.ckpt", device="cpu")
    assert restorer.method.preset == "one pass" and mean["card"]["names"]["model"] == "regression_small"
