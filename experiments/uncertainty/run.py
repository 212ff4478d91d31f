"""Restores val and test images by 15 samples and compares their standard deviation with their error.

python -m experiments.uncertainty.run --size small --pairs DIR…
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddpm_lightning.data.center_crop import CenterCrops
from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.evaluation.uncertainty import SampleUncertainty, sample_uncertainty
from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.protocol import affine_fit
from ddpm_lightning.metrics.sparsification import association, sparsification
from experiments import common
from experiments.regions import means
from experiments.uncertainty.tables import tables

SAMPLES = 15
LEVEL = 0.9
#: Side in pixels of the tiles in which failures are searched for.
TILE = 32
#: Every hundredth of the 10 000 quantiles of an image's errors, in standard deviations, is kept.
KEPT = slice(99, None, 100)
SIZES = {
    "small": {"images": 16, "calibration": 19, "side": 128},
    "full": {"images": 100, "calibration": 100, "side": 256},
}


def measure(options: common.Options) -> None:
    """Adds rows for each image of val, on which intervals are calibrated, and of test."""
    side = options.size["side"]
    restorer = Restorer.load(options.model, preset="uncertainty", bfloat16="auto")
    settings = {**options.size, "model": restorer.trained.sha256, "sets": [*common.SPECIMENS, *options.pairs]}
    images, intervals, regions = (
        common.Rows(options.work / f"{name}.csv", settings, ("set", "split", "image"))
        for name in ("images", "intervals", "tiles")
    )
    for split, count in (("val", options.size["calibration"]), ("test", options.size["images"])):
        sources: dict[str, PairSource] = {
            name: SimulatedPairs(name, split, count, side, seed=common.DATASET_SEED)
            for name in common.SPECIMENS
        }
        for name, folder in options.pairs.items():
            if (folder / split).is_dir():  # a set without val is not calibrated
                sources[name] = CenterCrops(common.real(folder, split), side)
        for name, source in sources.items():
            for pair in common.evenly_spaced(source, count):
                about = {"set": name, "split": split, "image": pair.name}
                wanted = [images, intervals] + ([regions] if split == "test" else [])
                if all(rows.has(**about) for rows in wanted):
                    continue
                found = rows_of(restorer, pair)
                for rows, number in zip(wanted, range(3), strict=False):
                    if not rows.has(**about):
                        rows.add([{**about, **row} for truth in found for row in truth[number]])


def rows_of(restorer: Restorer, pair: Pair) -> list[tuple[list[dict[str, Any]], ...]]:
    """Returns the rows of one image against each available truth: of the image, its intervals, its tiles.

    The truth ``clean`` is the expected image without noise, which only simulations know; ``recorded`` is the clean
    image as it was recorded. Samples are fitted to the truth by one gain and offset, as under the protocol ``affine``:
    no model can know how bright the images of another microscope are. Errors and standard deviations
    are in units of the model's range, so that they can be compared between images without knowing a truth.
    """
    restored = restorer.restore_plane(pair.low, SAMPLES, pair.name, entropy=True, keep_samples=True)
    truths = {"clean": pair.extra["emitters"]} if "emitters" in pair.extra else {}
    truths["recorded"] = pair.high.astype(np.float32)
    full_range = float(pair.high.max()) - float(pair.high.min())
    scale = restorer.normalisation.output_scale(restorer.input_scale(pair.low))
    found = []
    for name, truth in truths.items():
        alpha, beta = affine_fit(*(torch.from_numpy(image).double() for image in (restored.mean, truth)))
        if not alpha > 0:
            continue  # the restoration is unrelated to this truth, so errors have no unit
        uncertainty = sample_uncertainty(
            samples=np.float32(alpha) * restored.samples + np.float32(beta),
            target=truth,
            antithetic=restorer.method.antithetic,
            level=LEVEL,
            gain=alpha * restored.gain,
            full_range=full_range,
        )
        error = np.abs(restored.mean - (truth - beta) / alpha).astype(np.float32) / restored.gain
        maps = {
            "error": error**2,
            "std": (restored.std / restored.gain) ** 2,
            "entropy": restored.entropy,
            "brightness": scale.normalise(restored.mean),
        }
        about = {"truth": name, "field": pair.field}
        tiles = {column: means(image, TILE) for column, image in maps.items()}
        found.append(
            (
                [{**about, **_of_image(uncertainty, restored, error), **_summary(maps)}],
                [
                    {
                        "truth": name,
                        "coverage": _numbers(uncertainty.measures.coverage),
                        "scores": _numbers(uncertainty.scores[KEPT]),
                    }
                ],
                [
                    {
                        **about,
                        "tile": number,
                        **_rooted({column: float(values[number]) for column, values in tiles.items()}),
                    }
                    for number in range(len(tiles["error"]))
                ],
            )
        )
    return found


def _of_image(uncertainty: SampleUncertainty, restored: Restoration, error: np.ndarray) -> dict[str, float]:
    """Returns how well standard deviation and entropy rank the pixels of an image by their error."""
    values = uncertainty.measures.values()
    wrong, entropy = torch.from_numpy(error), torch.from_numpy(restored.entropy)
    return {
        **{name: values[name] for name in ("coverage", "spread_skill", "spearman", "ause", "aurg")},
        "spearman_entropy": association(error=wrong, uncertainty=entropy).spearman,
        "ause_entropy": sparsification(error=wrong, uncertainty=entropy).ause,
        "std_and_entropy": association(error=torch.from_numpy(restored.std), uncertainty=entropy).spearman,
    }


def _summary(maps: Mapping[str, np.ndarray]) -> dict[str, float]:
    return _rooted({column: float(image.mean(dtype=np.float64)) for column, image in maps.items()})


def _rooted(values: dict[str, float]) -> dict[str, float]:
    """Returns the roots of mean squared error and variance: the standard deviation then predicts the RMSE."""
    return {**values, "error": values["error"] ** 0.5, "std": values["std"] ** 0.5}


def _numbers(values: torch.Tensor) -> str:
    return " ".join(f"{value:.4g}" for value in values.tolist())


def report(folder: Path) -> Mapping[str, str]:
    """Plots the figure, and returns the tables by name."""
    rows = {
        name: common.read(folder / "results" / f"{name}.csv") for name in ("images", "intervals", "tiles")
    }
    return tables(rows["images"], rows["intervals"], rows["tiles"], LEVEL, folder / "uncertainty.png")


if __name__ == "__main__":
    common.run("uncertainty", SIZES, measure, report)
