import ctypes
import multiprocessing
import resource
import sys

import pytest
import torch

from ddpm_lightning.cli import compose
from ddpm_lightning.inference import plane_restorer
from ddpm_lightning.inference.memory import training_bytes
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.models.build import build_method
from ddpm_lightning.models.method import LossKey
from ddpm_lightning.training import consistency
from tests.trained import write_checkpoint

BATCH, CROP = 4, 128


def model(*overrides):
    config = compose.plain(compose.compose("train", [*overrides, "run_folder=unused"]))
    return build_method(config["model"])


def train_a_step(method, grown):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    crops = torch.rand(BATCH, 1, CROP, CROP)
    optimizer = torch.optim.AdamW(method.parameters())
    method.loss({"low": crops, "high": crops}, LossKey(0, 0, 0)).backward()
    optimizer.step()
    grown.value = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="asks the allocator of Linux")
@pytest.mark.parametrize("base", [32, 64])
def test_what_a_training_takes_is_about_what_the_system_measures(base):
    method = model("model=regression_small", f"model.network.base={base}")
    ctypes.CDLL(None).malloc_trim(
        0
    )  # memory that earlier tests freed would be used again without being counted
    fork = multiprocessing.get_context("fork")
    grown = fork.Value("d", 0)
    child = fork.Process(target=train_a_step, args=(method, grown))
    child.start()
    child.join()
    assert 0.6 < training_bytes(method, BATCH * CROP**2) / grown.value < 1.6


def test_a_training_that_memory_hardly_holds_is_warned_of(monkeypatch):
    method = model("model=regression_small")
    needed = training_bytes(method, BATCH * CROP**2)
    for free, warned in ((3 * needed, False), (needed, True)):
        monkeypatch.setattr(consistency, "available_bytes", lambda device, free=free: free)
        text = consistency.memory_warning(method, BATCH * CROP**2)
        assert bool(text) == warned
    assert f"{needed / 1e9:.1f} GB" in text and "data.batch_size" in text


def test_tiles_fit_in_half_of_the_free_memory(monkeypatch, tmp_path):
    restorer = Restorer.load(write_checkpoint(tmp_path / "best.ckpt"), "cpu", workers=8)
    said, pixels = [], 300**2
    restorer.tiler.say = said.append
    monkeypatch.setattr(
        plane_restorer, "available_bytes", lambda device: 2 * restorer.bytes_per_pixel * (pixels + 1)
    )
    restorer.fit_memory()
    assert restorer.tiler.tile == 256 and "256 pixels instead of 512" in said[-1]
    assert restorer.tiler.at_once((256, 256), restorer.device) == 1
    assert restorer.tiler.at_once((128, 128), restorer.device) == pixels // 128**2 < 8
    assert restorer.tiler.at_once((64, 64), restorer.device) == 8
