"""Restoring, evaluating and training on the device, against the CPU where numbers can be compared."""

import json

import numpy as np
import pytest
import torch
from torch import distributed

from ddpm_lightning.inference.restorer import Restorer
from tests.cli.test_resume import assert_same_run
from tests.cli.test_verbs import TINY
from tests.trained import write_checkpoint

pytestmark = pytest.mark.gpu

#: Root mean square difference from the CPU, in standard deviations of the restored image.
FLOAT32, BFLOAT16 = 0.005, 0.05
SETTINGS = [
    *[setting for setting in TINY if not setting.startswith(("trainer", "callbacks"))],
    "callbacks.images=null",
    "model/lr_schedule=saw_tooth",  # unlike others, it does not depend on the steps of the whole run
    "trainer.precision=32-true",
    "trainer.deterministic=warn",
    "trainer.log_every_n_steps=1",
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "tiny.ckpt")


@pytest.fixture
def trainer(device) -> str:
    return "trainer=gpu" if device.type == "cuda" else "trainer=cpu"


def noisy(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).poisson(30, size).astype(np.uint16)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(np.mean((found - expected) ** 2)) / np.std(expected))


@pytest.mark.parametrize("way", ["float32", "tiles", "bfloat16"])
def test_restored_images_are_those_of_the_cpu(checkpoint, device, way, record_property):
    settings = {"samples": 2, "tile": 64 if way == "tiles" else None, "overlap": 16}
    low = noisy((96, 112))
    expected = Restorer.load(checkpoint, "cpu", **settings).restore(low, image="a")
    restorer = Restorer.load(checkpoint, str(device), bfloat16=way == "bfloat16", **settings)
    found = restorer.restore(low, image="a")
    tolerance = BFLOAT16 if way == "bfloat16" else FLOAT32
    for part in ("mean", "std"):
        apart = difference(getattr(found, part), getattr(expected, part))
        record_property(part, f"{apart:.1e}")
        assert apart <= tolerance, part


def test_too_little_memory_gives_smaller_tiles_and_the_same_image(checkpoint, device, monkeypatch):
    """The network refuses more pixels than a number, as the allocator of the device does."""
    low, lines = noisy((96, 96)), []
    restorer = Restorer.load(checkpoint, str(device), samples=1, tile=96, overlap=32)
    expected = restorer.restore(low, image="a").mean
    restorer.tiler.say, inner = lines.append, restorer.networks.__call__

    def networks(network):
        def apply(x, *others):
            if x.numel() > 2 * 64 * 64:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return inner(network)(x, *others)

        return apply

    monkeypatch.setattr(restorer, "networks", networks)
    found = restorer.restore(low, image="a").mean
    assert lines and restorer.tiler.tile < 96
    assert difference(found, expected) < 0.3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="asks the allocator of a GPU")
def test_the_limit_of_the_allocator_is_obeyed(checkpoint):
    """With a twentieth of what the tiles of a large plane need, they become smaller."""
    low, lines = noisy((2048, 2048)), []
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min((torch.cuda.memory_allocated() + 2**29) / total, 1.0))
    try:
        restorer = Restorer.load(checkpoint, "cuda", samples=1, tile=None)
        restorer.tiler.say = lines.append
        restored = restorer.restore(low, image="a")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert np.isfinite(restored.mean).all()


def test_evaluations_give_the_numbers_of_the_cpu(
    checkpoint, device, pair_folder, command, blank_figures, tmp_path
):
    found = {}
    for name in dict.fromkeys(["cpu", str(device)]):
        folder = tmp_path / name
        answer = command(
            "evaluate", f"checkpoint={checkpoint}", "data=folder", f"data.root={pair_folder}", "samples=2",
            f"device={name}", f"output={folder}",
        )  # fmt: skip
        assert answer.code == 0, answer.err
        found[folder.name] = json.loads((folder / "summary.json").read_text())["estimators"]["average"]
    expected, numbers = found["cpu"], found[str(device)]
    for metric, tolerance in {"psnr": 0.02, "ms_ssim": 0.002, "nrmse": 0.002, "pearson": 0.002}.items():
        if expected.get(metric):
            assert numbers[metric]["mean"] == pytest.approx(expected[metric]["mean"], abs=tolerance), metric


def test_a_resumed_training_has_the_same_bits(command, pair_folder, trainer, tmp_path):
    settings = [*SETTINGS, trainer, f"data.root={pair_folder}"]
    for name, steps in (("whole", 5), ("part", 3)):
        answer = command("train", *settings, f"trainer.max_steps={steps}", f"run_folder={tmp_path / name}")
        assert answer.code == 0, answer.err
    answer = command("train", f"resume={tmp_path / 'part'}", "trainer.max_steps=5")
    assert answer.code == 0, answer.err
    assert_same_run(tmp_path / "whole", tmp_path / "part", best=False)


def test_one_process_with_ddp_trains_like_one_without(command, pair_folder, device, trainer, tmp_path):
    ddp = "trainer=ddp" if device.type == "cuda" else "trainer=ddp_cpu"
    weights = {}
    try:
        for name, kind in (("plain", [trainer]), ("ddp", [ddp, "trainer.devices=1"])):
            answer = command(
                "train", *SETTINGS, *kind, f"data.root={pair_folder}", "trainer.max_steps=2",
                f"run_folder={tmp_path / name}",
            )  # fmt: skip
            assert answer.code == 0, answer.err
            weights[name] = torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)[
                "state_dict"
            ]
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
    for key, weight in weights["plain"].items():
        torch.testing.assert_close(weights["ddp"][key], weight, rtol=1e-3, atol=1e-4)
