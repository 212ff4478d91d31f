"""Runs all steps: restores a file with the shipped model, trains a model, scores it, and restores with it.

Examples:
  ddpm-lightning demo
  ddpm-lightning demo run_folder=runs/longer trainer.max_steps=5000

Leaves in runs/demo: everything that `train` leaves; evaluation/ of the test split, with copies of its summary and
figures in summary.json, summary.md and figures/; a restored file in restored/, and the same file restored by the
shipped model in default/. An earlier demo is replaced.
"""

import shutil
import time
from pathlib import Path

import numpy as np
import tifffile
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ddpm_lightning.cli import compose
from ddpm_lightning.cli.arguments import quoted
from ddpm_lightning.cli.evaluate import evaluate_configured
from ddpm_lightning.cli.train import new_settings
from ddpm_lightning.evaluation.tables import summary_markdown
from ddpm_lightning.inference.restore_folder import RestoreSettings, restore_folder
from ddpm_lightning.training.fit import TrainSettings, train
from ddpm_lightning.training.run_folder import claim
from ddpm_lightning.utils.allowed_classes import OWN
from ddpm_lightning.utils.instantiate import build
from ddpm_lightning.utils.settings import Count, Settings

__all__ = ["run"]


class DemoSettings(Settings):
    """What the demo is asked for beside the settings of the training.

    Attributes:
        samples: Samples of each image.
        force: Whether to take over a locked folder whose owner cannot be checked, such as a job on another machine.
    """

    samples: Count
    force: bool


def run(config: DictConfig) -> int:
    """Trains, evaluates, restores, and prints the table."""
    began = time.monotonic()
    demo = compose.some_settings(config, DemoSettings)
    choices = HydraConfig.get().runtime.choices
    settings = new_settings(config, {kind: choices.get(kind) for kind in ("model", "data")})
    with claim(Path(settings.run_folder), overwrite=True, force=demo.force):
        _run(settings, demo.samples, began)
    return 0


def _run(settings: TrainSettings, samples: int, began: float) -> None:
    folder = Path(settings.run_folder)
    noisy = _write_example(settings, folder / "example")
    print("1/4  restoring a file with the shipped model")
    _restore(noisy, folder / "default", ["checkpoint=default", "preview=true"])
    print(f"2/4  training {settings.names['model']} on {settings.names['data']}")
    finished = train(settings, OWN)
    print("3/4  scoring raw images, single samples and their average on the test split")
    common = [f"checkpoint={quoted(finished.best)}", f"samples={samples}", "bfloat16=auto"]
    # Not into the run folder itself: its metrics.csv is the learning curve.
    output = f"output={quoted(folder / 'evaluation')}"
    scores, summary = evaluate_configured(compose.compose("evaluate", [*common, output]))
    _show(scores, folder)
    print("4/4  restoring the file with the model of this run")
    restored = folder / "restored"
    _restore(noisy, restored, common)
    print(f"\n{summary_markdown(summary)}")
    print(f"figures   {folder / 'figures'}\nrestored  {restored / noisy.name} (from {noisy})")
    print(f"model     {finished.best}\n{time.monotonic() - began:.0f} seconds")


def _restore(noisy: Path, output: Path, settings: list[str]) -> None:
    shutil.rmtree(output, ignore_errors=True)
    given = [*settings, f"input={quoted(noisy)}", f"output={quoted(output)}"]
    restore_folder(compose.settings(compose.compose("restore", given), RestoreSettings))


def _show(scores: Path, folder: Path) -> None:
    """Copies the summary and the figures of the evaluation to where a newcomer looks first."""
    for name in ("summary.json", "summary.md"):
        shutil.copy(scores / name, folder / name)
    shutil.copytree(scores / "figures", folder / "figures", dirs_exist_ok=True)


def _write_example(settings: TrainSettings, folder: Path) -> Path:
    """Writes the low image of a test pair as an ImageJ file with its pixel size."""
    pair = build(settings.data, ("data",), OWN).source("test")[0]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "noisy_microtubules.tif"
    resolution = 1 / pair.pixel_size
    tifffile.imwrite(
        path,
        pair.low.astype(np.uint16),
        imagej=True,
        resolution=(resolution, resolution),
        metadata={"unit": "um"},
    )
    return path
