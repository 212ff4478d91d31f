"""A method with known samples; run as a script, two gloo processes restore its images together."""

import json
import multiprocessing
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import ddpm_lightning  # noqa: F401  (its remedy comes before Lightning)
from ddpm_lightning.callbacks.validation_metrics import ValidationMetrics
from ddpm_lightning.data.normalise import FixedRange, PairNormalisation
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.models.presets import Preset


def pairs() -> list[Pair]:
    """Five pairs of 180 pixels a side."""
    rng = np.random.default_rng(0)
    highs = [rng.gamma(2, 20, (180, 180)).astype(np.float32) for _ in range(5)]
    lows = [rng.normal(high, 10).astype(np.float32) for high in highs]
    return [Pair(low, high, str(k), str(k)) for k, (low, high) in enumerate(zip(lows, highs, strict=True))]


def scale(image: np.ndarray) -> np.ndarray:
    return FixedRange(0, 255).scale(image).normalise(image)


class FakeMethod:
    """Its sample k is the low image with a slope of 0.1 (k + 1)."""

    size_divisor, deterministic, antithetic = 4, False, False
    presets = {"one_pass": Preset(15, "the only one")}
    device = torch.device("cpu")

    def __init__(self):
        self.logged, self.method = {}, self

    def posterior(self, low, apply=None):
        return None

    def sample(self, low, noise, apply=None):
        slope = torch.arange(low.shape[-1]) / low.shape[-1]
        return low + 0.1 * torch.tensor([k + 1 for k in noise.samples]).view(-1, 1, 1, 1) * slope

    def log(self, name, value, **settings):
        self.logged[name] = value


class FakeTrainer(SimpleNamespace):
    """The part of a trainer that the callback looks at."""

    def __init__(self, rank=0, processes=1, sanity_checking=False, current_epoch=4, global_step=12):
        data = SimpleNamespace(
            pairs=lambda split: pairs(),
            normalisation=PairNormalisation(FixedRange(0, 255), FixedRange(0, 255)),
        )
        super().__init__(
            datamodule=data,
            global_rank=rank,
            world_size=processes,
            is_global_zero=rank == 0,
            sanity_checking=sanity_checking,
            current_epoch=current_epoch,
            global_step=global_step,
            estimated_stepping_batches=100,
            loggers=[],
            should_stop=False,
            strategy=SimpleNamespace(broadcast=lambda decision: decision),
        )
        self.printed = []

    def print(self, line):
        self.printed.append(line)


def restore(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    method = FakeMethod()
    callback = ValidationMetrics(f"{folder}/together", images=3, crop=64, lpips=False)
    callback.on_validation_epoch_end(FakeTrainer(rank, 2), method)
    Path(folder, f"{rank}.json").write_text(json.dumps(method.logged))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    group = [fork.Process(target=restore, args=(rank, sys.argv[1])) for rank in range(2)]
    for process in group:
        process.start()
    for process in group:
        process.join()
    sys.exit(any(process.exitcode for process in group))
